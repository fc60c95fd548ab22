//! What the engine may do, so that the board stays within what it can bear.
//! Pure: no clock, no tokio, no file system.
//!
//! ```text
//!  facts ─┬─ heat.rs     how hot, or blind ──┐
//!         ├─ power.rs    watts, now and at ──┤ wish.rs          changes.rs
//!         │              other notches       ├───────► notch ──────────────► limits,
//!         ├─ thermal.rs  where it leads ─────┤ (ladder.rs)  at most six      clock cap
//!         ├─ over_current.rs  lost speed ────┘              a minute
//!         ├─ memory.rs ──────────────────────────────► who may begin
//!         └─ mix.rs ─────────────────────────────────► how prompts and answers share it
//! ```
//!
//! All ways to do less stand on one [`ladder`](self), from full power down. Each
//! reason (heat, a power budget, the profile, a blind sensor) says at which notch
//! the engine must be and to which it may rise; the lowest wins. Going down may
//! skip notches, going up takes a few at a time, and between the two lies a
//! stretch in which nothing changes.

mod changes;
mod facts;
mod heat;
mod ladder;
mod memory;
mod mix;
mod over_current;
mod power;
mod profile;
mod reason;
mod thermal;
mod thrift;
mod wish;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use engine_api::protocol::Limits;

pub use changes::MOST as MOST_CHANGES_A_MINUTE;
pub use facts::{Alone, Clock, Facts, Heat, Kv, Memory, Power, Work};
pub use memory::{Door, RETRY_AFTER};
pub use profile::{NoProfile, Profile};
pub use reason::{Ahead, Limiting};

use changes::{Changes, Kind};
use heat::{Temperature, Thermometer};
use ladder::Ladder;
use memory::Guard;
use mix::{Choice, Mix, Sharing};
use over_current::OverCurrent;
use power::Wattmeter;
use thermal::Model;
use thrift::Thrift;
use wish::{Place, Wish};

/// How many decisions are remembered.
pub const REMEMBERED: usize = 32;
/// Readings that may fail in a row before the board counts as unseen.
const MISSED: u32 = 4;
/// No reading is too old before this.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
/// Notches taken at once, down and up; half of the way up where that is more.
const DOWN: usize = 6;
const UP: usize = 4;
/// Notches that a board which slows itself down is lowered by.
const THROTTLED: usize = 3;
/// A pause is corrected when the engine's steps have changed by this share.
const TRIM: f64 = 0.25;
/// How fast a shorter and a longer step are believed to be usual.
const SHORTER: f64 = 0.3;
const LONGER: f64 = 0.03;
/// The step of an engine that has told none yet.
const UNKNOWN_STEP: Duration = Duration::from_millis(50);
/// Longest pause, so that a stream is seen to move.
const LONGEST_PACE: Duration = Duration::from_secs(5);

/// What is to hold from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub limits: Limits,
    /// What the GPU's clock is capped to; `None`: not by us.
    pub gpu_cap_hz: Option<u64>,
    pub door: Door,
    pub because: Limiting,
    /// Since when this reason holds.
    pub since: Instant,
    /// 0 is full power.
    pub notch: usize,
    /// The lowest notch there is.
    pub notches: usize,
}

/// A change of the limits, as it is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub at: Instant,
    pub from: usize,
    pub to: usize,
    pub limits: Limits,
    pub gpu_cap_hz: Option<u64>,
    pub because: Limiting,
}

/// The governor's state.
#[derive(Debug, Clone)]
pub struct Governor {
    profile: Profile,
    ladder: Ladder,
    clock: Option<Clock>,
    notch: usize,
    /// The pause at the present notch; zero for none.
    pace: Duration,
    /// The engine's decode step, in seconds.
    step: Option<f64>,
    mix: Mix,
    sharing: Sharing,
    thermometer: Thermometer,
    meter: Wattmeter,
    model: Model,
    over_current: OverCurrent,
    thrift: Thrift,
    guard: Guard,
    changes: Changes,
    changes_total: u64,
    because: (Limiting, Instant),
    log: VecDeque<Change>,
}

impl Governor {
    /// `period`: from one reading of the sensors to the next.
    #[must_use]
    pub fn new(profile: Profile, period: Duration, now: Instant) -> Self {
        let patience = LEAST_PATIENCE.max(period * MISSED);
        Self {
            profile,
            ladder: Ladder::new(None),
            clock: None,
            notch: 0,
            pace: Duration::ZERO,
            step: None,
            mix: Mix::default(),
            sharing: Sharing::Usual,
            thermometer: Thermometer::new(patience),
            meter: Wattmeter::new(patience),
            model: Model::new(),
            over_current: OverCurrent::default(),
            thrift: Thrift::new(1),
            guard: Guard::default(),
            changes: Changes::default(),
            changes_total: 0,
            because: (Limiting::Nothing, now),
            log: VecDeque::new(),
        }
    }

