//! Median, range and percentiles of a few numbers.

use serde::Serialize;

/// What a column of the table shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// How many numbers it is made of.
    pub count: usize,
}

impl Summary {
    /// Nothing for no numbers. Numbers are measured, so never NaN.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max, count: sorted.len() })
    }
}

/// The number that `percent` of a hundred do not exceed; nothing for no numbers.
///
/// It is always one of them: the nearest rank.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_numbers() {
        let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let of = |percent| percentile(&values, percent);
        assert_eq!([of(0), of(50), of(90), of(99)], [1.0, 5.0, 9.0, 10.0].map(Some));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        let summary = |values: &[f64]| Summary::of(values).map(|it| (it.min, it.median, it.max));
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(summary(&[9.0, 1.0, 2.0]), Some((1.0, 2.0, 9.0)));
        assert_eq!(summary(&[4.0, 1.0, 2.0, 9.0]), Some((1.0, 3.0, 9.0)));
    }
}
