//! Disks that are full, wear out or are damaged.

use jetpack::{Bytes, DiskKind, Severity};

use super::{Report, Seen};

/// Below this much room, or this share of the disk, something should be done;
/// an engine directory has several GiB.
const LITTLE: Bytes = Bytes::from_kib(2 * 1024 * 1024);
const LITTLE_PERCENT: u64 = 5;
/// Below this much, databases and logs stop soon.
const NOTHING: Bytes = Bytes::from_kib(256 * 1024);

pub(super) fn look(seen: &Seen, report: &mut Report) {
    room(seen, report);
    card(seen, report);
    damage(seen, report);
    power_cuts(seen, report);
}

/// So many are no accident any more.
const MANY_CUTS: u32 = 5;

fn power_cuts(seen: &Seen, report: &mut Report) {
    let Some(count @ 1..) = seen.unsafe_shutdowns else { return };
    let severity = if count < MANY_CUTS { Severity::Note } else { Severity::Warning };
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    report.add(
        severity,
        "unsafe_shutdowns",
        [
            format!("the machine went off {times} without being shut down"),
            "what was not on the disk is lost then, and cheap disks lose more than that".to_owned(),
            "shut it down with `systemctl poweroff`; if nobody pulled the plug, look at the power \
         supply and at `journalctl --list-boots`"
                .to_owned(),
        ],
    );
}

fn room(seen: &Seen, report: &mut Report) {
    let Some(disk) = seen.disk else {
        report.not_checked("room on the disk", "it is not known for this root");
        return;
    };
    let left = disk.available_bytes;
    let share = left.get() < disk.total_bytes.get() / 100 * LITTLE_PERCENT;
    let severity = match left {
        left if left < NOTHING => Severity::Serious,
        left if left < LITTLE || share => Severity::Warning,
        _ => return,
    };
    report.add(
        severity,
        "disk_nearly_full",
        [
            format!(
                "{left} of {} are left on the disk that holds {}",
                disk.total_bytes,
                seen.state_dir.display()
            ),
            "requests are not remembered and engines cannot be built without room".to_owned(),
            "remove engines that nobody uses, old logs, container images".to_owned(),
        ],
    );
}

fn card(seen: &Seen, report: &mut Report) {
    let storage = &seen.sample.facts.storage;
    if storage.root_kind != Some(DiskKind::SdCard) {
        return;
    }
    report.add(
        Severity::Warning,
        "root_on_sd_card",
        [
            "the system runs from an SD card".to_owned(),
            "cards wear out and lose data at power cuts; it is the commonest end of such boards"
                .to_owned(),
            "move the system to NVMe".to_owned(),
        ],
    );
}

fn damage(seen: &Seen, report: &mut Report) {
    for system in seen.sample.facts.storage.ext4.iter().filter(|system| system.errors > 0) {
        report.add(Severity::Serious, "ext4_errors", [
            format!("the file system on {} counts {} errors", system.device, system.errors),
            "it is damaged, and a Jetson does not check its root at boot".to_owned(),
            format!(
                "save the state directory, then check it with e2fsck -f /dev/{} from another system",
                system.device
            ),
        ]);
    }
}
