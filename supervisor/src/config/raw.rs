//! The configuration as it is written: every key, its type on paper and its
//! default. Nothing outside `config` sees these types.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api;
use crate::index::SourceBounds;

/// Seconds.
const DAY_S: u64 = 86_400;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) state_dir: PathBuf,
    pub(super) root: PathBuf,
    pub(super) server: Server,
    pub(super) engine: Engine,
    pub(super) embedding: Embedding,
    pub(super) admission: Admission,
    pub(super) telemetry: Telemetry,
    pub(super) governor: Governor,
    pub(super) store: Store,
    pub(super) index: Index,
    pub(super) memory: Memory,
    pub(super) repository: Vec<Repository>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) max_connections: u64,
    pub(super) max_body_bytes: u64,
    pub(super) max_bodies_bytes: u64,
    pub(super) header_timeout_s: u64,
    pub(super) body_timeout_s: u64,
    pub(super) idle_timeout_s: u64,
    pub(super) stall_timeout_s: u64,
    pub(super) drain_timeout_s: u64,
    pub(super) hosts: Vec<String>,
    pub(super) origins: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Engine {
    pub(super) model: Option<String>,
    pub(super) worker: Option<PathBuf>,
    pub(super) threads: Option<u64>,
    pub(super) max_batch_tokens: Option<u64>,
    pub(super) reproducible: bool,
    pub(super) load_timeout_s: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Embedding {
    pub(super) model: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admission {
    pub(super) queue: u64,
    pub(super) wait_s: u64,
    pub(super) prepare_wait_s: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Telemetry {
    pub(super) period_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Governor {
    pub(super) profile: String,
    pub(super) gpu_clock: Switch,
}

/// `true`, `false` or a word.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Switch {
    Is(bool),
    Word(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) requests: u64,
    pub(super) incidents: u64,
    pub(super) answers_kept_s: u64,
    pub(super) answers_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Index {
    pub(super) indexer: Option<PathBuf>,
    pub(super) period_s: u64,
    pub(super) fetch_period_s: u64,
    pub(super) source_bytes: u64,
    pub(super) uploads_bytes: u64,
    pub(super) uploads_kept_days: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Memory {
    pub(super) kept_days: u64,
    pub(super) bytes: u64,
    pub(super) between_turns: bool,
}

/// `[[repository]]`, as often as there are some.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Repository {
    #[serde(default)]
    pub(super) path: Option<PathBuf>,
    #[serde(default)]
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) owner: Option<String>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/stoker".into(),
            root: "/".into(),
            server: Server::default(),
            engine: Engine::default(),
            embedding: Embedding::default(),
            admission: Admission::default(),
            telemetry: Telemetry::default(),
            governor: Governor::default(),
            store: Store::default(),
            index: Index::default(),
            memory: Memory::default(),
            repository: Vec::new(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        let http = api::Settings::default();
        Self {
            listen: "127.0.0.1:11434".into(),
            max_connections: http.max_connections as u64,
            max_body_bytes: http.max_body_bytes as u64,
            max_bodies_bytes: http.max_bodies_bytes as u64,
            header_timeout_s: http.header_timeout.as_secs(),
            body_timeout_s: http.body_timeout.as_secs(),
            idle_timeout_s: http.idle_timeout.as_secs(),
            stall_timeout_s: http.stall_timeout.as_secs(),
            drain_timeout_s: http.drain_timeout.as_secs(),
            hosts: http.hosts,
            origins: http.origins,
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            model: None,
            worker: None,
            threads: None,
            max_batch_tokens: None,
            reproducible: true,
            load_timeout_s: 600,
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self { queue: 64, wait_s: 600, prepare_wait_s: 60 }
    }
}

impl Default for Index {
    fn default() -> Self {
        let sources = SourceBounds::default();
        Self {
            indexer: None,
            period_s: 60,
            fetch_period_s: sources.fetch_period.as_secs(),
            source_bytes: sources.bytes,
            uploads_bytes: sources.uploads_bytes,
            uploads_kept_days: sources.uploads_kept.as_secs() / DAY_S,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { kept_days: 30, bytes: 256 * 1024 * 1024, between_turns: true }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { period_ms: 2000 }
    }
}

impl Default for Governor {
    fn default() -> Self {
        Self { profile: "max".into(), gpu_clock: Switch::Word("auto".into()) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            requests: 100_000,
            incidents: 1000,
            answers_kept_s: 600,
            answers_bytes: 64 * 1024 * 1024,
        }
    }
}
