//! Products of vectors of bytes.

#[cfg(target_arch = "aarch64")]
mod sdot;

/// The sum of the products, by the widest instructions that this processor has; 0
/// for vectors of different lengths.
#[must_use]
pub fn dot(one: &[i8], other: &[i8]) -> i32 {
    if one.len() != other.len() {
        return 0;
    }
    wide(one, other).unwrap_or_else(|| plain(one, other))
}

#[cfg(target_arch = "x86_64")]
fn wide(one: &[i8], other: &[i8]) -> Option<i32> {
    use simsimd::SpatialSimilarity as _;
    // It counts in whole numbers of 32 bits and hands them on as this.
    #[expect(clippy::cast_possible_truncation, reason = "it comes from 32 bits")]
    i8::dot(one, other).map(|sum| sum as i32)
}

#[cfg(target_arch = "aarch64")]
use sdot::dot as wide;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn wide(_: &[i8], _: &[i8]) -> Option<i32> {
    None
}

/// The same, one number after the other.
#[must_use]
pub fn plain(one: &[i8], other: &[i8]) -> i32 {
    if one.len() != other.len() {
        return 0;
    }
    one.iter().zip(other).map(|(one, other)| i32::from(*one) * i32::from(*other)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn extremes_do_not_overflow() {
        for (one, other) in [(-128, -128), (127, -128), (127, 127)] {
            let (one, other) = (vec![one; 4096], vec![other; 4096]);
            assert_eq!(dot(&one, &other), plain(&one, &other));
        }
        assert_eq!(dot(&[], &[]), 0);
        assert_eq!(dot(&[1], &[1, 2]), 0);
    }

    proptest! {
        #[test]
        fn it_is_what_plain_arithmetic_gives(
            pair in prop::collection::vec((any::<i8>(), any::<i8>()), 0..1100)
        ) {
            let (one, other): (Vec<i8>, Vec<i8>) = pair.into_iter().unzip();
            prop_assert_eq!(dot(&one, &other), plain(&one, &other));
        }
    }
}
