//! Power: what a load takes at the clocks that there are.

use std::ops::Add;

use crate::module::{Module, Power};

/// Lowest voltage up to this share of the design clock, then growing with it.
/// Fitted to the sweep on AGX Orin.
const FLAT_VOLTAGE: f64 = 0.43;
/// How much higher the voltage is at the design clock. Fitted to the same.
const VOLTAGE_GAIN: f64 = 0.2;
/// Where leakage is counted from.
const LEAKAGE_FROM_CELSIUS: f64 = 40.0;

/// What is computed, as means over a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Share of the time in which the GPU works.
    pub gpu_busy: f64,
    /// Share of the time in which its tensor cores set the pace.
    pub tensor_busy: f64,
    /// To and from memory.
    pub bytes_per_s: f64,
    /// Processor cores that are busy.
    pub cores_busy: f64,
    /// W that something else takes on the rails of CPU and GPU.
    pub extra_watts: f64,
}

impl Load {
    /// Nothing at all.
    pub const IDLE: Self = Self {
        gpu_busy: 0.0,
        tensor_busy: 0.0,
        bytes_per_s: 0.0,
        cores_busy: 0.0,
        extra_watts: 0.0,
    };

    /// The same for `share` of the time, and nothing in the rest.
    #[must_use]
    pub fn during(self, share: f64) -> Self {
        Self {
            gpu_busy: self.gpu_busy * share,
            tensor_busy: self.tensor_busy * share,
            bytes_per_s: self.bytes_per_s * share,
            cores_busy: self.cores_busy * share,
            extra_watts: self.extra_watts * share,
        }
    }
}

impl Add for Load {
    type Output = Self;

    /// Both at once; a GPU is not busier than all the time.
    fn add(self, other: Self) -> Self {
        Self {
            gpu_busy: (self.gpu_busy + other.gpu_busy).min(1.0),
            tensor_busy: (self.tensor_busy + other.tensor_busy).min(1.0),
            bytes_per_s: self.bytes_per_s + other.bytes_per_s,
            cores_busy: self.cores_busy + other.cores_busy,
            extra_watts: self.extra_watts + other.extra_watts,
        }
    }
}

/// The clocks that power depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clocks {
    /// What the GPU is set to; sets its voltage.
    pub(crate) gpu_hz: f64,
    /// What it really runs at.
    pub(crate) gpu_effective_hz: f64,
    pub(crate) tpcs: f64,
    pub(crate) cpu_share: f64,
}

/// W, by where they show.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Draw {
    pub(crate) total: f64,
    pub(crate) gpu: f64,
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

impl Power {
    pub(crate) fn draw(&self, module: &Module, clocks: Clocks, load: &Load, die: f64) -> Draw {
        let leakage = 1.0 + self.leakage_per_k.get() * (die - LEAKAGE_FROM_CELSIUS);
        let voltage = voltage(clocks.gpu_hz, module.gpu.design_hz);
        let activity = load.gpu_busy + self.tensor.get() * load.tensor_busy;
        let gpu = self.gpu_per_mhz.get()
            * (clocks.gpu_effective_hz / 1e6)
            * (clocks.tpcs / f64::from(module.gpu.tpcs))
            * voltage
            * voltage
            * activity;
        let cpu = self.core.get() * load.cores_busy * clocks.cpu_share * clocks.cpu_share
            + load.extra_watts;
        let memory = self.per_byte.get() * load.bytes_per_s;
        let rest = self.idle.get() + self.awake.get() * load.gpu_busy;
        Draw {
            total: (rest + gpu + cpu + memory) * leakage,
            gpu: gpu * leakage,
            cpu: cpu * leakage,
            memory: memory * leakage,
        }
    }

    /// W on the module's rails in their order; see [`crate::Readings::rails`].
    pub(crate) fn rails(&self, module: &Module, draw: &Draw) -> [f64; 4] {
        let memory_on_soc = self.memory_on_soc.get() * draw.memory;
        let (cpu_gpu, soc) = (self.idle_cpu_gpu.get(), self.idle_soc.get() + memory_on_soc);
        if module.is_agx() {
            let (gpu_soc, cpu) = (soc + draw.gpu, cpu_gpu + draw.cpu);
            [gpu_soc, cpu, draw.total - gpu_soc - cpu, draw.memory - memory_on_soc]
        } else {
            [draw.total, cpu_gpu + draw.gpu + draw.cpu, soc, 0.0]
        }
    }
}

/// The GPU's voltage as a multiple of its lowest.
#[expect(clippy::cast_precision_loss, reason = "a clock fits a float exactly")]
fn voltage(hz: f64, design_hz: u64) -> f64 {
    let above = (hz / design_hz as f64 - FLAT_VOLTAGE) / (1.0 - FLAT_VOLTAGE);
    1.0 + VOLTAGE_GAIN * above.max(0.0)
}