    /// The last changes, newest first.
    pub fn log(&self) -> impl Iterator<Item = &Change> {
        self.log.iter()
    }

    /// Changes since the start.
    #[must_use]
    pub fn changes_total(&self) -> u64 {
        self.changes_total
    }

    /// Changes of the last minute.
    #[must_use]
    pub fn changes_in_a_minute(&self, now: Instant) -> usize {
        self.changes.in_a_minute(now)
    }

    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Another engine runs, or the same anew.
    pub fn engine_changed(&mut self) {
        self.step = None;
        self.over_current.moved();
        self.guard.forget();
        (self.mix, self.sharing) = (Mix::default(), Sharing::Usual);
    }

    /// What is to hold from `now` on.
    pub fn decide(&mut self, facts: &Facts, now: Instant) -> Decision {
        self.rebuild(facts.clock.as_ref());
        let temperature = self.thermometer.observe(facts.governed, facts.heat.as_ref(), now);
        self.meter.observe(facts.power, facts.work.is_busy());
        self.hear_step(&facts.work);
        self.mix.observe(&facts.work, self.ladder.notch(self.notch).speed(), now);
        let door = self.guard.observe(facts.memory, facts.work.kv);

        let wishes = self.wishes(facts, &temperature, now);
        self.follow(wishes, facts, now);
        // After the decision: a hotter reading must not make its own excuse.
        self.learn(&temperature, facts, now);

        let because = match door {
            Door::Open => self.because.0.clone(),
            door => Limiting::Memory(door),
        };
        Decision {
            limits: self.limits(facts),
            gpu_cap_hz: self.ladder.notch(self.notch).cap_hz,
            door,
            because,
            since: self.because.1,
            notch: self.notch,
            notches: self.ladder.last(),
        }
    }

    /// Takes up another clock. The engine then runs about as fast as before.
    fn rebuild(&mut self, clock: Option<&Clock>) {
        if clock == self.clock.as_ref() {
            return;
        }
        let ladder = Ladder::new(clock);
        self.notch = ladder.like(&self.ladder, self.notch);
        self.ladder = ladder;
        self.clock = clock.cloned();
        self.pace = self.wanted_pace();
        self.over_current.moved();
        self.thrift = Thrift::new(self.ladder.clocks());
    }

    /// Steps that are heard of decode, or compute a part of a prompt, which may
    /// be much longer. The shorter ones say how long decoding takes.
    fn hear_step(&mut self, work: &Work) {
        if let Some(step) = work.step.filter(|_| work.is_busy()) {
            let step = step.as_secs_f64();
            let toward = |usual: f64| {
                let weight = if step < usual { SHORTER } else { LONGER };
                usual + (step - usual) * weight
            };
            self.step = Some(self.step.map_or(step, toward));
        }
    }

    fn learn(&mut self, temperature: &Temperature, facts: &Facts, now: Instant) {
        if let (Temperature::Known(known), Some(power)) = (temperature, facts.power)
            && self.meter.now(now).is_some()
        {
            self.model.observe(known.celsius, power.watts.watts(), known.at);
        }
    }

    fn wishes(&mut self, facts: &Facts, temperature: &Temperature, now: Instant) -> Vec<Wish> {
        let slowed = self.over_current.observe(facts.over_current, &facts.work, self.notch, now);
        let place = Place {
            ladder: &self.ladder,
            notch: self.notch,
            meter: &self.meter,
            watts: self.meter.now(now),
            fit: self.model.fit(),
        };
        let mut wishes = vec![wish::of_heat(place, temperature, self.profile.margin())];
        if let Temperature::Known(known) = temperature
            && facts.throttled
        {
            let (zone, celsius) = (known.zone.clone(), known.celsius);
            let lower = (self.notch + THROTTLED).min(self.ladder.last());
            wishes.push(Wish::at(lower, Limiting::Throttled { zone, celsius }));
        }
        if let Some(budget) = self.profile.budget() {
            wishes.push(wish::of_budget(place, budget));
        }
        if self.profile.saves() {
            let notch = self.ladder.of_clock(self.thrift.clock());
            let watts = facts.power.map(|power| power.watts.watts());
            self.thrift.observe(&facts.work, watts, self.notch == notch, now);
            let notch = self.ladder.of_clock(self.thrift.clock());
            let profile = self.profile.to_string();
            wishes.push(Wish::at(notch, Limiting::Knee { profile }));
        }
        if let Some(notch) = slowed {
            let (per_s, slower) = self.over_current.seen;
            wishes.push(Wish::at(notch, Limiting::OverCurrent { per_s, slower }));
        }
        wishes
    }

