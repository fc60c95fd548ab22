//! How hot the board is taken to be.
//!
//! A reading that is missing or old says that nobody watches, and that counts
//! as hot. One that falls faster than heat can leave a board is believed only
//! slowly: it is the sensor that went, not the heat.

use std::time::{Duration, Instant};

use super::facts::Heat;

/// The fastest that a board is believed to cool, in kelvins each second.
const FASTEST_FALL: f64 = 2.0;
/// Over how long the trend is averaged, in seconds.
const TREND: f64 = 15.0;
/// Over how long the mean is taken that readings rise above, in seconds.
const MEAN: f64 = 60.0;
/// How slowly such a rise is forgotten, in seconds.
const SWINGS: f64 = 600.0;

/// What the governor believes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Temperature {
    /// The machine looks after itself.
    Ungoverned,
    /// Nobody has seen it for so long; `None`: ever.
    Blind(Option<Duration>),
    Known(Known),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) zone: String,
    pub(super) celsius: f64,
    pub(super) limit: f64,
    /// Kelvins each second, lately.
    pub(super) trend: f64,
    /// How far readings have risen above their mean, in kelvins: a part of a prompt
    /// heats the die at once, and the heat sink slowly.
    pub(super) swing: f64,
    /// That mean.
    mean: f64,
    /// When it was read.
    pub(super) at: Instant,
}

#[derive(Debug, Clone)]
pub(super) struct Thermometer {
    /// How old a reading may be.
    patience: Duration,
    last: Option<Known>,
}

impl Thermometer {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, last: None }
    }

    pub(super) fn observe(
        &mut self,
        governed: bool,
        heat: Option<&Heat>,
        now: Instant,
    ) -> Temperature {
        if !governed {
            return Temperature::Ungoverned;
        }
        let newer = |heat: &&Heat| self.last.as_ref().is_none_or(|last| heat.at > last.at);
        if let Some(heat) = heat.filter(newer) {
            self.last = Some(self.believed(heat));
        }
        let Some(last) = &self.last else { return Temperature::Blind(None) };
        let age = now.saturating_duration_since(last.at);
        match age > self.patience {
            true => Temperature::Blind(Some(age)),
            false => Temperature::Known(last.clone()),
        }
    }

    fn believed(&self, heat: &Heat) -> Known {
        let (celsius, limit) = (heat.celsius.degrees(), heat.limit.degrees());
        let fresh = Known {
            zone: heat.zone.clone(),
            celsius,
            limit,
            trend: 0.0,
            swing: 0.0,
            mean: celsius,
            at: heat.at,
        };
        let Some(last) = &self.last else { return fresh };
        let seconds = heat.at.saturating_duration_since(last.at).as_secs_f64();
        if seconds > 60.0 || seconds <= 0.0 {
            return fresh;
        }
        let celsius = celsius.max(last.celsius - FASTEST_FALL * seconds);
        let slope = (celsius - last.celsius) / seconds;
        let passed = |time: f64| 1.0 - (-seconds / time).exp();
        let trend = last.trend + (slope - last.trend) * passed(TREND);
        let mean = last.mean + (celsius - last.mean) * passed(MEAN);
        let swing = (celsius - mean).max(last.swing * (1.0 - passed(SWINGS)));
        Known { celsius, trend, swing, mean, ..fresh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetpack::Celsius;

    fn heat(millidegrees: i32, at: Instant) -> Heat {
        let limit = Celsius::from_millidegrees(99_000);
        Heat { zone: "tj".into(), celsius: Celsius::from_millidegrees(millidegrees), limit, at }
    }

    fn celsius(temperature: &Temperature) -> Option<f64> {
        match temperature {
            Temperature::Known(known) => Some(known.celsius),
            _ => None,
        }
    }

    #[test]
    fn a_reading_that_stays_out_grows_old_and_blind() {
        let (start, mut meter) = (Instant::now(), Thermometer::new(Duration::from_secs(10)));
        let reading = heat(60_000, start);
        assert_eq!(meter.observe(true, None, start), Temperature::Blind(None));
        assert_eq!(celsius(&meter.observe(true, Some(&reading), start)), Some(60.0));
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(celsius(&meter.observe(true, None, later(10))), Some(60.0));
        let blind = Temperature::Blind(Some(Duration::from_secs(11)));
        assert_eq!(meter.observe(true, None, later(11)), blind);
        assert_eq!(meter.observe(true, Some(&reading), later(11)), blind, "the same reading again");
        assert_eq!(meter.observe(false, None, later(12)), Temperature::Ungoverned);
    }

    #[test]
    fn a_fall_that_no_board_can_have_is_believed_slowly() {
        let (start, mut meter) = (Instant::now(), Thermometer::new(Duration::from_secs(10)));
        let at = |seconds| start + Duration::from_secs(seconds);
        let _ = meter.observe(true, Some(&heat(90_000, start)), start);
        let fallen = meter.observe(true, Some(&heat(20_000, at(2))), at(2));
        assert_eq!(celsius(&fallen), Some(86.0));
        let risen = meter.observe(true, Some(&heat(95_000, at(4))), at(4));
        assert_eq!(celsius(&risen), Some(95.0));
    }

    #[test]
    fn swings_are_seen_and_forgotten() {
        let (start, mut meter) = (Instant::now(), Thermometer::new(Duration::from_secs(10)));
        let mut swing = |seconds: std::ops::Range<u64>, millidegrees: &dyn Fn(u64) -> i32| {
            let mut last = 0.0;
            for second in seconds.step_by(2) {
                let at = start + Duration::from_secs(second);
                match meter.observe(true, Some(&heat(millidegrees(second), at)), at) {
                    Temperature::Known(known) => last = known.swing,
                    unseen => panic!("{unseen:?}"),
                }
            }
            last
        };
        let even = swing(0..600, &|_| 90_000);
        assert!(even < 0.01, "{even}");
        let bursts = swing(600..1200, &|second| if second % 30 == 0 { 92_000 } else { 90_000 });
        assert!((1.5..2.0).contains(&bursts), "{bursts}");
        let later = swing(1200..4200, &|_| 90_000);
        assert!(later < 0.1, "{later}");
    }
}
