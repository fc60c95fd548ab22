//! Numbers that know where they come from.

use crate::dice::Dice;

/// How far a number can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// NVIDIA's data sheet, device tree, firmware or power-mode file says so.
    Published,
    /// Somebody read it from a board.
    Measured,
    /// Chosen so that the model meets somebody's measurements.
    Fitted,
    /// Plausible, and nobody has said so.
    Guessed,
}

/// A number of the model with its origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    value: f64,
    origin: Origin,
}

impl Constant {
    #[must_use]
    pub const fn published(value: f64) -> Self {
        Self { value, origin: Origin::Published }
    }

    #[must_use]
    pub const fn measured(value: f64) -> Self {
        Self { value, origin: Origin::Measured }
    }

    #[must_use]
    pub const fn fitted(value: f64) -> Self {
        Self { value, origin: Origin::Fitted }
    }

    #[must_use]
    pub const fn guessed(value: f64) -> Self {
        Self { value, origin: Origin::Guessed }
    }

    #[must_use]
    pub const fn get(self) -> f64 {
        self.value
    }

    #[must_use]
    pub const fn origin(self) -> Origin {
        self.origin
    }

    /// The same, off by at most `spread` of itself.
    pub(crate) fn drawn(self, dice: &mut Dice, spread: f64) -> Self {
        Self { value: self.value * (1.0 + spread * (2.0 * dice.share() - 1.0)), ..self }
    }
}
