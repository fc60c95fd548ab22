//! An engine directory for the echo backend on this board.

use std::fs;
use std::io;
use std::path::Path;

use engine_api::manifest::{
    Backend, BackendKind, BoundTo, Capabilities, Echo, FILE_NAME, MANIFEST_VERSION, Manifest,
    Model, Serving,
};

use crate::llm::Llm;
use crate::module::Module;
use crate::rounding::{below, whole};

/// Tokens in one request's window.
const CONTEXT: u32 = 4096;

/// Published: what NVIDIA's own serving allows at once.
fn sequences(module: &Module) -> u16 {
    match module.memory.total_kib {
        40_000_000.. => 16,
        10_000_000.. => 8,
        _ => 4,
    }
}

/// Makes `dir` an engine that repeats its prompts, as fast as `llm` would run on
/// the board in `board`.
///
/// # Errors
/// The directory takes no files.
pub fn write(dir: &Path, board: &Path, module: &Module, llm: &Llm) -> io::Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (running, kept) = (sequences(module), sequences(module));
    let serving = Serving {
        context: CONTEXT,
        max_sequences: running,
        cached_sequences: kept,
        kv_bytes: below(llm.kv_bytes_per_token) * u64::from(CONTEXT) * u64::from(running + kept),
    };
    let manifest = Manifest {
        manifest_version: MANIFEST_VERSION,
        id: name.clone(),
        built_at: 0,
        model: Model {
            name,
            architecture: "echo".into(),
            licence: "Apache-2.0".into(),
            quantisation: "none".into(),
            parameters: whole(llm.parameters),
            aliases: Vec::new(),
        },
        backend: Backend {
            kind: BackendKind::Echo,
            version: env!("CARGO_PKG_VERSION").into(),
            echo: Some(Echo { board: Some(board.to_owned()), ..Echo::default() }),
            tensorrt_llm: None,
        },
        bound_to: BoundTo::default(),
        serving,
        capabilities: Capabilities { chat: true, ..Capabilities::default() },
        embedding: None,
        files: Vec::new(),
        commands: Vec::new(),
        smoke: None,
        quantised: None,
        quality: None,
    };
    let text = toml::to_string(&manifest).map_err(io::Error::other)?;
    fs::create_dir_all(dir)?;
    let fresh = dir.join("fresh");
    fs::write(&fresh, text)?;
    fs::rename(fresh, dir.join(FILE_NAME))
}
