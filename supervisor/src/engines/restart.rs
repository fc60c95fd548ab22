//! Whether, when and how a dead worker is started again. Pure: no clock, no tokio.
//!
//! The first restart comes at once, because most deaths are single. Each
//! further one in a row waits twice as long as the one before, up to
//! [`LONGEST`]. A worker that got something done, or was ready for [`HEALTHY`],
//! has made good: counting starts anew. After [`TRIES`] deaths in a row the
//! engine is run one rung lower:
//!
//! ```text
//!  Full ──► Reduced limits ──► Fallback engine ──► safe mode, tried again each RETRY
//!    └── refused to load ──────────▲ (if one is built)
//! ```
//!
//! Deaths while a request stands trial count for nothing: the trial ends them.
//! A worker that cannot even be ended gets no successor, because two would need
//! twice the memory.

use std::time::Duration;

/// How long a worker must have been ready for its death to count as the first.
pub const HEALTHY: Duration = Duration::from_secs(60);
/// How long one that nobody asked for anything must have been ready for that.
const UNUSED: Duration = Duration::from_secs(5);
/// Wait before the second restart in a row.
const SECOND: Duration = Duration::from_secs(1);
/// Longest wait before a restart.
pub const LONGEST: Duration = Duration::from_secs(60);
/// Loads that the worker itself may refuse, for example because of a bad file.
/// Two, because memory that was short the first time may be free the second.
pub const REFUSALS: u32 = 2;
/// Deaths in a row on one rung.
pub const TRIES: u32 = 3;
/// From safe mode to the next attempt: nobody stands beside an appliance.
pub const RETRY: Duration = Duration::from_secs(300);
/// How long a lower rung is kept, once the worker is ready on it.
pub const RECOVERED: Duration = Duration::from_secs(600);

/// How the engine is run, the best way first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    #[default]
    Full,
    /// Half of the sequences and a quarter of the step, for an engine that dies
    /// of too much at once.
    Reduced,
    /// Another engine that is built.
    Fallback,
}

/// What matters about a death.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// How long it was ready; `None` if it never was.
    pub ready_for: Option<Duration>,
    /// It gave somebody a part of an answer.
    pub productive: bool,
    /// Nothing was in flight.
    pub unused: bool,
    /// A request stood trial for it.
    pub trial: bool,
    /// The worker said itself that it cannot load the engine, or could not
    /// even be started.
    pub refused: bool,
    /// It does not end: a driver holds it, and what it holds is not free.
    pub stuck: bool,
    /// Another engine is built.
    pub fallback: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again, for the `attempt`th time in a row, after a wait.
    Again { attempt: u32, after: Duration, rung: Rung },
    /// It died or was refused this many times in a row. Serve without an engine
    /// and try again after [`RETRY`], unless its process is stuck.
    SafeMode { tries: u32, stuck: bool },
}

/// Deaths in a row so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deaths {
    all: u32,
    on_rung: u32,
    refused: u32,
    rung: Rung,
}

impl Deaths {
    /// How the engine is run.
    #[must_use]
    pub fn rung(self) -> Rung {
        self.rung
    }

    /// The count after one more death, and what is to be done about it.
    #[must_use]
    pub fn after(self, death: Facts) -> (Self, Verdict) {
        if death.stuck {
            return (self, Verdict::SafeMode { tries: self.all + 1, stuck: true });
        }
        if death.trial {
            return (self, Verdict::Again { attempt: 1, after: Duration::ZERO, rung: self.rung });
        }
        let before = match has_made_good(death) {
            true => Self { rung: self.rung, ..Self::default() },
            false => self,
        };
        let now = Self {
            all: before.all.saturating_add(1),
            on_rung: before.on_rung + 1,
            refused: before.refused + u32::from(death.refused),
            rung: before.rung,
        };
        if now.on_rung < TRIES && now.refused < REFUSALS {
            return (now, now.again());
        }
        // Fewer sequences do not mend what cannot be loaded.
        let next = match now.rung {
            Rung::Full if now.refused < REFUSALS => Some(Rung::Reduced),
            Rung::Full | Rung::Reduced if death.fallback => Some(Rung::Fallback),
            _ => None,
        };
        match next {
            Some(rung) => {
                let lower = Self { on_rung: 0, refused: 0, rung, ..now };
                (lower, lower.again())
            }
            None => (Self::default(), Verdict::SafeMode { tries: now.all, stuck: false }),
        }
    }

