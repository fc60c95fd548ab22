//! The whole machine: opened once, sampled again and again.
//!
//! Sensors are read by a thread for each driver ([`Group`]), because a read may
//! never return: then the sample says which sensor is silent and for how long,
//! and has all others. The directories that hold sensors are listed once a
//! minute; a sample only reads small files, so that two seconds between samples
//! cost far less than half a percent of one core. What changes rarely is read
//! once a minute ([`Facts`]).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::group::{Group, PATIENCE, Silent};
use crate::{
    Absent, Board, Celsius, Clocks, Cpu, Facts, Fan, Gpu, Memory, PowerMode, Rail, Root, Throttle,
    Watts, Zone, clocks, facts, fan, gpu, power, power_mode, system, thermal, throttle,
};

/// How long the first look at a machine may take, in which everything is found.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// The machine's sensors.
#[derive(Debug)]
pub struct Machine {
    root: Root,
    board: Board,
    patience: Duration,
    zones: Group<thermal::Zones>,
    chips: Group<thermal::ChipZones>,
    rails: Group<power::Rails>,
    fans: Group<fan::Fans>,
    throttle: Group<throttle::Sources>,
    clocks: Group<clocks::Sources>,
    power_mode: Group<power_mode::Source>,
    system: Group<system::System>,
    gpus: Group<gpu::Gpus>,
    facts: Group<facts::Source>,
}

/// What all sensors said at one time. Lists keep their order from sample to
/// sample.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// When it was taken, for [`Sample::age`]; not shown.
    #[serde(skip)]
    pub taken: Instant,
    /// Seconds since 1970 when it was taken.
    pub at: u64,
    pub board: Board,
    pub zones: Vec<Zone>,
    pub rails: Vec<Rail>,
    /// What the whole machine takes.
    pub power_watts: Option<Watts>,
    /// Why `power_watts` is `None`.
    pub power_absent: Option<Absent>,
    pub memory: Option<Memory>,
    /// Why `memory` is `None`.
    pub memory_absent: Option<Absent>,
    /// Discrete GPUs.
    pub gpus: Vec<Gpu>,
    /// Why `gpus` is empty although there may be some.
    pub gpus_absent: Option<Absent>,
    pub cpu: Cpu,
    pub fans: Vec<Fan>,
    pub clocks: Clocks,
    /// Over-current events and what is held down because of heat.
    pub throttle: Throttle,
    pub power_mode: Option<PowerMode>,
    /// Why `power_mode` is `None`.
    pub power_mode_absent: Option<Absent>,
    /// Files and drivers that were asked and have not answered; empty when all
    /// is well.
    pub silent: Vec<Silent>,
    /// What changes rarely, at most a minute old.
    pub facts: Arc<Facts>,
}

impl Machine {
    /// Finds the sensors below `root`. A machine without any is a machine too.
    /// Blocks for some milliseconds; for a second if drivers do not answer.
    #[must_use]
    pub fn open(root: Root) -> Self {
        let board = Board::by(&root, Instant::now() + FIRST_PATIENCE);
        Self {
            patience: FIRST_PATIENCE,
            zones: Group::new("temperatures", thermal::Zones::new(&root, &board)),
            chips: Group::new("chip temperatures", thermal::ChipZones::new(&root)),
            rails: Group::new("power", power::Rails::new(&root)),
            fans: Group::new("fans", fan::Fans::new(&root)),
            throttle: Group::new("throttling", throttle::Sources::new(&root)),
            clocks: Group::new("clocks", clocks::Sources::new(&root, &board)),
            power_mode: Group::new("power mode", power_mode::Source::new(&root)),
            system: Group::new("memory and load", system::System::new(&root, &board)),
            gpus: Group::new("GPU driver", gpu::Gpus::new(&root, &board)),
            facts: Group::new("facts", facts::Source::new(&root, &board)),
            root,
            board,
        }
    }

    /// What was found when the machine was opened.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Reads all sensors. Blocks for some milliseconds; at most for about two
    /// seconds, in the sample in which drivers fall silent.
    pub fn sample(&mut self) -> Sample {
        self.sample_at(Instant::now())
    }

    fn sample_at(&mut self, now: Instant) -> Sample {
        self.ask(now);
        let deadline = Instant::now() + std::mem::replace(&mut self.patience, PATIENCE);
        let rails = self.rails.collect(now, deadline);
        let (power_watts, power_absent) = self.total_power(&rails);
        let system = self.system.collect(now, deadline);
        let gpus = self.gpus.collect(now, deadline);
        let mut zones = self.zones.collect(now, deadline);
        zones.extend(self.chips.collect(now, deadline));
        zones.extend(gpus.zones);
        let power_mode::Reading(power_mode, power_mode_absent) =
            self.power_mode.collect(now, deadline);
        let mut sample = Sample {
            taken: Instant::now(),
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            board: self.board.clone(),
            zones,
            rails,
            power_watts,
            power_absent,
            memory: system.memory,
            memory_absent: system.memory_absent,
            gpus: gpus.gpus,
            gpus_absent: gpus.absent,
            cpu: system.cpu,
            fans: self.fans.collect(now, deadline),
            clocks: self.clocks.collect(now, deadline),
            throttle: self.throttle.collect(now, deadline),
            power_mode,
            power_mode_absent,
            silent: Vec::new(),
            facts: self.facts.collect(now, deadline),
        };
        sample.silent = self.silent(Instant::now());
        sample
    }

    fn ask(&mut self, now: Instant) {
        self.zones.ask(now);
        self.chips.ask(now);
        self.rails.ask(now);
        self.fans.ask(now);
        self.throttle.ask(now);
        self.clocks.ask(now);
        self.power_mode.ask(now);
        self.system.ask(now);
        self.gpus.ask(now);
        self.facts.ask(now);
    }

    fn total_power(&self, rails: &[Rail]) -> (Option<Watts>, Option<Absent>) {
        match power::total(&self.board, rails) {
            Ok(watts) => (Some(watts), None),
            // Rails that were never read are not rails that are not there.
            Err(absent) => (None, Some(self.rails.never_answered().unwrap_or(absent))),
        }
    }

    fn silent(&self, now: Instant) -> Vec<Silent> {
        let mut list = Vec::new();
        self.zones.silent(&self.root, now, &mut list);
        self.chips.silent(&self.root, now, &mut list);
        self.rails.silent(&self.root, now, &mut list);
        self.fans.silent(&self.root, now, &mut list);
        self.throttle.silent(&self.root, now, &mut list);
        self.clocks.silent(&self.root, now, &mut list);
        self.power_mode.silent(&self.root, now, &mut list);
        self.system.silent(&self.root, now, &mut list);
        self.gpus.silent(&self.root, now, &mut list);
        self.facts.silent(&self.root, now, &mut list);
        list
    }
}

impl Sample {
    /// How old the sample is at `now`.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.taken)
    }

    /// The highest temperature of any zone that could be read.
    #[must_use]
    pub fn hottest(&self) -> Option<Celsius> {
        self.zones.iter().filter_map(|zone| zone.celsius).max()
    }
}

#[cfg(test)]
mod capture_tests;
#[cfg(test)]
mod tests;
