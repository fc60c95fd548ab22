//! The boards that a plan can be for: memory, its bandwidth, and what kind of
//! module it is.
//!
//! A board is named (`orin-nx-16gb`), or read from a machine's files, which may
//! be a captured tree. Then the memory is the tree's own and the module is
//! found by its device tree's `compatible`.

use jetpack::{Bytes, L4t, Machine, Root};
use serde::Serialize;

use super::release::Release;
use crate::catalogue::nearest;
use crate::error::Error;

/// A board as a plan sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Board {
    pub name: String,
    pub class: Class,
    /// Main memory as Linux counts it, which is also the GPU's.
    pub memory_bytes: Bytes,
    pub memory_is: Origin,
    /// `None`: nobody has told.
    bandwidth: Option<Bandwidth>,
    /// Whether the module is flashed for Super mode.
    pub super_mode: bool,
    /// CUDA compute capability without its dot.
    pub sm: Option<u32>,
}

/// What decides which backends are worth trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    AgxOrin,
    /// Orin NX with 16 GB.
    OrinNx16,
    /// Orin NX or Nano with 8 GB.
    Orin8,
    /// Orin Nano with 4 GB.
    Orin4,
    /// No Jetson: llama.cpp on the processor.
    Pc,
}

/// Where a board's memory size comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// This board's own `/proc/meminfo`.
    Measured,
    /// A `/proc/meminfo` that was published for such a board.
    Published,
    /// The module's size, less what its siblings keep for firmware.
    Assumed,
}

/// NVIDIA's figures for the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Bandwidth {
    usual_mb_per_s: u32,
    in_super_mode_mb_per_s: u32,
}

/// One row of the table of modules.
struct Module {
    name: &'static str,
    /// `nvidia,…` names of the device tree.
    compatible: &'static [&'static str],
    class: Class,
    memory_kib: u64,
    memory_is: Origin,
    bandwidth: Bandwidth,
    has_super_mode: bool,
}

const fn mb_per_s(usual_mb_per_s: u32, in_super_mode_mb_per_s: u32) -> Bandwidth {
    Bandwidth { usual_mb_per_s, in_super_mode_mb_per_s }
}

const MIB: u64 = 1024;
/// Every Orin: Ampere with compute capability 8.7.
const ORIN_SM: u32 = 87;

const MODULES: [Module; 6] = [
    Module {
        name: "orin-nano-4gb",
        compatible: &["p3767-0004"],
        class: Class::Orin4,
        memory_kib: 3496 * MIB,
        memory_is: Origin::Assumed,
        bandwidth: mb_per_s(34_000, 51_000),
        has_super_mode: true,
    },
    Module {
        name: "orin-nano-8gb",
        compatible: &["p3767-0003", "p3767-0005"],
        class: Class::Orin8,
        memory_kib: 7_789_952,
        memory_is: Origin::Published,
        bandwidth: mb_per_s(68_000, 102_000),
        has_super_mode: true,
    },
    Module {
        name: "orin-nx-8gb",
        compatible: &["p3767-0001"],
        class: Class::Orin8,
        memory_kib: 7_789_952,
        memory_is: Origin::Assumed,
        bandwidth: mb_per_s(102_400, 102_400),
        has_super_mode: false,
    },
    Module {
        name: "orin-nx-16gb",
        compatible: &["p3767-0000", "p3767-0002"],
        class: Class::OrinNx16,
        memory_kib: 15_657 * MIB,
        memory_is: Origin::Published,
        bandwidth: mb_per_s(102_400, 102_400),
        has_super_mode: false,
    },
    Module {
        name: "agx-orin-32gb",
        compatible: &["p3701-0000", "p3701-0004"],
        class: Class::AgxOrin,
        memory_kib: 30 * 1024 * MIB,
        memory_is: Origin::Published,
        bandwidth: mb_per_s(204_800, 204_800),
        has_super_mode: false,
    },
    Module {
        name: "agx-orin-64gb",
        compatible: &["p3701-0005", "p3701-0008"],
        class: Class::AgxOrin,
        memory_kib: 64_349_016,
        memory_is: Origin::Published,
        bandwidth: mb_per_s(204_800, 204_800),
        has_super_mode: false,
    },
];

/// What the name of a module in Super mode ends with, and its `compatible`.
const SUPER: &str = "-super";

/// JetPack 6.2 brought Super mode.
const FIRST_SUPER: (u8, u8) = (6, 2);

impl Board {
    /// Every board that has a name.
    pub fn all() -> impl Iterator<Item = Self> {
        MODULES.iter().flat_map(|module| {
            let in_super = module.has_super_mode.then(|| Self::of(module, true));
            std::iter::once(Self::of(module, false)).chain(in_super)
        })
    }

