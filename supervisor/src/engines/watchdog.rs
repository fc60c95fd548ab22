//! Whether a worker moves. Pure: no clock, no tokio.
//!
//! Not its heartbeats count, which come from a thread of their own, but its
//! progress: steps of the batch, tokens, the share of a load. Time without
//! progress counts against a bound that follows from the engine's own speed.
//! Time in which the worker wanted a processor and had none does not count, nor
//! time in which it waited for its own pages from the disk: such a worker is
//! slow, and killing it would make everything slower. Nor does time in which
//! nobody looked, because this process did not run either.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often to look while there is something to do.
pub const LOOK: Duration = Duration::from_millis(100);
/// Most of the time between two looks that counts. Longer gaps mean that we did
/// not run, so perhaps nobody did.
const MOST_BETWEEN: Duration = Duration::from_millis(500);
/// A decode step is not expected to be faster than this, however small the model.
const LEAST_STEP: Duration = Duration::from_millis(50);
/// How many of the slowest steps an engine may stand still.
const STEPS: u32 = 3;
/// What is granted beyond that. With two [`LOOK`]s, at one of which it still moved,
/// it stays below a second.
const GRACE: Duration = Duration::from_millis(600);
/// What the first step of a life is granted besides, if nobody knows what one
/// takes: it pages the model in.
const FIRST_STEP: Duration = Duration::from_secs(10);
/// Least time that a single answer may stand still while others move.
const ONE_ANSWER: Duration = Duration::from_secs(30);
/// Steps that a single answer may be passed over, beyond those that prompts take.
const PASSED_OVER: u64 = 200;
/// Least time in which a load must get on, and how many of the measured loads.
const LOAD: (Duration, u32) = (Duration::from_secs(20), 10);
/// Time in which one of several prompts must have been read.
const PROMPT: Duration = Duration::from_secs(60);
/// Longest that fetching pages excuses standing still, all in all.
const MOST_FETCHING: Duration = Duration::from_secs(120);
/// Heartbeats, each with the slowest of its steps, that are remembered.
const REMEMBERED: usize = 240;
/// How many of them, ten seconds of work, tell more than an assumption does.
const ENOUGH: usize = 40;

/// How slow this engine's steps are, from what it measured lately.
#[derive(Debug, Clone)]
pub struct StepTimes {
    /// What its steps may take at least, whatever was measured.
    assumed: Duration,
    slowest: VecDeque<Duration>,
}

impl StepTimes {
    /// `assumed`: the longest step that the engine's manifest leads to expect.
    #[must_use]
    pub fn new(assumed: Duration) -> Self {
        Self { assumed, slowest: VecDeque::new() }
    }

    /// Takes the slowest step of one heartbeat.
    pub fn add(&mut self, slowest: Duration) {
        if slowest.is_zero() {
            return;
        }
        if self.slowest.len() == REMEMBERED {
            self.slowest.pop_front();
        }
        self.slowest.push_back(slowest);
    }

    /// The step that 99 of 100 are faster than: of the last minute's heartbeats
    /// the slowest but two, or what is assumed if that is more. Once enough was
    /// measured, only half of the assumption is left as a floor: it leaves room
    /// for a machine with half of its speed, and this one's is known by then.
    #[must_use]
    pub fn p99(&self) -> Duration {
        let mut sorted: Vec<_> = self.slowest.iter().copied().collect();
        sorted.sort_unstable();
        let measured = sorted.len().checked_sub(1 + sorted.len() / 100).map(|at| sorted[at]);
        let floor = if sorted.len() < ENOUGH { self.assumed } else { self.assumed / 2 };
        measured.unwrap_or_default().max(floor)
    }
}

/// How slow the steps of one engine are, with a floor for each kind.
#[derive(Debug, Clone)]
pub struct Speeds {
    decode: StepTimes,
    prefill: StepTimes,
    prompt_token: Duration,
    /// Prompt tokens that its smallest step computes.
    part: u64,
    /// The first step of this life, and of the one before it.
    first: Option<Duration>,
    first_before: Option<Duration>,
}

impl Speeds {
    /// From what was measured when the engine was built: a decode step and a
    /// prompt's token. `part`: prompt tokens computed beside running answers.
    #[must_use]
    pub fn new(decode_step: Duration, prompt_token: Duration, part: u16) -> Self {
        // A full batch, and half of the cores.
        let decode = (decode_step * 4).max(LEAST_STEP);
        Self {
            decode: StepTimes::new(decode),
            prefill: StepTimes::new(decode),
            prompt_token,
            part: u64::from(part.max(1)),
            first: None,
            first_before: None,
        }
    }

    /// The same for an engine that computes so many tokens at once.
    #[must_use]
    pub fn with_steps_of(mut self, tokens: u32) -> Self {
        // Half of the cores, or a long context before it.
        let assumed = self.prompt_token.saturating_mul(tokens).saturating_mul(2);
        self.prefill.assumed = assumed.max(self.decode.assumed);
        self
    }

    /// The same with what the engine's life before measured. One that made no
    /// step, for whatever reason, leaves all the time there is to the next one's.
    #[must_use]
    pub fn as_measured_in(mut self, earlier: Self) -> Self {
        self.decode.slowest = earlier.decode.slowest;
        self.prefill.slowest = earlier.prefill.slowest;
        self.first_before = earlier.first;
        self
    }

    /// From now on a prompt is computed in parts of so many tokens beside others.
    pub fn set_part(&mut self, part: u16) {
        self.part = u64::from(part.max(1));
    }

    /// Takes the slowest step of one heartbeat.
    pub fn add(&mut self, slowest: Duration, prefilling: bool) {
        let times = if prefilling { &mut self.prefill } else { &mut self.decode };
        times.add(slowest);
        if self.first.is_none() && !slowest.is_zero() {
            self.first = Some(slowest);
        }
    }

