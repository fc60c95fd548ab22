//! The board itself: everything that changes, and a step of time.

use std::time::Duration;

use crate::conditions::{Conditions, Totals};
use crate::dice::Dice;
use crate::fan::Fan;
use crate::llm::Llm;
use crate::memory::Held;
use crate::module::{Mode, Module};
use crate::overcurrent::{Ask, Verdict};
use crate::power::{Clocks, Draw, Load};
use crate::readings::{Off, Readings};
use crate::rounding::below;
use crate::speed::Speed;
use crate::thermal::{Cooling, Heat};
use crate::throttle::{CRITICAL_CELSIUS, THERMTRIP_CELSIUS, Throttle};

mod show;

/// Longest step that is computed at once; longer times are divided.
const LONGEST_STEP_S: f64 = 0.25;
/// Published: the power monitors' averaging.
const RAIL_S: f64 = 0.43;
/// Measured: over-current counters show what happened in bursts of two seconds.
const BURST_S: f64 = 2.0;
/// A step of the CPU's clock in kHz. Published.
const CPU_STEP_KHZ: u32 = 76_800;
/// Guessed: an orderly shutdown takes so long, at rest.
const SHUTDOWN_S: f64 = 5.0;

/// One board in its surroundings.
#[derive(Debug, Clone)]
pub struct Board {
    /// What it cannot choose; may be changed at any time.
    pub conditions: Conditions,
    module: Module,
    mode: Mode,
    /// The cap from outside.
    gpu_cap_hz: Option<u64>,
    /// What follows from mode, cap and throttling.
    set: Set,
    dice: Dice,
    heat: Heat,
    fan: Fan,
    throttle: Throttle,
    verdict: Verdict,
    /// Power as the monitors mean it.
    mean_watts: f64,
    rails: [f64; 4],
    draw: Draw,
    load: Load,
    held: Held,
    life: Life,
    uptime_s: f64,
    burst_s: f64,
    /// Over-currents since power-on that the counters show, and that happened.
    shown: [u64; 3],
    happened: [u64; 3],
    totals: Totals,
}

/// The clocks that are set, as opposed to those that are kept.
#[derive(Debug, Clone, Copy)]
struct Set {
    gpu_hz: u64,
    cpu_khz: u32,
    emc_hz: u64,
    tpcs: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    On,
    ShuttingDown { left_s: f64 },
    Off(Off),
}

impl Board {
    /// A board that has been on for long and done nothing, in its default mode.
    /// `seed` is for chance: when over-current events fall.
    #[must_use]
    pub fn new(module: &Module, conditions: Conditions, seed: u64) -> Self {
        let mode = *module.mode(module.default_mode).expect("the default mode is in the table");
        let heat = Heat { die: conditions.ambient_celsius, sink: conditions.ambient_celsius };
        let told = module.quiet.under(conditions.fan, heat.die);
        let ask = Ask { weak: false, unlimited: false };
        let mut board = Self {
            conditions,
            mode,
            gpu_cap_hz: None,
            set: Set { gpu_hz: 0, cpu_khz: 0, emc_hz: 0, tpcs: 0.0 },
            dice: Dice::new(seed),
            heat,
            fan: Fan::turning(told),
            throttle: Throttle::none(),
            verdict: module.supply.judge(0.0, 0.0, 0.0, ask),
            mean_watts: 0.0,
            rails: [0.0; 4],
            draw: Draw::default(),
            load: Load::IDLE,
            held: Held::default(),
            life: Life::On,
            uptime_s: 0.0,
            burst_s: 0.0,
            shown: [0; 3],
            happened: [0; 3],
            totals: Totals::default(),
            module: module.clone(),
        };
        board.set_clocks();
        board.rest();
        board
    }

    /// Heats the sink as if the board had worked for long; the die stays above it by as
    /// much as before.
    pub fn warm(&mut self, sink_celsius: f64) {
        let warmer = sink_celsius - self.heat.sink;
        self.heat = Heat { die: self.heat.die + warmer, sink: sink_celsius };
    }

    /// Lets `time` pass under `load`, a mean over that time.
    pub fn advance(&mut self, time: Duration, load: Load) -> Readings {
        self.load = if self.is_on() { load } else { Load::IDLE };
        let mut left = time.as_secs_f64();
        while left > LONGEST_STEP_S {
            self.step(LONGEST_STEP_S);
            left -= LONGEST_STEP_S;
        }
        self.step(left);
        self.readings()
    }

