//! An executor as the rest of Rust sees it.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use crate::seam::{self, Handle};

/// Requests wait for each other no longer than this; a longer wait is cut.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// TensorRT-LLM could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {said}")]
pub struct Failure {
    pub doing: &'static str,
    /// In TensorRT-LLM's own words.
    pub said: String,
}

/// How an engine is to be run. What is not here cannot be changed: 0.12 takes
/// batch limits when it is constructed, and only lower ones than the engine has.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Directory with `config.json` and `rank0.engine`.
    pub model: PathBuf,
    /// Tokens that the KV cache holds at most.
    pub kv_tokens: u32,
    /// Most of the free memory that the KV cache takes, in percent.
    pub kv_free_percent: u8,
    /// Host memory for KV blocks that are not in use, in bytes.
    pub kv_host_bytes: u64,
    /// Requests computed at once, at most.
    pub max_sequences: u16,
    /// Tokens computed in one iteration; `None` for what the engine was built for.
    pub max_tokens_per_step: Option<u32>,
    /// Compute long prompts in parts, between the steps of others.
    pub chunked_prompts: bool,
    /// Map the weights instead of reading them.
    pub mmap: bool,
}

/// A number that the executor gave to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl RequestId {
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A number that [`RequestId::number`] gave; any other one is nobody's.
impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// A request for one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    pub prompt: &'a [u32],
    /// Tokens to generate at most.
    pub max_tokens: u32,
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub ends: &'a [u32],
    /// Tokens that are never chosen.
    pub forbidden: &'a [u32],
    /// From 0 to 1; the greater goes first.
    pub priority: f32,
}

/// How tokens are chosen. Penalties look at the whole sequence, prompt included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The most likely ones to choose from; 0 for all. 1 is greedy.
    pub top_k: u32,
    pub top_p: f32,
    pub temperature: f32,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    /// State of the request's random numbers at its first token.
    pub seed: u64,
}

/// What a request got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub id: RequestId,
    /// New tokens, or why there will be none. An error is the last response.
    pub tokens: Result<Vec<u32>, String>,
    pub is_last: bool,
}

/// One iteration of the executor's loop. What it did not report is `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IterationStats {
    pub number: u64,
    pub took: Duration,
    /// Requests that took part.
    pub scheduled: Option<u32>,
    /// Those of them whose prompt was computed, and how many tokens of it.
    pub prompts: Option<u32>,
    pub prompt_tokens: Option<u32>,
    /// Those of them that got a token of their answer.
    pub answers: Option<u32>,
    pub kv: Option<KvBlocks>,
}

/// The paged KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvBlocks {
    pub all: u32,
    pub used: u32,
    /// How often a block was reused since the executor was opened.
    pub reused: u32,
    pub tokens_per_block: u32,
}

/// TensorRT-LLM's version, in its own words.
#[must_use]
pub fn version() -> &'static str {
    seam::version()
}

/// A loaded engine with its threads. Dropping it ends all requests and waits for
/// the threads.
#[derive(Debug)]
pub struct Executor {
    handle: Handle,
    /// Neither `Send` nor `Sync`; see the crate's page.
    one_thread: PhantomData<*const ()>,
}

impl Executor {
    /// Loads an engine.
    ///
    /// # Errors
    /// TensorRT-LLM's own, for example an engine of another version.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let handle = Handle::open(config).map_err(|said| failure("load the engine", said))?;
        Ok(Self { handle, one_thread: PhantomData })
    }

    /// Hands a request over; it is computed as soon as there is room.
    ///
    /// # Errors
    /// It was not taken, for example because its prompt is too long.
    pub fn enqueue(&mut self, request: &Request<'_>) -> Result<RequestId, Failure> {
        let enqueued = self.handle.enqueue(request);
        enqueued.map(RequestId).map_err(|said| failure("hand a request over", said))
    }

    /// Waits until there are responses, and no longer than `timeout`.
    ///
    /// # Errors
    /// The executor is broken, not a single request.
    pub fn await_responses(&mut self, timeout: Duration) -> Result<Vec<Response>, Failure> {
        let millis = timeout.min(LONGEST_WAIT).as_millis();
        let millis = u32::try_from(millis).expect("an hour has fewer than 2^32 milliseconds");
        self.handle.responses(millis).map_err(|said| failure("wait for answers", said))
    }

    /// Ends a request early. One more response may come for it.
    ///
    /// # Errors
    /// The executor is broken.
    pub fn cancel(&mut self, id: RequestId) -> Result<(), Failure> {
        self.handle.cancel(id.0).map_err(|said| failure("cancel a request", said))
    }

    /// What the executor's loop did since the last call.
    ///
    /// # Errors
    /// The executor is broken.
    pub fn iterations(&mut self) -> Result<Vec<IterationStats>, Failure> {
        self.handle.iterations().map_err(|said| failure("read the executor's counters", said))
    }

    /// Least time from the start of one iteration to the next, from now on; cut
    /// at an hour.
    pub fn set_pace(&mut self, pace: Duration) {
        let micros = pace.min(LONGEST_WAIT).as_micros();
        self.handle.pace(u32::try_from(micros).expect("an hour has fewer than 2^32 microseconds"));
    }

    /// As dropping it, but says what went wrong.
    ///
    /// # Errors
    /// It did not end cleanly. It is gone nevertheless.
    pub fn close(self) -> Result<(), Failure> {
        self.handle.close().map_err(|said| failure("end the executor", said))
    }
}

fn failure(doing: &'static str, said: String) -> Failure {
    Failure { doing, said }
}
