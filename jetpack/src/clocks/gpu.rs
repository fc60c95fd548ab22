//! The clock of a Jetson's GPU, and its cap, which can be set.

use std::io;
use std::path::PathBuf;

use super::{Sensor, steps};
use crate::root::{list, read_number};
use crate::{Absent, Hertz, Root};

/// The clock device of the GPU.
#[derive(Debug, Clone)]
pub(super) struct Device {
    name: String,
    directory: PathBuf,
}

/// Finds it by its name: `17000000.gpu` on Orin with release 36 and later,
/// `17000000.ga10b` before, `gpu-gpc-0` on Thor.
pub(super) fn find(root: &Root) -> Option<Device> {
    let class = root.path("sys/class/devfreq");
    let is_gpu = |name: &String| {
        name.ends_with(".gpu") || name.ends_with(".ga10b") || name.starts_with("gpu-gpc")
    };
    let name = list(&class).into_iter().filter(is_gpu).min()?;
    Some(Device { directory: class.join(&name), name })
}

pub(super) fn sensor(device: &Device) -> Sensor {
    let file = |file: &str| device.directory.join(file);
    let available = steps(&file("available_frequencies"), Hertz::new);
    Sensor {
        name: device.name.clone(),
        current: file("cur_freq"),
        floor: file("min_freq"),
        cap: file("max_freq"),
        governor: Some(file("governor")),
        top: available.last().copied(),
        available,
        ..Sensor::default()
    }
}

/// Where the load is: a file of the device that the clock belongs to.
pub(super) fn load(root: &Root, device: &Device) -> Option<PathBuf> {
    let name = &device.name;
    let places = [
        format!("sys/class/devfreq/{name}/device/load"),
        format!("sys/devices/platform/bus@0/{name}/load"),
        format!("sys/devices/platform/{name}/load"),
        "sys/devices/platform/gpu.0/load".to_owned(),
    ];
    places.iter().find(|place| root.has(place)).map(|place| root.path(place))
}

/// The GPU's clock as something that can be capped. Nothing is changed unless
/// [`GpuClock::set_cap`] is called, and a reboot or a change of the power mode
/// undoes it.
#[derive(Debug, Clone)]
pub struct GpuClock {
    cap: PathBuf,
    available: Vec<Hertz>,
    boot: Option<String>,
}

/// What came of setting a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capped {
    /// The step that was written: the highest that is not above what was asked
    /// for, or else the lowest there is.
    pub written: Hertz,
    /// What the kernel says afterwards. It may be lower: the power mode's own
    /// cap holds as well.
    pub achieved: Hertz,
}

/// Why the GPU's clock was not capped.
#[derive(Debug, thiserror::Error)]
pub enum CapError {
    #[error("write the GPU's clock cap to {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("read the GPU's clock cap back: {0}")]
    ReadBack(Absent),
}

impl GpuClock {
    /// Finds the clock.
    ///
    /// # Errors
    /// There is none, or it does not tell its steps.
    pub fn find(root: &Root) -> Result<Self, Absent> {
        let device = find(root).ok_or(Absent::NotReported)?;
        let available = sensor(&device).available;
        let cap = device.directory.join("max_freq");
        if available.is_empty() {
            return Err(Absent::NotReported);
        }
        let boot = root.read("proc/sys/kernel/random/boot_id").ok();
        Ok(Self { cap, available, boot })
    }

    /// The kernel's name for the present boot, until whose end a cap holds.
    #[must_use]
    pub fn boot(&self) -> Option<&str> {
        self.boot.as_deref()
    }

    /// The steps there are, ascending; at least one.
    #[must_use]
    pub fn available(&self) -> &[Hertz] {
        &self.available
    }

    /// Lets the GPU run no faster than `cap`, and reads back what holds now.
    /// Blocks for as long as the driver takes; takes root.
    ///
    /// # Errors
    /// The driver refuses it, or does not say what holds afterwards.
    pub fn set_cap(&self, cap: Hertz) -> Result<Capped, CapError> {
        let below = self.available.iter().rev().find(|step| **step <= cap);
        let written = *below.unwrap_or(&self.available[0]);
        std::fs::write(&self.cap, written.get().to_string())
            .map_err(|source| CapError::Write { path: self.cap.clone(), source })?;
        let achieved = read_number(&self.cap).map(Hertz::new).map_err(CapError::ReadBack)?;
        Ok(Capped { written, achieved })
    }
}
