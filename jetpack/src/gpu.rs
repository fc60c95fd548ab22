//! NVIDIA GPUs of a PC, through the driver's management library (NVML).
//!
//! The library is loaded while the program runs, and only where the kernel has
//! the driver. A Jetson's own GPU answers "not supported" to every question
//! that matters, so it is never asked.

use nvml_wrapper::enum_wrappers::device::{TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use serde::Serialize;

use crate::absent::split;
use crate::thermal::{Limits, plausible};
use crate::{Absent, Board, Bytes, Celsius, Root, Source, Watts, Zone};

/// The file name that every release of the driver installs.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// One discrete GPU. What the driver does not report is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    pub name: String,
    pub memory_total_bytes: Option<Bytes>,
    pub memory_used_bytes: Option<Bytes>,
    /// Share of the last moments in which anything was computed, 0 to 1.
    pub busy_share: Option<f64>,
    pub celsius: Option<Celsius>,
    pub watts: Option<Watts>,
}

/// The loaded library, or why there is none.
#[derive(Debug)]
pub(crate) struct Sensor(Result<Nvml, Absent>);

impl Sensor {
    pub(crate) fn find(root: &Root, board: &Board) -> Self {
        Self(if board.is_tegra() {
            Err(Absent::Integrated)
        } else if !root.is_this_machine() || !has_driver(root) {
            Err(Absent::NoDriver)
        } else {
            load(LIBRARY)
        })
    }

    /// Whether there is nothing to ask, which may change when a driver is loaded.
    pub(crate) fn failed(&self) -> bool {
        self.0.is_err()
    }

    /// All GPUs and their temperatures, in the driver's order, which is that of
    /// their bus addresses.
    pub(crate) fn read(&self) -> Result<Vec<(Gpu, Zone)>, Absent> {
        let library = self.0.as_ref().map_err(Clone::clone)?;
        let count = library.device_count().map_err(|error| refused(&error))?;
        Ok((0..count)
            .map(|index| match library.device_by_index(index) {
                Ok(gpu) => read(index, &gpu),
                Err(error) => lost(index, &error),
            })
            .collect())
    }
}

fn load(library: &str) -> Result<Nvml, Absent> {
    Nvml::builder().lib_path(library.as_ref()).init().map_err(|error| refused(&error))
}

fn has_driver(root: &Root) -> bool {
    ["proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg"].iter().any(|file| root.has(file))
}

fn read(index: u32, gpu: &Device<'_>) -> (Gpu, Zone) {
    let name = gpu.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
    let memory = gpu.memory_info().ok();
    let temperature = gpu
        .temperature(TemperatureSensor::Gpu)
        .map_err(|error| refused(&error))
        .and_then(|degrees| celsius(degrees).ok_or(Absent::Garbled));
    let (celsius, absent) = split(temperature);
    let limits = limits(gpu);
    let zone = Zone {
        name: format!("GPU {index} {name}"),
        source: Source::Nvml,
        celsius,
        absent,
        limit_celsius: limits.slows_down,
        critical_celsius: limits.switches_off,
    };
    let gpu = Gpu {
        name,
        memory_total_bytes: memory.as_ref().map(|memory| Bytes::new(memory.total)),
        memory_used_bytes: memory.as_ref().map(|memory| Bytes::new(memory.used)),
        busy_share: gpu.utilization_rates().ok().map(|busy| f64::from(busy.gpu) / 100.0),
        celsius,
        watts: gpu.power_usage().ok().map(|milliwatts| Watts::from_milliwatts(milliwatts.into())),
    };
    (gpu, zone)
}

/// A GPU that is counted but does not answer, for example one that has fallen
/// off the bus.
fn lost(index: u32, error: &NvmlError) -> (Gpu, Zone) {
    let name = format!("GPU {index}");
    let zone = Zone {
        name: name.clone(),
        source: Source::Nvml,
        celsius: None,
        absent: Some(refused(error)),
        limit_celsius: None,
        critical_celsius: None,
    };
    let gpu = Gpu {
        name,
        memory_total_bytes: None,
        memory_used_bytes: None,
        busy_share: None,
        celsius: None,
        watts: None,
    };
    (gpu, zone)
}

fn limits(gpu: &Device<'_>) -> Limits {
    let threshold = |kind| gpu.temperature_threshold(kind).ok().and_then(celsius);
    Limits {
        slows_down: threshold(TemperatureThreshold::Slowdown),
        switches_off: threshold(TemperatureThreshold::Shutdown),
    }
}

/// The driver counts in whole degrees.
fn celsius(degrees: u32) -> Option<Celsius> {
    plausible(i32::try_from(degrees).ok()?.checked_mul(1000)?).ok()
}

fn refused(error: &NvmlError) -> Absent {
    match error {
        NvmlError::NotSupported => Absent::NotReported,
        NvmlError::NoPermission => Absent::NoPermission,
        error => Absent::Driver(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn a_tegra_s_gpu_and_a_captured_tree_are_never_asked() {
        let asked = |tree: &tree::Tree| {
            let root = tree.root();
            Sensor::find(&root, &Board::read(&root)).read()
        };
        assert_eq!(asked(&tree::orin_nano()), Err(Absent::Integrated));
        let captured = tree::of(&[("proc/driver/nvidia/version", "NVRM version: 540.4.0\n")]);
        assert_eq!(asked(&captured), Err(Absent::NoDriver));
    }

    #[test]
    fn a_library_that_cannot_be_loaded_is_a_reason_not_a_panic() {
        let absent = load("/nowhere/libnvidia-ml.so.1").map(|_| ());
        assert!(matches!(absent, Err(Absent::Driver(_))), "{absent:?}");
    }

    #[test]
    fn a_lost_gpu_stays_in_the_list_with_its_reason() {
        let (gpu, zone) = lost(1, &NvmlError::GpuLost);
        assert_eq!((gpu.name.as_str(), gpu.celsius), ("GPU 1", None));
        assert!(matches!(zone.absent, Some(Absent::Driver(_))));
    }

    #[test]
    fn the_driver_s_degrees_are_whole_and_plausible() {
        assert_eq!(celsius(83), Some(Celsius::from_millidegrees(83_000)));
        assert_eq!(celsius(u32::MAX), None);
        assert_eq!(celsius(2_000), None);
    }
}
