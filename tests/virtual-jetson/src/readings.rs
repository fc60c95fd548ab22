//! What the sensors show.

/// A rail of a power monitor, on the steps of its converter.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rail {
    pub millivolts: u32,
    pub milliamperes: u32,
}

impl Rail {
    #[must_use]
    pub fn watts(self) -> f64 {
        f64::from(self.millivolts) * f64::from(self.milliamperes) / 1e6
    }
}

/// Why a board is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// The kernel reached its critical temperature and shut down in order.
    Critical,
    /// The firmware cut the power at 105 °C.
    Thermtrip,
    /// The supply's voltage gave way.
    BrownOut,
}

/// What can be read from the board, with the sensors' own steps and delays, and
/// at the end what no sensor shows. Of a board that is off nobody could read
/// any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Readings {
    /// Since power-on.
    pub uptime_s: f64,
    pub off: Option<Off>,

    /// The hottest of all zones; on steps of 1/32 °C, as the others.
    pub tj_celsius: f64,
    pub cpu_celsius: f64,
    pub gpu_celsius: f64,
    pub soc_celsius: [f64; 3],
    /// AGX only: the carrier's own sensor.
    pub board_celsius: f64,

    /// `VDD_IN`, `VDD_CPU_GPU_CV`, `VDD_SOC`; on AGX `VDD_GPU_SOC`, `VDD_CPU_CV`,
    /// `VIN_SYS_5V0`, `VDDQ_VDD2_1V8AO`. Means over 430 ms.
    pub rails: [Rail; 4],
    /// What the whole board takes, by its rails.
    pub watts: f64,

    /// What the GPU is set to now: its lowest clock at rest.
    pub gpu_hz: u64,
    /// What it may be set to: mode, cap from outside, the kernel's throttling.
    pub gpu_cap_hz: u64,
    /// Share of the time in which it works.
    pub gpu_busy: f64,
    pub emc_hz: u64,
    /// Share of the memory's bandwidth in use.
    pub emc_busy: f64,
    /// What the CPU is set to.
    pub cpu_khz: u32,
    /// What it really runs at.
    pub cpu_effective_khz: u32,
    pub cores_busy: f64,

    /// 0 to 255.
    pub fan_pwm: u8,
    pub fan_rpm: u32,

    /// OC1, OC2 and OC3 since power-on, as the counters show them: in bursts.
    pub over_currents: [u64; 3],
    /// Clock steps that the kernel has taken away for heat.
    pub throttle_steps: u32,
    /// Whether the firmware divides the clocks.
    pub firmware_throttled: bool,

    pub memory_total_bytes: u64,
    pub memory_available_bytes: u64,
    /// The GPU's part of what is used.
    pub memory_model_bytes: u64,

    /// The model's own truth, which no sensor shows.
    pub die_celsius: f64,
    pub true_watts: f64,
    pub gpu_effective_hz: f64,
}
