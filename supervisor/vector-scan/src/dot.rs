//! Products of vectors of bytes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod sdot;

#[cfg(target_arch = "x86_64")]
use avx2::products as wide;
#[cfg(target_arch = "aarch64")]
use sdot::products as wide;

/// For a processor that nothing is written for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn wide(_: &[i8], _: &[i8], _: &mut [i32]) -> bool {
    false
}

/// Puts the product of each row with the other vector into its place, by the widest
/// instructions that this processor has. The rows stand one after the other; what has no
/// row stays as it was.
pub fn products(rows: &[i8], other: &[i8], products: &mut [i32]) {
    if other.is_empty() || wide(rows, other, products) {
        return;
    }
    for (row, product) in rows.chunks_exact(other.len()).zip(products) {
        *product = plain(row, other);
    }
}

/// The sum of the products of two vectors, one number after the other; what only one of
/// them has counts nothing.
#[must_use]
pub fn plain(one: &[i8], other: &[i8]) -> i32 {
    one.iter().zip(other).map(|(one, other)| i32::from(*one) * i32::from(*other)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// No product has this.
    const UNTOUCHED: i32 = i32::MIN;

    fn of(rows: &[i8], other: &[i8], count: usize) -> Vec<i32> {
        let mut found = vec![UNTOUCHED; count];
        products(rows, other, &mut found);
        found
    }

    #[test]
    fn extremes_do_not_overflow() {
        for (one, other) in [(-128, -128), (127, -128), (127, 127)] {
            let (one, other) = (vec![one; 4096], vec![other; 4096]);
            assert_eq!(of(&one, &other, 1), [plain(&one, &other)]);
        }
    }

    #[test]
    fn what_has_no_row_stays() {
        assert_eq!(of(&[1, 2, 3, 4, 5], &[10, 1], 3), [12, 34, UNTOUCHED]);
        assert_eq!(of(&[1, 2, 3, 4], &[10, 1], 1), [12]);
        assert_eq!(of(&[1, 2], &[], 1), [UNTOUCHED]);
        assert_eq!(of(&[], &[1], 1), [UNTOUCHED]);
    }

    proptest! {
        #[test]
        fn each_is_what_plain_arithmetic_gives(
            other in prop::collection::vec(any::<i8>(), 1..450),
            bytes in prop::collection::vec(any::<i8>(), 450 * 5),
            count in 0usize..5,
        ) {
            let rows = &bytes[..other.len() * count];
            let plainly: Vec<_> = rows.chunks(other.len()).map(|row| plain(row, &other)).collect();
            prop_assert_eq!(of(rows, &other, count), plainly);
        }
    }
}
