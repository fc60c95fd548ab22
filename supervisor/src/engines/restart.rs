//! Whether and when a dead worker is started again. Pure: no clock, no tokio.
//!
//! The first restart comes at once, because most deaths are single. Each
//! further one waits twice as long as the one before, up to [`LONGEST`]. A
//! worker that was ready for [`HEALTHY`] has made good: counting starts anew.
//! Nobody is helped by endless attempts at what cannot work, so a load that
//! the worker itself refuses is tried [`LOAD_TRIES`] times, and a worker that
//! never becomes ready [`FRUITLESS_TRIES`] times; then somebody must act. A
//! worker that cannot even be ended gets no successor, because two would need
//! twice the memory.

use std::time::Duration;

/// How long a worker must have been ready for its death to count as the first.
pub const HEALTHY: Duration = Duration::from_secs(60);
/// Wait before the second restart in a row.
const SECOND: Duration = Duration::from_secs(1);
/// Longest wait before a restart.
pub const LONGEST: Duration = Duration::from_secs(60);
/// Loads that the worker itself may refuse, for example because of a bad file.
/// Two, because memory that was short the first time may be free the second.
pub const LOAD_TRIES: u32 = 2;
/// Workers in a row that may die without having been ready.
pub const FRUITLESS_TRIES: u32 = 6;

/// What matters about a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How long it was ready; `None` if it never was.
    pub ready_for: Option<Duration>,
    /// The worker said itself that it cannot load the engine, or could not
    /// even be started.
    pub refused: bool,
    /// It does not end: a driver holds it, and what it holds is not free.
    pub stuck: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again, for the `attempt`th time in a row, after a wait.
    Again { attempt: u32, after: Duration },
    /// It died or was refused this many times in a row; stop trying.
    GiveUp { tries: u32 },
}

/// Deaths in a row so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deaths {
    all: u32,
    fruitless: u32,
    refused: u32,
}

impl Deaths {
    /// The count after one more death, and what is to be done about it.
    #[must_use]
    pub fn after(self, death: Facts) -> (Self, Verdict) {
        let before = match death.ready_for {
            Some(ready_for) if ready_for >= HEALTHY => Self::default(),
            Some(_) => Self { fruitless: 0, refused: 0, ..self },
            None => self,
        };
        let now = Self {
            all: before.all.saturating_add(1),
            fruitless: before.fruitless + u32::from(death.ready_for.is_none()),
            refused: before.refused + u32::from(death.refused),
        };
        match death.stuck {
            true => (now, Verdict::GiveUp { tries: now.all }),
            false => (now, now.verdict()),
        }
    }

    fn verdict(self) -> Verdict {
        if self.refused >= LOAD_TRIES {
            return Verdict::GiveUp { tries: self.refused };
        }
        if self.fruitless >= FRUITLESS_TRIES {
            return Verdict::GiveUp { tries: self.fruitless };
        }
        let after = match self.all {
            0 | 1 => Duration::ZERO,
            more => SECOND.saturating_mul(1 << (more - 2).min(16)).min(LONGEST),
        };
        Verdict::Again { attempt: self.all, after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER_READY: Facts = Facts { ready_for: None, refused: false, stuck: false };
    const SOON: Facts = Facts { ready_for: Some(Duration::from_secs(3)), ..NEVER_READY };
    const HEALTHY_LIFE: Facts = Facts { ready_for: Some(HEALTHY), ..NEVER_READY };
    const REFUSED: Facts = Facts { refused: true, ..NEVER_READY };
    const STUCK: Facts = Facts { stuck: true, ..HEALTHY_LIFE };

    /// Seconds to wait after each death; `None` for giving up.
    fn waits(deaths: &[Facts]) -> Vec<Option<u64>> {
        let mut count = Deaths::default();
        let wait = |death: &Facts| {
            let (next, verdict) = count.after(*death);
            count = next;
            match verdict {
                Verdict::Again { after, .. } => Some(after.as_secs()),
                Verdict::GiveUp { .. } => None,
            }
        };
        deaths.iter().map(wait).collect()
    }

    #[test]
    fn the_first_restart_is_immediate_and_then_waits_double_up_to_a_minute() {
        let expected = [0, 1, 2, 4, 8, 16, 32, 60, 60, 60].map(Some);
        assert_eq!(waits(&[SOON; 10]), expected);
    }

    #[test]
    fn a_healthy_minute_starts_the_count_anew() {
        let expected = [0, 1, 2, 0, 1].map(Some);
        assert_eq!(waits(&[SOON, SOON, SOON, HEALTHY_LIFE, SOON]), expected);
    }

    #[test]
    fn a_worker_that_never_gets_ready_is_given_up() {
        let expected = [Some(0), Some(1), Some(2), Some(4), Some(8), None];
        assert_eq!(waits(&[NEVER_READY; 6]), expected);
    }

    #[test]
    fn a_short_ready_life_is_not_a_fruitless_one() {
        let mut deaths = [NEVER_READY; 11];
        deaths[5] = SOON;
        assert_eq!(waits(&deaths)[..10].iter().filter(|wait| wait.is_none()).count(), 0);
        assert_eq!(waits(&deaths)[10], Some(60));
    }

    #[test]
    fn a_refused_load_is_tried_once_more() {
        assert_eq!(waits(&[REFUSED, REFUSED]), [Some(0), None]);
        assert_eq!(waits(&[REFUSED, SOON, REFUSED]), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_worker_that_does_not_end_gets_no_successor() {
        assert_eq!(waits(&[STUCK]), [None]);
    }

    #[test]
    fn the_wait_never_overflows() {
        let deaths = Deaths { all: u32::MAX - 1, ..Deaths::default() };
        let (_, verdict) = deaths.after(SOON);
        assert_eq!(verdict, Verdict::Again { attempt: u32::MAX, after: LONGEST });
    }
}
