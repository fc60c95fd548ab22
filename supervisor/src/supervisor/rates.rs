//! How fast the engine was lately, from the counters in its heartbeats. Pure.
//!
//! Only the time in which something ran counts, so that a short answer shows
//! the speed it really had.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use engine_api::protocol::{HEARTBEAT_PERIOD, Heartbeat};

use crate::snapshot::Rates;

/// How far back the averages look.
const WINDOW: Duration = Duration::from_secs(10);

/// The counters of the last ten seconds.
#[derive(Debug, Default)]
pub(super) struct Meter {
    points: VecDeque<Point>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Instant,
    prefill: u64,
    decode: u64,
    /// Whether something ran when the counters were read.
    busy: bool,
}

impl Meter {
    pub(super) fn add(&mut self, heartbeat: &Heartbeat, now: Instant) {
        let point = Point {
            at: now,
            prefill: heartbeat.prefill_tokens,
            decode: heartbeat.decode_tokens,
            busy: heartbeat.decoding + heartbeat.prefilling > 0,
        };
        // A new worker counts from zero.
        if self
            .points
            .back()
            .is_some_and(|last| point.prefill < last.prefill || point.decode < last.decode)
        {
            self.points.clear();
        }
        self.points.push_back(point);
        self.forget_before(now);
    }

    pub(super) fn rates(&self, now: Instant) -> Rates {
        let (mut time, mut prefill, mut decode) = (Duration::ZERO, 0, 0);
        for (a, b) in self.points.iter().zip(self.points.iter().skip(1)) {
            if is_recent(b, now) && b.worked_since(a) {
                time += b.working_time_since(a);
                prefill += b.prefill - a.prefill;
                decode += b.decode - a.decode;
            }
        }
        let rate = |tokens: u64| (!time.is_zero()).then(|| tokens as f64 / time.as_secs_f64());
        Rates { prefill_tokens_per_s: rate(prefill), decode_tokens_per_s: rate(decode) }
    }

    /// Drops old points, except the last one, from which the next one counts.
    fn forget_before(&mut self, now: Instant) {
        while self.points.get(1).is_some_and(|second| !is_recent(second, now)) {
            self.points.pop_front();
        }
    }
}

impl Point {
    fn worked_since(&self, earlier: &Self) -> bool {
        let moved = self.decode > earlier.decode || self.prefill > earlier.prefill;
        earlier.busy || moved
    }

    /// Heartbeats are rare while nothing runs, so of a gap that began idle only
    /// the last part can have been work.
    fn working_time_since(&self, earlier: &Self) -> Duration {
        let gap = self.at.saturating_duration_since(earlier.at);
        if earlier.busy { gap } else { gap.min(HEARTBEAT_PERIOD) }
    }
}

fn is_recent(point: &Point, now: Instant) -> bool {
    now.saturating_duration_since(point.at) <= WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(decode_tokens: u64, decoding: u32) -> Heartbeat {
        Heartbeat { decode_tokens, decoding, ..Heartbeat::default() }
    }

    fn decode_rate(beats: &[(u64, u64, u32)]) -> Option<f64> {
        let start = Instant::now();
        let mut meter = Meter::default();
        let mut last = start;
        for (second, decoded, decoding) in beats {
            last = start + Duration::from_secs(*second);
            meter.add(&heartbeat(*decoded, *decoding), last);
        }
        meter.rates(last).decode_tokens_per_s
    }

    #[test]
    fn idle_is_unknown_and_not_zero() {
        assert_eq!(decode_rate(&[]), None);
        assert_eq!(decode_rate(&[(0, 5, 0), (1, 5, 0), (2, 5, 0)]), None);
    }

    #[test]
    fn only_busy_time_counts() {
        assert_eq!(decode_rate(&[(0, 0, 1), (1, 20, 1), (2, 40, 0), (8, 40, 0)]), Some(20.0));
    }

    #[test]
    fn the_idle_time_before_a_short_answer_does_not_count() {
        assert_eq!(decode_rate(&[(0, 0, 0), (14, 30, 0)]), Some(120.0));
        assert_eq!(decode_rate(&[(0, 0, 0), (14, 0, 1), (15, 30, 0)]), Some(30.0));
    }

    #[test]
    fn a_standstill_with_work_to_do_is_slow() {
        assert_eq!(decode_rate(&[(0, 10, 1), (1, 10, 1), (2, 10, 1)]), Some(0.0));
    }

    #[test]
    fn what_is_older_than_ten_seconds_is_forgotten() {
        let beats = [(0, 0, 1), (1, 1000, 0), (12, 1000, 1), (13, 1010, 1)];
        assert_eq!(decode_rate(&beats), Some(10.0));
    }

    #[test]
    fn a_new_worker_counts_from_zero() {
        assert_eq!(decode_rate(&[(0, 900, 1), (1, 5, 1), (2, 15, 1)]), Some(10.0));
    }
}
