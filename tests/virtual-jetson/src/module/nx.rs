//! Orin NX on the same carrier. Temperatures were measured on one NX 16 GB;
//! what a GPU's clock costs is a guess from AGX Orin.

use super::{Cpu, Gpu, Identity, Memory, Mode, Module, Power, Supply, Thermal};
use crate::constant::Constant;
use crate::fan::{P3767_COOL, P3767_QUIET};

const MODEL: &str = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit";
const MODEL_SUPER: &str = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super";

/// Published: the highest clock; steps as on the other modules.
const GPU_SUPER: [u64; 10] = [
    306_000_000,
    408_000_000,
    510_000_000,
    612_000_000,
    714_000_000,
    816_000_000,
    918_000_000,
    1_020_000_000,
    1_122_000_000,
    1_173_000_000,
];
/// Published: seven steps.
const GPU_16GB: [u64; 7] =
    [306_000_000, 408_000_000, 510_000_000, 612_000_000, 714_000_000, 816_000_000, 918_000_000];
/// Published: the highest clock; steps as on the other modules.
const GPU_8GB: [u64; 6] =
    [306_000_000, 408_000_000, 510_000_000, 612_000_000, 714_000_000, 765_000_000];

const GPU: Gpu = Gpu {
    hz: &GPU_SUPER,
    design_hz: 1_173_000_000,
    tpcs: 4,
    stream_bytes_per_clock: Constant::guessed(18.1),
    prefill_flop_per_clock: Constant::guessed(1725.0),
    decode_flop_per_clock: Constant::guessed(860.0),
    launch_s: Constant::guessed(2.3e-3),
};

const MEMORY: Memory = Memory {
    total_kib: 16_032_768, // measured: 15657 MB
    system_bytes: Constant::guessed(1.4e9),
    bytes_per_clock: Constant::published(32.0),
    efficiency: Constant::guessed(0.65),
    emc_hz: 3_199_000_000,
};

const THERMAL: Thermal = Thermal {
    die_to_sink: Constant::guessed(0.25),
    sink_to_still_air: Constant::guessed(6.75),
    // 4.6 to 29.4 W rise by 1.4 K/W on the quiet curve.
    sink_to_moved_air: Constant::fitted(1.15),
    fan_scale_rpm: Constant::guessed(1200.0),
    die_capacity: Constant::guessed(8.0),
    sink_capacity: Constant::guessed(90.0),
};

const POWER: Power = Power {
    idle: Constant::measured(4.6),
    idle_cpu_gpu: Constant::guessed(0.6),
    idle_soc: Constant::guessed(1.5),
    awake: Constant::guessed(0.8),
    // Half of AGX Orin's, for half of its TPCs.
    gpu_per_mhz: Constant::guessed(6.9e-3),
    tensor: Constant::guessed(0.5),
    per_byte: Constant::guessed(97e-12),
    memory_on_soc: Constant::guessed(0.46),
    core: Constant::guessed(0.75),
    leakage_per_k: Constant::guessed(0.0015),
};

const SUPPLY: Supply = Supply {
    volts: Constant::measured(5.16),
    ohm: Constant::measured(0.024),
    weak_ohm: Constant::guessed(0.11),
    limit: Constant::measured(40.0), // curr1_crit 7784 mA
    ripple: Constant::guessed(0.5),
};

const CPU: Cpu = Cpu { cores: 8, policies: &[0, 4], max_khz: 1_984_000 };

const fn mode(
    id: u32,
    name: &'static str,
    cores: u32,
    cpu_khz: Option<u32>,
    gpu_hz: Option<u64>,
) -> Mode {
    Mode { id, name, cores, cpu_khz, gpu_hz, emc_hz: None, tpc_mask: 240 }
}

/// The mode `mode` with two TPCs of the GPU.
const fn halved(mode: Mode) -> Mode {
    Mode { tpc_mask: 252, ..mode }
}

const TEN_WATTS: Mode = Mode {
    emc_hz: Some(2_133_000_000),
    ..halved(mode(1, "10W", 4, Some(1_190_400), Some(612_000_000)))
};

