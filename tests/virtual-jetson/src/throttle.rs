//! What the kernel and the firmware do about heat.
//!
//! ```text
//!  99.0 °C  kernel: one clock step less each second while it gets hotter,
//!           one more each second below
//! 103.0 °C  firmware: clocks divided by four until 101 °C, unseen by software
//! 104.5 °C  kernel: orderly shutdown
//! 105.0 °C  firmware: power off
//! ```

/// Published, all of them.
const SOFTWARE_CELSIUS: f64 = 99.0;
const FIRMWARE_ON_CELSIUS: f64 = 103.0;
const FIRMWARE_OFF_CELSIUS: f64 = 101.0;
pub(crate) const CRITICAL_CELSIUS: f64 = 104.5;
pub(crate) const THERMTRIP_CELSIUS: f64 = 105.0;
const POLL_S: f64 = 1.0;

/// Published: depth "heavy". The share of the clock that is left is a guess.
const FIRMWARE_SHARE: f64 = 0.25;

/// Where throttling stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Throttle {
    /// Clock steps that the kernel has taken away.
    pub(crate) steps: usize,
    pub(crate) firmware: bool,
    until_poll_s: f64,
    last_celsius: f64,
}

/// What began in a step of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Began {
    pub(crate) software: bool,
    pub(crate) firmware: bool,
}

impl Throttle {
    pub(crate) fn none() -> Self {
        Self { steps: 0, firmware: false, until_poll_s: POLL_S, last_celsius: f64::MAX }
    }

    /// `most` is how many steps there are to take.
    pub(crate) fn advance(&mut self, dt: f64, tj: f64, most: usize) -> Began {
        let (throttled, firmware) = (self.steps > 0, self.firmware);
        self.firmware = tj >= FIRMWARE_ON_CELSIUS || self.firmware && tj > FIRMWARE_OFF_CELSIUS;
        self.until_poll_s -= dt;
        if self.until_poll_s <= 0.0 {
            self.until_poll_s += POLL_S;
            self.poll(tj, most);
        }
        Began { software: !throttled && self.steps > 0, firmware: !firmware && self.firmware }
    }

    fn poll(&mut self, tj: f64, most: usize) {
        if tj < SOFTWARE_CELSIUS {
            self.steps = self.steps.saturating_sub(1);
        } else if tj > self.last_celsius || self.steps == 0 {
            self.steps = (self.steps + 1).min(most);
        }
        self.last_celsius = tj;
    }

    /// The share of their set clocks that GPU and CPU keep.
    pub(crate) fn kept(&self) -> f64 {
        if self.firmware { FIRMWARE_SHARE } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(temperatures: &[f64]) -> Vec<usize> {
        let mut throttle = Throttle::none();
        let mut step = |tj: &f64| {
            throttle.advance(1.0, *tj, 5);
            throttle.steps
        };
        temperatures.iter().map(&mut step).collect()
    }

    #[test]
    fn the_kernel_takes_a_step_a_second_while_it_gets_hotter() {
        assert_eq!(
            steps(&[98.9, 99.0, 99.5, 100.0, 100.0, 99.2, 98.0, 97.0]),
            [0, 1, 2, 3, 3, 3, 2, 1]
        );
        assert_eq!(steps(&[99.0, 100.0, 101.0, 102.0, 102.5, 102.7, 102.9]).last(), Some(&5));
    }

    #[test]
    fn the_firmware_holds_on_for_two_degrees() {
        let mut throttle = Throttle::none();
        let mut kept = |tj| {
            throttle.advance(0.1, tj, 5);
            throttle.kept()
        };
        assert_eq!(
            [102.9, 103.0, 101.5, 101.0, 102.9].map(&mut kept),
            [1.0, FIRMWARE_SHARE, FIRMWARE_SHARE, 1.0, 1.0]
        );
    }
}
