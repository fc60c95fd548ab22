//! Which temperatures to believe.
//!
//! Switched-off and broken sensors answer with values such as -256 °C or
//! 65261 °C, and a disturbed bus gives one wrong number between right ones.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::{Absent, Celsius};

/// What a working sensor can report, in millidegrees.
const PLAUSIBLE: RangeInclusive<i32> = -60_000..=150_000;

/// The most that a temperature changes between two samples, in degrees. A
/// junction was seen to gain 8 °C in two seconds at a board's full power; a
/// PC's processor gains 30 °C and is then believed one sample later.
const MAX_STEP: f64 = 25.0;

/// Readings further apart than this say nothing about each other.
const MEMORY: Duration = Duration::from_secs(10);

/// A temperature that can exist.
pub(crate) fn plausible(millidegrees: i32) -> Result<Celsius, Absent> {
    if !PLAUSIBLE.contains(&millidegrees) {
        return Err(Absent::Garbled);
    }
    Ok(Celsius::from_millidegrees(millidegrees))
}

/// What one sensor said last, believed or not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Steady(Option<(Celsius, Instant)>);

impl Steady {
    /// The reading at `now`, unless it is too far from the one before. Saying
    /// it twice makes it true.
    pub(crate) fn accept(&mut self, to: Celsius, now: Instant) -> Result<Celsius, Absent> {
        let before = self.0.replace((to, now));
        match before {
            Some((from, at))
                if now.saturating_duration_since(at) <= MEMORY
                    && (to.degrees() - from.degrees()).abs() > MAX_STEP =>
            {
                Err(Absent::Jumped { from, to })
            }
            _ => Ok(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn degrees(degrees: i32) -> Celsius {
        Celsius::from_millidegrees(degrees * 1000)
    }

    #[test]
    fn a_jump_is_believed_when_it_is_said_twice() {
        let (mut sensor, start) = (Steady::default(), Instant::now());
        let mut say = |temperature, after| {
            sensor.accept(degrees(temperature), start + Duration::from_secs(after))
        };
        let jumped = |from, to| Err(Absent::Jumped { from: degrees(from), to: degrees(to) });
        assert_eq!(say(50, 0), Ok(degrees(50)));
        assert_eq!(say(75, 2), Ok(degrees(75)));
        assert_eq!(say(20, 4), jumped(75, 20));
        assert_eq!(say(21, 6), Ok(degrees(21)));
        assert_eq!(say(120, 8), jumped(21, 120));
        assert_eq!(say(20, 10), jumped(120, 20));
        assert_eq!(say(20, 12), Ok(degrees(20)));
    }

    #[test]
    fn what_was_said_long_ago_does_not_matter() {
        let (mut sensor, start) = (Steady::default(), Instant::now());
        assert!(sensor.accept(degrees(40), start).is_ok());
        assert!(sensor.accept(degrees(95), start + Duration::from_secs(11)).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_impossible_passes(millidegrees in any::<i32>()) {
            let possible = (-60_000..=150_000).contains(&millidegrees);
            prop_assert_eq!(plausible(millidegrees).is_ok(), possible);
        }

        #[test]
        fn a_sensor_that_stays_where_it_is_is_soon_believed(
            history in prop::collection::vec(-60_i32..150, 0..20), at in -60_i32..150,
        ) {
            let (mut sensor, now) = (Steady::default(), Instant::now());
            for temperature in history {
                let _ = sensor.accept(degrees(temperature), now);
            }
            let _ = sensor.accept(degrees(at), now);
            prop_assert_eq!(sensor.accept(degrees(at), now), Ok(degrees(at)));
        }
    }
}
