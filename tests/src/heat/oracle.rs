//! What is possible in a cell at all: the best that anybody could do who knows
//! the board's constants and all that will be asked.
//!
//! The oracle tries settings that stay as they are for the whole run, on the very
//! board and requests that everybody else gets, and keeps the best. A setting may
//! change with one thing alone, the die's true temperature, which no sensor shows:
//! at the bound it goes over to a lower clock, or holds the engine. It looks ten
//! times a second and may change as often, so that it wastes none of what heat
//! allows. What it cannot reach with settings that stay, the governor can not; by
//! settings that follow the load it can do better.
//!
//! The settings are searched dimension by dimension from several starts, until
//! none of them gives more.

use std::collections::HashMap;
use std::time::Duration;

use engine_api::protocol::Limits;
use serde::Serialize;
use virtual_jetson::{Profile, Readings};

use crate::heat::controller::{BOUNDS, Hand, Orders};
use crate::heat::engine::Engine;
use crate::heat::outcome::Outcome;
use crate::heat::run::{Stage, play};

/// A board is safe up to 95 °C; the die rises by less than this between two looks.
pub const HOLDS: f64 = 94.8;
/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(100);
/// A setting whose parts are so long that the die gets too hot within one is
/// tried again that much lower, in kelvins.
const LOWER: [f64; 3] = [0.0, 1.0, 2.5];

const SEQUENCES: [u16; 6] = [1, 2, 3, 4, 6, 8];
const PARTS: [u16; 9] = [16, 24, 32, 48, 64, 96, 128, 256, 512];
/// Per cent of the time in which the engine computes.
const DUTIES: [u8; 5] = [40, 60, 80, 90, 100];

/// What stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Setting {
    /// Caps of the GPU's clock.
    pub clock_hz: u64,
    /// The same while the die is at the bound; `None`: the engine is held.
    pub hot_hz: Option<u64>,
    pub sequences: u16,
    pub part: u16,
    pub duty_percent: u8,
}

/// The best setting for something, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Best {
    pub setting: Setting,
    pub outcome: Outcome,
}

/// The search in one cell.
#[derive(Debug)]
pub struct Oracle {
    stage: Stage,
    holds: f64,
    /// The fan turns as fast as it can. Nothing of ours commands it.
    full_fan: bool,
    clocks: Vec<u64>,
    seen: HashMap<Setting, Outcome>,
}

impl Oracle {
    /// One that keeps the die at or below `holds` degrees.
    #[must_use]
    pub fn new(stage: Stage, holds: f64, full_fan: bool) -> Self {
        let board = stage.cell.board_at_rest(stage.draw);
        let cap = board.mode().gpu_hz.unwrap_or(u64::MAX);
        let clocks = board.module().gpu.hz.iter().copied().filter(|hz| *hz <= cap).collect();
        Self { stage, holds, full_fan, clocks, seen: HashMap::new() }
    }

    /// The setting of the greatest worth; what is worth nothing is `None`.
    pub fn best(&mut self, worth: impl Fn(&Outcome) -> Option<f64>) -> Option<Best> {
        let mut best: Option<(f64, Setting)> = None;
        for start in self.starts() {
            let found = self.climb(start, &worth);
            if let Some(found) = found
                && best.is_none_or(|(most, _)| found.0 > most)
            {
                best = Some(found);
            }
        }
        best.map(|(_, setting)| Best { setting, outcome: self.outcome(setting) })
    }

    fn starts(&self) -> [Setting; 3] {
        let (lowest, highest) = (self.clocks[0], self.clocks[self.clocks.len() - 1]);
        let middle = self.clocks[self.clocks.len() / 2];
        let of = |clock_hz, hot_hz, part| Setting {
            clock_hz,
            hot_hz,
            sequences: BOUNDS.max_sequences,
            part,
            duty_percent: 100,
        };
        [of(highest, None, 64), of(highest, Some(lowest), 512), of(middle, None, 128)]
    }

    /// From `start` to where no change of one dimension is worth more.
    fn climb(
        &mut self,
        start: Setting,
        worth: &impl Fn(&Outcome) -> Option<f64>,
    ) -> Option<(f64, Setting)> {
        let mut at = start;
        let mut most = worth(&self.outcome(at));
        loop {
            let before = most;
            for dimension in 0..5 {
                for next in self.along(at, dimension) {
                    let value = worth(&self.outcome(next));
                    if value > most {
                        (most, at) = (value, next);
                    }
                }
            }
            if most == before {
                return most.map(|most| (most, at));
            }
        }
    }

    fn along(&self, at: Setting, dimension: u8) -> Vec<Setting> {
        match dimension {
            0 => self.clocks.iter().map(|hz| Setting { clock_hz: *hz, ..at }).collect(),
            1 => {
                let lower = self.clocks.iter().copied().filter(|hz| *hz < at.clock_hz).map(Some);
                lower.chain([None]).map(|hot_hz| Setting { hot_hz, ..at }).collect()
            }
            2 => {
                SEQUENCES.iter().map(|sequences| Setting { sequences: *sequences, ..at }).collect()
            }
            3 => PARTS.iter().map(|part| Setting { part: *part, ..at }).collect(),
            _ => DUTIES.iter().map(|duty| Setting { duty_percent: *duty, ..at }).collect(),
        }
    }

    /// What comes of a setting.
    fn outcome(&mut self, setting: Setting) -> Outcome {
        if let Some(outcome) = self.seen.get(&setting) {
            return outcome.clone();
        }
        let run = |lower: f64| {
            let mut board = self.stage.cell.board_at_rest(self.stage.draw);
            if self.full_fan {
                board.conditions.fan = Profile::Full;
            }
            let mut hand = Constant { setting, holds: self.holds - lower, step: 0.05 };
            play(self.stage, &mut board, &mut hand, |_| {})
        };
        let mut outcome = run(LOWER[0]);
        for lower in &LOWER[1..] {
            if outcome.is_safe() {
                break;
            }
            outcome = run(*lower);
        }
        self.seen.insert(setting, outcome.clone());
        outcome
    }
}

/// Gives the orders of one setting.
#[derive(Debug)]
struct Constant {
    setting: Setting,
    holds: f64,
    /// How long the engine's steps are, lately.
    step: f64,
}

impl Hand for Constant {
    fn look(&mut self, readings: &Readings, engine: &Engine, _now: f64) -> Orders {
        let Setting { clock_hz, hot_hz, sequences, part, duty_percent } = self.setting;
        if let Some(step) = engine.last_step().filter(|_| !engine.is_idle()) {
            self.step += (step.as_secs_f64() - self.step) * 0.1;
        }
        let hot = readings.die_celsius >= self.holds;
        // Of a clock that is too high even so, pauses are made after all.
        let far = readings.die_celsius >= self.holds + 0.3;
        let pace = self.step * 100.0 / f64::from(duty_percent) * 1e6;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
        let pace_us = if duty_percent < 100 { pace as u32 } else { 0 };
        let limits = Limits { max_sequences: sequences, max_batch_tokens: part, pace_us };
        let cap_hz = hot_hz.filter(|_| hot).unwrap_or(clock_hz);
        let held = hot && (hot_hz.is_none() || far);
        Orders { limits, cap_hz: Some(cap_hz), share: 1.0, held }
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn changes(&self) -> &[f64] {
        &[]
    }
}
