//! Orin Nano on its developer kit's carrier (p3768) with the stock heat sink and
//! fan. It is the best measured of all modules; the 4 GB one is a guess from it.

use super::{Cpu, Gpu, Identity, Memory, Mode, Module, Power, Supply, Thermal};
use crate::constant::Constant;
use crate::fan::{P3767_COOL, P3767_QUIET};

const MODEL: &str = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit";
const MODEL_SUPER: &str = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super";

/// Published: `available_frequencies`.
const GPU_SUPER: [u64; 8] = [
    306_000_000,
    408_000_000,
    510_000_000,
    612_000_000,
    714_000_000,
    816_000_000,
    918_000_000,
    1_020_000_000,
];
/// Published: the same below the plain firmware's cap.
const GPU_PLAIN: [u64; 5] = [306_000_000, 408_000_000, 510_000_000, 612_000_000, 624_750_000];

const GPU: Gpu = Gpu {
    hz: &GPU_SUPER,
    design_hz: 1_020_000_000,
    tpcs: 4,
    // At 918 MHz clocks and memory bind alike, so that 11 % more clock gives the
    // 5 % more tokens that MAXN_SUPER was measured to give over 25W.
    stream_bytes_per_clock: Constant::fitted(18.1),
    // 3B: 629 tokens/s of prompt at 612 MHz.
    prefill_flop_per_clock: Constant::fitted(1725.0),
    // Eight sequences then give 5 times the tokens of one. Nothing is published
    // for Orin; Thor was measured at 4.7 times.
    decode_flop_per_clock: Constant::guessed(860.0),
    launch_s: Constant::guessed(2.3e-3),
};

const MEMORY: Memory = Memory {
    total_kib: 7_789_952, // measured on 36.5
    system_bytes: Constant::measured(1.4e9),
    bytes_per_clock: Constant::published(32.0),
    // llama.cpp's kernels; NVIDIA's own reach 0.8.
    efficiency: Constant::fitted(0.65),
    emc_hz: 3_199_000_000,
};

const THERMAL: Thermal = Thermal {
    die_to_sink: Constant::guessed(0.3),
    // 9.1 W settle at 99 °C and 7.2 W at 85 °C with the fan off.
    sink_to_still_air: Constant::fitted(7.8),
    // 4.5 to 20 W rise by 1.5 K/W with a fast fan.
    sink_to_moved_air: Constant::fitted(1.2),
    // 9 W settle at 56 °C with 2000 turns.
    fan_scale_rpm: Constant::fitted(1200.0),
    // A time constant of 2 s.
    die_capacity: Constant::guessed(6.7),
    // A time constant of 396 s with the fan off.
    sink_capacity: Constant::fitted(49.0),
};

const POWER: Power = Power {
    idle: Constant::measured(4.6),
    idle_cpu_gpu: Constant::measured(0.56),
    idle_soc: Constant::measured(1.48),
    awake: Constant::guessed(0.8),
    // FP32 at 1020 MHz takes 6.2 W more on the rail of CPU and GPU.
    gpu_per_mhz: Constant::fitted(4.22e-3),
    tensor: Constant::guessed(0.5),
    // SOC and DRAM take 7.8 W more when about 80 GB/s flow.
    per_byte: Constant::fitted(97e-12),
    memory_on_soc: Constant::fitted(0.46),
    // Six busy cores take 3.8 W more.
    core: Constant::measured(0.63),
    // 0.5 W from 40 to 80 °C.
    leakage_per_k: Constant::measured(0.0015),
};

const SUPPLY: Supply = Supply {
    volts: Constant::measured(5.06),
    // 5160 mV fall to 5016 mV at 6 A.
    ohm: Constant::measured(0.024),
    weak_ohm: Constant::guessed(0.15),
    limit: Constant::measured(25.0), // curr1_crit 4984 mA
    ripple: Constant::fitted(0.5),
};

const CPU: Cpu = Cpu { cores: 6, policies: &[0, 4], max_khz: 1_728_000 };

const fn mode(
    id: u32,
    name: &'static str,
    cores: u32,
    cpu_khz: Option<u32>,
    gpu_hz: Option<u64>,
    emc_hz: Option<u64>,
) -> Mode {
    Mode { id, name, cores, cpu_khz, gpu_hz, emc_hz, tpc_mask: 240 }
}

