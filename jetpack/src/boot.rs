//! The boot slots of a Jetson, from the firmware's variables.
//!
//! The firmware counts boots and expects somebody to mark each as good. After
//! about three that nobody marked, it sets the slot's status to 0xFF and from
//! then on boots the recovery system, also on boards with one slot only.

pub mod control;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use serde::Serialize;

use crate::absent::split;
use crate::root::read_bytes;
use crate::{Absent, Root};

const VARIABLES: &str = "sys/firmware/efi/efivars";
const OWNER: &str = "781e084c-a330-417c-b678-38e696380cb9";
/// The units that mark a boot as good, NVIDIA's and ours, where systemd starts them.
const MARKS: [&str; 2] = [
    "etc/systemd/system/multi-user.target.wants/nv-l4t-bootloader-config.service",
    "etc/systemd/system/multi-user.target.wants/stoker-health.service",
];
/// Kept when the power is off, and there for loader and system.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
const NORMAL: u32 = 0;
const UNBOOTABLE: u32 = 0xff;

/// What the firmware remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// A, then B; empty where the firmware has no slots.
    pub slots: Vec<Slot>,
    /// Whether something marks each boot as good; `None` where no slots are.
    pub marked_good: Option<bool>,
    /// Boots that may fail before a slot is given up.
    pub retries: Option<u32>,
    /// Whether the firmware starts the other slot once one is given up, and recovery only
    /// then.
    pub has_two_systems: bool,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    pub name: &'static str,
    /// 0 is well, 255 is given up.
    pub status: Option<u32>,
    /// Why `status` is `None`.
    pub absent: Option<Absent>,
}

impl Slot {
    /// Whether the firmware will not boot it any more.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.status == Some(UNBOOTABLE)
    }
}

impl Boot {
    pub(crate) fn read(root: &Root) -> Self {
        let slot = |(name, variable)| {
            let (status, absent) = split(read(root, variable));
            Slot { name, status, absent }
        };
        let slots: Vec<Slot> =
            [("A", "RootfsStatusSlotA"), ("B", "RootfsStatusSlotB")].map(slot).into();
        if slots.iter().all(|slot| slot.absent == Some(Absent::NotReported)) {
            return Self::default();
        }
        Self {
            slots,
            marked_good: Some(MARKS.iter().any(|unit| root.has_link(unit))),
            retries: read(root, "RootfsRetryCountMax").ok(),
            has_two_systems: read(root, "RootfsRedundancyLevel").is_ok_and(|level| level > 0),
        }
    }
}

/// What tells this boot from every other; `None` where the kernel does not say.
#[must_use]
pub fn id(root: &Root) -> Option<String> {
    root.read("proc/sys/kernel/random/boot_id").ok().filter(|id| !id.is_empty())
}

/// Has the firmware start a system, or not start it, once it is its turn. Nothing is
/// written where it is so already.
///
/// # Errors
/// The firmware's variable cannot be written.
pub fn set_bootable(root: &Root, name: char, bootable: bool) -> io::Result<()> {
    let variable = format!("RootfsStatusSlot{name}");
    let status = if bootable { NORMAL } else { UNBOOTABLE };
    match read(root, &variable) {
        Ok(now) if now == status => return Ok(()),
        // Nobody has given it up.
        Err(Absent::NotReported) if bootable => return Ok(()),
        Ok(_) | Err(_) => {}
    }
    let path = root.path(&format!("{VARIABLES}/{variable}-{OWNER}"));
    if path.exists() {
        unprotect(&path)?;
    }
    // In one call: the firmware takes the whole value or none.
    fs::write(&path, [ATTRIBUTES, status.to_le_bytes()].concat())
}

/// Has the firmware forget how its last change to another slot ended: it takes a new one
/// for that one otherwise, and drops it.
///
/// # Errors
/// The variable is there and cannot be taken away.
pub fn forget_last_change(root: &Root) -> io::Result<()> {
    let path = root.path(&format!("{VARIABLES}/BootChainFwStatus-{OWNER}"));
    if !path.exists() {
        return Ok(());
    }
    unprotect(&path)?;
    fs::remove_file(&path)
}

/// The kernel protects variables that it does not know.
fn unprotect(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    match ioctl_getflags(&file) {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => {
            Ok(ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?)
        }
        // A file system without such flags protects nothing.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn read(root: &Root, variable: &str) -> Result<u32, Absent> {
    let bytes = read_bytes(&root.path(&format!("{VARIABLES}/{variable}-{OWNER}")))?;
    value(&bytes).ok_or(Absent::Garbled)
}

/// Four bytes of attributes, then the value, least byte first.
fn value(bytes: &[u8]) -> Option<u32> {
    let (_attributes, value) = bytes.split_at_checked(4)?;
    Some(u32::from_le_bytes(value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    #[test]
    fn a_healthy_board_s_slots_are_normal_and_marked() {
        let boot = Boot::read(&tree::orin_nano().root());
        assert_eq!(boot.slots.iter().map(|slot| slot.status).collect::<Vec<_>>(), [Some(0); 2]);
        assert_eq!((boot.marked_good, boot.retries), (Some(true), Some(3)));
        assert!(!boot.has_two_systems);
    }

    #[test]
    fn a_slot_that_was_given_up_says_so() {
        let tree = tree::orin_nano();
        tree.write(format!("{VARIABLES}/RootfsStatusSlotA-{OWNER}"), [7, 0, 0, 0, 0xff, 0, 0, 0]);
        tree.write(format!("{VARIABLES}/RootfsStatusSlotB-{OWNER}"), [7, 0, 0, 0]);
        tree.remove(MARKS[0]);
        let boot = Boot::read(&tree.root());
        assert!(boot.slots[0].is_given_up() && !boot.slots[1].is_given_up());
        assert_eq!(boot.slots[1].absent, Some(Absent::Garbled));
        assert_eq!(boot.marked_good, Some(false));
        tree.link(MARKS[1], "/lib/systemd/system/stoker-health.service");
        assert_eq!(Boot::read(&tree.root()).marked_good, Some(true));
        assert_eq!(Boot::read(&tree::pc().root()), Boot::default());
    }

    #[test]
    fn a_slot_is_given_up_and_taken_back() {
        let tree = tree::orin_nano();
        let is_given_up = || Boot::read(&tree.root()).slots[1].is_given_up();
        for bootable in [false, false, true, true] {
            set_bootable(&tree.root(), 'B', bootable).unwrap();
            assert_eq!(is_given_up(), !bootable);
        }
        tree.remove(format!("{VARIABLES}/RootfsStatusSlotB-{OWNER}"));
        for bootable in [true, false] {
            set_bootable(&tree.root(), 'B', bootable).unwrap();
            assert_eq!(is_given_up(), !bootable);
        }
        assert!(set_bootable(&tree::pc().root(), 'B', false).is_err());
        let status = format!("{VARIABLES}/BootChainFwStatus-{OWNER}");
        tree.write(&status, [7, 0, 0, 0, 0, 0, 0, 0]);
        for _ in 0..2 {
            forget_last_change(&tree.root()).unwrap();
            assert!(!tree.path().join(&status).exists());
        }
    }

    proptest! {
        #[test]
        fn a_value_has_four_bytes_after_the_attributes(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            prop_assert_eq!(value(&bytes).is_some(), bytes.len() == 8);
        }
    }
}