    /// What the first step of the life before this one took.
    #[must_use]
    pub fn first_before(&self) -> Option<Duration> {
        self.first_before
    }

    /// What 99 of 100 steps are faster than, while prompts are computed or not.
    #[must_use]
    pub fn p99(&self, prefilling: bool) -> Duration {
        match prefilling {
            true => self.prefill.p99().max(self.decode.p99()),
            false => self.decode.p99(),
        }
    }

    /// Steps in which a prompt of so many tokens is computed at most.
    #[must_use]
    pub fn steps_of_prompt(&self, tokens: u64) -> u64 {
        tokens / self.part + 1
    }
}

/// What can be seen of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Grows when anything gets on: a step, a token, a part of the load.
    pub progress: u64,
    /// Steps that it has made in this life.
    pub steps: u64,
    /// The request that has had nothing for the most steps.
    pub stalest: Option<Stalest>,
}

/// A request that the worker has begun and that gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stalest {
    /// Steps since it last got something.
    pub steps: u64,
    /// Steps that the prompts which are not computed yet may take.
    pub prompts: u64,
    pub since: Instant,
}

/// What a worker waited for since it began, see [`jetpack::process::Waits`].
pub type Waits = jetpack::process::Waits;

/// How a worker stands still. Durations are those that count against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stall {
    #[error(
        "it made no step for {} ms, and {} ms is its limit, as a step is expected to take {} ms at most",
        .silent.as_millis(), .bound.as_millis(), .expected.as_millis()
    )]
    NoStep { silent: Duration, bound: Duration, expected: Duration },
    #[error("its load did not get on for {} s", .silent.as_secs())]
    Load { silent: Duration },
    #[error("it did not read a prompt for {} s", .silent.as_secs())]
    Prompt { silent: Duration },
    #[error("one answer got nothing for {steps} steps, {} s, while others went on", .silent.as_secs())]
    OneAnswer { steps: u64, silent: Duration },
}

/// Watches one life.
#[derive(Debug)]
pub struct Watchdog {
    last: Option<Look>,
    /// Time that counts, without progress.
    silent: Duration,
    /// Time that was excused because pages were fetched.
    fetching: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    seen: Seen,
    waits: Waits,
}

/// What the worker has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Loading an engine that took this long when it was built.
    Load { measured: Duration },
    /// Turning prompts into tokens, and nothing else.
    Prompts,
    /// Computing, with steps that are this slow at worst. `first`: what the first
    /// one of the life before took, if it is known.
    Steps { p99: Duration, first: Option<Duration> },
}

impl Watchdog {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self { last: None, silent: Duration::ZERO, fetching: Duration::ZERO }
    }

    /// The worker has nothing to do: what it does now means nothing.
    pub fn rest(&mut self) {
        *self = Self::new();
    }

    /// Looks at a worker that has something to do. `waits` is `None` if they
    /// cannot be read.
    ///
    /// # Errors
    /// It stands still.
    pub fn look(
        &mut self,
        doing: Doing,
        seen: Seen,
        waits: Option<Waits>,
        now: Instant,
    ) -> Result<(), Stall> {
        let waits = waits.or(self.last.map(|last| last.waits)).unwrap_or_default();
        let last = self.last.replace(Look { at: now, seen, waits });
        let Some(last) = last else { return Ok(()) };
        if seen.progress == last.seen.progress {
            let counted = self.counted(last, waits, now);
            self.silent += counted;
        } else {
            self.silent = Duration::ZERO;
            self.fetching = Duration::ZERO;
        }
        self.judge(doing, seen, now)
    }

    /// How much of the time since `last` speaks against the worker.
    fn counted(&mut self, last: Look, waits: Waits, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(last.at).min(MOST_BETWEEN);
        if waits.pages_fetched > last.waits.pages_fetched && self.fetching < MOST_FETCHING {
            self.fetching += passed;
            return Duration::ZERO;
        }
        // A wait that is not over is not counted by the kernel yet.
        let had = match waits.is_ready {
            true => passed.min(waits.on_processor.saturating_sub(last.waits.on_processor)),
            false => passed,
        };
        had.saturating_sub(waits.for_processor.saturating_sub(last.waits.for_processor))
    }

    fn judge(&self, doing: Doing, seen: Seen, now: Instant) -> Result<(), Stall> {
        let silent = self.silent;
        match doing {
            Doing::Load { measured } if silent > LOAD.0.max(measured * LOAD.1) => {
                Err(Stall::Load { silent })
            }
            Doing::Prompts if silent > PROMPT => Err(Stall::Prompt { silent }),
            Doing::Load { .. } | Doing::Prompts => Ok(()),
            Doing::Steps { p99, first } => {
                let (expected, besides) = match first {
                    _ if seen.steps > 0 => (p99, Duration::ZERO),
                    Some(first) => (p99.max(first), Duration::ZERO),
                    None => (p99, FIRST_STEP),
                };
                let bound = expected * STEPS + GRACE + besides;
                if silent > bound {
                    return Err(Stall::NoStep { silent, bound, expected });
                }
                seen.stalest.map_or(Ok(()), |stalest| stalest.judge(p99, now))
            }
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

impl Stalest {
    fn judge(self, p99: Duration, now: Instant) -> Result<(), Stall> {
        let silent = now.saturating_duration_since(self.since);
        let many = self.steps > PASSED_OVER + 2 * self.prompts;
        match many && silent > ONE_ANSWER.max(p99 * STEPS) {
            true => Err(Stall::OneAnswer { steps: self.steps, silent }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
