//! What the machine takes, and what it would take at another notch.

use std::time::{Duration, Instant};

use super::facts::Power;
use super::ladder::Ladder;

/// Over how long power is averaged, in seconds. Heat and a supply's fuse both
/// average over longer.
const AVERAGE: f64 = 20.0;
/// Share of the power that a board takes at rest, until it was seen resting.
const REST: f64 = 0.3;
/// How much of a busy board's power is expected again after a rest.
const AGAIN: f64 = 0.8;

#[derive(Debug, Clone)]
pub(super) struct Wattmeter {
    /// How old a reading may be.
    patience: Duration,
    at: Option<Instant>,
    average: f64,
    rest: Option<f64>,
    /// Beyond rest, at the present notch, while the engine worked.
    busy: f64,
}

impl Wattmeter {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, at: None, average: 0.0, rest: None, busy: 0.0 }
    }

    pub(super) fn observe(&mut self, power: Option<Power>, works: bool) {
        let Some(Power { watts, at }) = power else { return };
        let watts = watts.watts();
        let seconds = match self.at {
            Some(last) if at <= last => return,
            Some(last) => at.saturating_duration_since(last).as_secs_f64(),
            None => f64::INFINITY,
        };
        self.at = Some(at);
        let weight = 1.0 - (-seconds / AVERAGE).exp();
        self.average += (watts - self.average) * weight;
        if works {
            self.busy += (watts - self.at_rest() - self.busy) * weight.min(0.2);
        } else {
            self.rest = Some(self.rest.map_or(watts, |rest| rest + (watts - rest) * 0.1));
        }
        self.rest = self.rest.map(|rest| rest.min(self.average));
    }

    /// What it takes now, averaged; `None` if that is not known.
    pub(super) fn now(&self, now: Instant) -> Option<f64> {
        let at = self.at?;
        (now.saturating_duration_since(at) <= self.patience).then_some(self.average)
    }

    /// The same at another notch, if the work stays as it was lately.
    pub(super) fn at(&self, ladder: &Ladder, from: usize, to: usize) -> f64 {
        let rest = self.at_rest();
        rest + (self.average - rest) * ladder.power(to, from)
    }

    /// What a notch may take once there is work again.
    pub(super) fn at_work(&self, ladder: &Ladder, from: usize, to: usize) -> f64 {
        let busy = self.at_rest() + self.busy * AGAIN * ladder.power(to, from);
        busy.max(self.at(ladder, from, to))
    }

    /// The notch was changed: the average is that of another one.
    pub(super) fn moved(&mut self, ladder: &Ladder, from: usize, to: usize) {
        self.average = self.at(ladder, from, to);
        self.busy *= ladder.power(to, from);
    }

    fn at_rest(&self) -> f64 {
        self.rest.unwrap_or(REST * self.average)
    }
}
