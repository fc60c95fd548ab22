//! The last file system of a disk, grown at the first boot to what the disk has: an image is
//! made for the smallest one that it may be put on. That is the root's, or with two systems
//! the one for what both use.
//!
//! [`plan`] decides from what the kernel says of the partitions, and nothing is moved: only
//! a partition behind which nothing lies grows. The system's own tools do it, and both can
//! be done again after a power cut. On a Jetson NVIDIA's script has done so before us, and
//! there is nothing left to do.

use std::time::Duration;

use crate::Root;
use crate::program::{Program, ProgramError};
use crate::root::{list, read_number};
use crate::storage::device_on;

/// What the kernel counts disks in.
const SECTOR: u64 = 512;
/// Less than this is not worth it, and the table's copy at a disk's end takes some.
const WORTH: u64 = (1 << 30) / SECTOR;
/// A large file system on a slow card.
const LIMIT: Duration = Duration::from_secs(600);

/// What may be grown, by where it is mounted.
pub const GROWING: [&str; 2] = ["/", "/data"];

/// A partition, in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub device: String,
    pub number: u64,
    pub start: u64,
    pub size: u64,
}

/// What is known of the disk on which a file system lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name, such as `nvme0n1`.
    pub disk: String,
    pub size: u64,
    pub own: Partition,
    pub others: Vec<Partition>,
    /// Of the file system.
    pub kind: String,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Grow,
    /// It has what there is.
    Whole,
    /// Something lies behind it, such as the other of two systems.
    NotLast,
    /// Only ext4 grows while it is mounted and is what images have.
    OtherKind,
}

impl Seen {
    /// `None` where nothing is mounted there, it is on no partition, or nothing is told of
    /// it.
    #[must_use]
    pub fn look(root: &Root, place: &str) -> Option<Self> {
        let mounts = root.read("proc/mounts").ok()?;
        let device = device_on(&mounts, place)?;
        let kind = mounts.lines().rev().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut kind = kind.filter(|fields| fields.get(1) == Some(&place));
        let kind = (*kind.next()?.get(2)?).to_owned();
        let block = root.path("sys/block");
        let has_it = |disk: &String| block.join(disk).join(&device).join("partition").exists();
        let disk = list(&block).into_iter().find(has_it)?;
        let directory = block.join(&disk);
        let partition = |device: String| {
            let number = |name: &str| read_number(&directory.join(&device).join(name)).ok();
            let (number, start, size) = (number("partition")?, number("start")?, number("size")?);
            Some(Partition { device, number, start, size })
        };
        let all = list(&directory).into_iter().filter_map(partition);
        let (mut own, others): (Vec<_>, Vec<_>) = all.partition(|it| it.device == device);
        let size = read_number(&directory.join("size")).ok()?;
        Some(Self { size, own: own.pop()?, others, kind, disk })
    }
}

/// Whether it can grow.
#[must_use]
pub fn plan(seen: &Seen) -> Plan {
    let Seen { size, own, others, kind, .. } = seen;
    let end = own.start.saturating_add(own.size);
    if kind != "ext4" {
        return Plan::OtherKind;
    }
    if others.iter().any(|other| other.start > own.start) {
        return Plan::NotLast;
    }
    if size.saturating_sub(end) < WORTH { Plan::Whole } else { Plan::Grow }
}

/// Debian's tool for it, of the package cloud-guest-utils, which not every system has.
const GROWPART: &str = "usr/bin/growpart";

/// Whether the system can grow a partition.
#[must_use]
pub fn has_tool(root: &Root) -> bool {
    root.has(GROWPART)
}

/// Grows the partition, and the file system in it.
///
/// # Errors
/// One of the system's tools is not there or fails. What was there is there still.
pub fn grow(root: &Root, seen: &Seen) -> Result<(), ProgramError> {
    let tool = Program { path: root.path(GROWPART), limit: LIMIT };
    let disk = format!("/dev/{}", seen.disk);
    tool.run_well(&[disk, seen.own.number.to_string()])?;
    fill(root, seen)
}

