//! What the operator wants of the board: `governor.profile`.

use std::fmt;
use std::str::FromStr;

/// How the board is to be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// As many tokens as heat allows.
    #[default]
    Max,
    /// Most tokens for each joule.
    Balanced,
    /// Cool enough that the fan stays slow.
    Quiet,
    /// No more than so many watts, averaged over half a minute.
    Watts(u32),
}

/// A profile's name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"max\", \"balanced\", \"quiet\" or a budget such as \"watts:12\", found \"{0}\""
)]
pub struct NoProfile(String);

/// No reading is to come nearer to the limit than this, in kelvins: on an Orin none
/// is above 95 °C. A board with a dead fan has most of what it can give between there
/// and 90 °C, so that a wider margin costs it half of its tokens.
pub(super) const CEILING: f64 = 4.2;

/// What a budget may be: below, no board idles; above, none of them gets.
const BUDGET: std::ops::RangeInclusive<u32> = 3..=500;

impl Profile {
    /// The temperature that is held, in kelvins below the machine's own limit.
    ///
    /// On an Orin that limit is 99 °C. Its fan's quiet curve turns at two thirds
    /// of its speed from 74 °C on. By how much readings swing comes on top.
    #[must_use]
    pub(super) fn margin(self) -> f64 {
        match self {
            // A cooler board spends its joules on being there.
            Self::Max | Self::Balanced | Self::Watts(_) => CEILING,
            Self::Quiet => 29.0,
        }
    }

    #[must_use]
    pub(super) fn budget(self) -> Option<f64> {
        match self {
            Self::Watts(watts) => Some(f64::from(watts)),
            _ => None,
        }
    }

    /// Whether the clock is to be held where a token costs least.
    #[must_use]
    pub(super) fn saves(self) -> bool {
        self == Self::Balanced
    }
}

impl FromStr for Profile {
    type Err = NoProfile;

    fn from_str(text: &str) -> Result<Self, NoProfile> {
        let refused = || NoProfile(text.to_owned());
        match text {
            "max" => Ok(Self::Max),
            "balanced" => Ok(Self::Balanced),
            "quiet" => Ok(Self::Quiet),
            _ => {
                let watts = text.strip_prefix("watts:").and_then(|watts| watts.parse().ok());
                let watts = watts.filter(|watts| BUDGET.contains(watts));
                watts.map(Self::Watts).ok_or_else(refused)
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Balanced => f.write_str("balanced"),
            Self::Quiet => f.write_str("quiet"),
            Self::Watts(watts) => write!(f, "watts:{watts}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_is_written() {
        for name in ["max", "balanced", "quiet", "watts:12"] {
            assert_eq!(name.parse::<Profile>().unwrap().to_string(), name);
        }
        for bad in ["", "Max", "watts", "watts:", "watts:0", "watts:-3", "watts:9999"] {
            assert_eq!(bad.parse::<Profile>(), Err(NoProfile(bad.to_owned())), "{bad}");
        }
    }
}
