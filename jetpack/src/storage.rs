//! Disks: what the root file system is on, errors that ext4 has counted, and
//! swap.
//!
//! A Jetson's root file system is never checked at boot, so the counter of
//! errors is the only sign of a damaged one.

use serde::Serialize;

use crate::root::{list, read_number};
use crate::{Bytes, Root};

/// What the root file system is on, and what is wrong with file systems.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// The root file system's device, for example `nvme0n1p1`.
    pub root: Option<String>,
    pub root_kind: Option<DiskKind>,
    /// ext4 file systems that could be read.
    pub ext4: Vec<Ext4>,
    /// Where pages can go; `None` when the kernel does not tell.
    pub swap: Option<Vec<Swap>>,
}

/// How well a disk bears writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    Nvme,
    SdCard,
    Emmc,
    Other,
}

/// One ext4 file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ext4 {
    pub device: String,
    /// Since it was last checked.
    pub errors: u64,
}

/// One place for pages that are not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Swap {
    pub device: String,
    /// Whether it is compressed memory, which takes of what it saves.
    pub zram: bool,
    pub size_bytes: Bytes,
}

impl Storage {
    pub(crate) fn read(root: &Root) -> Self {
        let device = root.read("proc/mounts").ok().and_then(|mounts| root_device(&mounts));
        Self {
            root_kind: device.as_deref().map(|device| kind(root, device)),
            root: device,
            ext4: ext4(root),
            swap: root.read("proc/swaps").ok().and_then(|text| swaps(&text)),
        }
    }
}

pub(crate) fn root_device(mounts: &str) -> Option<String> {
    device_on(mounts, "/")
}

/// What is mounted there; of all that are the last one is seen.
pub(crate) fn device_on(mounts: &str, place: &str) -> Option<String> {
    let mut there = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let device = fields.next()?.strip_prefix("/dev/")?;
        (fields.next() == Some(place)).then(|| device.to_owned())
    });
    there.next_back()
}

fn kind(root: &Root, device: &str) -> DiskKind {
    let Some(rest) = device.strip_prefix("mmcblk") else {
        return if device.starts_with("nvme") { DiskKind::Nvme } else { DiskKind::Other };
    };
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    match root.read(&format!("sys/block/mmcblk{number}/device/type")).as_deref() {
        Ok("SD") => DiskKind::SdCard,
        Ok("MMC") => DiskKind::Emmc,
        _ => DiskKind::Other,
    }
}

fn ext4(root: &Root) -> Vec<Ext4> {
    let class = root.path("sys/fs/ext4");
    let errors = |device: String| {
        let errors = read_number(&class.join(&device).join("errors_count")).ok()?;
        Some(Ext4 { device, errors })
    };
    let mut systems: Vec<Ext4> = list(&class).into_iter().filter_map(errors).collect();
    systems.sort_by(|a, b| a.device.cmp(&b.device));
    systems
}

/// A heading, then name, kind, size in KiB, used and priority.
fn swaps(text: &str) -> Option<Vec<Swap>> {
    let mut lines = text.lines();
    lines.next().filter(|heading| heading.starts_with("Filename"))?;
    let swap = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        let device = name.strip_prefix("/dev/").unwrap_or(name).to_owned();
        let size_bytes = Bytes::from_kib(fields.nth(1)?.parse().ok()?);
        Some(Swap { zram: device.starts_with("zram"), device, size_bytes })
    };
    Some(lines.filter_map(swap).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    #[test]
    fn a_board_on_nvme_with_compressed_swap() {
        let storage = Storage::read(&tree::orin_nano().root());
        assert_eq!(storage.root.as_deref(), Some("nvme0n1p1"));
        assert_eq!(storage.root_kind, Some(DiskKind::Nvme));
        assert_eq!(storage.ext4, [Ext4 { device: "nvme0n1p1".into(), errors: 0 }]);
        let swap = storage.swap.unwrap();
        assert!(swap.len() == 2 && swap.iter().all(|swap| swap.zram));
        assert_eq!(swap[0].size_bytes, Bytes::from_kib(1_947_480));
    }

    #[test]
    fn cards_are_told_from_soldered_memory() {
        for (kind, expected) in [("SD", DiskKind::SdCard), ("MMC", DiskKind::Emmc)] {
            let tree = tree::of(&[(
                "proc/mounts",
                "overlay / overlay rw 0 0\n/dev/mmcblk12p1 / ext4 rw 0 0\n",
            )]);
            tree.write("sys/block/mmcblk12/device/type", format!("{kind}\n"));
            assert_eq!(Storage::read(&tree.root()).root_kind, Some(expected));
        }
        let storage = Storage::read(&tree::of(&[]).root());
        assert_eq!(storage, Storage::default());
    }

    #[test]
    fn no_swap_is_not_an_unknown_swap() {
        assert_eq!(swaps("Filename\tType\tSize\tUsed\tPriority\n"), Some(vec![]));
        assert_eq!(swaps(""), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(Filename|/dev/|mmcblk|[0-9]{1,22}| |\n|/|é){0,20}") {
            let _ = swaps(&text);
            let _ = root_device(&text);
            let _ = kind(&Root::new("/nowhere"), &text);
        }
    }
}