    fn again(self) -> Verdict {
        let after = match self.all {
            0 | 1 => Duration::ZERO,
            more => SECOND.saturating_mul(1 << (more - 2).min(16)).min(LONGEST),
        };
        Verdict::Again { attempt: self.all, after, rung: self.rung }
    }
}

fn has_made_good(death: Facts) -> bool {
    let bound = if death.unused { UNUSED } else { HEALTHY };
    death.productive || death.ready_for.is_some_and(|time| time >= bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER_READY: Facts = Facts {
        ready_for: None,
        productive: false,
        unused: false,
        trial: false,
        refused: false,
        stuck: false,
        fallback: false,
    };
    const SOON: Facts = Facts { ready_for: Some(Duration::from_secs(3)), ..NEVER_READY };
    const HEALTHY_LIFE: Facts = Facts { ready_for: Some(HEALTHY), ..NEVER_READY };
    const PRODUCTIVE: Facts = Facts { productive: true, ..SOON };
    const UNUSED_LIFE: Facts = Facts { unused: true, ready_for: Some(UNUSED), ..NEVER_READY };
    const TRIAL: Facts = Facts { trial: true, ..SOON };
    const REFUSED: Facts = Facts { refused: true, ..NEVER_READY };
    const STUCK: Facts = Facts { stuck: true, ..HEALTHY_LIFE };

    /// Seconds to wait and rung after each death; `None` for safe mode.
    fn verdicts(deaths: &[Facts]) -> Vec<Option<(u64, Rung)>> {
        let mut count = Deaths::default();
        let verdict = |death: &Facts| {
            let (next, verdict) = count.after(*death);
            count = next;
            match verdict {
                Verdict::Again { after, rung, .. } => Some((after.as_secs(), rung)),
                Verdict::SafeMode { .. } => None,
            }
        };
        deaths.iter().map(verdict).collect()
    }

    const fn full(seconds: u64) -> Option<(u64, Rung)> {
        Some((seconds, Rung::Full))
    }

    #[test]
    fn the_ladder_is_climbed_down_with_growing_waits() {
        let reduced = |seconds| Some((seconds, Rung::Reduced));
        let expected = [full(0), full(1), reduced(2), reduced(4), reduced(8), None];
        assert_eq!(verdicts(&[SOON; 6]), expected);
        assert_eq!(verdicts(&[NEVER_READY; 6]), expected);
    }

    #[test]
    fn another_engine_is_tried_before_safe_mode() {
        let death = Facts { fallback: true, ..SOON };
        let got = verdicts(&[death; 9]);
        assert_eq!(got[5], Some((16, Rung::Fallback)));
        assert_eq!(got[8], None);
    }

    #[test]
    fn who_gets_something_done_is_started_at_once_for_ever() {
        for made_good in [PRODUCTIVE, HEALTHY_LIFE, UNUSED_LIFE] {
            assert_eq!(verdicts(&[made_good; 50]), [full(0); 50]);
        }
        assert_eq!(verdicts(&[SOON, SOON, PRODUCTIVE, SOON]), [full(0), full(1), full(0), full(1)]);
    }

    #[test]
    fn deaths_of_a_trial_count_for_nothing() {
        let expected = [full(0), full(1), full(0), full(0), full(0)];
        assert_eq!(verdicts(&[SOON, SOON, TRIAL, TRIAL, TRIAL]), expected);
    }

    #[test]
    fn a_refused_load_is_tried_once_more_and_smaller_limits_are_not_tried() {
        assert_eq!(verdicts(&[REFUSED, REFUSED]), [full(0), None]);
        let with_another = Facts { fallback: true, ..REFUSED };
        let expected = [full(0), Some((1, Rung::Fallback))];
        assert_eq!(verdicts(&[with_another, with_another]), expected);
    }

    #[test]
    fn a_worker_that_does_not_end_gets_no_successor() {
        assert_eq!(verdicts(&[STUCK]), [None]);
    }

    #[test]
    fn the_wait_never_overflows() {
        let deaths = Deaths { all: u32::MAX - 1, ..Deaths::default() };
        let (_, verdict) = deaths.after(SOON);
        let expected = Verdict::Again { attempt: u32::MAX, after: LONGEST, rung: Rung::Full };
        assert_eq!(verdict, expected);
    }
}
