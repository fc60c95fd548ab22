//! NVIDIA GPUs of a PC, through the driver's management library (NVML).
//!
//! The library is loaded while the program runs, and only where the kernel has
//! the driver. A Jetson's own GPU answers "not supported" to every question
//! that matters, so it is never asked.

use std::sync::Arc;
use std::time::Instant;

use nvml_wrapper::enum_wrappers::device::{TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};
use serde::Serialize;

use crate::absent::split;
use crate::group::Sensors;
use crate::steady::plausible;
use crate::thermal::{self, Limits};
use crate::{Absent, Board, Bytes, Celsius, GpuClient, Root, Source, Watts, Zone};

/// The file name that every release of the driver installs.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// One discrete GPU. What the driver does not report is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Gpu {
    pub name: String,
    pub memory_total_bytes: Option<Bytes>,
    pub memory_used_bytes: Option<Bytes>,
    /// Share of the last moments in which anything was computed, 0 to 1.
    pub busy_share: Option<f64>,
    pub celsius: Option<Celsius>,
    pub watts: Option<Watts>,
    /// Programs that compute on it, at most a minute old; `None` when the
    /// driver does not tell.
    pub clients: Option<Vec<GpuClient>>,
}

/// All discrete GPUs and their temperatures, in the driver's order, which is
/// that of their bus addresses.
#[derive(Debug, Clone)]
pub(crate) struct Gpus {
    root: Root,
    board: Board,
    /// The loaded library, or why there is none.
    library: Result<Arc<Nvml>, Absent>,
    /// Of each GPU.
    clients: Vec<Option<Vec<GpuClient>>>,
}

impl Gpus {
    pub(crate) fn new(root: &Root, board: &Board) -> Self {
        let (root, board) = (root.clone(), board.clone());
        Self { root, board, library: Err(Absent::NotYet), clients: Vec::new() }
    }

    fn look(&self) -> Result<Vec<(Gpu, Zone)>, Absent> {
        let library = self.library.as_ref().map_err(Clone::clone)?;
        let count = library.device_count().map_err(|error| refused(&error))?;
        Ok((0..count)
            .map(|index| match library.device_by_index(index) {
                Ok(gpu) => {
                    let (mut gpu, zone) = read(index, &gpu);
                    gpu.clients = self.clients.get(index as usize).cloned().flatten();
                    (gpu, zone)
                }
                Err(error) => lost(index, &error),
            })
            .collect())
    }

    fn look_for_clients(&self) -> Option<Vec<Option<Vec<GpuClient>>>> {
        let library = self.library.as_ref().ok()?;
        let of = |index| {
            let list = library.device_by_index(index).ok()?.running_compute_processes().ok()?;
            Some(list.into_iter().map(|process| self.client(&process)).collect())
        };
        Some((0..library.device_count().ok()?).map(of).collect())
    }

    fn client(&self, process: &ProcessInfo) -> GpuClient {
        let name = self.root.read(&format!("proc/{}/comm", process.pid));
        let bytes = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(Bytes::new(bytes)),
            UsedGpuMemory::Unavailable => None,
        };
        GpuClient { pid: process.pid, name: name.unwrap_or_else(|_| "unknown".into()), bytes }
    }
}

/// What the driver says, and whether there is one.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) absent: Option<Absent>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { gpus: Vec::new(), zones: Vec::new(), absent: Some(Absent::NotYet) }
    }
}

impl Sensors for Gpus {
    type Reading = Reading;

    fn find(&mut self) {
        // A driver may be loaded later, but a loaded one stays.
        if self.library.is_err() {
            self.library = if self.board.is_tegra() {
                Err(Absent::Integrated)
            } else if !self.root.is_this_machine() || !has_driver(&self.root) {
                Err(Absent::NoDriver)
            } else {
                load(LIBRARY).map(Arc::new)
            };
        }
        self.clients = self.look_for_clients().unwrap_or_default();
    }

    fn read(&mut self, _: Instant) -> Reading {
        let (list, absent) = split(self.look());
        let (gpus, zones) = list.unwrap_or_default().into_iter().unzip();
        Reading { gpus, zones, absent }
    }

    fn silence(reading: &mut Reading, absent: &Absent) {
        for gpu in &mut reading.gpus {
            *gpu = Gpu { name: std::mem::take(&mut gpu.name), ..Gpu::default() };
        }
        thermal::silence(&mut reading.zones, absent);
        reading.absent = Some(absent.clone());
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
        clients: None,
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
    (Gpu { name, ..Gpu::default() }, zone)
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
            let mut gpus = Gpus::new(&root, &Board::read(&root));
            gpus.find();
            gpus.look()
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
