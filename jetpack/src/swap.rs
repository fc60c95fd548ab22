//! Swap in a file on an NVMe disk, in the place of NVIDIA's compressed memory (zram),
//! which takes of the memory that the model needs.
//!
//! [`plan`] decides from what is there; [`make`] leaves the file whole or not at all.
//! Cards and soldered memory get none: writing wears them out, and swap on them is so slow
//! that the machine seems to stand.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use crate::disk::Disk;
use crate::memory::Sensor;
use crate::program::{Program, ProgramError};
use crate::storage::Storage;
use crate::{Bytes, DiskKind, Root};

/// The file, relative to the root. NVIDIA's zram does not start where it is there: see
/// 50-stoker.conf in nvzramconfig.service.d.
pub const FILE: &str = "var/lib/stoker-swap/swapfile";
/// Its directory.
const DIRECTORY: &str = "var/lib/stoker-swap";
const PART: &str = "var/lib/stoker-swap/swapfile.part";

const GIB: u64 = 1 << 30;
/// The least and the most that is of use: a builder's leftovers fit, and nobody waits for
/// more to be read again.
const SIZES: (Bytes, Bytes) = (Bytes::new(4 * GIB), Bytes::new(8 * GIB));
/// What the disk has to have left for engines and databases.
const LEFT: Bytes = Bytes::new(16 * GIB);
/// Both only write a page or tell the kernel.
const LIMIT: Duration = Duration::from_secs(60);

/// What is known of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub memory: Option<Bytes>,
    pub root: Option<DiskKind>,
    pub available: Option<Bytes>,
    /// Whether our file is there.
    pub file: bool,
    /// Whether it is in use.
    pub used: bool,
    /// Whether pages go somewhere else, other than to compressed memory.
    pub other: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, since all is done.
    Done,
    /// The file is there and is to be used.
    Use,
    Make(Bytes),
    Without(Why),
}

/// Why there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Other,
    Disk,
    Room(Bytes),
    Unknown,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("the machine has swap of its own"),
            Self::Disk => f.write_str("the system is on no NVMe disk, and others wear out by it"),
            Self::Room(size) => {
                write!(f, "{size} of swap would leave less than {LEFT} of the disk")
            }
            Self::Unknown => f.write_str("memory or disk cannot be told"),
        }
    }
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Seen {
    #[must_use]
    pub fn look(root: &Root) -> Self {
        let storage = Storage::read(root);
        let swaps = storage.swap.unwrap_or_default();
        let is_ours = |device: &str| device.strip_prefix('/').unwrap_or(device) == FILE;
        Self {
            memory: Sensor::find(root, true).read().map(|memory| memory.total_bytes).ok(),
            root: storage.root_kind,
            available: Disk::holding(root.as_path()).map(|disk| disk.available_bytes).ok(),
            file: root.has(FILE),
            used: swaps.iter().any(|swap| is_ours(&swap.device)),
            other: swaps.iter().any(|swap| !swap.zram && !is_ours(&swap.device)),
        }
    }
}

/// Half of the memory within bounds, if the disk is of a kind that bears it and has room.
#[must_use]
pub fn plan(seen: &Seen) -> Plan {
    if seen.used {
        return Plan::Done;
    }
    if seen.file {
        return Plan::Use;
    }
    if seen.other {
        return Plan::Without(Why::Other);
    }
    let (Some(memory), Some(root), Some(available)) = (seen.memory, seen.root, seen.available)
    else {
        return Plan::Without(Why::Unknown);
    };
    if root != DiskKind::Nvme {
        return Plan::Without(Why::Disk);
    }
    // The kernel keeps a part of what is soldered for itself.
    let half = Bytes::new((memory.get() / 2).div_ceil(GIB) * GIB);
    let size = half.clamp(SIZES.0, SIZES.1);
    match available.saturating_sub(size) >= LEFT {
        true => Plan::Make(size),
        false => Plan::Without(Why::Room(size)),
    }
}

/// Makes the file, unless the power fails: then the next boot begins again.
///
/// # Errors
/// The disk is full, or the system's tool fails. Nothing is left then.
pub fn make(root: &Root, size: Bytes) -> Result<(), SwapError> {
    let part = root.path(PART);
    let written =
        write(root, size).map_err(|source| SwapError::Write { path: part.clone(), source });
    let made = written.and_then(|()| {
        program(root, "sbin/mkswap").run_well(&[part.as_os_str()])?;
        keep(root).map_err(|source| SwapError::Write { path: root.path(FILE), source })
    });
    if made.is_err() {
        let _ = fs::remove_file(&part);
    }
    made
}

/// Has the kernel use it.
///
/// # Errors
/// The system's tool fails.
pub fn enable(root: &Root) -> Result<(), SwapError> {
    let file = root.path(FILE);
    program(root, "sbin/swapon").run_well(&[file.as_os_str()])?;
    Ok(())
}

