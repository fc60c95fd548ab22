//! Temperatures, from `/sys/class/thermal` and `/sys/class/hwmon`.
//!
//! The kernel reports millidegrees. A zone whose part is powered down answers
//! `EAGAIN`; its temperature is then absent, never zero. What each zone can
//! bear is read when it is found: trip points do not change while the machine
//! runs.

mod chips;
mod kernel;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::absent::split;
use crate::group::Sensors;
use crate::root::read_number;
use crate::steady::{Steady, plausible};
use crate::{Absent, Board, Celsius, Root, hwmon};

/// One temperature and what it must not reach.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Zone {
    /// The kernel's or the driver's name, for example `tj-thermal` or
    /// `coretemp Package id 0`.
    pub name: String,
    pub source: Source,
    pub celsius: Option<Celsius>,
    /// Why `celsius` is `None`.
    pub absent: Option<Absent>,
    /// From here on the machine slows itself down.
    pub limit_celsius: Option<Celsius>,
    /// From here on the machine switches itself off.
    pub critical_celsius: Option<Celsius>,
}

/// Who reports a temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Thermal,
    Hwmon,
    Nvml,
}

/// Where a zone is read, found now and then.
#[derive(Debug, Clone)]
struct Sensor {
    name: String,
    source: Source,
    path: PathBuf,
    limits: Limits,
    steady: Steady,
}

/// What a zone can bear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) slows_down: Option<Celsius>,
    pub(crate) switches_off: Option<Celsius>,
}

impl Sensor {
    fn read(&mut self, now: Instant) -> Zone {
        let reading = read_number(&self.path).and_then(plausible);
        let reading = reading.and_then(|celsius| self.steady.accept(celsius, now));
        let (celsius, absent) = split(reading);
        Zone {
            name: self.name.clone(),
            source: self.source,
            celsius,
            absent,
            limit_celsius: self.limits.slows_down,
            critical_celsius: self.limits.switches_off,
        }
    }
}

/// The kernel's own zones, which a board's firmware measures.
#[derive(Debug, Clone)]
pub(crate) struct Zones {
    root: Root,
    board: Board,
    sensors: Vec<Sensor>,
}

/// The temperatures of other chips, each of which has a driver of its own.
#[derive(Debug, Clone)]
pub(crate) struct ChipZones {
    root: Root,
    sensors: Vec<Sensor>,
}

impl Zones {
    pub(crate) fn new(root: &Root, board: &Board) -> Self {
        Self { root: root.clone(), board: board.clone(), sensors: Vec::new() }
    }
}

impl ChipZones {
    pub(crate) fn new(root: &Root) -> Self {
        Self { root: root.clone(), sensors: Vec::new() }
    }
}

impl Sensors for Zones {
    type Reading = Vec<Zone>;

    fn find(&mut self) {
        let found = kernel::zones(&self.root, &self.board);
        self.sensors = remember(found, &self.sensors);
    }

    fn read(&mut self, now: Instant) -> Vec<Zone> {
        self.sensors.iter_mut().map(|sensor| sensor.read(now)).collect()
    }

    fn silence(zones: &mut Vec<Zone>, absent: &Absent) {
        silence(zones, absent);
    }
}

impl Sensors for ChipZones {
    type Reading = Vec<Zone>;

    fn find(&mut self) {
        let kernel = kernel::names(&self.root);
        let found = chips::zones(&hwmon::chips(&self.root), &kernel);
        self.sensors = remember(found, &self.sensors);
    }

    fn read(&mut self, now: Instant) -> Vec<Zone> {
        self.sensors.iter_mut().map(|sensor| sensor.read(now)).collect()
    }

    fn silence(zones: &mut Vec<Zone>, absent: &Absent) {
        silence(zones, absent);
    }
}

pub(crate) fn silence(zones: &mut [Zone], absent: &Absent) {
    for zone in zones {
        zone.celsius = None;
        zone.absent = Some(absent.clone());
    }
}

/// Sensors that were there before know what they said last.
fn remember(mut found: Vec<Sensor>, before: &[Sensor]) -> Vec<Sensor> {
    for sensor in &mut found {
        if let Some(known) = before.iter().find(|known| known.path == sensor.path) {
            sensor.steady = known.steady;
        }
    }
    found
}

/// A limit that means something; firmware leaves unused ones at or below zero,
/// or at the end of the scale.
fn limit(path: &Path) -> Option<Celsius> {
    let millidegrees = read_number(path).ok()?;
    plausible(millidegrees).ok().filter(|_| millidegrees > 0)
}

#[cfg(test)]
mod tests;
