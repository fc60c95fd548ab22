//! Who decides: our governor, and what others would do in its place.

use std::time::{Duration, Instant};

use engine_api::protocol::Limits;
use jetpack::{Celsius, Watts};
use serde::Serialize;
use supervisor::governor::{Alone, Clock, Facts, Governor, Heat, Power, Profile, Work};
use virtual_jetson::{Board, Llm, Readings, Work as BoardWork};

use crate::heat::engine::{Engine, PLACES};

/// What everybody may do at most: eight places, and the default part of prompts.
pub const BOUNDS: Limits = Limits { max_sequences: PLACES, max_batch_tokens: 64, pace_us: 0 };
/// The part that our governor may go up to.
const LARGEST_PART: u16 = 512;
/// From one reading of the sensors to the next.
pub const PERIOD: Duration = Duration::from_secs(2);
/// What the others hold. At more, PID is above 95 °C for longer than a minute in most
/// of the cells where heat binds, and so is no rival that stays safe.
pub const RIVALS_HOLD: f64 = 92.5;
const LIMIT: Celsius = Celsius::from_millidegrees(99_000);

/// Which controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Ours, for most tokens.
    Governor,
    /// Ours, for most tokens for each joule.
    Balanced,
    /// Ours, where the clock may not be capped.
    NoClock,
    /// (a) None: the board's own throttling is all there is.
    Hardware,
    /// (b) A quarter of the speed above a threshold, until well below it.
    Threshold,
    /// (c) PID on the temperature, acting on pauses between steps.
    Pid,
    /// The same, acting on the clock first. Beyond what the goals ask for: it
    /// shows what of our advantage is the choice of the lever.
    PidClock,
    /// (a) with prompts in parts as large as ours may be. It shows what of our
    /// advantage is that, and what it does to gaps.
    LargeParts,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Governor,
        Self::Balanced,
        Self::NoClock,
        Self::Hardware,
        Self::Threshold,
        Self::Pid,
        Self::PidClock,
        Self::LargeParts,
    ];
    /// Those that the goals are measured against.
    pub const RIVALS: [Self; 3] = [Self::Hardware, Self::Threshold, Self::Pid];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Governor => "governor",
            Self::Balanced => "balanced",
            Self::NoClock => "no clock",
            Self::Hardware => "(a) hardware",
            Self::Threshold => "(b) threshold",
            Self::Pid => "(c) PID",
            Self::PidClock => "PID on clock",
            Self::LargeParts => "(a), parts of 512",
        }
    }
}

/// What holds after a look at the sensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orders {
    pub limits: Limits,
    pub cap_hz: Option<u64>,
    /// Where the controller stands, 1 for full power and 0 for its lowest.
    pub share: f64,
    /// The engine is not to begin a turn until the next look. Nobody but the
    /// oracle can say so; everybody else has pauses.
    pub held: bool,
}

/// Somebody who looks at the board and gives orders.
pub trait Hand {
    /// Looks at the board, `now` seconds after the start.
    fn look(&mut self, readings: &Readings, engine: &Engine, now: f64) -> Orders;

    /// From one look to the next.
    fn period(&self) -> Duration;

    /// When the orders were changed, in seconds from the start.
    fn changes(&self) -> &[f64];
}

/// One controller at work.
#[derive(Debug)]
pub struct Controller {
    kind: Kind,
    /// What those that are not ours hold, in degrees.
    held: f64,
    governor: Governor,
    clock: Clock,
    start: Instant,
    alone: Alone,
    /// (b): whether it is hot.
    hot: bool,
    pid: Pid,
    step: f64,
    over_currents: u64,
    orders: Orders,
    changes: Vec<f64>,
}

#[derive(Debug, Default)]
struct Pid {
    integral: f64,
    last: Option<f64>,
}

/// Gains of (c), tuned on the tuning draws until it neither overshot nor swung.
const P: f64 = 0.1;
const I: f64 = 0.0005;
const D: f64 = 0.5;
/// The lowest share of the time in which (c) lets the engine compute.
const LEAST: f64 = 0.1;

impl Pid {
    /// The share of full speed for this temperature.
    fn act(&mut self, held: f64, celsius: f64, seconds: f64) -> f64 {
        let error = held - celsius;
        let slope = self.last.map_or(0.0, |last| (celsius - last) / seconds);
        self.last = Some(celsius);
        let wanted = |integral: f64| 0.5 + P * error + I * integral - D * slope;
        let integral = self.integral + error * seconds;
        // It does not wind up beyond what can be acted on.
        if (LEAST..=1.0).contains(&wanted(integral)) || error.signum() != self.integral.signum() {
            self.integral = integral;
        }
        wanted(self.integral).clamp(LEAST, 1.0)
    }
}

impl Controller {
    #[must_use]
    pub fn new(kind: Kind, board: &Board, llm: &Llm, rivals_hold: f64) -> Self {
        let profile = match kind {
            Kind::Balanced => Profile::Balanced,
            _ => Profile::Max,
        };
        let start = Instant::now();
        let cap = board.mode().gpu_hz.unwrap_or(u64::MAX);
        let available = board.module().gpu.hz.iter().copied().filter(|hz| *hz <= cap);
        Self {
            kind,
            held: rivals_hold,
            governor: Governor::new(profile, PERIOD, start),
            clock: Clock { available_hz: available.collect(), top_hz: board.module().gpu_max_hz() },
            start,
            alone: alone(board, llm),
            hot: false,
            pid: Pid::default(),
            step: 0.05,
            over_currents: 0,
            orders: Orders::FULL,
            changes: Vec::new(),
        }
    }
}

