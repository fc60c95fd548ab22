//! The boards that a plan can be for: memory, its bandwidth, and what kind of
//! module it is.
//!
//! A board is named (`orin-nx-16gb`), or read from a machine's files, which may
//! be a captured tree. Then the memory is the tree's own and the module is
//! the one that [`jetpack`] finds.

use jetpack::{Bytes, L4t, Machine, Module, Root};
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
    /// Bytes a second that its memory gives, before Super mode and in it;
    /// `None`: nobody has told.
    bandwidth: Option<[Bytes; 2]>,
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

/// What a plan takes a module to be, beside the facts that [`Module`] has.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    /// Part numbers of the modules that a plan does not tell apart.
    skus: &'static [&'static str],
    class: Class,
    memory_kib: u64,
    memory_is: Origin,
}

const MIB: u64 = 1024;

const KINDS: [Kind; 6] = [
    Kind {
        name: "orin-nano-4gb",
        skus: &["p3767-0004"],
        class: Class::Orin4,
        memory_kib: 3496 * MIB,
        memory_is: Origin::Assumed,
    },
    Kind {
        name: "orin-nano-8gb",
        skus: &["p3767-0003", "p3767-0005"],
        class: Class::Orin8,
        memory_kib: 7_789_952,
        memory_is: Origin::Published,
    },
    Kind {
        name: "orin-nx-8gb",
        skus: &["p3767-0001"],
        class: Class::Orin8,
        memory_kib: 7_789_952,
        memory_is: Origin::Assumed,
    },
    Kind {
        name: "orin-nx-16gb",
        skus: &["p3767-0000", "p3767-0002"],
        class: Class::OrinNx16,
        memory_kib: 15_657 * MIB,
        memory_is: Origin::Published,
    },
    Kind {
        name: "agx-orin-32gb",
        skus: &["p3701-0000", "p3701-0004"],
        class: Class::AgxOrin,
        memory_kib: 30 * 1024 * MIB,
        memory_is: Origin::Published,
    },
    Kind {
        name: "agx-orin-64gb",
        skus: &["p3701-0005", "p3701-0008"],
        class: Class::AgxOrin,
        memory_kib: 64_349_016,
        memory_is: Origin::Published,
    },
];

impl Kind {
    /// The first of its modules; a plan takes the others to be like it.
    fn module(&self, is_super: bool) -> Module {
        Module::by_sku(self.skus[0], is_super).expect("every kind's modules are known, see tests")
    }

    /// A plan tells Super mode apart only where the memory is faster in it.
    fn has_super_mode(&self) -> bool {
        self.module(true).memory_bytes_per_s != self.module(false).memory_bytes_per_s
    }
}

/// What the name of a board in Super mode ends with.
const SUPER: &str = "-super";

/// JetPack 6.2 brought Super mode.
const FIRST_SUPER: (u8, u8) = (6, 2);

impl Board {
    /// Every board that has a name.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().flat_map(|kind| {
            let in_super = kind.has_super_mode().then(|| Self::of(kind, true));
            std::iter::once(Self::of(kind, false)).chain(in_super)
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
        let module = Module::of(&found);
        let kind = module.as_ref().and_then(kind_of);
        let (Some(module), Some(kind)) = (module, kind) else {
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
            ..Self::of(kind, module.is_super && kind.has_super_mode())
        };
        Ok((board, found.l4t))
    }

    fn of(kind: &Kind, super_mode: bool) -> Self {
        let speed = |is_super| kind.module(is_super).memory_bytes_per_s;
        Self {
            name: format!("{}{}", kind.name, if super_mode { SUPER } else { "" }),
            class: kind.class,
            memory_bytes: Bytes::from_kib(kind.memory_kib),
            memory_is: kind.memory_is,
            bandwidth: speed(false).zip(speed(true)).map(<[Bytes; 2]>::from),
            super_mode,
            sm: Some(kind.module(super_mode).sm),
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
        let [usual, in_super_mode] = self.bandwidth?;
        let fast = self.super_mode && release.is_some_and(|release| release.version >= FIRST_SUPER);
        Some(if fast { in_super_mode } else { usual }.get())
    }
}

/// What a plan takes a module to be; `None` for one that nobody has planned for.
fn kind_of(module: &Module) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.skus.contains(&module.sku))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_of_known_modules_that_are_alike_to_a_plan() {
        for kind in &KINDS {
            for (sku, is_super) in kind.skus.iter().flat_map(|sku| [(sku, false), (sku, true)]) {
                let module = Module::by_sku(sku, is_super).expect(sku);
                let like = kind.module(is_super);
                let facts = |module: &Module| (module.memory_bytes_per_s, module.memory_gib);
                assert_eq!(facts(&module), facts(&like), "{sku}");
                assert!(Bytes::from_kib(kind.memory_kib).get() >> 30 < module.memory_gib.into());
            }
        }
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