/// Published: `nvpmodel_p3767_0003_super.conf`.
const MODES_8GB_SUPER: [Mode; 3] = [
    mode(0, "15W", 6, Some(1_497_600), Some(612_000_000), Some(2_133_000_000)),
    mode(1, "25W", 6, Some(1_344_000), Some(918_000_000), Some(3_199_000_000)),
    mode(2, "MAXN_SUPER", 6, None, None, None),
];
/// Published: `nvpmodel_p3767_0003.conf`.
const MODES_8GB: [Mode; 2] = [
    mode(0, "15W", 6, Some(1_510_400), Some(624_750_000), Some(2_133_000_000)),
    mode(1, "7W", 4, Some(960_000), Some(408_000_000), Some(2_133_000_000)),
];
/// Published: `nvpmodel_p3767_0004_super.conf`.
const MODES_4GB_SUPER: [Mode; 3] = [
    Mode { tpc_mask: 252, ..MODES_8GB_SUPER[0].named("10W") },
    Mode { tpc_mask: 252, ..mode(1, "25W", 6, Some(1_728_000), Some(1_020_000_000), None) },
    Mode { tpc_mask: 252, ..MODES_8GB_SUPER[2] },
];
/// Names published, the two modes' caps guessed.
const MODES_4GB: [Mode; 3] = [
    Mode { tpc_mask: 252, ..MODES_8GB[0].named("10W") },
    Mode { tpc_mask: 252, ..MODES_8GB[1].named("7W_AI") },
    Mode {
        tpc_mask: 252,
        ..mode(2, "7W_CPU", 6, Some(960_000), Some(306_000_000), Some(2_133_000_000))
    },
];

impl Mode {
    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

pub(super) static NANO_8GB_SUPER: Module = Module {
    name: "orin-nano-8gb-super",
    identity: Identity {
        part: "p3767-0005",
        carrier: "p3768-0000",
        model: MODEL_SUPER,
        is_super: true,
        nvpmodel: "nvpmodel_p3767_0003_super",
    },
    modes: &MODES_8GB_SUPER,
    default_mode: 1,
    gpu: GPU,
    cpu: CPU,
    memory: MEMORY,
    thermal: THERMAL,
    power: POWER,
    supply: SUPPLY,
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};

pub(super) static NANO_8GB: Module = Module {
    name: "orin-nano-8gb",
    identity: Identity {
        part: "p3767-0005",
        carrier: "p3768-0000",
        model: MODEL,
        is_super: false,
        nvpmodel: "nvpmodel_p3767_0003",
    },
    modes: &MODES_8GB,
    default_mode: 0,
    gpu: Gpu { hz: &GPU_PLAIN, ..GPU },
    cpu: Cpu { max_khz: 1_510_400, ..CPU },
    memory: Memory { emc_hz: 2_133_000_000, ..MEMORY },
    thermal: THERMAL,
    power: POWER,
    supply: Supply { limit: Constant::published(20.0), ..SUPPLY },
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};

pub(super) static NANO_4GB_SUPER: Module = Module {
    name: "orin-nano-4gb-super",
    identity: Identity {
        part: "p3767-0004",
        carrier: "p3768-0000",
        model: MODEL_SUPER,
        is_super: true,
        nvpmodel: "nvpmodel_p3767_0004_super",
    },
    modes: &MODES_4GB_SUPER,
    default_mode: 1,
    gpu: Gpu { tpcs: 2, ..GPU },
    cpu: CPU,
    // Half the memory bus.
    memory: Memory {
        total_kib: 3_800_000, // guessed
        bytes_per_clock: Constant::published(16.0),
        ..MEMORY
    },
    thermal: THERMAL,
    power: Power { gpu_per_mhz: Constant::guessed(2.11e-3), ..POWER },
    supply: SUPPLY,
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};

pub(super) static NANO_4GB: Module = Module {
    name: "orin-nano-4gb",
    identity: Identity {
        part: "p3767-0004",
        carrier: "p3768-0000",
        model: MODEL,
        is_super: false,
        nvpmodel: "nvpmodel_p3767_0004",
    },
    modes: &MODES_4GB,
    default_mode: 0,
    gpu: Gpu { hz: &GPU_PLAIN, tpcs: 2, ..GPU },
    cpu: Cpu { max_khz: 1_510_400, ..CPU },
    memory: Memory {
        total_kib: 3_800_000, // guessed
        bytes_per_clock: Constant::published(16.0),
        emc_hz: 2_133_000_000,
        ..MEMORY
    },
    thermal: THERMAL,
    power: Power { gpu_per_mhz: Constant::guessed(2.11e-3), ..POWER },
    supply: Supply { limit: Constant::published(15.0), ..SUPPLY },
    quiet: &P3767_QUIET,
    cool: &P3767_COOL,
};
