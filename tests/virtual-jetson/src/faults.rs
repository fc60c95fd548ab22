//! What is wrong with a virtual board, as lines of text.
//!
//! | line | meaning |
//! |---|---|
//! | `ambient 45` | the air's temperature, °C |
//! | `fan stuck`, `fan quiet`, `fan cool`, `fan full` | the fan stands still, or follows this curve |
//! | `vent blocked` | the air that the fan moves does not get out |
//! | `supply weak` | the voltage falls with the current |
//! | `load 5` | another process takes 5 W |
//! | `memory 2000` | another process holds 2000 MB |
//! | `sensor NAME dead` | its file is gone |
//! | `sensor NAME frozen` | it says for ever what it said last |
//! | `sensor NAME cold` | it says -256 °C, or 0 for what is no temperature |
//! | `sensor NAME jumping` | every other second it says 40 K or 4 A more |
//! | `sensor NAME hanging` | whoever opens it waits for ever |
//!
//! `NAME` is a zone (`tj-thermal`), a rail (`VDD_IN`) or `fan`. Empty lines and
//! what follows a `#` say nothing. The lines are the whole state: a fault is
//! over when its line is gone.

use std::collections::BTreeMap;

use crate::conditions::Conditions;
use crate::fan::Profile;
use crate::power::Load;

/// All that is wrong at one time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    ambient_celsius: Option<f64>,
    fan_stuck: bool,
    fan: Option<Profile>,
    vent_blocked: bool,
    supply_weak: bool,
    load_watts: f64,
    pub(crate) memory_mb: u32,
    sensors: BTreeMap<String, Sense>,
}

/// What is wrong with a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sense {
    Dead,
    Frozen,
    Cold,
    Jumping,
    Hanging,
}

/// A line that says nothing known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {number}: \"{line}\" is no fault")]
pub struct UnknownFault {
    pub number: usize,
    pub line: String,
}

impl Faults {
    /// From lines such as `fan stuck`.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, UnknownFault> {
        let mut faults = Self::default();
        for (index, line) in text.lines().enumerate() {
            let said = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = said.split_whitespace().collect();
            faults
                .add(&words)
                .ok_or_else(|| UnknownFault { number: index + 1, line: line.trim().to_owned() })?;
        }
        Ok(faults)
    }

    fn add(&mut self, words: &[&str]) -> Option<()> {
        match words {
            [] => {}
            ["ambient", celsius] => {
                self.ambient_celsius = Some(number(celsius, -40.0..=85.0)?);
            }
            ["fan", "stuck"] => self.fan_stuck = true,
            ["fan", profile] => self.fan = Some(profile.parse().ok()?),
            ["vent", "blocked"] => self.vent_blocked = true,
            ["supply", "weak"] => self.supply_weak = true,
            ["load", watts] => self.load_watts = number(watts, 0.0..=60.0)?,
            ["memory", megabytes] => self.memory_mb = megabytes.parse().ok()?,
            ["sensor", name, sense] => {
                self.sensors.insert((*name).to_owned(), sense.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    pub(crate) fn of(&self, sensor: &str) -> Option<Sense> {
        self.sensors.get(sensor).copied()
    }

    /// What another process does.
    #[must_use]
    pub fn load(&self) -> Load {
        Load { extra_watts: self.load_watts, ..Load::IDLE }
    }

    /// What another process holds.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mb) * 1_000_000
    }

    /// `usual` with what is wrong.
    #[must_use]
    pub fn applied_to(&self, usual: Conditions) -> Conditions {
        Conditions {
            ambient_celsius: self.ambient_celsius.unwrap_or(usual.ambient_celsius),
            fan: self.fan.unwrap_or(usual.fan),
            fan_stuck: self.fan_stuck || usual.fan_stuck,
            vent_blocked: self.vent_blocked || usual.vent_blocked,
            supply_weak: self.supply_weak || usual.supply_weak,
        }
    }
}

fn number(text: &str, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
    text.parse().ok().filter(|value| range.contains(value))
}

impl std::str::FromStr for Sense {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Ok(match word {
            "dead" => Self::Dead,
            "frozen" => Self::Frozen,
            "cold" => Self::Cold,
            "jumping" => Self::Jumping,
            "hanging" => Self::Hanging,
            _ => return Err(()),
        })
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "quiet" => Ok(Self::Quiet),
            "cool" => Ok(Self::Cool),
            "full" => Ok(Self::Full),
            _ => Err(format!("there is no fan profile {word}; there are quiet, cool and full")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_the_whole_state() {
        let faults = Faults::parse(
            "ambient 45.5\nfan stuck # since noon\n\nsensor tj-thermal frozen\nload 5\n",
        )
        .unwrap();
        let conditions = faults.applied_to(Conditions::default());
        assert_eq!((conditions.ambient_celsius, conditions.fan_stuck), (45.5, true));
        assert_eq!(faults.of("tj-thermal"), Some(Sense::Frozen));
        assert_eq!((faults.of("VDD_IN"), faults.load_watts), (None, 5.0));
        assert_eq!(Faults::parse(" \n# nothing\n"), Ok(Faults::default()));
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_line() {
        for (text, number) in [
            ("fan broken", 1),
            ("\nambient hot", 2),
            ("ambient NaN", 1),
            ("ambient 900", 1),
            ("sensor VDD_IN", 1),
            ("explode", 1),
        ] {
            let error = Faults::parse(text).unwrap_err();
            assert_eq!((error.number, error.line.as_str()), (number, text.trim()));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).{0,200}") {
            let _ = Faults::parse(&text);
        }
    }
}