    /// Goes where the strictest wish leads, as far and as often as is allowed.
    fn follow(&mut self, wishes: Vec<Wish>, facts: &Facts, now: Instant) {
        let urgent = wishes.iter().any(|wish| wish.urgent);
        let by = |pick: fn(&Wish) -> usize| {
            // Of equals the first, which is heat.
            wishes.iter().rev().max_by_key(|wish| pick(wish)).expect("heat has a wish")
        };
        let (least, rise) = (by(|wish| wish.least), by(|wish| wish.rise));
        let last = self.ladder.last();
        let (to, kind, because) = if least.least > self.notch && urgent {
            (last, Kind::Emergency, least)
        } else if least.least > self.notch {
            (least.least.min(self.notch + DOWN).min(last), Kind::Lower, least)
        } else if rise.rise < self.notch {
            let far = (self.notch - rise.rise).div_ceil(2);
            (rise.rise.max(self.notch.saturating_sub(UP.max(far))), Kind::Raise, rise)
        } else {
            (self.notch, Kind::Trim, rise)
        };
        let because = because.because.clone();
        if to == self.notch {
            self.trim(facts, now);
        } else if self.changes.allow(kind, now) {
            self.go(to, &because, facts, now);
        }
        self.explain(because, now);
    }

    fn go(&mut self, to: usize, because: &Limiting, facts: &Facts, now: Instant) {
        let from = std::mem::replace(&mut self.notch, to);
        self.meter.moved(&self.ladder, from, to);
        self.over_current.moved();
        self.pace = self.wanted_pace();
        self.share(self.wanted_sharing(facts), facts);
        self.note_change(now);
        self.log.truncate(REMEMBERED - 1);
        self.log.push_front(Change {
            at: now,
            from,
            to,
            limits: self.limits(facts),
            gpu_cap_hz: self.ladder.notch(to).cap_hz,
            because: because.clone(),
        });
    }

    /// Fits the pause to steps that have become longer or shorter, and how prompts
    /// and answers share the engine to what is asked of it.
    fn trim(&mut self, facts: &Facts, now: Instant) {
        let sharing = self.wanted_sharing(facts);
        if sharing.differs(self.sharing) && self.changes.allow(Kind::Trim, now) {
            self.share(sharing, facts);
            self.note_change(now);
            return;
        }
        let wanted = self.wanted_pace();
        let (pace, target) = (self.pace.as_secs_f64(), wanted.as_secs_f64());
        if (target - pace).abs() > TRIM * pace.max(target) && self.changes.allow(Kind::Trim, now) {
            self.pace = wanted;
            self.note_change(now);
        }
    }

    fn share(&mut self, sharing: Sharing, facts: &Facts) {
        if let Some(alone) = facts.work.alone {
            self.mix.turned(self.sharing, sharing, alone);
        }
        self.sharing = sharing;
    }

    fn wanted_sharing(&self, facts: &Facts) -> Sharing {
        let Some(alone) = facts.work.alone.filter(|_| facts.governed) else {
            return Sharing::Usual;
        };
        let notch = self.ladder.notch(self.notch);
        let choice = Choice {
            alone,
            usual: facts.bounds.max_batch_tokens,
            largest: facts.largest_part,
            clock: notch.clock(),
            duty: notch.duty,
            saves: self.profile.saves(),
        };
        self.mix.choose(self.sharing, choice)
    }

    fn note_change(&mut self, now: Instant) {
        self.changes.note(now);
        self.changes_total += 1;
    }

    fn wanted_pace(&self) -> Duration {
        let duty = self.ladder.notch(self.notch).duty;
        if duty >= 1.0 {
            return Duration::ZERO;
        }
        let step = self.step.unwrap_or(UNKNOWN_STEP.as_secs_f64());
        Duration::try_from_secs_f64(step / duty).map_or(LONGEST_PACE, |pace| pace.min(LONGEST_PACE))
    }

    /// What holds at full power is said as such, whoever would limit next.
    fn explain(&mut self, because: Limiting, now: Instant) {
        let because = match because {
            Limiting::Ungoverned => Limiting::Ungoverned,
            _ if self.notch == 0 => Limiting::Nothing,
            because => because,
        };
        if because.kind() == self.because.0.kind() {
            self.because.0 = because;
        } else {
            self.because = (because, now);
        }
    }

    /// The smaller of what the engine may do and what the board bears.
    fn limits(&self, facts: &Facts) -> Limits {
        let (bounds, notch) = (facts.bounds, self.ladder.notch(self.notch));
        let usual = bounds.max_batch_tokens.div_ceil(notch.part_divisor);
        let (sequences, part) = match self.sharing {
            Sharing::Usual => (bounds.max_sequences, usual),
            Sharing::OneByOne => (1, usual),
            // It is as large as can be rested for.
            Sharing::Large(part) => (bounds.max_sequences, part.min(facts.largest_part)),
            Sharing::Small(part) => (bounds.max_sequences, part.min(usual)),
        };
        let pace = u32::try_from(self.pace.as_micros()).unwrap_or(u32::MAX);
        Limits {
            max_sequences: sequences.div_ceil(notch.divisor).max(1),
            max_batch_tokens: part.max(1),
            pace_us: pace.max(bounds.pace_us),
        }
    }
}

#[cfg(test)]
mod tests;
