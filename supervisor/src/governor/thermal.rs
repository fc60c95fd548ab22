//! How the board warms up: a first-order model, fitted while it runs.
//!
//! ```text
//!  dT/dt = a + b·P − c·T          τ = 1/c, K/W = b/c, T at rest = a/c
//!  and T follows a jump of P by d·ΔP at once (the die on its sink)
//! ```
//!
//! The four numbers are estimated by recursive least squares that forgets: each
//! window adds a little doubt, up to what was doubted at first, so that a fan
//! that stops is learnt within minutes and a board at rest unlearns nothing.
//! Fits that no board can have are not used, nor are fits that predict badly;
//! then there is no model, and the governor reacts instead.

use std::time::{Duration, Instant};

/// Length of one measurement: long against the sensors' noise, short against
/// any board's time constant.
const WINDOW: Duration = Duration::from_secs(6);
/// A gap between readings after which a measurement begins anew.
const GAP: Duration = Duration::from_secs(15);
/// Windows before the model may be believed.
const FIRST: u32 = 5;
/// Believed while it misses a window by less than this on average, in kelvins.
const CREDIBLE: f64 = 0.8;
/// What a board can have: time constant in seconds, kelvins for each watt.
const TAU: std::ops::RangeInclusive<f64> = 20.0..=2000.0;
const GAIN: std::ops::RangeInclusive<f64> = 0.2..=20.0;
/// Kelvins for each watt that appear at once.
const JUMP: std::ops::RangeInclusive<f64> = 0.0..=1.5;

/// Before anything was measured: 3 K/W, 250 s, 30 °C, and how far it may be off.
const PRIOR: [f64; 4] = [0.12, 0.012, -0.004, 0.25];
const DOUBT: [f64; 4] = [0.15, 0.012, 0.004, 0.2];
/// Doubt that each window adds, as a share of the first.
const FORGETTING: f64 = 0.04;
/// What a window's difference of temperatures is off by, in kelvins.
const NOISE: f64 = 0.2;

/// A fit and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Model {
    theta: [f64; 4],
    covariance: [[f64; 4]; 4],
    window: Option<Window>,
    windows: u32,
    miss: f64,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    last: Instant,
    first_celsius: f64,
    first_watts: f64,
    watts_seconds: f64,
    celsius_seconds: f64,
}

/// A model that can be believed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    /// Time constant in seconds.
    pub(super) tau: f64,
    /// Kelvins for each watt, when all is settled.
    pub(super) gain: f64,
    /// Degrees without any power.
    pub(super) rest: f64,
    jump: f64,
}

impl Model {
    pub(super) fn new() -> Self {
        let covariance = std::array::from_fn(|i| {
            std::array::from_fn(|j| if i == j { DOUBT[i] * DOUBT[i] } else { 0.0 })
        });
        Self { theta: PRIOR, covariance, window: None, windows: 0, miss: 0.0 }
    }

    /// Takes note of a reading.
    pub(super) fn observe(&mut self, celsius: f64, watts: f64, now: Instant) {
        let fresh = Window {
            began: now,
            last: now,
            first_celsius: celsius,
            first_watts: watts,
            watts_seconds: 0.0,
            celsius_seconds: 0.0,
        };
        let Some(mut window) = self.window else {
            self.window = Some(fresh);
            return;
        };
        let passed = now.saturating_duration_since(window.last);
        if passed > GAP {
            self.window = Some(fresh);
            return;
        }
        window.watts_seconds += watts * passed.as_secs_f64();
        window.celsius_seconds += celsius * passed.as_secs_f64();
        window.last = now;
        self.window = Some(window);
        let length = now.saturating_duration_since(window.began);
        if length >= WINDOW {
            let seconds = length.as_secs_f64();
            let x =
                [seconds, window.watts_seconds, window.celsius_seconds, watts - window.first_watts];
            self.learn(x, celsius - window.first_celsius);
            self.window = Some(fresh);
        }
    }

    /// One step of recursive least squares.
    fn learn(&mut self, x: [f64; 4], y: f64) {
        for (i, doubt) in DOUBT.iter().enumerate() {
            let most = doubt * doubt;
            let grown = self.covariance[i][i] + most * FORGETTING * FORGETTING;
            self.covariance[i][i] = grown.min(most.max(self.covariance[i][i]));
        }
        let px: [f64; 4] =
            std::array::from_fn(|i| (0..4).map(|j| self.covariance[i][j] * x[j]).sum());
        let spread: f64 = NOISE * NOISE + (0..4).map(|i| x[i] * px[i]).sum::<f64>();
        let expected: f64 = (0..4).map(|i| self.theta[i] * x[i]).sum();
        let error = y - expected;
        self.windows = self.windows.saturating_add(1);
        self.miss += (error.abs() - self.miss) * 0.2;
        for i in 0..4 {
            self.theta[i] += px[i] / spread * error;
            for j in 0..4 {
                self.covariance[i][j] -= px[i] * px[j] / spread;
            }
        }
        if !self.is_sound() {
            // Rounding, or readings that no board can give: begin anew.
            *self = Self { window: self.window, ..Self::new() };
        }
    }

