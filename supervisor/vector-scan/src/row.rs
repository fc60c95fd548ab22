//! One vector in two bytes a number.
//!
//! ```text
//! number ≈ scale × (256 × coarse + fine)
//! ```

/// The largest number, in steps of the scale: its upper byte is 127.
const LARGEST: f32 = 127.0 * 256.0;

/// A vector of length 1, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub scale: f32,
    /// The upper bytes, rounded, from -127 to 127.
    pub coarse: Vec<i8>,
    /// What is left.
    pub fine: Vec<i8>,
}

impl Row {
    /// `None` if it has no direction: it is empty, all zeros or has a number that is
    /// none.
    #[must_use]
    pub fn new(values: &[f32]) -> Option<Self> {
        let values = direction(values)?;
        let scale = largest(&values) / LARGEST;
        let bytes = values.iter().map(|value| {
            #[expect(clippy::cast_possible_truncation, reason = "the scale bounds it to 16 bits")]
            let steps = (value / scale).round().clamp(-LARGEST, LARGEST) as i32;
            let coarse = (steps + 128) >> 8;
            (byte(coarse), byte(steps - (coarse << 8)))
        });
        let (coarse, fine) = bytes.unzip();
        Some(Self { scale, coarse, fine })
    }
}

/// A vector that others are compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    values: Vec<f32>,
    coarse: Vec<i8>,
    scale: f32,
}

impl Question {
    /// `None` as for [`Row::new`].
    #[must_use]
    pub fn new(values: &[f32]) -> Option<Self> {
        let values = direction(values)?;
        let scale = largest(&values) / 127.0;
        #[expect(clippy::cast_possible_truncation, reason = "the scale bounds it to 8 bits")]
        let coarse = values.iter().map(|value| byte((value / scale).round() as i32)).collect();
        Some(Self { values, coarse, scale })
    }

    /// Numbers that it has.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.values.len()
    }

    /// Its upper bytes.
    #[must_use]
    pub fn coarse(&self) -> &[i8] {
        &self.coarse
    }

    /// The cosine, but for rounding in the fourth digit or so.
    #[must_use]
    pub fn about(&self, product: i32, scale: f32) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "it is an approximation")]
        let product = product as f32;
        product * 256.0 * scale * self.scale
    }

    /// The cosine, to the precision that a row has.
    #[must_use]
    pub fn cosine(&self, scale: f32, coarse: &[i8], fine: &[i8]) -> f32 {
        let numbers = coarse.iter().zip(fine);
        let sum: f32 = numbers
            .zip(&self.values)
            .map(|((coarse, fine), value)| (f32::from(*coarse) * 256.0 + f32::from(*fine)) * value)
            .sum();
        sum * scale
    }
}

/// The same with length 1.
fn direction(values: &[f32]) -> Option<Vec<f32>> {
    let square: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    let length = square.sqrt();
    if !length.is_normal() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "none is above 1")]
    let one = |value: &f32| (f64::from(*value) / length) as f32;
    Some(values.iter().map(one).collect())
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

fn byte(value: i32) -> i8 {
    i8::try_from(value).expect("a byte's part of a number is in a byte's range")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_direction_is_no_row() {
        for values in [&[][..], &[0.0, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0]] {
            assert_eq!(Row::new(values), None, "{values:?}");
            assert_eq!(Question::new(values), None, "{values:?}");
        }
        assert!(Row::new(&[f32::MAX, f32::MAX]).is_some());
    }

    proptest! {
        #[test]
        fn a_cosine_is_right_to_four_digits(
            pair in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..400)
        ) {
            let (one, other): (Vec<f32>, Vec<f32>) = pair.into_iter().unzip();
            let (Some(row), Some(question)) = (Row::new(&one), Question::new(&other)) else {
                return Ok(());
            };
            let (one, other) = (direction(&one).unwrap(), direction(&other).unwrap());
            let exact: f32 = one.iter().zip(&other).map(|(one, other)| one * other).sum();
            let ours = question.cosine(row.scale, &row.coarse, &row.fine);
            prop_assert!((ours - exact).abs() < 2e-4, "{ours} {exact}");
            let product = crate::dot::plain(&row.coarse, question.coarse());
            let about = question.about(product, row.scale);
            prop_assert!((about - exact).abs() < 0.05, "{about} {exact}");
        }
    }
}
