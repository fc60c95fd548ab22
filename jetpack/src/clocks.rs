//! Clocks of the GPU, the processors and the memory, from devfreq, cpufreq and
//! NVIDIA's caps.
//!
//! What software sees does not show when the firmware slows a clock down; only
//! `cpuinfo_cur_freq`, here [`Clock::real_hertz`], measures. The GPU's load is
//! a per-mille number of the last moment.

mod gpu;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::absent::split;
use crate::group::Sensors;
use crate::root::{list, read, read_number};
use crate::{Absent, Board, Hertz, Root};

pub use gpu::{CapError, Capped, GpuClock};

/// Groups of processors whose clocks are read. An Orin has three; a PC may have
/// one for each processor, and more of them would say nothing more.
const MAX_POLICIES: usize = 16;

/// The machine's clocks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clocks {
    /// The GPU that shares the processors' memory.
    pub gpu: Option<Clock>,
    /// Why `gpu` is `None`.
    pub gpu_absent: Option<Absent>,
    /// How busy that GPU was in the last moment, 0 to 1.
    pub gpu_busy_share: Option<f64>,
    /// Why `gpu_busy_share` is `None`.
    pub gpu_busy_absent: Option<Absent>,
    /// Each group of processors that share a clock.
    pub cpus: Vec<Clock>,
    /// The memory's clock.
    pub emc: Option<Clock>,
    /// Why `emc` is `None`.
    pub emc_absent: Option<Absent>,
}

/// One clock and its bounds. What the machine does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Clock {
    /// The kernel's name, for example `17000000.gpu` or `policy4`.
    pub name: String,
    /// What the kernel has asked for.
    pub current_hertz: Option<Hertz>,
    /// What the hardware does, where it measures itself. Only root may read it.
    pub real_hertz: Option<Hertz>,
    pub floor_hertz: Option<Hertz>,
    /// What nobody exceeds now: the power mode's cap, or one of ours.
    pub cap_hertz: Option<Hertz>,
    /// What the hardware can do.
    pub top_hertz: Option<Hertz>,
    /// Steps, ascending; empty where they are not told.
    pub available_hertz: Vec<Hertz>,
    pub governor: Option<String>,
    /// Why `current_hertz` is `None`.
    pub absent: Option<Absent>,
}

/// Where one clock is read, found now and then.
#[derive(Debug, Clone, Default)]
struct Sensor {
    name: String,
    /// The kernel's unit: devices in hertz, processors in kilohertz.
    kilohertz: bool,
    current: PathBuf,
    real: Option<PathBuf>,
    floor: PathBuf,
    cap: PathBuf,
    governor: Option<PathBuf>,
    top: Option<Hertz>,
    available: Vec<Hertz>,
}

impl Sensor {
    fn read(&self) -> Clock {
        let (current_hertz, absent) = split(self.hertz(&self.current));
        Clock {
            name: self.name.clone(),
            current_hertz,
            real_hertz: self.real.as_deref().and_then(|path| self.hertz(path).ok()),
            floor_hertz: self.hertz(&self.floor).ok(),
            cap_hertz: self.hertz(&self.cap).ok(),
            top_hertz: self.top,
            available_hertz: self.available.clone(),
            governor: self.governor.as_deref().and_then(|path| read(path).ok()),
            absent,
        }
    }

    fn hertz(&self, path: &Path) -> Result<Hertz, Absent> {
        read_number(path).map(if self.kilohertz { Hertz::from_kilohertz } else { Hertz::new })
    }
}

/// All clocks of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    root: Root,
    board: Board,
    gpu: Option<Sensor>,
    load: Option<PathBuf>,
    cpus: Vec<Sensor>,
    emc: Option<Sensor>,
}

impl Sources {
    pub(crate) fn new(root: &Root, board: &Board) -> Self {
        let (root, board) = (root.clone(), board.clone());
        Self { root, board, gpu: None, load: None, cpus: Vec::new(), emc: None }
    }
}

impl Default for Clocks {
    fn default() -> Self {
        let absent = || Some(Absent::NotYet);
        Self {
            gpu: None,
            gpu_absent: absent(),
            gpu_busy_share: None,
            gpu_busy_absent: absent(),
            cpus: Vec::new(),
            emc: None,
            emc_absent: absent(),
        }
    }
}

impl Sensors for Sources {
    type Reading = Clocks;

