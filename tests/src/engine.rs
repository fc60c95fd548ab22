//! Engines to start an appliance with: one that repeats what it is told, with
//! faults on request, and the real default model.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use engine_api::manifest::{
    Backend, BackendKind, BoundTo, Capabilities, Echo, FILE_NAME, MANIFEST_VERSION, Manifest,
    Model, Serving,
};

use crate::process::binaries;
use crate::stand_in;

/// Name of the default model and its engine.
pub const REAL: &str = "smollm2-135m-instruct";

/// Name of the small embedder and its engine.
pub const EMBEDDER: &str = "all-minilm-l6-v2";

/// Name of an embedder that llama.cpp runs: the same model in 32 bits.
pub const GGUF_EMBEDDER: &str = "minilm-gguf";

/// Name of the engine that repeats its prompt.
pub const ECHO: &str = "echo";

/// Another name of [`ECHO`].
pub const ECHO_ALIAS: &str = "parrot:7b";

/// What an appliance has in its state directory.
#[derive(Debug, Clone)]
pub enum Engine {
    /// None at all.
    Absent,
    /// The test engine. A token of it is a byte, and a chat's answer is the
    /// chat's last message.
    Echo { pace: Echo, serving: Serving },
    /// The default model.
    Real,
    /// A directory made by the test.
    At(PathBuf),
}

impl Engine {
    /// The test engine, as fast as it can.
    #[must_use]
    pub fn echo() -> Self {
        Self::Echo {
            pace: Echo::default(),
            serving: Serving { context: 4096, max_sequences: 4, cached_sequences: 4, kv_bytes: 0 },
        }
    }

    /// The test engine, whose load takes `ms` milliseconds.
    #[must_use]
    pub fn echo_that_loads_for(ms: u64) -> Self {
        Self::echo().with_pace(|pace| pace.load_ms = ms)
    }

    /// The test engine, one token each `ms` milliseconds.
    #[must_use]
    pub fn echo_with_steps_of(ms: u64) -> Self {
        Self::echo().with_pace(|pace| pace.step_us = ms * 1000)
    }

    /// The same with so many requests at once.
    #[must_use]
    pub fn with_places(mut self, places: u16) -> Self {
        if let Self::Echo { serving, .. } = &mut self {
            serving.max_sequences = places;
        }
        self
    }

    /// The same with a window of so many tokens.
    #[must_use]
    pub fn with_context(mut self, tokens: u32) -> Self {
        if let Self::Echo { serving, .. } = &mut self {
            serving.context = tokens;
        }
        self
    }

    fn with_pace(mut self, change: impl FnOnce(&mut Echo)) -> Self {
        if let Self::Echo { pace, .. } = &mut self {
            change(pace);
        }
        self
    }

    /// Puts the engine into a state directory.
    pub(crate) fn install(&self, state_dir: &Path) {
        let engines = state_dir.join("engines");
        fs::create_dir_all(&engines).expect("a fresh directory takes another");
        match self {
            Self::Absent => {}
            Self::Echo { pace, serving } => {
                install_test_engine(&engines.join(ECHO), pace, &echo_manifest(pace, serving));
            }
            Self::Real => link_default(&real_engine(), &engines),
            Self::At(path) => link_default(path, &engines),
        }
    }
}

/// Puts an engine into the state directory of a server that runs without one.
pub fn install_into(state_dir: &Path, engine: &Engine) {
    engine.install(state_dir);
}

/// Puts the small embedder beside the engine in a state directory. Its files are links,
/// so that it takes no disk.
///
/// # Panics
/// It is not built, or there is one already.
pub fn install_embedder(state_dir: &Path) {
    place_beside(EMBEDDER, state_dir);
}

/// The same of the one that llama.cpp runs.
///
/// # Panics
/// It is not built, or there is one already.
pub fn install_gguf_embedder(state_dir: &Path) {
    place_beside(GGUF_EMBEDDER, state_dir);
}

fn place_beside(name: &str, state_dir: &Path) {
    let (built, placed) = (built_engine(name), state_dir.join("engines").join(name));
    // As a builder publishes it: whole, by a rename.
    let making = state_dir.join("engines").join(".building-embedder");
    fs::create_dir_all(&making).expect("a fresh directory takes another");
    for entry in fs::read_dir(&built).expect("an engine is a directory") {
        let entry = entry.expect("its entries can be read");
        symlink(entry.path(), making.join(entry.file_name())).expect("and linked to");
    }
    fs::rename(making, placed).expect("a fresh directory takes another");
}

/// The directory of the default model's engine.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn real_engine() -> PathBuf {
    built_engine(REAL)
}

fn built_engine(name: &str) -> PathBuf {
    let target = binaries();
    let target = target.parent().expect("the binaries lie below the target directory");
    let path = target.join("test-state/engines").join(name);
    assert!(
        path.join(FILE_NAME).exists(),
        "the engine {} is not built; `scripts/test engine` does it",
        path.display()
    );
    path
}

fn install_test_engine(engine: &Path, pace: &Echo, manifest: &Manifest) {
    fs::create_dir(engine).expect("a fresh directory takes another");
    if !stand_in::is_wanted() {
        return write_manifest(engine, manifest);
    }
    stand_in::install(engine, pace, manifest);
    write_manifest(engine, &stand_in::manifest(engine, manifest.clone(), pace));
}

fn link_default(engine: &Path, engines: &Path) {
    symlink(engine, engines.join("default")).expect("a fresh directory takes a link");
}

fn write_manifest(engine: &Path, manifest: &Manifest) {
    let text = toml::to_string(manifest).expect("a manifest has a TOML form");
    fs::write(engine.join(FILE_NAME), text).expect("a fresh directory takes a file");
}

fn echo_manifest(pace: &Echo, serving: &Serving) -> Manifest {
    Manifest {
        manifest_version: MANIFEST_VERSION,
        id: ECHO.into(),
        built_at: 0,
        model: Model {
            name: ECHO.into(),
            architecture: "echo".into(),
            licence: "Apache-2.0".into(),
            quantisation: "none".into(),
            parameters: 0,
            aliases: vec![ECHO_ALIAS.into()],
        },
        backend: Backend {
            kind: BackendKind::Echo,
            version: "1".into(),
            echo: Some(pace.clone()),
            tensorrt_llm: None,
        },
        bound_to: BoundTo::default(),
        serving: serving.clone(),
        capabilities: Capabilities { chat: true, ..Capabilities::default() },
        embedding: None,
        files: Vec::new(),
        commands: Vec::new(),
        smoke: None,
        quantised: None,
        quality: None,
    }
}
