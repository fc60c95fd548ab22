//! Sensors that do not say what they should.

use jetpack::{Absent, Severity, Source, Zone};

use super::{Report, Seen};

pub(super) fn look(seen: &Seen, report: &mut Report) {
    silent(seen, report);
    broken(seen, report);
    power(seen, report);
}

fn silent(seen: &Seen, report: &mut Report) {
    let silent = &seen.sample.silent;
    if silent.is_empty() {
        return;
    }
    let list: Vec<&str> = silent.iter().map(|silent| silent.what.as_str()).collect();
    report.add(
        Severity::Warning,
        "sensors_silent",
        [
            format!("no answer comes from {}", list.join(", ")),
            "a driver hangs; what it measures counts as unknown, and as hot".to_owned(),
            "look into the kernel's log (dmesg), and reboot".to_owned(),
        ],
    );
}

/// A zone without power is no broken one, and a captured board cannot show it.
fn broken(seen: &Seen, report: &mut Report) {
    let reason = |zone: &Zone| match &zone.absent {
        None | Some(Absent::PoweredDown | Absent::NotReported | Absent::NoAnswer { .. }) => None,
        // Chips have channels that nobody connected.
        Some(Absent::Garbled) if zone.source == Source::Hwmon => None,
        Some(why) => Some(format!("{} ({why})", zone.name)),
    };
    let zones = seen.sample.zones.iter().filter_map(reason);
    let fans = seen.sample.fans.iter().filter_map(|fan| {
        let why = fan.absent.as_ref().filter(|why| !matches!(why, Absent::NoAnswer { .. }))?;
        Some(format!("fan {} ({why})", fan.name))
    });
    let list: Vec<String> = zones.chain(fans).collect();
    if list.is_empty() {
        return;
    }
    report.add(
        Severity::Warning,
        "sensors_broken",
        [
            format!("these sensors cannot be read: {}", list.join(", ")),
            "what cannot be measured cannot be kept below its limit".to_owned(),
            "reboot; if it stays, look into the kernel's log (dmesg)".to_owned(),
        ],
    );
}

fn power(seen: &Seen, report: &mut Report) {
    if let (true, Some(why)) = (seen.sample.board.is_tegra(), &seen.sample.power_absent) {
        report.not_checked("the power that the board takes", why);
    }
}