fn program(root: &Root, name: &str) -> Program {
    Program { path: root.path(name), limit: LIMIT }
}

fn write(root: &Root, size: Bytes) -> io::Result<()> {
    let (directory, part) = (root.path(DIRECTORY), root.path(PART));
    // Nobody else reads what was in memory.
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(&part)?;
    let length = i64::try_from(size.get()).map_err(io::Error::other)?;
    nix::fcntl::posix_fallocate(&file, 0, length)?;
    file.sync_all()
}

fn keep(root: &Root) -> io::Result<()> {
    let (part, file) = (root.path(PART), root.path(FILE));
    File::open(&part)?.sync_all()?;
    fs::rename(&part, &file)?;
    File::open(root.path(DIRECTORY))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tree;

    fn gib(count: u64) -> Bytes {
        Bytes::new(count * GIB)
    }

    fn nano() -> Seen {
        Seen {
            memory: Some(Bytes::from_kib(7_789_952)),
            root: Some(DiskKind::Nvme),
            available: Some(gib(200)),
            file: false,
            used: false,
            other: false,
        }
    }

    #[test]
    fn half_of_the_memory_on_nvme_alone() {
        let of = |memory| plan(&Seen { memory: Some(memory), ..nano() });
        assert_eq!(plan(&nano()), Plan::Make(gib(4)));
        assert_eq!(of(Bytes::from_kib(16_032_768)), Plan::Make(gib(8)));
        assert_eq!((of(gib(2)), of(gib(62))), (Plan::Make(gib(4)), Plan::Make(gib(8))));
        for kind in [DiskKind::SdCard, DiskKind::Emmc, DiskKind::Other] {
            let seen = Seen { root: Some(kind), ..nano() };
            assert_eq!(plan(&seen), Plan::Without(Why::Disk), "{kind:?}");
        }
        assert_eq!(plan(&Seen { root: None, ..nano() }), Plan::Without(Why::Unknown));
    }

    #[test]
    fn engines_keep_their_room() {
        let with = |available| plan(&Seen { available: Some(available), ..nano() });
        assert_eq!(with(gib(20)), Plan::Make(gib(4)));
        let one_less = Bytes::new(20 * GIB - 1);
        assert_eq!(with(one_less), Plan::Without(Why::Room(gib(4))));
        assert_eq!(with(Bytes::new(0)), Plan::Without(Why::Room(gib(4))));
    }

    #[test]
    fn what_is_there_is_used_and_what_is_others_is_left() {
        let there = Seen { file: true, ..nano() };
        assert_eq!(plan(&there), Plan::Use);
        assert_eq!(plan(&Seen { used: true, ..there }), Plan::Done);
        assert_eq!(plan(&Seen { other: true, ..nano() }), Plan::Without(Why::Other));
    }

    #[test]
    fn a_board_as_it_is_sold_is_seen() {
        let tree = tree::orin_nano();
        let seen = Seen::look(&tree.root());
        assert_eq!(seen, Seen { available: seen.available, ..nano() });
        let ours = format!("Filename Type Size Used Priority\n/{FILE} file 4194300 0 -2\n");
        tree.write("proc/swaps", ours);
        assert!(Seen::look(&tree.root()).used);
        tree.write("proc/swaps", "Filename Type Size Used Priority\n/swapfile file 4194300 0 -2\n");
        assert!(Seen::look(&tree.root()).other);
    }

    fn tool(tree: &tree::Tree, text: &str) {
        tree.write("sbin/mkswap", format!("#!/bin/sh\n{text}\n"));
        let path = tree.path().join("sbin/mkswap");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_file_is_whole_or_not_there() {
        let tree = tree::of(&[(PART, "of a boot that was cut")]);
        let root = tree.root();
        let size = Bytes::from_kib(64);
        tool(&tree, "exit 1");
        assert!(matches!(make(&root, size), Err(SwapError::Program(_))));
        assert_eq!(fs::read_dir(root.path(DIRECTORY)).unwrap().count(), 0);
        // No disk has as much.
        assert!(matches!(make(&root, Bytes::new(1 << 55)), Err(SwapError::Write { .. })));
        assert_eq!(fs::read_dir(root.path(DIRECTORY)).unwrap().count(), 0);
        tool(&tree, "printf SWAPSPACE2 | dd of=\"$1\" conv=notrunc status=none");
        make(&root, size).unwrap();
        let made = fs::metadata(root.path(FILE)).unwrap();
        assert_eq!((made.len(), made.permissions().mode() & 0o777), (64 * 1024, 0o600));
        assert!(fs::read(root.path(FILE)).unwrap().starts_with(b"SWAPSPACE2"));
        assert_eq!(fs::read_dir(root.path(DIRECTORY)).unwrap().count(), 1);
    }
}
