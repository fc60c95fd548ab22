//! The Orin modules: what each is called and what it can do.
//!
//! A module is known by its part number in the device tree's `compatible`,
//! never by `model`. What is not documented of a module is `None`.

use serde::Serialize;

use crate::{Board, Hertz};

/// What is known of the module that this board carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Part number and variant, for example `p3767-0005`.
    pub sku: &'static str,
    pub name: &'static str,
    /// Whether the device tree is the one that allows the higher power modes.
    #[serde(rename = "super")]
    pub is_super: bool,
    pub cores: u32,
    /// Memory that is sold with it; the kernel keeps some for itself.
    pub memory_gib: u32,
    /// The highest clock of its GPU. One that is lower is capped by firmware.
    pub gpu_top_hertz: Option<Hertz>,
    /// The power mode with the most tokens a joule.
    pub best_mode: Option<BestMode>,
}

/// A power mode and how sure it is that it is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BestMode {
    pub name: &'static str,
    pub basis: Basis,
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Somebody measured this module in its modes.
    Measured,
    /// Follows from what was measured of the same chip at the clock that this
    /// mode allows.
    Inferred,
}

/// One row of the table.
#[derive(Debug)]
struct Row {
    sku: &'static str,
    name: &'static str,
    cores: u32,
    memory_gib: u32,
    /// In kilohertz, without and with the higher power modes.
    gpu_top: [Option<u64>; 2],
    best: [Option<BestMode>; 2],
}

const fn measured(name: &'static str) -> Option<BestMode> {
    Some(BestMode { name, basis: Basis::Measured })
}

const fn inferred(name: &'static str) -> Option<BestMode> {
    Some(BestMode { name, basis: Basis::Inferred })
}

const NANO_TOP: [Option<u64>; 2] = [Some(624_750), Some(1_020_000)];
const NX16_TOP: [Option<u64>; 2] = [Some(918_000), Some(1_173_000)];
const AGX64_TOP: [Option<u64>; 2] = [Some(1_300_500), None];

const TABLE: [Row; 11] = [
    row("p3767-0000", "Jetson Orin NX 16GB", 8, 16, NX16_TOP, [None, inferred("40W")]),
    row("p3767-0001", "Jetson Orin NX 8GB", 6, 8, [None, Some(1_173_000)], [None, inferred("40W")]),
    row("p3767-0002", "Jetson Orin NX 16GB", 8, 16, NX16_TOP, [None, inferred("40W")]),
    row("p3767-0003", "Jetson Orin Nano 8GB", 6, 8, NANO_TOP, [inferred("15W"), measured("25W")]),
    row("p3767-0004", "Jetson Orin Nano 4GB", 6, 4, NANO_TOP, [inferred("10W"), inferred("25W")]),
    row("p3767-0005", "Jetson Orin Nano 8GB", 6, 8, NANO_TOP, [inferred("15W"), measured("25W")]),
    row("p3701-0000", "Jetson AGX Orin 32GB", 12, 32, AGX64_TOP, [inferred("50W"), None]),
    row("p3701-0002", "IGX Orin", 12, 64, [None, None], [None, None]),
    row(
        "p3701-0004",
        "Jetson AGX Orin 32GB",
        8,
        32,
        [Some(930_750), None],
        [inferred("40W"), None],
    ),
    row("p3701-0005", "Jetson AGX Orin 64GB", 12, 64, AGX64_TOP, [inferred("50W"), None]),
    row("p3701-0008", "Jetson AGX Orin Industrial", 12, 64, [None, None], [None, None]),
];

const fn row(
    sku: &'static str,
    name: &'static str,
    cores: u32,
    memory_gib: u32,
    gpu_top: [Option<u64>; 2],
    best: [Option<BestMode>; 2],
) -> Row {
    Row { sku, name, cores, memory_gib, gpu_top, best }
}

impl Module {
    pub(crate) fn of(board: &Board) -> Option<Self> {
        let names = || {
            let nvidia = board.compatible.iter().filter_map(|name| name.strip_prefix("nvidia,"));
            nvidia.flat_map(|names| names.split('+'))
        };
        // The carrier's name stands before the module's.
        let row = TABLE.iter().find(|row| {
            names().any(|name| name.strip_suffix("-super").unwrap_or(name) == row.sku)
        })?;
        let is_super = names().any(|name| name.ends_with("-super"));
        Some(Self {
            sku: row.sku,
            name: row.name,
            is_super,
            cores: row.cores,
            memory_gib: row.memory_gib,
            gpu_top_hertz: row.gpu_top[usize::from(is_super)].map(Hertz::from_kilohertz),
            best_mode: row.best[usize::from(is_super)],
        })
    }

    /// The name that `model` should contain, for example `Orin Nano`.
    #[must_use]
    pub fn family(&self) -> &'static str {
        ["AGX Orin", "Orin NX", "Orin Nano"]
            .into_iter()
            .find(|family| self.name.contains(family))
            .unwrap_or("Orin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    fn module(names: &[&str]) -> Option<Module> {
        let compatible = names.iter().map(ToString::to_string).collect();
        Module::of(&Board { compatible, ..Board::default() })
    }

    #[test]
    fn every_module_is_known_with_and_without_its_higher_modes() {
        for row in &TABLE {
            let plain = format!("nvidia,p3768-0000+{}", row.sku);
            let name = format!("nvidia,{}", row.sku);
            let module_of = |first: &str| module(&[first, &name, "nvidia,tegra234"]).unwrap();
            assert_eq!((module_of(&plain).sku, module_of(&plain).is_super), (row.sku, false));
            let module = module_of(&format!("{plain}-super"));
            assert_eq!((module.sku, module.is_super), (row.sku, true));
        }
    }

    #[test]
    fn a_board_s_model_does_not_matter() {
        let tree = tree::orin_nano_jetpack_7();
        let module = Module::of(&Board::read(&tree.root())).unwrap();
        assert_eq!((module.name, module.family()), ("Jetson Orin Nano 8GB", "Orin Nano"));
        assert_eq!(module.gpu_top_hertz, Some(Hertz::from_kilohertz(1_020_000)));
        assert_eq!(module.best_mode, measured("25W"));
        assert_eq!(Module::of(&Board::default()), None);
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(name in "(nvidia,|p3767|-000[0-9]|-super|\\+|x){0,6}") {
            let _ = module(&[&name]);
        }
    }
}