    /// The board of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] with the nearest names.
    pub fn named(name: &str) -> Result<Self, Error> {
        let mut boards = Self::all();
        boards.find(|board| board.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|board| board.name).collect();
            let near = nearest(name, names.iter().map(String::as_str));
            let offer = if near.is_empty() { names } else { near };
            Error::Usage(format!(
                "there is no board {name:?}; there are {}, or name a directory",
                offer.join(", ")
            ))
        })
    }

    /// The machine below `root`, with the release that runs on it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if its memory cannot be told, or it is a Jetson
    /// that is not in the table.
    pub fn read(root: Root) -> Result<(Self, Option<L4t>), Error> {
        let place = root.as_path().display().to_string();
        let mut machine = Machine::open(root);
        let found = machine.board().clone();
        let memory = machine.sample().memory.map(|memory| memory.total_bytes);
        let memory = memory
            .ok_or_else(|| Error::Unsupported(format!("{place} does not tell its memory")))?;
        let Some((module, super_mode)) = module_of(&found.compatible) else {
            if found.is_tegra() {
                let names = found.compatible.join(", ");
                let what = format!("{place} is a Jetson that is not known here: {names}");
                return Err(Error::Unsupported(what));
            }
            return Ok((Self::pc(memory), None));
        };
        let board = Self {
            memory_bytes: memory,
            memory_is: Origin::Measured,
            ..Self::of(module, super_mode && module.has_super_mode)
        };
        Ok((board, found.l4t))
    }

    fn of(module: &Module, super_mode: bool) -> Self {
        Self {
            name: format!("{}{}", module.name, if super_mode { SUPER } else { "" }),
            class: module.class,
            memory_bytes: Bytes::from_kib(module.memory_kib),
            memory_is: module.memory_is,
            bandwidth: Some(module.bandwidth),
            super_mode,
            sm: Some(ORIN_SM),
        }
    }

    /// A machine without a Jetson's GPU, of so much memory.
    #[must_use]
    pub fn pc(memory: Bytes) -> Self {
        Self {
            name: "pc".into(),
            class: Class::Pc,
            memory_bytes: memory,
            memory_is: Origin::Measured,
            bandwidth: None,
            super_mode: false,
            sm: None,
        }
    }

    /// The same board with so much memory.
    #[must_use]
    pub fn with_memory(self, memory: Bytes) -> Self {
        Self { memory_bytes: memory, ..self }
    }

    /// Bytes a second that its memory gives at most, by NVIDIA's figures; `None`
    /// if nobody has told.
    #[must_use]
    pub fn bytes_per_s(&self, release: Option<&Release>) -> Option<u64> {
        let bandwidth = self.bandwidth?;
        let fast = self.super_mode && release.is_some_and(|release| release.version >= FIRST_SUPER);
        let mb = if fast { bandwidth.in_super_mode_mb_per_s } else { bandwidth.usual_mb_per_s };
        Some(u64::from(mb) * 1_000_000)
    }
}

/// The module that a device tree names, and whether it is flashed for Super mode.
fn module_of(compatible: &[String]) -> Option<(&'static Module, bool)> {
    let parts = || {
        compatible
            .iter()
            .filter_map(|name| name.strip_prefix("nvidia,"))
            .flat_map(|name| name.split('+'))
    };
    let module = MODULES.iter().find(|module| {
        parts().any(|part| module.compatible.contains(&part.trim_end_matches(SUPER)))
    })?;
    Some((module, parts().any(|part| part.ends_with(SUPER))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_device_tree() {
        let find = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            module_of(&names).map(|(module, in_super)| (module.name, in_super))
        };
        let nano = ["nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"];
        assert_eq!(find(&nano), Some(("orin-nano-8gb", true)));
        let agx = ["nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"];
        assert_eq!(find(&agx), Some(("agx-orin-64gb", false)));
        assert_eq!(find(&["nvidia,p3834-0008", "nvidia,tegra264"]), None);
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn super_mode_is_faster_from_its_release_on() {
        let release = |name| Release::named(name).unwrap();
        let board = Board::named("orin-nano-8gb-super").unwrap();
        assert_eq!(board.bytes_per_s(Some(&release("6.1"))), Some(68_000_000_000));
        assert_eq!(board.bytes_per_s(Some(&release("6.2"))), Some(102_000_000_000));
        assert_eq!(Board::pc(Bytes::new(1)).bytes_per_s(None), None);
    }

    #[test]
    fn an_unknown_board_is_answered_with_the_nearest() {
        let error = Board::named("orin-nano-8").unwrap_err().to_string();
        assert!(error.contains("there are orin-nano-8gb, "), "{error}");
        assert!(Board::named("zzz").unwrap_err().to_string().contains("agx-orin-64gb"));
    }
}
