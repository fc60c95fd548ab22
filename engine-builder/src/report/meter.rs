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
    shown: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn bytes(report: &'a Report, total: u64) -> Self {
        let now = Instant::now();
        Self { report, in_bytes: true, done: 0, total, began: now, shown: now }
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

    #[expect(clippy::cast_precision_loss, reason = "a percentage is shown")]
    fn show(&mut self) {
        let Some(period) = self.report.period() else { return };
        if self.shown.elapsed() < period {
            return;
        }
        self.shown = Instant::now();
        let share = (self.done as f64 / self.total.max(1) as f64).min(1.0);
        let left = time_left(share, self.began.elapsed());
        let mut text = format!("{:.0} %", share * 100.0);
        if self.in_bytes {
            let done = Bytes::new(self.done.min(self.total));
            let total = Bytes::new(self.total);
            text.push_str(&format!(", {done} of {total}"));
        }
        if let Some(left) = left {
            text.push_str(&format!(", {:.0} s left", left.as_secs_f64().ceil()));
        }
        self.report.progress(&text, share, left);
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
