//! Whether to compute on all cores or on one, because other processes need the
//! rest. Pure.
//!
//! A team of compute threads meets at a barrier several hundred times a token.
//! If one of them has lost its core to another process, all wait for its next
//! turn: with two threads on two cores, one busy neighbour was measured to cost
//! far more than half of the speed. One thread alone loses nothing.

mod lookout;

use std::time::Duration;

pub use self::lookout::Lookout;

/// Cores that others may use before the team gives way. A busy process gets at
/// least half a core from two compute threads on two.
const CROWDED: f64 = 0.4;

/// Cores that others may use at most before the team comes back: more than the
/// supervisor and its clients take while eight answers stream.
const QUIET: f64 = 0.25;

/// Time that must have been quiet, without a break, before the team comes back.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// Processor time used since boot, by everybody and by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub everybody: Duration,
    pub own: Duration,
}

/// Decides between the team and one thread.
#[derive(Debug, Clone, Default)]
pub struct Cores {
    last: Option<(Usage, Duration)>,
    alone: bool,
    quiet: Duration,
}

impl Cores {
    /// Takes a look at `usage` at `now` (any steady clock) and says whether to
    /// compute alone until the next look.
    pub fn look(&mut self, usage: Usage, now: Duration) -> bool {
        let Some((before, then)) = self.last.replace((usage, now)) else {
            return self.alone;
        };
        let elapsed = now.saturating_sub(then);
        if elapsed.is_zero() {
            return self.alone;
        }
        let everybody = usage.everybody.saturating_sub(before.everybody);
        let own = usage.own.saturating_sub(before.own);
        let others = everybody.saturating_sub(own).as_secs_f64() / elapsed.as_secs_f64();
        if others > CROWDED {
            (self.alone, self.quiet) = (true, Duration::ZERO);
        } else if others < QUIET {
            self.quiet += elapsed;
            self.alone &= self.quiet < QUIET_TIME;
        } else {
            self.quiet = Duration::ZERO;
        }
        self.alone
    }

    /// Notes that there is nothing to compute: what others do meanwhile, such
    /// as preparing the next request, costs nobody anything. The last decision
    /// stands.
    pub fn rest(&mut self) {
        (self.last, self.quiet) = (None, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    /// Looks at a machine where others use this many cores in each interval.
    fn looks(others: &[f64]) -> Vec<bool> {
        let mut cores = Cores::default();
        let mut usage = Usage { everybody: Duration::ZERO, own: Duration::ZERO };
        let mut now = Duration::ZERO;
        cores.look(usage, now);
        others
            .iter()
            .map(|&share| {
                now += LOOK;
                usage.own += LOOK;
                usage.everybody += LOOK + LOOK.mul_f64(share);
                cores.look(usage, now)
            })
            .collect()
    }

    #[test]
    fn a_busy_neighbour_ends_the_team_at_once() {
        assert_eq!(looks(&[0.05, 0.9]), [false, true]);
    }

    #[test]
    fn the_team_comes_back_only_after_quiet_has_lasted() {
        let after = looks(&[0.9, 0.1, 0.1, 0.1, 0.1]);
        assert_eq!(after, [true, true, true, true, false]);
        let broken = looks(&[0.9, 0.1, 0.1, 0.1, 0.35, 0.1]);
        assert_eq!(broken.last(), Some(&true));
    }

    #[test]
    fn one_long_quiet_step_is_enough_to_come_back() {
        let mut cores = Cores { alone: true, ..Cores::default() };
        let usage = |own| Usage { everybody: own, own };
        cores.look(usage(Duration::ZERO), Duration::ZERO);
        assert!(!cores.look(usage(Duration::from_secs(5)), Duration::from_secs(5)));
    }

    #[test]
    fn what_happens_at_rest_does_not_count() {
        let mut cores = Cores::default();
        let usage = |everybody| Usage { everybody, own: Duration::ZERO };
        cores.look(usage(Duration::ZERO), Duration::ZERO);
        cores.rest();
        assert!(!cores.look(usage(LOOK), LOOK), "the first look only begins an interval");
    }

    #[test]
    fn a_little_business_changes_nothing() {
        assert_eq!(looks(&[0.2, 0.3, 0.2]), [false; 3]);
    }
}
