//! A runtime that batches and samples by itself: requests in, tokens out.
//!
//! What it does not say cannot be known here: which slot a request has, what it
//! computes next, what its logits are. So prefixes are reused by its own rules,
//! and a request can ask only for what its sampling has.

use std::time::Duration;

use engine_api::protocol::{DeviceMemory, Priority, Sampling, TokenId};

use super::{Description, StepError};

/// A runtime's own number of a request, unique for its life.
pub type Ticket = u64;

/// One request, as a runtime gets it.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Prompt, and what was generated in an earlier life.
    pub tokens: &'a [TokenId],
    /// How many of them were generated. The runtime's random numbers begin anew
    /// with each life, and must not repeat those of the last.
    pub generated: usize,
    /// Tokens to generate at most; at least one.
    pub most: u32,
    pub sampling: &'a Sampling,
    /// The tokens that end an answer.
    pub ends: &'a [TokenId],
    pub priority: Priority,
    pub reuse_prefix: bool,
}

/// What one request got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gain {
    pub ticket: Ticket,
    /// New tokens, or why the request failed. The token that ended the answer
    /// may be among them or not.
    pub tokens: Result<Vec<TokenId>, String>,
    pub is_last: bool,
}

/// What the runtime's own loop did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    pub steps: u64,
    pub prompt_tokens: u64,
    /// Prompt tokens that were not computed again.
    pub cached_tokens: u64,
    /// Time of the last step and of the slowest.
    pub step: Duration,
    pub worst_step: Duration,
    /// Tokens that the KV cache has room for and that stand in blocks in use.
    pub kv: Option<(u64, u64)>,
}

/// A loaded model behind such a runtime. All calls come from one thread.
pub trait Executor {
    /// What it is and what it computes on.
    fn description(&self) -> Description;

    /// Hands a request over.
    ///
    /// # Errors
    /// This request cannot be done, in words for the client; others go on.
    fn start(&mut self, order: &Order<'_>) -> Result<Ticket, String>;

    /// Ends a request early. Gains that are on their way may still come.
    ///
    /// # Errors
    /// The runtime is broken.
    fn cancel(&mut self, ticket: Ticket) -> Result<(), StepError>;

    /// Waits until there is something new, and no longer than `most`.
    ///
    /// # Errors
    /// The runtime is broken; every request is lost.
    fn wait(&mut self, most: Duration) -> Result<Vec<Gain>, StepError>;

    /// What was done since the last call.
    ///
    /// # Errors
    /// The runtime is broken.
    fn work(&mut self) -> Result<Work, StepError>;

    /// Least time from the start of one step to the next.
    fn set_pace(&mut self, pace: Duration);

    /// Memory of the device it computes on, where it says so.
    fn device_memory(&self) -> Option<DeviceMemory>;
}