/// Grows the file system to its partition, if it is smaller: the power may have failed
/// between the two.
///
/// # Errors
/// The tool is not there or fails.
pub fn fill(root: &Root, seen: &Seen) -> Result<(), ProgramError> {
    let tool = Program { path: root.path("sbin/resize2fs"), limit: LIMIT };
    tool.run_well(&[format!("/dev/{}", seen.own.device)]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tree::{self, Tree};

    const GIB: u64 = (1 << 30) / SECTOR;

    fn disk(kind: &str, size: u64, partitions: &[(u64, u64, u64)]) -> Tree {
        let tree = tree::of(&[]);
        tree.write(
            "proc/mounts",
            format!("proc /proc proc rw 0 0\n/dev/nvme0n1p1 / {kind} rw 0 0\n"),
        );
        tree.write("sys/block/sda/size", "0\n");
        tree.write("sys/block/nvme0n1/size", format!("{size}\n"));
        tree.write("sys/block/nvme0n1/queue/rotational", "0\n");
        for (number, start, size) in partitions {
            let at = format!("sys/block/nvme0n1/nvme0n1p{number}");
            for (name, value) in [("partition", number), ("start", start), ("size", size)] {
                tree.write(format!("{at}/{name}"), format!("{value}\n"));
            }
        }
        tree
    }

    fn planned(tree: &Tree) -> Option<Plan> {
        Seen::look(&tree.root(), "/").as_ref().map(plan)
    }

    #[test]
    fn the_last_partition_grows_and_nothing_is_moved() {
        // NVIDIA's layout: the first by its number lies last.
        let behind = [(1, 3 * GIB, 12 * GIB), (2, 40, GIB), (3, GIB + 40, GIB)];
        assert_eq!(planned(&disk("ext4", 200 * GIB, &behind)), Some(Plan::Grow));
        assert_eq!(planned(&disk("ext4", 15 * GIB + 34, &behind)), Some(Plan::Whole));
        assert_eq!(planned(&disk("btrfs", 200 * GIB, &behind)), Some(Plan::OtherKind));
        let two_systems = disk("ext4", 200 * GIB, &[(1, 40, 12 * GIB), (2, 13 * GIB, 12 * GIB)]);
        assert_eq!(planned(&two_systems), Some(Plan::NotLast));
        let mounts = "/dev/nvme0n1p1 / ext4 rw 0 0\n/dev/nvme0n1p2 /data ext4 rw 0 0\n\
            /dev/nvme0n1p2 /var/lib/stoker ext4 rw 0 0\n";
        two_systems.write("proc/mounts", mounts);
        let data = Seen::look(&two_systems.root(), GROWING[1]).unwrap();
        assert_eq!((plan(&data), data.own.number), (Plan::Grow, 2));
        assert_eq!(planned(&disk("ext4", 200 * GIB, &[])), None, "a disk without partitions");
        assert_eq!(planned(&tree::of(&[])), None);
    }

    #[test]
    fn the_systems_tools_do_it() {
        let tree = disk("ext4", 200 * GIB, &[(1, 40, 12 * GIB)]);
        let root = tree.root();
        assert!(!has_tool(&root));
        for name in ["usr/bin/growpart", "sbin/resize2fs"] {
            let log = root.path("log");
            tree.write(name, format!("#!/bin/sh\necho ${{0##*/}} \"$@\" >>{}\n", log.display()));
            fs::set_permissions(root.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let seen = Seen::look(&root, "/").unwrap();
        grow(&root, &seen).unwrap();
        let log = fs::read_to_string(root.path("log")).unwrap();
        assert_eq!(log, "growpart /dev/nvme0n1 1\nresize2fs /dev/nvme0n1p1\n");
        fs::remove_file(root.path("usr/bin/growpart")).unwrap();
        assert!(grow(&root, &seen).is_err());
    }
}