    /// How fast it is at its present clocks. A board that is off is not asked.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a clock fits a float exactly")]
    pub fn speed(&self) -> Speed {
        let (gpu, memory) = (&self.module.gpu, &self.module.memory);
        let clocks = self.clocks();
        let cycles = clocks.gpu_effective_hz * clocks.tpcs;
        Speed {
            memory_bytes_per_s: self.set.emc_hz as f64
                * memory.bytes_per_clock.get()
                * memory.efficiency.get(),
            clock_bytes_per_s: cycles * gpu.stream_bytes_per_clock.get(),
            prefill_flop_per_s: cycles * gpu.prefill_flop_per_clock.get(),
            decode_flop_per_s: cycles * gpu.decode_flop_per_clock.get(),
            launch_s: gpu.launch_s.get() / (self.verdict.kept * self.throttle.kept()),
        }
    }

    /// Whether it computes. A board that shuts down no longer does.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.life == Life::On
    }

    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    #[must_use]
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Changes the power mode; a number that the module has no mode for changes
    /// nothing and is `false`.
    pub fn set_mode(&mut self, id: u32) -> bool {
        let mode = self.module.mode(id);
        self.mode = mode.copied().unwrap_or(self.mode);
        self.set_clocks();
        mode.is_some()
    }

    /// Caps the GPU's clock from outside, as a write to `max_freq` does.
    pub fn cap_gpu(&mut self, hz: Option<u64>) {
        self.gpu_cap_hz = hz;
        self.set_clocks();
    }

    /// Says what the engine holds in memory: the weights, and the KV cache's
    /// tokens.
    pub fn hold(&mut self, llm: &Llm, kv_tokens: u64) {
        self.held.model = Held::by(llm, kv_tokens);
    }

    /// Says that there is no engine that holds anything.
    pub fn release(&mut self) {
        self.held.model = 0.0;
    }

    /// Says what other processes hold.
    #[expect(clippy::cast_precision_loss, reason = "a size of memory is far below 2^52")]
    pub fn others_hold(&mut self, bytes: u64) {
        self.held.others = bytes as f64;
    }

    /// Switches it on again after it went off, in the state of a fresh boot.
    pub fn power_on(&mut self) {
        self.life = Life::On;
        self.throttle = Throttle::none();
        self.set_clocks();
        (self.uptime_s, self.burst_s) = (0.0, 0.0);
        (self.shown, self.happened) = ([0; 3], [0; 3]);
    }

    /// Sums since the board was made.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Brings heat, fan and rails to where doing nothing leaves them.
    fn rest(&mut self) {
        for _ in 0..60 {
            self.draw = self.power();
            let told = self.told();
            // Half way each time: the fan and the die answer to each other.
            self.fan.told.rpm += (told.rpm - self.fan.told.rpm) / 2.0;
            self.fan.rpm = if self.conditions.fan_stuck { 0.0 } else { self.fan.told.rpm };
            self.heat = self.module.thermal.rest(self.draw.total, self.air());
        }
        self.fan.told = self.told();
        self.mean_watts = self.draw.total;
        self.rails = self.module.power.rails(&self.module, &self.draw);
        self.verdict = self.judge();
    }

    fn step(&mut self, dt: f64) {
        self.draw = self.power();
        let watts = self.draw.total;
        self.heat = self.module.thermal.step(self.heat, dt, watts, self.air());
        self.mean(dt);
        self.verdict = self.judge();
        self.count(dt);
        self.cool(dt);
        self.totals.seconds += dt;
        self.totals.joules += watts * dt;
        self.uptime_s += dt;
        self.end_if_it_must(dt);
    }

    fn power(&self) -> Draw {
        if matches!(self.life, Life::Off(_)) {
            return Draw::default();
        }
        self.module.power.draw(&self.module, self.clocks(), &self.load, self.heat.die)
    }

    fn air(&self) -> Cooling {
        let Conditions { ambient_celsius: ambient, vent_blocked, .. } = self.conditions;
        Cooling { ambient, rpm: self.fan.rpm, vent_blocked }
    }

    fn told(&self) -> crate::fan::Drive {
        told(&self.module, &self.conditions, self.heat.die)
    }

    fn mean(&mut self, dt: f64) {
        let share = dt / (RAIL_S + dt);
        self.mean_watts += share * (self.draw.total - self.mean_watts);
        let rails = self.module.power.rails(&self.module, &self.draw);
        for (mean, now) in self.rails.iter_mut().zip(rails) {
            *mean += share * (now - *mean);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a clock fits a float exactly")]
    fn judge(&self) -> Verdict {
        let design_hz = self.module.gpu.design_hz as f64;
        let gpu_hz = self.set.gpu_hz;
        let is_super = self.module.identity.is_super;
        let unlimited = is_super && gpu_hz == self.module.gpu_max_hz();
        let ask = Ask { weak: self.conditions.supply_weak, unlimited };
        let clock_share = gpu_hz as f64 / design_hz;
        self.module.supply.judge(self.mean_watts, clock_share, self.load.gpu_busy, ask)
    }

    fn count(&mut self, dt: f64) {
        for (kind, rate) in self.verdict.rates.into_iter().enumerate() {
            let events = below(rate * dt + self.dice.share());
            self.happened[kind] += events;
            self.totals.over_currents[kind] += events;
        }
        self.burst_s += dt;
        if self.burst_s >= BURST_S {
            self.burst_s = 0.0;
            self.shown = self.happened;
        }
    }

    fn cool(&mut self, dt: f64) {
        let (module, conditions, die) = (&self.module, &self.conditions, self.heat.die);
        self.fan.advance(dt, conditions.fan_stuck, || told(module, conditions, die));
        let most = self.module.gpu.hz.len() - 1;
        let steps = self.throttle.steps;
        let began = self.throttle.advance(dt, self.heat.die, most);
        if self.throttle.steps != steps {
            self.set_clocks();
        }
        self.totals.software_throttles += u64::from(began.software);
        self.totals.firmware_throttles += u64::from(began.firmware);
    }

    fn end_if_it_must(&mut self, dt: f64) {
        if matches!(self.life, Life::Off(_)) {
            return;
        }
        let ended = match &mut self.life {
            _ if self.heat.die >= THERMTRIP_CELSIUS => Some(Off::Thermtrip),
            _ if self.verdict.brown_out => Some(Off::BrownOut),
            Life::ShuttingDown { left_s } => {
                *left_s -= dt;
                (*left_s <= 0.0).then_some(Off::Critical)
            }
            life if self.heat.die >= CRITICAL_CELSIUS => {
                *life = Life::ShuttingDown { left_s: SHUTDOWN_S };
                self.load = Load::IDLE;
                None
            }
            _ => None,
        };
        if let Some(why) = ended {
            self.life = Life::Off(why);
            self.load = Load::IDLE;
            self.totals.shutdowns += 1;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a clock fits a float exactly")]
    fn clocks(&self) -> Clocks {
        let gpu_hz = self.set.gpu_hz as f64;
        Clocks {
            gpu_hz,
            gpu_effective_hz: gpu_hz * self.throttle.kept() * self.verdict.kept,
            tpcs: self.set.tpcs,
            cpu_share: f64::from(self.set.cpu_khz) / f64::from(self.module.cpu.max_khz),
        }
    }

    /// Sets the highest clocks that mode, cap and the kernel's throttling leave.
    fn set_clocks(&mut self) {
        let (module, mode, steps) = (&self.module, &self.mode, self.throttle.steps);
        let hz = module.gpu.hz;
        let cap = mode.gpu_hz.unwrap_or(u64::MAX).min(self.gpu_cap_hz.unwrap_or(u64::MAX));
        let allowed = hz.iter().rposition(|step| *step <= cap).unwrap_or(0);
        let cpu_khz = mode.cpu_khz.unwrap_or(module.cpu.max_khz);
        let lower = u32::try_from(steps).unwrap_or(u32::MAX).saturating_mul(CPU_STEP_KHZ);
        self.set = Set {
            gpu_hz: hz[allowed.saturating_sub(steps)],
            cpu_khz: cpu_khz.saturating_sub(lower).max(CPU_STEP_KHZ),
            emc_hz: mode.emc_hz.unwrap_or(u64::MAX).min(module.memory.emc_hz),
            tpcs: f64::from(mode.tpcs(module.gpu.tpcs)),
        };
    }
}

/// What the fan is told at this temperature of the die.
fn told(module: &Module, conditions: &Conditions, die: f64) -> crate::fan::Drive {
    let curve = match conditions.fan {
        crate::fan::Profile::Cool => module.cool,
        crate::fan::Profile::Quiet | crate::fan::Profile::Full => module.quiet,
    };
    curve.under(conditions.fan, die)
}
