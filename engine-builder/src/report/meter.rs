//! How far a piece of work is, and how long it will still take.

use std::time::{Duration, Instant};

use jetpack::Bytes;

use super::Report;
use crate::interrupt::Interrupted;

/// Steps that a share between 0 and 1 is counted in.
const SHARES: u64 = 1000;

/// Below this, the time left is a guess that is better not shown.
const LEAST_ELAPSED: Duration = Duration::from_secs(1);

/// Counts work done, and speaks about it as often as its report wants.
#[derive(Debug)]
pub struct Meter<'a> {
    report: &'a Report,
    in_bytes: bool,
    done: u64,
    total: u64,
    began: Instant,
    /// When it last spoke to the screen, and to the file that others see.
    shown: Instant,
    noticed: Instant,
}

/// How far the work is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    pub(super) share: f64,
    /// Done and in all, if bytes are counted.
    pub(super) bytes: Option<(u64, u64)>,
    pub(super) left: Option<Duration>,
}

impl<'a> Meter<'a> {
    pub(super) fn bytes(report: &'a Report, total: u64) -> Self {
        let now = Instant::now();
        Self { report, in_bytes: true, done: 0, total, began: now, shown: now, noticed: now }
    }

    pub(super) fn share(report: &'a Report) -> Self {
        Self { in_bytes: false, ..Self::bytes(report, SHARES) }
    }

    /// `count` more bytes are done.
    ///
    /// # Errors
    /// The work was called off.
    pub fn advance(&mut self, count: u64) -> Result<(), Interrupted> {
        self.reach(self.done.saturating_add(count))
    }

    /// `done` bytes are done in all.
    ///
    /// # Errors
    /// The work was called off.
    pub fn reach(&mut self, done: u64) -> Result<(), Interrupted> {
        self.done = done;
        self.show();
        self.report.interrupt().check()
    }

    /// This share of the work, 0 to 1, is done.
    ///
    /// # Errors
    /// The work was called off.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "clamped to 0..=1 before it is scaled; not-a-number becomes 0"
    )]
    pub fn reach_share(&mut self, share: f32) -> Result<(), Interrupted> {
        self.reach((share.clamp(0.0, 1.0) * SHARES as f32) as u64)
    }

    fn show(&mut self) {
        let is_due = |period: Option<Duration>, last: Instant| {
            period.is_some_and(|period| last.elapsed() >= period)
        };
        if is_due(self.report.period(), self.shown) {
            self.shown = Instant::now();
            self.report.progress(&self.reached());
        }
        if is_due(self.report.notice_period(), self.noticed) {
            self.noticed = Instant::now();
            self.report.show_to_others(&self.reached());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage is shown")]
    fn reached(&self) -> Reached {
        let share = (self.done as f64 / self.total.max(1) as f64).min(1.0);
        Reached {
            share,
            bytes: self.in_bytes.then(|| (self.done.min(self.total), self.total)),
            left: time_left(share, self.began.elapsed()),
        }
    }
}

impl Reached {
    pub(super) fn words(&self) -> String {
        let mut text = format!("{:.0} %", self.share * 100.0);
        if let Some((done, total)) = self.bytes {
            text.push_str(&format!(", {} of {}", Bytes::new(done), Bytes::new(total)));
        }
        if let Some(left) = self.left {
            text.push_str(&format!(", {:.0} s left", left.as_secs_f64().ceil()));
        }
        text
    }
}

/// The time left if the rest goes as fast as what is done; `None` while too
/// little is done to tell.
fn time_left(share: f64, elapsed: Duration) -> Option<Duration> {
    if elapsed < LEAST_ELAPSED || share < 0.01 {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - share) / share).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_the_mean_speed() {
        let ten = Duration::from_secs(10);
        assert_eq!(time_left(0.5, ten), Some(ten));
        assert_eq!(time_left(1.0, ten), Some(Duration::ZERO));
        assert_eq!(time_left(0.001, ten), None);
        assert_eq!(time_left(0.5, Duration::from_millis(10)), None);
    }
}
