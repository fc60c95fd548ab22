//! What came of a run, in numbers.

use serde::Serialize;

/// Minutes of a run that a safe board may spend above 95 °C.
const MINUTES_ABOVE_95: f64 = 1.0;

/// One controller in one cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    pub hours: f64,
    pub answers_per_hour: f64,
    pub tokens_per_hour: f64,
    /// `None` where no token was asked for.
    pub tokens_per_joule: Option<f64>,
    /// Seconds to the first token, and between two.
    pub p95_first_token_s: Option<f64>,
    pub p95_gap_s: Option<f64>,
    /// What one gap in a hundred exceeds.
    pub p99_gap_s: Option<f64>,
    pub hottest_celsius: f64,
    pub minutes_above_95: f64,
    pub software_throttles: u64,
    pub firmware_throttles: u64,
    pub shutdowns: u64,
    pub answers_lost: u64,
    pub mean_watts: f64,
    /// Changes of the limits: each minute on average, and in the worst minute.
    pub changes_per_minute: f64,
    pub most_changes_in_a_minute: usize,
}

impl Outcome {
    /// The board was never slowed down or switched off by its own hand.
    #[must_use]
    pub fn is_unthrottled(&self) -> bool {
        self.software_throttles + self.firmware_throttles + self.shutdowns == 0
    }

    /// That, and it kept its distance from it.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.is_unthrottled() && self.minutes_above_95 <= MINUTES_ABOVE_95
    }
}

/// The number that so many of a hundred do not exceed.
#[must_use]
pub fn percentile(values: &mut [f64], percent: usize) -> Option<f64> {
    let rank = (values.len() * percent).div_ceil(100).checked_sub(1)?;
    let (_, value, _) = values.select_nth_unstable_by(rank, f64::total_cmp);
    Some(*value)
}

/// The most of these moments, in order, that fall into any minute.
#[must_use]
pub fn most_in_a_minute(moments: &[f64]) -> usize {
    let from = |index: usize| {
        moments[index..].iter().take_while(|at| **at - moments[index] < 60.0).count()
    };
    (0..moments.len()).map(from).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_do_not_exceed_it() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 95), Some(95.0));
        assert_eq!(percentile(&mut values, 99), Some(99.0));
        assert_eq!(percentile(&mut [7.0], 95), Some(7.0));
        assert_eq!(percentile(&mut [], 95), None);
    }

    #[test]
    fn the_worst_minute_is_found() {
        assert_eq!(most_in_a_minute(&[0.0, 59.0, 61.0, 100.0, 118.0, 300.0]), 4);
        assert_eq!(most_in_a_minute(&[]), 0);
    }
}
