//! How often something may change.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Changes of the limits in any minute, at most.
pub const MOST: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// From one change to one that takes away.
const LOWER_AFTER: Duration = Duration::from_secs(12);
/// From one change to one that gives back: long enough to see what the last did.
const RAISE_AFTER: Duration = Duration::from_secs(30);
/// From one change to one that corrects a pause to the engine's step.
const TRIM_AFTER: Duration = Duration::from_secs(30);

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Raise,
    Lower,
    /// Lower at once: everything, so it is needed once.
    Emergency,
    Trim,
}

/// The changes of the last minute.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    recent: VecDeque<Instant>,
}

impl Changes {
    pub(super) fn allow(&mut self, kind: Kind, now: Instant) -> bool {
        while self.recent.front().is_some_and(|at| now.saturating_duration_since(*at) >= MINUTE) {
            self.recent.pop_front();
        }
        let since = self.recent.back().map(|at| now.saturating_duration_since(*at));
        let pause = match kind {
            Kind::Emergency => return self.recent.len() < MOST,
            Kind::Lower => LOWER_AFTER,
            Kind::Raise => RAISE_AFTER,
            Kind::Trim => TRIM_AFTER,
        };
        // The last one is kept for an emergency.
        self.recent.len() + 1 < MOST && since.is_none_or(|since| since >= pause)
    }

    pub(super) fn note(&mut self, now: Instant) {
        self.recent.push_back(now);
    }

    /// Changes in the last minute.
    pub(super) fn in_a_minute(&self, now: Instant) -> usize {
        let recent = |at: &&Instant| now.saturating_duration_since(**at) < MINUTE;
        self.recent.iter().filter(recent).count()
    }
}
