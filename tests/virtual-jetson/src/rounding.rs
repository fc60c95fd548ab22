//! From the model's floats to the whole numbers that sensors show.

/// The nearest whole number, halves upwards; 0 for what is negative or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float beyond the ends of the range becomes its end, and NaN becomes 0"
)]
pub(crate) fn whole(value: f64) -> u64 {
    (value + 0.5) as u64
}

/// The whole number below; 0 for what is negative or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float beyond the ends of the range becomes its end, and NaN becomes 0"
)]
pub(crate) fn below(value: f64) -> u64 {
    value as u64
}

/// `value` on the sensor's scale of 1/32 °C, which it never exceeds.
#[expect(clippy::cast_possible_truncation, reason = "temperatures are far from the ends")]
pub(crate) fn sensor_step(celsius: f64) -> f64 {
    // Above -1000 °C the sum is positive, so that cutting off rounds down.
    f64::from(((celsius + 1000.0) * 32.0) as i32) / 32.0 - 1000.0
}

/// In the kernel's unit for temperatures, cut off as it does.
#[expect(clippy::cast_possible_truncation, reason = "temperatures are far from the ends")]
pub(crate) fn millidegrees(celsius: f64) -> i32 {
    (celsius * 1000.0) as i32
}
