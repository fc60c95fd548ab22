//! Engines for tests, as a build leaves them.

use std::fs;

use engine_api::manifest::{
    Artefact, ArtefactRole, Backend, BackendKind, BoundTo, Capabilities, MANIFEST_VERSION,
    Manifest, Model, Serving, Smoke,
};

use crate::engines::{EngineId, Engines};
use crate::hash::Sha256Hex;
use crate::plan::LLAMA_CPP;
use crate::publish::write_manifest;

/// The manifest of an engine with these weights.
pub(crate) fn manifest(id: &str, weights: &[u8]) -> Manifest {
    let artefact = Artefact {
        path: "weights.gguf".into(),
        bytes: weights.len() as u64,
        sha256: Sha256Hex::of(weights).as_str().into(),
        role: ArtefactRole::Weights,
    };
    Manifest {
        manifest_version: MANIFEST_VERSION,
        id: id.into(),
        built_at: 1,
        model: Model {
            name: "Sample".into(),
            architecture: "llama".into(),
            licence: "unknown".into(),
            quantisation: "F32".into(),
            parameters: 1,
            aliases: Vec::new(),
        },
        backend: Backend {
            kind: BackendKind::LlamaCpp,
            version: LLAMA_CPP.into(),
            echo: None,
            tensorrt_llm: None,
        },
        bound_to: BoundTo::default(),
        serving: Serving { context: 256, max_sequences: 1, cached_sequences: 0, kv_bytes: 0 },
        capabilities: Capabilities::default(),
        embedding: None,
        files: vec![artefact],
        commands: Vec::new(),
        smoke: Some(Smoke {
            load_ms: 1,
            prefill_tokens_per_s: 1.0,
            decode_tokens_per_s: 1.0,
            answer_sha256: Sha256Hex::of(b"").as_str().into(),
        }),
        quantised: None,
        quality: None,
    }
}

/// Engines of these names, each newer than the one before.
pub(crate) fn engines(names: &[&str]) -> (tempfile::TempDir, Engines) {
    let state = tempfile::tempdir().unwrap();
    let engines = Engines::of(state.path());
    for (built_at, name) in (1..).zip(names) {
        let dir = engines.engine(&id(name));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("weights.gguf"), name).unwrap();
        let mut manifest = manifest(name, name.as_bytes());
        manifest.built_at = built_at;
        write_manifest(&dir, &manifest).unwrap();
    }
    (state, engines)
}

pub(crate) fn id(name: &str) -> EngineId {
    name.to_owned().try_into().unwrap()
}
