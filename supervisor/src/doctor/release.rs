//! The board and its release: known faults, a clock that cannot be right, a
//! module that is called by another's name.

use jetpack::{L4t, Severity};

use super::{Report, Seen};

/// Releases whose memory driver refuses large allocations, and the first of
/// the same line that is cured.
const NVMAP_BUG: [(L4t, Option<&str>); 3] = [
    (L4t { major: 36, minor: 4, patch: 7 }, Some("36.5.0")),
    (L4t { major: 35, minor: 6, patch: 3 }, Some("35.6.4")),
    (L4t { major: 38, minor: 2, patch: 2 }, None),
];

pub(super) fn look(seen: &Seen, report: &mut Report) {
    nvmap_bug(seen, report);
    clock(seen, report);
    model(seen, report);
}

fn nvmap_bug(seen: &Seen, report: &mut Report) {
    let Some(l4t) = seen.sample.board.l4t else { return };
    let Some((_, cure)) = NVMAP_BUG.iter().find(|(bad, _)| *bad == l4t) else { return };
    let advice = match cure {
        Some(cure) => format!(
            "update to Jetson Linux {cure} or newer; until then, keep models well below half of \
             the memory"
        ),
        None => "update to a newer Jetson Linux".to_owned(),
    };
    report.add(
        Severity::Serious,
        "nvmap_bug",
        [
            format!("Jetson Linux {l4t} refuses large allocations of GPU memory"),
            "models that fit fail to load with \"out of memory\" or NvMap error 12".to_owned(),
            advice,
        ],
    );
}

fn clock(seen: &Seen, report: &mut Report) {
    let calendar = &seen.sample.facts.calendar;
    match calendar.is_plausible() {
        Some(true) => return,
        Some(false) => {}
        None => {
            report.not_checked("the clock", "the kernel does not tell when it was started");
            return;
        }
    }
    report.add(Severity::Warning, "clock_wrong", [
        "the clock is earlier than the system that runs".to_owned(),
        "connections to other servers fail, and times in logs mislead; a board without a battery \
         forgets the time at each power cut"
            .to_owned(),
        "connect a time server (timedatectl set-ntp true), or fit the clock's battery".to_owned(),
    ]);
}

fn model(seen: &Seen, report: &mut Report) {
    let board = &seen.sample.board;
    let (Some(module), Some(model)) = (&seen.sample.facts.module, &board.model) else { return };
    let other = ["AGX Orin", "Orin NX", "Orin Nano"]
        .into_iter()
        .find(|family| model.contains(family) && *family != module.family());
    if other.is_none() || model.contains(module.family()) {
        return;
    }
    report.add(
        Severity::Note,
        "model_disagrees",
        [
            format!("the board calls itself \"{model}\", but is a {}", module.name),
            "tools that go by that name take wrong limits; this one goes by the part number"
                .to_owned(),
            format!("nothing, if the module is a {} ({})", module.name, module.sku),
        ],
    );
}