/// Published: `nvpmodel_p3767_0000_super.conf`.
const MODES_16GB_SUPER: [Mode; 5] = [
    mode(0, "MAXN_SUPER", 8, None, None),
    TEN_WATTS,
    halved(mode(2, "15W", 4, Some(1_420_800), Some(612_000_000))),
    mode(3, "25W", 8, Some(1_497_600), Some(408_000_000)),
    mode(4, "40W", 8, Some(1_497_600), Some(1_173_000_000)),
];
/// Published: `nvpmodel_p3767_0001_super.conf`, the 10W and 15W caps as above.
const MODES_8GB_SUPER: [Mode; 5] = [
    mode(0, "MAXN_SUPER", 6, None, None),
    TEN_WATTS,
    halved(mode(2, "15W", 4, Some(1_420_800), Some(612_000_000))),
    mode(3, "20W", 6, Some(1_497_600), Some(408_000_000)),
    mode(4, "40W", 6, Some(1_984_000), Some(1_173_000_000)),
];
/// Published: `nvpmodel_p3767_0000.conf`.
const MODES_16GB: [Mode; 4] = [
    mode(0, "MAXN", 8, None, None),
    TEN_WATTS,
    mode(2, "15W", 4, Some(1_651_200), Some(612_000_000)),
    mode(3, "25W", 8, Some(1_497_600), Some(408_000_000)),
];
/// Names published, caps as above.
const MODES_8GB: [Mode; 4] = [
    mode(0, "MAXN", 6, None, None),
    TEN_WATTS,
    mode(2, "15W", 4, Some(1_651_200), Some(612_000_000)),
    mode(3, "20W", 6, Some(1_497_600), Some(408_000_000)),
];

pub(super) static NX_16GB_SUPER: Module = Module {
    name: "orin-nx-16gb-super",
    identity: Identity {
        part: "p3767-0000",
        carrier: "p3768-0000",
        model: MODEL_SUPER,
        is_super: true,
        nvpmodel: "nvpmodel_p3767_0000_super",
    },
    modes: &MODES_16GB_SUPER,
    default_mode: 4,
    gpu: GPU,
    cpu: CPU,
    memory: MEMORY,
    thermal: THERMAL,
    power: POWER,
    supply: SUPPLY,
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};

pub(super) static NX_16GB: Module = Module {
    name: "orin-nx-16gb",
    identity: Identity {
        part: "p3767-0000",
        carrier: "p3768-0000",
        model: MODEL,
        is_super: false,
        nvpmodel: "nvpmodel_p3767_0000",
    },
    modes: &MODES_16GB,
    default_mode: 2,
    gpu: Gpu { hz: &GPU_16GB, ..GPU },
    cpu: CPU,
    memory: MEMORY,
    thermal: THERMAL,
    power: POWER,
    supply: Supply { limit: Constant::published(30.0), ..SUPPLY },
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};

pub(super) static NX_8GB_SUPER: Module = Module {
    name: "orin-nx-8gb-super",
    identity: Identity {
        part: "p3767-0001",
        carrier: "p3768-0000",
        model: MODEL_SUPER,
        is_super: true,
        nvpmodel: "nvpmodel_p3767_0001_super",
    },
    modes: &MODES_8GB_SUPER,
    default_mode: 4,
    gpu: GPU,
    cpu: Cpu { cores: 6, ..CPU },
    memory: Memory { total_kib: 7_789_952, ..MEMORY }, // as Orin Nano 8 GB
    thermal: THERMAL,
    power: POWER,
    supply: SUPPLY,
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};

pub(super) static NX_8GB: Module = Module {
    name: "orin-nx-8gb",
    identity: Identity {
        part: "p3767-0001",
        carrier: "p3768-0000",
        model: MODEL,
        is_super: false,
        nvpmodel: "nvpmodel_p3767_0001",
    },
    modes: &MODES_8GB,
    default_mode: 2,
    gpu: Gpu { hz: &GPU_8GB, ..GPU },
    cpu: Cpu { cores: 6, ..CPU },
    memory: Memory { total_kib: 7_789_952, ..MEMORY }, // as Orin Nano 8 GB
    thermal: THERMAL,
    power: POWER,
    supply: Supply { limit: Constant::published(25.0), ..SUPPLY },
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};
