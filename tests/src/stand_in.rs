//! The test engine once more, for TensorRT-LLM's stand-in: what is tested of
//! processes with the echo backend is so tested with that runtime, too.
//!
//! Its worker is another program, `engine-worker-on-stand-in`. `scripts/test
//! tensorrt` builds it, and asks for all of this by a variable, so that the tests
//! are those which are compiled already.

use std::fs;
use std::path::{Path, PathBuf};

use engine_api::manifest::{
    Artefact, ArtefactRole, Backend, BackendKind, Echo, Manifest, Smoke, SpecialTokens, TensorrtLlm,
};
use serde_json::json;

use crate::process::program;

const FILES: [(&str, ArtefactRole); 3] = [
    ("rank0.engine", ArtefactRole::Weights),
    ("tokenizer.json", ArtefactRole::Tokenizer),
    ("chat_template.jinja", ArtefactRole::ChatTemplate),
];

/// Set: test engines are for the stand-in, and are loaded by its worker.
const WANTED: &str = "TEST_ON_STAND_IN";

/// Whether it takes the place of the echo backend.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(WANTED).is_some()
}

/// The worker that has the stand-in.
pub(crate) fn worker() -> PathBuf {
    program("engine-worker-on-stand-in")
}

/// The echo engine's manifest, with the stand-in in the place of its backend, whose files are
/// in `engine`.
pub(crate) fn manifest(engine: &Path, echo: Manifest, pace: &Echo) -> Manifest {
    let infill = ["<|prefix|>", "<|suffix|>", "<|middle|>"].map(str::to_owned);
    let tensorrt_llm = TensorrtLlm {
        kv_free_percent: 50,
        chunked_prompts: true,
        mmap: true,
        tokens: SpecialTokens {
            ends: vec!["<|end|>".into()],
            beginning: None,
            infill: Some(infill),
        },
    };
    let artefact = |(path, role): (&str, _)| Artefact {
        path: path.into(),
        bytes: engine.join(path).metadata().expect("it was installed just now").len(),
        sha256: String::new(),
        role,
    };
    // The watchdog's bounds follow from it.
    let smoke = Smoke {
        load_ms: pace.load_ms,
        prefill_tokens_per_s: per_second(pace.prefill_token_us),
        decode_tokens_per_s: per_second(pace.step_us),
        answer_sha256: String::new(),
    };
    Manifest {
        smoke: Some(smoke),
        backend: Backend {
            kind: BackendKind::TensorrtLlm,
            version: "0.12.0-stand-in".into(),
            echo: None,
            tensorrt_llm: Some(tensorrt_llm),
        },
        files: FILES.map(artefact).to_vec(),
        ..echo
    }
}

/// How many fit into a second that take so long, or a microsecond if nothing.
fn per_second(micros: u64) -> f64 {
    1e6 / f64::from(u32::try_from(micros.max(1)).unwrap_or(u32::MAX))
}

/// Puts the stand-in's files into an engine directory.
pub(crate) fn install(engine: &Path, pace: &Echo, built: &Manifest) {
    let files = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tensorrt-llm-stand-in/engine");
    for (file, _) in FILES {
        fs::copy(files.join(file), engine.join(file)).expect("a fresh directory takes a file");
    }
    let config = json!({
        "version": "0.12.0",
        "step_us": pace.step_us,
        "prefill_token_us": pace.prefill_token_us,
        "load_ms": pace.load_ms,
        "build_config": {
            "max_batch_size": built.serving.max_sequences,
            "max_num_tokens": 512,
            "max_seq_len": built.serving.context,
            "plugin_config": { "use_paged_context_fmha": true },
        },
    });
    fs::write(engine.join("config.json"), config.to_string()).expect("the directory takes it");
}
