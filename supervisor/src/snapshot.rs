//! What is true now, as one document: `/api/status`, the status page and
//! `/metrics` are drawn from it.
//!
//! The main loop publishes a new snapshot when something changed; nobody
//! decides anything from one. `null` means unknown, never zero. Times are in
//! the unit of the field's name.

use engine_api::manifest::BackendKind;
use engine_api::progress::Seen;
use engine_api::protocol::{Heartbeat, Limits, Ready};
use serde::Serialize;

use crate::update::News;

/// Version of this document; it grows when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// The whole document.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    pub schema: u32,
    pub version: &'static str,
    /// Seconds since 1970 when this was true.
    pub at: u64,
    pub uptime_s: u64,
    pub engine: Engine,
    /// `null` if none is built.
    pub embedder: Option<Embedder>,
    /// The one before it, while questions are searched among its vectors; `null` if it
    /// is not needed, or not there any more.
    pub former_embedder: Option<Embedder>,
    /// What holds for the engine now: the smaller of what it may do and what the
    /// board bears.
    pub limits: Limits,
    /// `null` until the first sample.
    pub governor: Option<Governor>,
    /// The engine that engine-builder builds here, or the last one that it did;
    /// `null` if nothing is known of one.
    pub build: Option<Seen>,
    /// The last update of the appliance; `null` if nothing is known of one.
    pub update: Option<News>,
    pub queue: Queue,
    pub index: Index,
    pub idle: Idle,
    pub totals: Totals,
    pub rates: Rates,
    /// `null` until the first sample.
    pub machine: Option<jetpack::Sample>,
    /// The supervisor's own resident memory, in bytes.
    pub supervisor_resident_bytes: Option<u64>,
    /// Newest first, at most [`MAX_INCIDENTS`].
    pub incidents: Vec<Incident>,
    /// What is wrong with the appliance itself, for example a full disk.
    pub problems: Vec<Problem>,
}

/// How many incidents a snapshot carries.
pub const MAX_INCIDENTS: usize = 20;

/// The chat engine and what it is doing.
#[derive(Debug, Clone, Serialize)]
pub struct Engine {
    /// Name that clients use.
    pub model: Option<String>,
    pub aliases: Vec<String>,
    pub backend: Option<BackendKind>,
    pub state: EngineState,
    pub pid: Option<u32>,
    /// Resident memory of the worker, in bytes.
    pub resident_bytes: Option<u64>,
    /// What it said when it became ready.
    pub ready: Option<Box<Ready>>,
    pub heartbeat: Option<Box<Heartbeat>>,
    /// Age of `heartbeat` in milliseconds.
    pub heartbeat_age_ms: Option<u64>,
    /// Times that it was started again after it had died.
    pub restarts: u64,
}

/// The engine that makes vectors of texts, beside the one that answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Embedder {
    /// Name that clients use.
    pub model: String,
    pub aliases: Vec<String>,
    pub backend: BackendKind,
    pub architecture: String,
    pub parameters: u64,
    pub quantisation: String,
    /// Of its files.
    pub bytes: u64,
    /// Numbers in one vector.
    pub dimension: u32,
    /// Tokens of one text at most.
    pub context: u32,
    pub state: EmbedderState,
    /// What it computes on; `null` while it does not run.
    pub device: Option<String>,
    pub pid: Option<u32>,
    /// Times that it ended by itself.
    pub restarts: u64,
}

/// Where the embedder is in its life.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum EmbedderState {
    /// Nobody has asked for vectors; the first request starts it.
    Idle,
    Starting,
    Ready,
    /// It cannot be started now.
    Resting {
        reason: String,
    },
}

/// Where the engine is in its life.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum EngineState {
    /// No engine directory yet.
    Absent {
        reason: String,
    },
    Starting,
    Loading {
        fraction: f32,
    },
    Ready,
    /// It died and will be started again.
    Restarting {
        attempt: u32,
        in_ms: u64,
        reason: String,
    },
    /// It died too often, or cannot be loaded; somebody must act.
    Failed {
        reason: String,
    },
    Draining,
}

/// What limits the engine now, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Governor {
    /// `max`, `balanced`, `quiet` or a budget such as `watts:12`.
    pub profile: String,
    /// A constant: `nothing`, `ungoverned`, `heat`, `throttled`, `blind`, `budget`,
    /// `profile`, `over_current` or `memory`.
    pub limiting: &'static str,
    /// The same in words, with the numbers.
    pub reason: String,
    /// Seconds since 1970 when this began to limit.
    pub since: u64,
    /// 0 is full power, `notches` the least.
    pub notch: usize,
    pub notches: usize,
    /// What the GPU's clock is capped to by us; `null` for not at all.
    pub gpu_cap_hertz: Option<u64>,
    /// `null` where there is no such clock, it is left alone, or nobody has tried.
    pub gpu_clock_may_be_capped: Option<bool>,
    /// `open`, `waits` (memory is short: the next request begins when one has
    /// ended) or `shut` (requests are refused).
    pub admission: &'static str,
    /// Changes of the limits since the supervisor started.
    pub changes_total: u64,
    /// The last ones, newest first.
    pub changes: Vec<GovernorChange>,
}

