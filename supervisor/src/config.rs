//! The configuration, from files to checked [`Settings`], in three stages.
//!
//! ```text
//!  defaults → /usr/lib/stoker/stoker.toml → /etc/stoker/stoker.toml
//!           → /etc/stoker/conf.d/*.toml → STOKER_… → flags
//!       │ layers.rs: each layer alone must fit   raw.rs
//!       ▼ figment merges
//!      Raw ── validate.rs ──► Settings
//! ```
//!
//! Whoever has a [`Settings`] never checks it again. Unknown keys are errors.

mod layers;
mod place;
mod raw;
mod validate;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use place::Place;

use crate::api;
use crate::governor::Profile;
use crate::index::{NewRepository, SourceBounds};
use layers::Layer;

/// Everything that can be set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub state_dir: StateDir,
    /// Below it are the files of the machine; `/`, or a captured board.
    pub root: PathBuf,
    pub server: Server,
    pub engine: Engine,
    pub embedding: Embedding,
    pub admission: Admission,
    pub telemetry: Telemetry,
    pub governor: Governor,
    pub store: Store,
    pub index: Index,
    pub memory: Memory,
    pub repositories: Vec<NewRepository>,
}

/// `[server]`: the HTTP side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub listen: SocketAddr,
    pub http: api::Settings,
}

/// `[engine]`: which engine and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `None`: see [`crate::engines::locate`].
    pub model: Option<EngineId>,
    pub worker: PathBuf,
    pub threads: Option<u16>,
    /// `None`: as many as suits the engine and what is asked of it.
    pub max_batch_tokens: Option<u16>,
    /// Whether answers depend on their requests alone, where the engine can do that.
    pub reproducible: bool,
    pub load_timeout: Duration,
}

/// `[embedding]`: which embedder serves beside the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Embedding {
    /// `None`: the only one that is built.
    pub model: Option<EngineId>,
}

/// `[admission]`: who waits and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Requests that may wait; further ones are refused.
    pub queue: usize,
    /// How long a request waits for its turn at most.
    pub wait: Duration,
    /// How long a prompt waits for an engine that loads or restarts.
    pub prepare_wait: Duration,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    pub period: Duration,
}

/// `[governor]`: how the board is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Governor {
    pub profile: Profile,
    pub gpu_clock: GpuClock,
}

/// Whether the governor may cap the GPU's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuClock {
    /// Where this process may.
    Auto,
    /// Yes; it is a problem where this process may not.
    Cap,
    Leave,
}

/// `[store]`: what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Rows.
    pub requests: u64,
    /// Rows.
    pub incidents: u64,
    /// How long a streamed answer can be taken up again; zero for not at all.
    pub answers_kept: Duration,
    /// Bytes of all kept answers.
    pub answers_bytes: u64,
}

/// `[index]`: how code is indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub indexer: PathBuf,
    /// Between two passes over a repository.
    pub period: Duration,
    pub sources: SourceBounds,
}

/// `[memory]`: what is remembered of chats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Since it was last used; zero for not at all.
    pub kept: Duration,
    /// Bytes of all of it.
    pub bytes: u64,
    /// The engine shortens conversations and computes their prompts while nobody has a
    /// request.
    pub between_turns: bool,
}

/// Where everything lives that must survive a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// One directory per engine, and perhaps the link `default`.
    #[must_use]
    pub fn engines(&self) -> PathBuf {
        self.0.join("engines")
    }

    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("stoker.db")
    }

    #[must_use]
    pub fn code(&self) -> PathBuf {
        self.0.join("code.db")
    }

    /// Where the GPU's usual clock cap stands while another is set.
    #[must_use]
    pub fn gpu_clock(&self) -> PathBuf {
        self.0.join("gpu-clock")
    }

    #[must_use]
    pub fn memory(&self) -> PathBuf {
        self.0.join("memory.db")
    }

    #[must_use]
    pub fn answers(&self) -> PathBuf {
        self.0.join("answers.db")
    }
}

/// An engine's name, which is also its directory's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineId(String);

impl EngineId {
    /// `None` for a name that could not be a directory of its own.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let good = !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
        good.then(|| Self(name.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the command line can set.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Takes the place of the three file layers.
    pub config: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub root: Option<PathBuf>,
    pub listen: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    #[error("{place}: {problem}")]
    Syntax { place: Place, problem: String },
    #[error("{place}: {key}: {problem}")]
    Key { place: Place, key: String, problem: String },
}

/// Reads and checks the whole configuration.
///
/// # Errors
/// The first value that is wrong, with the place where it was written.
pub fn load(
    flags: &Flags,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let mut layers = match &flags.config {
        Some(path) => vec![Layer::file(path)?.ok_or_else(|| ConfigError::Missing(path.clone()))?],
        None => files(Path::new("/"))?,
    };
    layers.push(Layer::environment(variables)?);
    layers.push(Layer::flags(flags)?);
    settle(&layers)
}

/// The file layers below `root`, in their order. Absent files are fine.
fn files(root: &Path) -> Result<Vec<Layer>, ConfigError> {
    let mut paths =
        vec![root.join("usr/lib/stoker/stoker.toml"), root.join("etc/stoker/stoker.toml")];
    if let Ok(entries) = std::fs::read_dir(root.join("etc/stoker/conf.d")) {
        let mut fragments: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        fragments.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        fragments.sort();
        paths.append(&mut fragments);
    }
    paths.iter().filter_map(|path| Layer::file(path).transpose()).collect()
}

fn settle(layers: &[Layer]) -> Result<Settings, ConfigError> {
    let merged = layers.iter().fold(layers::defaults(), figment::Figment::merge);
    let raw = merged.extract().map_err(|error| ConfigError::Syntax {
        place: Place::Default,
        problem: error.to_string(),
    })?;
    validate::validate(raw).map_err(|invalid| {
        let layer = layers.iter().rev().find(|layer| layer.sets(invalid.key));
        let place = layer.map_or(Place::Default, |layer| layer.place(invalid.key));
        ConfigError::Key { place, key: invalid.key.to_owned(), problem: invalid.problem }
    })
}

#[cfg(test)]
mod tests;
