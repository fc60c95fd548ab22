//! The fan: what it is told by temperature, and how fast it turns.

/// Which of NVIDIA's curves is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    #[default]
    Quiet,
    Cool,
    /// All that it has, as `jetson_clocks --fan` sets it.
    Full,
}

/// Kelvins left to 105 °C, drive of 255, turns a minute; as in
/// `nvfancontrol.conf`, which is linear between its rows.
#[derive(Debug)]
pub struct Curve(&'static [(f64, f64, f64)]);

/// Published, all four.
pub(crate) static P3767_QUIET: Curve =
    Curve(&[(10.0, 255.0, 6000.0), (11.0, 187.0, 4000.0), (31.0, 187.0, 4000.0), (70.0, 0.0, 0.0)]);
pub(crate) static P3767_COOL: Curve = Curve(&[(35.0, 255.0, 6000.0), (70.0, 0.0, 0.0)]);
pub(crate) static P3701_QUIET: Curve = Curve(&[
    (10.0, 255.0, 2900.0),
    (11.0, 171.0, 1940.0),
    (23.0, 171.0, 1940.0),
    (60.0, 66.0, 750.0),
]);
pub(crate) static P3701_COOL: Curve = Curve(&[
    (10.0, 255.0, 2900.0),
    (11.0, 215.0, 2440.0),
    (30.0, 215.0, 2440.0),
    (60.0, 66.0, 750.0),
]);

/// The margin that the tables count from.
const HOTTEST_CELSIUS: f64 = 105.0;

/// Published: `POLLING_INTERVAL`.
const POLL_S: f64 = 2.0;

/// Guessed: how fast the turns follow the drive.
const SPIN_UP_S: f64 = 1.0;

/// What a fan is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drive {
    pub(crate) pwm: f64,
    pub(crate) rpm: f64,
}

impl Curve {
    /// What the fan is told at this temperature.
    pub(crate) fn at(&self, celsius: f64) -> Drive {
        let margin = HOTTEST_CELSIUS - celsius;
        let rows = self.0;
        let Some(next) = rows.iter().position(|row| margin < row.0) else {
            let (_, pwm, rpm) = rows[rows.len() - 1];
            return Drive { pwm, rpm };
        };
        let (high, pwm, rpm) = rows[next];
        if next == 0 {
            return Drive { pwm, rpm };
        }
        let (low, low_pwm, low_rpm) = rows[next - 1];
        let share = (margin - low) / (high - low);
        Drive { pwm: low_pwm + share * (pwm - low_pwm), rpm: low_rpm + share * (rpm - low_rpm) }
    }

    fn full(&self) -> Drive {
        let (_, pwm, rpm) = self.0[0];
        Drive { pwm, rpm }
    }

    /// What the fan is told under `profile`, where `self` is its curve.
    pub(crate) fn under(&self, profile: Profile, celsius: f64) -> Drive {
        if profile == Profile::Full { self.full() } else { self.at(celsius) }
    }
}

/// A fan and the service that drives it.
#[derive(Debug, Clone)]
pub(crate) struct Fan {
    pub(crate) told: Drive,
    pub(crate) rpm: f64,
    until_poll_s: f64,
}

impl Fan {
    pub(crate) fn turning(told: Drive) -> Self {
        Self { told, rpm: told.rpm, until_poll_s: 0.0 }
    }

    /// `look` says what the fan is to be told; it is asked once a poll.
    pub(crate) fn advance(&mut self, dt: f64, stuck: bool, look: impl FnOnce() -> Drive) {
        self.until_poll_s -= dt;
        if self.until_poll_s <= 0.0 {
            self.until_poll_s = POLL_S;
            self.told = look();
        }
        let to = if stuck { 0.0 } else { self.told.rpm };
        self.rpm += (to - self.rpm) * dt / (SPIN_UP_S + dt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quiet_curve_turns_as_fast_as_it_was_measured_to() {
        // 1756 turns at 52.5 °C and about 2000 at 56 °C on an Orin Nano.
        assert!((P3767_QUIET.at(52.5).rpm - 1756.0).abs() < 60.0);
        assert!((P3767_QUIET.at(56.0).rpm - 2000.0).abs() < 200.0);
        assert_eq!(P3767_QUIET.at(30.0), Drive { pwm: 0.0, rpm: 0.0 });
        assert_eq!(P3767_QUIET.at(97.0), Drive { pwm: 255.0, rpm: 6000.0 });
    }

    #[test]
    fn a_hotter_board_is_never_told_to_turn_slower() {
        for curve in [&P3767_QUIET, &P3767_COOL, &P3701_QUIET, &P3701_COOL] {
            let rpm: Vec<f64> = (0..1100).map(|t| curve.at(f64::from(t) / 10.0).rpm).collect();
            assert!(rpm.is_sorted(), "{curve:?}");
        }
    }
}
