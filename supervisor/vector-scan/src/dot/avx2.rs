//! The kernel for x86-64: the compiler's own vectors, for AVX2, and a look ahead.
//!
//! Written down as plain sums, of which the compiler makes multiplications of sixteen
//! pairs at once; intrinsics were no faster. What makes the difference is to ask for
//! memory before it is needed: a processor's own look ahead ends with each page. It is
//! asked for as if it were needed again. It is, by the next question, and where a cache
//! holds all rows, the hint that says otherwise (`NTA`) costs three quarters of the speed.

#![expect(unsafe_code, reason = "two things the compiler cannot know; tested against `plain`")]

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Bytes that memory is asked for ahead: about five rows. From 1 to 8 KiB all are alike.
const AHEAD: usize = 2048;
/// Bytes that memory gives at once.
const LINE: usize = 64;

/// Whether it did it: this processor has what it takes.
pub(super) fn products(rows: &[i8], other: &[i8], products: &mut [i32]) -> bool {
    if !is_x86_feature_detected!("avx2") {
        return false;
    }
    // SAFETY: the processor was asked for it just now.
    unsafe { all(rows, other, products) }
    true
}

#[target_feature(enable = "avx2")]
fn all(rows: &[i8], other: &[i8], products: &mut [i32]) {
    let other: Vec<i16> = other.iter().copied().map(i16::from).collect();
    for (row, product) in rows.chunks_exact(other.len()).zip(products) {
        for line in (0..row.len()).step_by(LINE) {
            let ahead = row.as_ptr().wrapping_add(AHEAD + line);
            #[allow(unused_unsafe, reason = "older compilers do not know that it is safe")]
            // SAFETY: nothing is read; where no memory is, nothing happens.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(ahead)
            }
        }
        // No vector has so many numbers that a sum could be too large.
        *product = row.iter().zip(&other).fold(0, |sum: i32, (one, other)| {
            sum.wrapping_add(i32::from(*one).wrapping_mul(i32::from(*other)))
        });
    }
}
