//! Temperatures, powers, sizes and frequencies that know their unit.
//!
//! They are made at the edge that knows the raw unit, from integers, so they
//! are never NaN. As JSON they are plain numbers: degrees Celsius, watts, bytes and
//! hertz, and the field that holds one says so in its name.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Serialize, Serializer};

/// A temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Celsius {
    millidegrees: i32,
}

impl Celsius {
    /// The kernel's unit for temperatures.
    #[must_use]
    pub const fn from_millidegrees(millidegrees: i32) -> Self {
        Self { millidegrees }
    }

    #[must_use]
    pub fn degrees(self) -> f64 {
        f64::from(self.millidegrees) / 1e3
    }
}

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} °C", self.degrees())
    }
}

impl Serialize for Celsius {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.degrees())
    }
}

/// A power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watts {
    microwatts: u64,
}

impl Watts {
    /// The kernel's unit for powers.
    #[must_use]
    pub const fn from_microwatts(microwatts: u64) -> Self {
        Self { microwatts }
    }

    /// NVIDIA's unit for powers.
    #[must_use]
    pub const fn from_milliwatts(milliwatts: u64) -> Self {
        Self { microwatts: milliwatts.saturating_mul(1000) }
    }

    #[must_use]
    pub fn watts(self) -> f64 {
        self.microwatts as f64 / 1e6
    }
}

impl Add for Watts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { microwatts: self.microwatts.saturating_add(other.microwatts) }
    }
}

impl Sum for Watts {
    fn sum<I: Iterator<Item = Self>>(powers: I) -> Self {
        powers.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} W", self.watts())
    }
}

impl Serialize for Watts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.watts())
    }
}

/// A size of memory or of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes {
    bytes: u64,
}

impl Bytes {
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self { bytes }
    }

    /// The kernel's unit for memory, which it calls kB.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self { bytes: kib.saturating_mul(1024) }
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.bytes
    }

    /// What is left of this without `other`; nothing if that is more.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.bytes < 1024 {
            return write!(f, "{} B", self.bytes);
        }
        let mut size = self.bytes as f64 / 1024.0;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        write!(f, "{size:.1} {}", UNITS[unit])
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.bytes)
    }
}

/// A clock's frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hertz {
    hertz: u64,
}

impl Hertz {
    /// The kernel's unit for device clocks.
    #[must_use]
    pub const fn new(hertz: u64) -> Self {
        Self { hertz }
    }

    /// The kernel's unit for processor clocks.
    #[must_use]
    pub const fn from_kilohertz(kilohertz: u64) -> Self {
        Self { hertz: kilohertz.saturating_mul(1000) }
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.hertz
    }
}

impl fmt::Display for Hertz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MHz", (self.hertz as f64 / 1e5).round() / 10.0)
    }
}

impl Serialize for Hertz {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.hertz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_with_their_unit() {
        assert_eq!(Celsius::from_millidegrees(47_875).to_string(), "47.9 °C");
        assert_eq!(Celsius::from_millidegrees(-28_000).to_string(), "-28.0 °C");
        assert_eq!(Watts::from_milliwatts(4_654).to_string(), "4.65 W");
        assert_eq!(Hertz::from_kilohertz(1_497_600).to_string(), "1497.6 MHz");
        assert_eq!(Hertz::new(918_000_000).to_string(), "918 MHz");
        assert_eq!(Bytes::new(1023).to_string(), "1023 B");
        assert_eq!(Bytes::from_kib(1).to_string(), "1.0 KiB");
        assert_eq!(Bytes::from_kib(7_789_952).to_string(), "7.4 GiB");
        assert_eq!(Bytes::new(u64::MAX).to_string(), "16777216.0 TiB");
    }

    #[test]
    fn arithmetic_stops_at_the_ends_instead_of_wrapping() {
        assert_eq!(Bytes::new(1).saturating_sub(Bytes::new(2)), Bytes::new(0));
        assert_eq!(Bytes::new(u64::MAX) + Bytes::new(1), Bytes::new(u64::MAX));
        let powers = [Watts::from_milliwatts(u64::MAX), Watts::from_microwatts(1)];
        assert_eq!(powers.into_iter().sum::<Watts>(), Watts::from_microwatts(u64::MAX));
    }
}