impl Hand for Controller {
    fn look(&mut self, readings: &Readings, engine: &Engine, now: f64) -> Orders {
        if let Some(step) = engine.last_step().filter(|_| !engine.is_idle()) {
            self.step += (step.as_secs_f64() - self.step) * 0.1;
        }
        let orders = match self.kind {
            Kind::Hardware => Orders::FULL,
            Kind::LargeParts => Orders {
                limits: Limits { max_batch_tokens: LARGEST_PART, ..BOUNDS },
                ..Orders::FULL
            },
            Kind::Threshold => self.threshold(readings.tj_celsius),
            Kind::Pid => {
                let share = self.pid.act(self.held, readings.tj_celsius, PERIOD.as_secs_f64());
                self.paused(share, None)
            }
            Kind::PidClock => self.pid_on_clock(readings.tj_celsius),
            Kind::Governor | Kind::Balanced | Kind::NoClock => self.govern(readings, engine, now),
        };
        if changed(&self.orders, &orders) {
            self.changes.push(now);
            self.orders = orders;
        }
        self.orders
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn changes(&self) -> &[f64] {
        &self.changes
    }
}

impl Controller {
    fn threshold(&mut self, celsius: f64) -> Orders {
        self.hot = celsius >= self.held || self.hot && celsius > self.held - 5.0;
        self.paused(if self.hot { 0.25 } else { 1.0 }, None)
    }

    fn pid_on_clock(&mut self, celsius: f64) -> Orders {
        let share = self.pid.act(self.held, celsius, PERIOD.as_secs_f64());
        let highest = *self.clock.available_hz.last().expect("a GPU has clocks");
        let of = |hz: u64| hz as f64 / highest as f64;
        let lower = self.clock.available_hz.iter().copied().find(|hz| of(*hz) >= share);
        let hz = lower.unwrap_or(highest);
        self.paused((share / of(hz)).min(1.0), (hz < highest).then_some(hz)).with_share(share)
    }

    fn paused(&self, share: f64, cap_hz: Option<u64>) -> Orders {
        let pace = if share < 1.0 { self.step / share * 1e6 } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
        let pace_us = pace as u32;
        Orders { limits: Limits { pace_us, ..BOUNDS }, cap_hz, share, held: false }
    }

    fn govern(&mut self, readings: &Readings, engine: &Engine, now: f64) -> Orders {
        let at = self.start + Duration::from_secs_f64(now);
        let (decoding, prefilling) = engine.at_work();
        let shown: u64 = readings.over_currents.iter().sum();
        let events = shown.saturating_sub(self.over_currents);
        self.over_currents = shown;
        let facts = Facts {
            governed: true,
            heat: Some(Heat {
                zone: "tj-thermal".into(),
                celsius: celsius(readings.tj_celsius),
                limit: LIMIT,
                at,
            }),
            power: Some(Power { watts: watts(readings.watts), at }),
            throttled: readings.throttle_steps > 0,
            over_current: Some(events as f64 / PERIOD.as_secs_f64()),
            clock: (self.kind != Kind::NoClock).then(|| self.clock.clone()),
            work: Work {
                decoding,
                prefilling,
                waiting: engine.waiting(),
                decoded: engine.counters().0,
                prefilled: engine.counters().1,
                step: engine.last_step(),
                alone: Some(self.alone),
                kv: None,
            },
            largest_part: LARGEST_PART,
            ..Facts::unknown(BOUNDS)
        };
        let decision = self.governor.decide(&facts, at);
        let share = 1.0 - decision.notch as f64 / decision.notches as f64;
        Orders { limits: decision.limits, cap_hz: decision.gpu_cap_hz, share, held: false }
    }
}

impl Orders {
    /// All that the engine can do.
    pub const FULL: Self = Self { limits: BOUNDS, cap_hz: None, share: 1.0, held: false };

    fn with_share(self, share: f64) -> Self {
        Self { share, ..self }
    }
}

/// A pause that moves by less than a twentieth is no change that anybody sees.
fn changed(before: &Orders, after: &Orders) -> bool {
    let (a, b) = (f64::from(before.limits.pace_us), f64::from(after.limits.pace_us));
    let pause = (a - b).abs() > 0.05 * a.max(b);
    let rest = |orders: &Orders| Limits { pace_us: 0, ..orders.limits };
    pause || rest(before) != rest(after) || before.cap_hz != after.cap_hz
}

/// What the engine's smoke run measures on this board.
fn alone(board: &Board, llm: &Llm) -> Alone {
    let decode = BoardWork { sequences: 1, context_tokens: 256, prefill_tokens: 0 };
    let prefill = BoardWork { sequences: 0, context_tokens: 0, prefill_tokens: 512 };
    let speed = board.speed();
    Alone {
        decode_step: speed.step(llm, decode).time,
        prompt_token: speed.step(llm, prefill).time / 512,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a board's temperature is a small number")]
fn celsius(degrees: f64) -> Celsius {
    Celsius::from_millidegrees((degrees * 1e3) as i32)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a board's power is small and not negative"
)]
fn watts(watts: f64) -> Watts {
    Watts::from_milliwatts((watts * 1e3) as u64)
}
