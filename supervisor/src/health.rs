//! `stoker health`: whether this boot went well, and telling the firmware so.
//!
//! A Jetson's firmware counts the boots that nobody marks as good. With two systems
//! (A and B) it goes back to the other one after three. With one system it has
//! nothing to go back to, and starts the recovery system from then on, for ever.
//!
//! ```text
//!                one system: at once
//!  Looking ──┬── all is well ──────────────► Mark ──► goes on looking ──► End
//!            ├── patience is over, ────────►  │
//!            │   nothing better to start      └─ refused: again, at most 5 times
//!            └── patience is over, this system is new and to blame,
//!                the other one boots ──────► `GoBack` ──► End
//! ```
//!
//! An engine that does not work is no reason to go back: a supervisor that serves and
//! says so is what the system is there for. Neither is a fault that the other system
//! would have as well, such as a clock that nobody has set. A system that was good
//! once is never sent back, and a new one three times at most, so that there is no
//! loop: who cannot count on the disk does not send back.

pub(crate) mod look;
mod perform;
mod record;

use std::time::Duration;

pub use perform::{HealthError, Options, health, nearest, shut_down, unsafe_shutdowns};

/// How long the supervisor and its engine may take, from when we start. A model that
/// still loads then is no fault.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Restarts of a new system that is ill. The firmware gives it up after as many.
pub const MOST_RESTARTS: u32 = 3;

/// How often, and how far apart, the firmware is told that a boot is good.
const MARK_TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(5);

/// What becomes of boots that nobody marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// Nobody counts: a PC.
    CountsNothing,
    /// It counts, and what could answer it is not installed.
    CannotBeTold,
    /// The recovery system.
    OneSystem,
    /// The other system, unless that does not boot either.
    TwoSystems {
        other_boots: bool,
        /// This one was never marked as good.
        is_new: bool,
        /// How often this one was restarted for being ill; `None` if that cannot be
        /// counted.
        restarts: Option<u32>,
    },
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    Answers,
    /// The supervisor serves without it, and waiting changes nothing.
    GivenUp(String),
    Pending(String),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub words: String,
    pub kind: FaultKind,
}

/// What a fault means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Another system may not have it.
    OfTheSystem,
    /// Any system would have it, and it may pass.
    MayPass,
    /// Any system would have it, and waiting changes nothing.
    Lasts,
}

impl Fault {
    pub(crate) fn is_of_the_system(&self) -> bool {
        self.kind == FaultKind::OfTheSystem
    }
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub engine: Engine,
    pub faults: Vec<Fault>,
}

/// What has been done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Open,
    /// Tried so often, the last time then.
    Refused {
        times: u32,
        at: Duration,
    },
    Good,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Wait,
    Mark,
    /// Leave this boot unmarked and start the machine again.
    GoBack,
    End(Ending),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Well,
    /// Marked, where that counts, and something is wrong.
    Ill,
    /// The firmware counts this boot as one that failed.
    NotMarked,
    WentBack,
}

impl Ending {
    /// The program's exit status.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Ill => 3,
            Self::NotMarked => 4,
            Self::WentBack => 5,
        }
    }
}

impl Health {
    /// Before the first look.
    #[must_use]
    pub fn unknown() -> Self {
        Self { engine: Engine::Pending("nobody has looked yet".to_owned()), faults: Vec::new() }
    }

    /// Nothing is wrong that could still change.
    fn is_settled(&self) -> bool {
        self.faults.iter().all(|fault| fault.kind == FaultKind::Lasts)
            && !matches!(self.engine, Engine::Pending(_))
    }

    fn is_well(&self) -> bool {
        self.faults.is_empty() && self.engine == Engine::Answers
    }

    pub(crate) fn blames_the_system(&self) -> bool {
        self.faults.iter().any(Fault::is_of_the_system)
    }
}

impl Firmware {
    fn counts(self) -> bool {
        self != Self::CountsNothing
    }

    /// Whether leaving this boot unmarked leads to a better one, and not to a loop.
    fn has_better(self) -> bool {
        match self {
            Self::TwoSystems { other_boots, is_new, restarts } => {
                other_boots && is_new && restarts.is_some_and(|count| count < MOST_RESTARTS)
            }
            Self::CountsNothing | Self::CannotBeTold | Self::OneSystem => false,
        }
    }
}

/// Decides, `waited` after the beginning.
#[must_use]
pub fn next(
    mark: Mark,
    firmware: Firmware,
    health: &Health,
    waited: Duration,
    patience: Duration,
) -> Step {
    let over = waited >= patience;
    match (mark, firmware) {
        (Mark::Open, Firmware::OneSystem) => return Step::Mark,
        (Mark::Open, Firmware::TwoSystems { .. }) => {
            return match (health.is_settled(), over) {
                (true, _) => Step::Mark,
                (false, false) => Step::Wait,
                (false, true) if health.blames_the_system() && firmware.has_better() => {
                    Step::GoBack
                }
                (false, true) => Step::Mark,
            };
        }
        (Mark::Refused { times, at }, _) if times < MARK_TRIES => {
            return if waited >= at + BETWEEN_TRIES { Step::Mark } else { Step::Wait };
        }
        _ => {}
    }
    match health.is_settled() || over {
        false => Step::Wait,
        true if mark != Mark::Good && firmware.counts() => Step::End(Ending::NotMarked),
        true if health.is_well() => Step::End(Ending::Well),
        true => Step::End(Ending::Ill),
    }
}

#[cfg(test)]
mod tests;
