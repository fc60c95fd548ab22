//! AGX Orin on its developer kit's carrier (p3737). Speed and power come from
//! one sweep over the GPU's clocks, temperatures from one set of serving runs.

use super::{Cpu, Gpu, Identity, Memory, Mode, Module, Power, Supply, Thermal};
use crate::constant::Constant;
use crate::fan::{P3701_COOL, P3701_QUIET};

const MODEL: &str = "NVIDIA Jetson AGX Orin Developer Kit";

/// Published: the sweep's steps.
const GPU_64GB: [u64; 11] = [
    306_000_000,
    408_000_000,
    510_000_000,
    612_000_000,
    714_000_000,
    816_000_000,
    918_000_000,
    1_020_000_000,
    1_122_000_000,
    1_224_000_000,
    1_300_500_000,
];
/// Published: the highest clock; steps as above.
const GPU_32GB: [u64; 8] = [
    306_000_000,
    408_000_000,
    510_000_000,
    612_000_000,
    714_000_000,
    816_000_000,
    918_000_000,
    930_750_000,
];

const GPU: Gpu = Gpu {
    hz: &GPU_64GB,
    design_hz: 1_300_500_000,
    tpcs: 8,
    // These three give the sweep's tokens/s within 3 %.
    stream_bytes_per_clock: Constant::fitted(12.4),
    launch_s: Constant::fitted(2.0e-3),
    prefill_flop_per_clock: Constant::guessed(1725.0),
    decode_flop_per_clock: Constant::guessed(860.0),
};

const MEMORY: Memory = Memory {
    total_kib: 64_349_016, // measured on 36.4.4
    system_bytes: Constant::measured(1.3e9),
    bytes_per_clock: Constant::published(64.0),
    efficiency: Constant::fitted(0.627),
    emc_hz: 3_199_000_000,
};

const THERMAL: Thermal = Thermal {
    die_to_sink: Constant::guessed(0.12),
    sink_to_still_air: Constant::guessed(3.88),
    // 24 W at 61 °C to 48 W at 70 °C on the cool curve.
    sink_to_moved_air: Constant::fitted(0.53),
    fan_scale_rpm: Constant::fitted(800.0),
    die_capacity: Constant::guessed(16.0),
    sink_capacity: Constant::guessed(250.0),
};

const POWER: Power = Power {
    idle: Constant::measured(8.5),
    // Of `VDD_CPU_CV`; the GPU is on the other rail here.
    idle_cpu_gpu: Constant::measured(0.79),
    idle_soc: Constant::measured(3.18),
    awake: Constant::fitted(0.7),
    // These two give the sweep's watts within 6 %.
    gpu_per_mhz: Constant::fitted(13.8e-3),
    per_byte: Constant::fitted(80e-12),
    tensor: Constant::guessed(0.3),
    memory_on_soc: Constant::guessed(0.46),
    core: Constant::guessed(0.9),
    leakage_per_k: Constant::guessed(0.0015),
};

const SUPPLY: Supply = Supply {
    volts: Constant::guessed(19.8),
    ohm: Constant::guessed(0.05),
    weak_ohm: Constant::guessed(1.1),
    limit: Constant::published(65.0),
    ripple: Constant::guessed(0.3),
};

const CPU: Cpu = Cpu { cores: 12, policies: &[0, 4, 8], max_khz: 2_201_600 };

const fn mode(
    id: u32,
    name: &'static str,
    cores: u32,
    cpu_khz: Option<u32>,
    gpu_hz: Option<u64>,
    tpc_mask: u32,
) -> Mode {
    Mode { id, name, cores, cpu_khz, gpu_hz, emc_hz: None, tpc_mask }
}

const FIFTEEN_WATTS: Mode = Mode {
    emc_hz: Some(2_133_000_000),
    ..mode(1, "15W", 4, Some(1_113_600), Some(408_000_000), 248)
};

/// Published: `nvpmodel_p3701_0000.conf`.
const MODES_64GB: [Mode; 4] = [
    mode(0, "MAXN", 12, None, None, 0),
    FIFTEEN_WATTS,
    mode(2, "30W", 8, Some(1_728_000), Some(612_000_000), 240),
    mode(3, "50W", 12, Some(1_497_600), Some(816_000_000), 0),
];
/// Published: `nvpmodel_p3701_0004.conf`.
const MODES_32GB: [Mode; 4] = [
    mode(0, "MAXN", 8, None, None, 0),
    FIFTEEN_WATTS,
    mode(2, "30W", 8, Some(1_728_000), Some(612_000_000), 240),
    mode(3, "40W", 8, Some(1_497_600), Some(816_000_000), 0),
];

pub(super) static AGX_64GB: Module = Module {
    name: "agx-orin-64gb",
    identity: Identity {
        part: "p3701-0005",
        carrier: "p3737-0000",
        model: MODEL,
        is_super: false,
        nvpmodel: "nvpmodel_p3701_0000",
    },
    modes: &MODES_64GB,
    default_mode: 2,
    gpu: GPU,
    cpu: CPU,
    memory: MEMORY,
    thermal: THERMAL,
    power: POWER,
    supply: SUPPLY,
    quiet: &P3701_QUIET,
    cool: &P3701_COOL,
};

pub(super) static AGX_32GB: Module = Module {
    name: "agx-orin-32gb",
    identity: Identity {
        part: "p3701-0004",
        carrier: "p3737-0000",
        model: MODEL,
        is_super: false,
        nvpmodel: "nvpmodel_p3701_0004",
    },
    modes: &MODES_32GB,
    default_mode: 2,
    gpu: Gpu { hz: &GPU_32GB, tpcs: 7, ..GPU },
    cpu: Cpu { cores: 8, policies: &[0, 4], ..CPU },
    memory: Memory { total_kib: 31_457_280, ..MEMORY }, // about 30 GiB
    thermal: THERMAL,
    power: Power { gpu_per_mhz: Constant::guessed(12.1e-3), ..POWER },
    supply: Supply { limit: Constant::published(45.0), ..SUPPLY },
    quiet: &P3701_QUIET,
    cool: &P3701_COOL,
};
