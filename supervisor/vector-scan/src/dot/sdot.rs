//! The kernel for arm64: `sdot` multiplies sixteen pairs of bytes at once.
//!
//! Every processor since Armv8.4 has it, and most of Armv8.2, an Orin's Cortex-A78AE
//! among them. Its intrinsic is not stable in the oldest Rust that builds this, so
//! the instruction is written down as it is.

#![expect(unsafe_code, reason = "one instruction has no stable intrinsic; tested against `plain`")]

use std::arch::aarch64::{int8x16_t, int32x4_t, vaddq_s32, vaddvq_s32, vdupq_n_s32, vld1q_s8};
use std::arch::{asm, is_aarch64_feature_detected};

/// Sums that grow beside each other, because one has to wait for its last addition.
const SUMS: usize = 4;
/// Bytes that are added to all of them, sixteen to each.
const STEP: usize = 16 * SUMS;

/// Whether it did it: this processor has the instruction.
pub(super) fn products(rows: &[i8], other: &[i8], products: &mut [i32]) -> bool {
    if !is_aarch64_feature_detected!("dotprod") {
        return false;
    }
    // SAFETY: the processor was asked for the instruction just now.
    unsafe { all(rows, other, products) }
    true
}

#[target_feature(enable = "neon,dotprod")]
fn all(rows: &[i8], other: &[i8], products: &mut [i32]) {
    for (row, product) in rows.chunks_exact(other.len()).zip(products) {
        *product = dot(row, other);
    }
}

#[target_feature(enable = "neon,dotprod")]
fn dot(one: &[i8], other: &[i8]) -> i32 {
    let (ones, one) = one.as_chunks();
    let (others, other) = other.as_chunks();
    let mut sums = [vdupq_n_s32(0); SUMS];
    for (one, other) in ones.iter().zip(others) {
        add(&mut sums, one, other);
    }
    if !one.is_empty() {
        add(&mut sums, &filled(one), &filled(other));
    }
    let [first, second, third, fourth] = sums;
    vaddvq_s32(vaddq_s32(vaddq_s32(first, second), vaddq_s32(third, fourth)))
}

#[target_feature(enable = "neon,dotprod")]
fn add(sums: &mut [int32x4_t; SUMS], one: &[i8; STEP], other: &[i8; STEP]) {
    let (one, _) = one.as_chunks();
    let (other, _) = other.as_chunks();
    for (sum, (one, other)) in sums.iter_mut().zip(one.iter().zip(other)) {
        *sum = sdot(*sum, load(one), load(other));
    }
}

/// With zeros behind it, which add nothing.
fn filled(bytes: &[i8]) -> [i8; STEP] {
    let mut filled = [0; STEP];
    filled[..bytes.len()].copy_from_slice(bytes);
    filled
}

#[target_feature(enable = "neon")]
fn load(bytes: &[i8; 16]) -> int8x16_t {
    // SAFETY: it reads sixteen bytes, and so many there are.
    unsafe { vld1q_s8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, one: int8x16_t, other: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes these registers and nothing else.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {one:v}.16b, {other:v}.16b",
            sum = inout(vreg) sum,
            one = in(vreg) one,
            other = in(vreg) other,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
