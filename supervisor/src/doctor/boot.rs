//! Whether the machine comes back by itself: boot slots and the watchdog.

use jetpack::Severity;
use jetpack::boot::Slot;

use super::{Report, Seen};

pub(super) fn look(seen: &Seen, report: &mut Report) {
    slots(seen, report);
    watchdog(seen, report);
}

fn slots(seen: &Seen, report: &mut Report) {
    let boot = &seen.sample.facts.boot;
    let other_is_left = boot.has_two_systems && !boot.slots.iter().all(Slot::is_given_up);
    for slot in &boot.slots {
        let name = slot.name;
        match (slot.status, &slot.absent) {
            (Some(0), _) => {}
            (Some(_), _) if slot.is_given_up() && other_is_left => report.add(
                Severity::Warning,
                "boot_slot_given_up",
                [
                    format!("the firmware has given up system {name}, and starts the other one"),
                    "if that one fails as well, there is nothing to go back to but recovery"
                        .to_owned(),
                    "see how the last update ended (`stoker update status`), and install another \
                     one: it is written over this system"
                        .to_owned(),
                ],
            ),
            (Some(_), _) if slot.is_given_up() => {
                report.add(Severity::Serious, "boot_slot_given_up", [
                    format!("the firmware has given up boot slot {name} (RootfsStatusSlot{name} is 0xFF)"),
                    "from now on it boots the recovery system, and this machine does not come back"
                        .to_owned(),
                    format!(
                        "set RootfsStatusSlot{name} to 0 (in the firmware's shell, or in efivars \
                         after chattr -i), and see that nv-l4t-bootloader-config.service runs at \
                         each boot"
                    ),
                ]);
            }
            (Some(status), _) => report.add(
                Severity::Warning,
                "boot_slot_odd",
                [
                    format!("boot slot {name} has the unknown status {status}"),
                    "it should be 0; another status may keep the board from booting".to_owned(),
                    "look at `nvbootctrl -t rootfs dump-slots-info`".to_owned(),
                ],
            ),
            (None, Some(why)) => report.not_checked("a boot slot", why),
            (None, None) => {}
        }
    }
    if boot.marked_good == Some(false) {
        report.add(Severity::Serious, "boot_not_marked", [
            "nothing marks boots as good".to_owned(),
            "the firmware counts boots that nobody marks; after about three warm ones it boots the \
             recovery system for ever"
                .to_owned(),
            "systemctl enable nv-l4t-bootloader-config.service, then run `nvbootctrl verify`"
                .to_owned(),
        ]);
    }
}

fn watchdog(seen: &Seen, report: &mut Report) {
    let watchdog = &seen.sample.facts.watchdog;
    match (watchdog.is_set(), seen.sample.board.is_tegra()) {
        // A PC's watchdog is seldom set, and nobody expects it.
        (Some(true), _) | (_, false) => {}
        (Some(false), true) => report.add(
            Severity::Warning,
            "watchdog_unset",
            [
                "the hardware watchdog is not set".to_owned(),
                "a kernel that hangs stays so until somebody pulls the plug".to_owned(),
                "write RuntimeWatchdogSec=30s below [Manager] in \
             /etc/systemd/system.conf.d/zz-appliance.conf and reboot"
                    .to_owned(),
            ],
        ),
        (None, true) => report.not_checked("the watchdog", "this machine does not report one"),
    }
}