/// One change of the limits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GovernorChange {
    /// Seconds since 1970.
    pub at: u64,
    pub from_notch: usize,
    pub to_notch: usize,
    pub limiting: &'static str,
    pub reason: String,
    pub limits: Limits,
    pub gpu_cap_hertz: Option<u64>,
}

/// Who waits for a turn.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Queue {
    pub capacity: usize,
    pub waiting: usize,
    pub running: usize,
    /// Each client's label (an address, a key's name, or `key …` with a short digest),
    /// waiting and running. Strangers, where keys are asked for, are told numbers only.
    pub clients: Vec<QueueClient>,
}

/// One client's share of the queue.
#[derive(Debug, Clone, Serialize)]
pub struct QueueClient {
    pub client: String,
    pub waiting: usize,
    pub running: usize,
}

/// What the engine did while nobody had a request, since the start: summaries of
/// conversations, and prompts computed before their turn comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Idle {
    pub running: bool,
    pub done: u64,
    /// Begun and not finished, mostly because a client came.
    pub gave_way: u64,
}

/// The index of code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Index {
    /// It stands still, because heat, memory or over-current hold the engine back.
    pub held: bool,
    /// What holds them back.
    pub held_because: Option<String>,
    /// Of private ones numbers only.
    pub repositories: Vec<Repository>,
    /// `null` if nothing makes any.
    pub vectors: Option<IndexVectors>,
}

/// Vectors of indexed texts, by which they are found by their meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexVectors {
    /// What makes them.
    pub model: String,
    /// Whose vectors are searched: its own, or those of the one before it as long as its
    /// own are not whole. `null` if there are none.
    pub searched: Option<String>,
    /// Whether those are of the one before it.
    pub former: bool,
    /// Texts that have one.
    pub made: u64,
    /// Texts that have none yet.
    pub left: u64,
    /// An estimate, without the time in which others go first.
    pub left_s: Option<u64>,
    /// `made`, `embedding`, `yielding` (answers and other people's vectors go first),
    /// `held` (the board is held back) or `resting`.
    pub state: &'static str,
    /// Why it is held or rests.
    pub reason: Option<String>,
}

/// A repository that is indexed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repository {
    /// `null` where it is for nobody's eyes but its owner's; so are `path`, `revision` and
    /// the reasons.
    pub name: Option<String>,
    /// Or its git URL; of an upload the word.
    pub path: Option<String>,
    /// `path`, `git` or `upload`.
    pub from: &'static str,
    /// Everybody may search it.
    pub shared: bool,
    /// It stands in the configuration.
    pub configured: bool,
    /// `waiting`, `fetching`, `indexing`, `indexed` or `failed`.
    pub state: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    pub files: Option<u64>,
    /// Files that were passed over.
    pub skipped: Option<u64>,
    pub chunks: Option<u64>,
    /// Files that this pass has looked at, while there is one.
    pub looked_at: Option<u64>,
    /// Files that it will look at.
    pub of: Option<u64>,
    /// An estimate.
    pub left_s: Option<u64>,
    /// Seconds since 1970 of the last whole pass.
    pub passed_at: Option<u64>,
    /// The commit that is here.
    pub revision: Option<String>,
    /// Seconds since 1970 when the files that are here came; `null` where they lie in a
    /// directory of their own.
    pub brought_at: Option<u64>,
    pub brought_bytes: Option<u64>,
    /// Why the newest ones could not be fetched.
    pub not_fetched: Option<String>,
    /// Why edits are found by the next whole pass and not at once; `null` where they are.
    pub unwatched: Option<String>,
}

/// Counted since the supervisor started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub requests: u64,
    pub answered: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub refused: u64,
    pub prompt_tokens: u64,
    /// `None` once a request ended of which the engine did not tell it.
    pub cached_tokens: Option<u64>,
    pub completion_tokens: u64,
}

impl Default for Totals {
    /// Nothing yet, and that is known.
    fn default() -> Self {
        Self {
            requests: 0,
            answered: 0,
            failed: 0,
            cancelled: 0,
            refused: 0,
            prompt_tokens: 0,
            cached_tokens: Some(0),
            completion_tokens: 0,
        }
    }
}

/// Averages over the last ten seconds; `null` when nothing was running.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Rates {
    pub prefill_tokens_per_s: Option<f64>,
    pub decode_tokens_per_s: Option<f64>,
}

/// Something that went wrong and what was done about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    pub id: i64,
    /// Seconds since 1970.
    pub at: u64,
    /// A constant such as `engine_died`.
    pub kind: String,
    pub problem: String,
    pub done: String,
    pub advice: String,
}

/// A lasting condition of the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A constant such as `state_dir_full`.
    pub kind: &'static str,
    pub problem: String,
    pub advice: String,
}

/// One point of the recent past, for sparklines. `null` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HistoryPoint {
    /// Seconds since 1970.
    pub at: u64,
    pub hottest_celsius: Option<f64>,
    pub power_watts: Option<f64>,
    pub memory_used_bytes: Option<u64>,
    pub decode_tokens_per_s: Option<f64>,
    pub prefill_tokens_per_s: Option<f64>,
    pub running: usize,
    pub waiting: usize,
    pub kv_tokens: Option<u64>,
}
