//! A manifest for tests.

use engine_api::manifest::{
    Artefact, ArtefactRole, Backend, BackendKind, BoundTo, Capabilities, MANIFEST_VERSION,
    Manifest, Model, Serving, Smoke,
};

use crate::hash::Sha256Hex;
use crate::plan::LLAMA_CPP;

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
        files: vec![artefact],
        commands: Vec::new(),
        smoke: Some(Smoke {
            load_ms: 1,
            prefill_tokens_per_s: 1.0,
            decode_tokens_per_s: 1.0,
            answer_sha256: Sha256Hex::of(b"").as_str().into(),
        }),
    }
}