    fn find(&mut self) {
        let device = gpu::find(&self.root);
        self.load = device.as_ref().and_then(|device| gpu::load(&self.root, device));
        self.gpu = device.as_ref().map(gpu::sensor);
        self.cpus = policies(&self.root, self.board.is_tegra());
        self.emc = memory_controller(&self.root);
    }

    fn read(&mut self, _: Instant) -> Clocks {
        let not_there = || Absent::NotReported;
        let busy = self.load.as_deref().ok_or_else(not_there).and_then(busy_share);
        let (gpu, gpu_absent) = split(self.gpu.as_ref().map(Sensor::read).ok_or_else(not_there));
        let (emc, emc_absent) = split(self.emc.as_ref().map(Sensor::read).ok_or_else(not_there));
        let (gpu_busy_share, gpu_busy_absent) = split(busy);
        let cpus = self.cpus.iter().map(Sensor::read).collect();
        Clocks { gpu, gpu_absent, gpu_busy_share, gpu_busy_absent, cpus, emc, emc_absent }
    }

    fn silence(clocks: &mut Clocks, absent: &Absent) {
        let parts = [clocks.gpu.as_mut(), clocks.emc.as_mut()];
        for clock in clocks.cpus.iter_mut().chain(parts.into_iter().flatten()) {
            *clock = Clock {
                name: std::mem::take(&mut clock.name),
                top_hertz: clock.top_hertz,
                available_hertz: std::mem::take(&mut clock.available_hertz),
                absent: Some(absent.clone()),
                ..Clock::default()
            };
        }
        (clocks.gpu_busy_share, clocks.gpu_busy_absent) = (None, Some(absent.clone()));
        if clocks.gpu.is_none() {
            clocks.gpu_absent = Some(absent.clone());
        }
        if clocks.emc.is_none() {
            clocks.emc_absent = Some(absent.clone());
        }
    }
}

/// The kernel counts in thousandths.
fn busy_share(load: &Path) -> Result<f64, Absent> {
    match read_number::<u16>(load)? {
        load @ 0..=1000 => Ok(f64::from(load) / 1e3),
        _ => Err(Absent::Garbled),
    }
}

/// Groups of processors in the order of their first one.
fn policies(root: &Root, measures_itself: bool) -> Vec<Sensor> {
    let directory = root.path("sys/devices/system/cpu/cpufreq");
    let mut numbers: Vec<u32> = list(&directory)
        .iter()
        .filter_map(|entry| entry.strip_prefix("policy")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers.truncate(MAX_POLICIES);
    let policy = |number| {
        let name = format!("policy{number}");
        let file = |file: &str| directory.join(&name).join(file);
        Sensor {
            kilohertz: true,
            current: file("scaling_cur_freq"),
            // A PC interrupts the processor to measure it.
            real: measures_itself.then(|| file("cpuinfo_cur_freq")),
            floor: file("scaling_min_freq"),
            cap: file("scaling_max_freq"),
            governor: Some(file("scaling_governor")),
            top: read_number(&file("cpuinfo_max_freq")).ok().map(Hertz::from_kilohertz),
            available: steps(&file("scaling_available_frequencies"), Hertz::from_kilohertz),
            name,
        }
    };
    numbers.into_iter().map(policy).collect()
}

/// Everybody may read the cap, only root the rest.
fn memory_controller(root: &Root) -> Option<Sensor> {
    let file = |file: &str| root.path(&format!("sys/kernel/debug/bpmp/debug/clk/emc/{file}"));
    let cap = "sys/kernel/nvpmodel_clk_cap/emc";
    (root.has(cap) || root.has("sys/kernel/debug/bpmp/debug/clk/emc/rate")).then(|| Sensor {
        name: "emc".to_owned(),
        current: file("rate"),
        floor: file("min_rate"),
        cap: root.path(cap),
        top: read_number(&file("max_rate")).ok().map(Hertz::new),
        ..Sensor::default()
    })
}

/// Frequencies in one line, ascending. Unreadable ones are left out.
fn steps(path: &Path, unit: fn(u64) -> Hertz) -> Vec<Hertz> {
    read(path).map(|text| parse_steps(&text, unit)).unwrap_or_default()
}

fn parse_steps(text: &str, unit: fn(u64) -> Hertz) -> Vec<Hertz> {
    let numbers = text.split_whitespace().filter_map(|step| step.parse().ok());
    let mut steps: Vec<Hertz> = numbers.map(unit).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

#[cfg(test)]
mod tests;
