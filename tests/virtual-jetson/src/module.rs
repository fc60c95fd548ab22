//! The modules: what each one is made of, as numbers.
//!
//! The tables are in `nano`, `nx` and `agx`. A number that nobody has
//! published or measured for a module stands there as a guess.

mod agx;
mod nano;
mod nx;

use crate::constant::Constant;
use crate::dice::Dice;
use crate::fan::Curve;

/// Every thermal constant of a variant is off by at most this share.
const SPREAD: f64 = 0.2;

/// One module on its developer kit's carrier, with its own heat sink and fan.
#[derive(Debug, Clone)]
pub struct Module {
    /// For people and command lines, for example `orin-nano-8gb-super`.
    pub name: &'static str,
    pub identity: Identity,
    pub modes: &'static [Mode],
    /// The mode after the first boot.
    pub default_mode: u32,
    pub gpu: Gpu,
    pub cpu: Cpu,
    pub memory: Memory,
    pub thermal: Thermal,
    pub power: Power,
    pub supply: Supply,
    pub quiet: &'static Curve,
    pub cool: &'static Curve,
}

/// What the device tree says.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// Part and SKU, for example `p3767-0005`.
    pub part: &'static str,
    pub carrier: &'static str,
    pub model: &'static str,
    pub is_super: bool,
    /// The power-mode file's name without its ending.
    pub nvpmodel: &'static str,
}

/// A power mode of nvpmodel. `None`: what the hardware can.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mode {
    pub id: u32,
    pub name: &'static str,
    pub cores: u32,
    pub cpu_khz: Option<u32>,
    pub gpu_hz: Option<u64>,
    pub emc_hz: Option<u64>,
    /// Each set bit takes one TPC (two SMs) of the GPU away.
    pub tpc_mask: u32,
}

#[derive(Debug, Clone)]
pub struct Gpu {
    /// All clocks it can be set to, ascending.
    pub hz: &'static [u64],
    /// The clock that the silicon is made for, whatever the firmware allows.
    pub design_hz: u64,
    /// TPCs when none is taken away.
    pub tpcs: u32,
    /// Bytes of weights that one TPC gets through in a clock.
    pub stream_bytes_per_clock: Constant,
    /// Operations that one TPC does in a clock on long prompts.
    pub prefill_flop_per_clock: Constant,
    /// The same on the few rows of a decode step.
    pub decode_flop_per_clock: Constant,
    /// What a step takes beside that: launches, sampling, the CPU's part.
    pub launch_s: Constant,
}

#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub cores: u32,
    /// First core of each frequency domain.
    pub policies: &'static [u32],
    pub max_khz: u32,
}

#[derive(Debug, Clone)]
pub struct Memory {
    pub total_kib: u64,
    /// What a headless system takes.
    pub system_bytes: Constant,
    /// Bytes for each cycle of the memory's clock, at best.
    pub bytes_per_clock: Constant,
    /// The share of that which weights are read with.
    pub efficiency: Constant,
    pub emc_hz: u64,
}

/// Two nodes: the die, and the heat sink between it and the air.
#[derive(Debug, Clone)]
pub struct Thermal {
    /// K/W.
    pub die_to_sink: Constant,
    /// K/W with the fan off.
    pub sink_to_still_air: Constant,
    /// K/W that ever more turns of the fan come near to.
    pub sink_to_moved_air: Constant,
    /// Turns a minute after which the difference has fallen to 1/e.
    pub fan_scale_rpm: Constant,
    /// J/K.
    pub die_capacity: Constant,
    /// J/K.
    pub sink_capacity: Constant,
}

#[derive(Debug, Clone)]
pub struct Power {
    /// W at rest, at 40 °C.
    pub idle: Constant,
    /// W of that on the rails of CPU and GPU, and of the SoC.
    pub idle_cpu_gpu: Constant,
    pub idle_soc: Constant,
    /// W more once GPU and memory run at their clocks.
    pub awake: Constant,
    /// W for each MHz of a GPU that streams at its lowest voltage.
    pub gpu_per_mhz: Constant,
    /// How much more it takes where tensor cores work all the time, as a share.
    pub tensor: Constant,
    /// J for each byte that goes to or comes from memory.
    pub per_byte: Constant,
    /// The share of that which is on the SoC's rail.
    pub memory_on_soc: Constant,
    /// W of a busy core at its highest clock.
    pub core: Constant,
    /// Growth of everything by leakage, for each K above 40 °C.
    pub leakage_per_k: Constant,
}

#[derive(Debug, Clone)]
pub struct Supply {
    pub volts: Constant,
    /// Ω of adapter, cable and connector.
    pub ohm: Constant,
    /// The same of a bad one.
    pub weak_ohm: Constant,
    /// W beyond which peaks count as over-current (OC3).
    pub limit: Constant,
    /// How far a peak stands above the mean at the highest GPU clock, as a share.
    pub ripple: Constant,
}

/// Super variants after their plain ones.
const ALL: [&Module; 10] = [
    &nano::NANO_4GB,
    &nano::NANO_4GB_SUPER,
    &nano::NANO_8GB,
    &nano::NANO_8GB_SUPER,
    &nx::NX_8GB,
    &nx::NX_8GB_SUPER,
    &nx::NX_16GB,
    &nx::NX_16GB_SUPER,
    &agx::AGX_32GB,
    &agx::AGX_64GB,
];

impl Module {
    /// All modules that there are.
    #[must_use]
    pub fn all() -> &'static [&'static Self] {
        &ALL
    }

    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|module| module.name == name)
    }

    /// The same module from another production run: every thermal constant is
    /// off by up to a fifth.
    #[must_use]
    pub fn variant(&self, seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let mut module = self.clone();
        let thermal = &mut module.thermal;
        for constant in [
            &mut thermal.die_to_sink,
            &mut thermal.sink_to_still_air,
            &mut thermal.sink_to_moved_air,
            &mut thermal.fan_scale_rpm,
            &mut thermal.die_capacity,
            &mut thermal.sink_capacity,
            &mut module.power.leakage_per_k,
        ] {
            *constant = constant.drawn(dice, SPREAD);
        }
        module
    }

    /// The mode with this number.
    #[must_use]
    pub fn mode(&self, id: u32) -> Option<&'static Mode> {
        self.modes.iter().find(|mode| mode.id == id)
    }

    /// Whether this is an AGX module: other rails, other zones.
    #[must_use]
    pub fn is_agx(&self) -> bool {
        self.identity.part.starts_with("p3701")
    }

    /// The highest clock that the GPU can be set to.
    #[must_use]
    pub fn gpu_max_hz(&self) -> u64 {
        self.gpu.hz[self.gpu.hz.len() - 1]
    }
}

impl Mode {
    /// TPCs that are left of `all`.
    pub(crate) fn tpcs(&self, all: u32) -> u32 {
        all - (self.tpc_mask & ((1 << all) - 1)).count_ones()
    }
}