    fn is_sound(&self) -> bool {
        let numbers = self.theta.iter().chain(self.covariance.iter().flatten());
        let positive = (0..4).all(|i| self.covariance[i][i] > 0.0);
        positive && numbers.into_iter().all(|number| number.is_finite())
    }

    /// The model, if it can be believed.
    pub(super) fn fit(&self) -> Option<Fit> {
        let [a, b, negative_c, d] = self.theta;
        let c = -negative_c;
        if self.windows < FIRST || self.miss > CREDIBLE || c <= 0.0 {
            return None;
        }
        let fit = Fit {
            tau: 1.0 / c,
            gain: b / c,
            rest: a / c,
            jump: d.clamp(*JUMP.start(), *JUMP.end()),
        };
        (TAU.contains(&fit.tau) && GAIN.contains(&fit.gain)).then_some(fit)
    }
}

impl Fit {
    /// Where the temperature goes at this power.
    pub(super) fn steady(&self, watts: f64) -> f64 {
        self.rest + self.gain * watts
    }

    /// The temperature after `seconds` at `watts`, from `celsius` at `before` watts.
    pub(super) fn after(&self, seconds: f64, celsius: f64, before: f64, watts: f64) -> f64 {
        let steady = self.steady(watts);
        let start = celsius + self.jump * (watts - before);
        steady + (start - steady) * (-seconds / self.tau).exp()
    }

    /// Seconds until `limit` is reached at this power; `None` for never.
    pub(super) fn until(&self, limit: f64, celsius: f64, watts: f64) -> Option<f64> {
        let steady = self.steady(watts);
        if celsius >= limit {
            return Some(0.0);
        }
        (steady > limit).then(|| self.tau * ((steady - celsius) / (steady - limit)).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board of one node and a die: readings every two seconds at a power
    /// that changes each minute.
    fn fitted(gain: f64, tau: f64, rest: f64, minutes: u32) -> Model {
        let mut model = Model::new();
        let start = Instant::now();
        let mut sink = rest + gain * 5.0;
        for second in (0..minutes * 60).step_by(2) {
            let watts =
                if (second / 60) % 3 == 0 { 6.0 } else { 14.0 + f64::from(second % 7) * 0.1 };
            sink += 2.0 / tau * (rest + gain * watts - sink);
            let celsius = ((sink + 0.3 * watts) * 32.0).floor() / 32.0;
            model.observe(celsius, watts, start + Duration::from_secs(second.into()));
        }
        model
    }

    #[test]
    fn it_finds_what_the_board_is() {
        for (gain, tau, rest) in [(6.2, 396.0, 40.0), (1.5, 90.0, 30.0), (0.8, 250.0, 25.0)] {
            let fit = fitted(gain, tau, rest, 40).fit().expect("a clean board is understood");
            let (steady, expected) = (fit.steady(14.0), rest + (gain + 0.3) * 14.0);
            assert!((steady - expected).abs() < 4.0, "{gain} K/W: {steady} for {expected}");
            let later = fit.after(60.0, 70.0, 14.0, 14.0);
            let exact = expected + (70.0 - expected) * (-60.0 / tau).exp();
            assert!((later - exact).abs() < 1.5, "{gain} K/W: {later} for {exact}");
        }
    }

    #[test]
    fn nothing_is_believed_at_first_or_of_noise() {
        assert_eq!(Model::new().fit(), None);
        let mut model = Model::new();
        let start = Instant::now();
        for step in 0..500_u32 {
            let celsius = 50.0 + f64::from((step * 7919) % 40);
            model.observe(celsius, 10.0, start + Duration::from_secs(2) * step);
        }
        assert_eq!(model.fit(), None);
    }

    #[test]
    fn the_time_to_the_limit_is_that_of_the_exponential() {
        let fit = Fit { tau: 100.0, gain: 5.0, rest: 30.0, jump: 0.0 };
        assert_eq!(fit.until(90.0, 50.0, 12.0), None, "it settles at 90 °C");
        let seconds = fit.until(90.0, 50.0, 15.0).unwrap();
        assert!((fit.after(seconds, 50.0, 15.0, 15.0) - 90.0).abs() < 1e-6);
        assert_eq!(fit.until(90.0, 95.0, 1.0), Some(0.0));
    }
}
