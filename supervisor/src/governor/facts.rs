//! What the governor is told. Nothing in it is read here, and what is unknown
//! is `None`.

use std::time::{Duration, Instant};

use engine_api::protocol::Limits;
use jetpack::{Bytes, Celsius, Watts};

/// All that a decision depends on, beside the governor's own state.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The most that the engine may do, whatever the board can bear.
    pub bounds: Limits,
    /// Prompt tokens that may be computed at once beside running answers, where that
    /// is better for them: beyond `bounds`, which say how many usually are.
    pub largest_part: u16,
    /// Whether this machine has to be kept from its limits: a Jetson. Others
    /// protect themselves, and their sensors seldom say what they can bear.
    pub governed: bool,
    /// The zone that is nearest to its limit.
    pub heat: Option<Heat>,
    /// What the whole machine takes.
    pub power: Option<Power>,
    /// The machine slows its clocks down by itself, because of heat.
    pub throttled: bool,
    /// Over-current events each second.
    pub over_current: Option<f64>,
    /// `None` where the clock may not be capped.
    pub clock: Option<Clock>,
    /// Unified memory; `None` where running out of it is not the engine's doing.
    pub memory: Option<Memory>,
    pub work: Work,
}

/// The zone that is nearest to its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    pub zone: String,
    pub celsius: Celsius,
    /// From here on the machine slows itself down.
    pub limit: Celsius,
    /// When it was read.
    pub at: Instant,
}

/// A reading of the machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    pub watts: Watts,
    pub at: Instant,
}

/// The clock that may be capped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// What it can run at, ascending, up to what the power mode allows.
    pub available_hz: Vec<u64>,
    /// The highest that the chip can do in any mode; its voltage follows that.
    pub top_hz: u64,
}

/// The memory that processor and GPU share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub total: Bytes,
    /// What programs can still get.
    pub available: Bytes,
    pub at: Instant,
}

/// What the engine does, from its last heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Requests being decoded.
    pub decoding: u32,
    /// Requests whose prompts are being computed.
    pub prefilling: u32,
    /// Requests that wait for a place.
    pub waiting: u32,
    /// Tokens decoded, and of prompts computed, since the engine started.
    pub decoded: u64,
    pub prefilled: u64,
    /// Time of its last step.
    pub step: Option<Duration>,
    /// What the engine measured when it was built, for one request alone: a
    /// decode step, and a prompt's token.
    pub alone: Option<Alone>,
    pub kv: Option<Kv>,
}

/// Speeds of one request alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    pub decode_step: Duration,
    pub prompt_token: Duration,
}

/// The engine's KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kv {
    /// Tokens that are in it.
    pub held: u64,
    /// Tokens that fit.
    pub capacity: u64,
    /// Bytes that all of it takes when it is full.
    pub bytes: Bytes,
}

impl Facts {
    /// Facts of a machine of which nothing is known.
    #[must_use]
    pub fn unknown(bounds: Limits) -> Self {
        Self {
            bounds,
            largest_part: bounds.max_batch_tokens,
            governed: false,
            heat: None,
            power: None,
            throttled: false,
            over_current: None,
            clock: None,
            memory: None,
            work: Work::default(),
        }
    }
}

impl Work {
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.decoding + self.prefilling > 0
    }
}
