//! Speed for the power that is there: power mode, GPU clock, fan.

use jetpack::{Basis, Celsius, Fan, Hertz, Mode, Severity};

use super::{Report, Seen};

/// A fan that is told at least this share of its speed turns.
const TOLD_TO_TURN: f64 = 0.2;
/// A board this hot has a fan that turns, whatever its profile.
const HOT: Celsius = Celsius::from_millidegrees(70_000);

pub(super) fn look(seen: &Seen, report: &mut Report) {
    power_mode(seen, report);
    gpu_clock(seen, report);
    fan(seen, report);
}

fn power_mode(seen: &Seen, report: &mut Report) {
    let facts = &seen.sample.facts;
    let Some(best) = facts.module.as_ref().and_then(|module| module.best_mode) else { return };
    let Some(mode) = &seen.sample.power_mode else {
        if let Some(why) = &seen.sample.power_mode_absent {
            report.not_checked("the power mode", why);
        }
        return;
    };
    let modes = &facts.power_modes;
    let (Some(now), Some(better)) = (modes.get(mode.id), modes.named(best.name)) else { return };
    if now.id == better.id || !is_below(now, better) {
        return;
    }
    let basis = match best.basis {
        Basis::Measured => "measured on this module",
        Basis::Inferred => "inferred from measurements of this chip at that clock",
    };
    report.add(
        Severity::Warning,
        "power_mode_low",
        [
            format!("the power mode is {}, below {}", now.name, better.name),
            format!(
                "{} gives the most tokens for each joule ({basis}), and more of them",
                better.name
            ),
            format!(
                "nvpmodel -m {}, if supply and cooling can bear it; it may ask for a reboot",
                better.id
            ),
        ],
    );
}

/// No cap is the highest.
fn is_below(one: &Mode, other: &Mode) -> bool {
    let cap = |mode: &Mode| mode.gpu_cap_hertz.map_or(u64::MAX, Hertz::get);
    cap(one) < cap(other)
}

fn gpu_clock(seen: &Seen, report: &mut Report) {
    let Some(module) = &seen.sample.facts.module else { return };
    let Some(gpu) = &seen.sample.clocks.gpu else {
        if let Some(why) = &seen.sample.clocks.gpu_absent {
            report.not_checked("the GPU's clock", why);
        }
        return;
    };
    let (Some(can), Some(should)) = (gpu.top_hertz, module.gpu_top_hertz) else { return };
    // Some releases round the last step.
    if can.get() >= should.get() / 100 * 99 {
        return;
    }
    report.add(
        Severity::Serious,
        "gpu_capped_by_firmware",
        [
            format!("the GPU offers no clock above {can}; this module has {should}"),
            "the firmware in flash is older than the system, or not the one for this module, and \
                 that part of the speed is missing in every power mode"
                .to_owned(),
            "flash the board anew with its own configuration (for the higher power modes, the one \
         whose name ends in -super)"
                .to_owned(),
        ],
    );
}

fn fan(seen: &Seen, report: &mut Report) {
    let sample = &seen.sample;
    for fan in &sample.fans {
        if fan.rpm == Some(0) && fan.drive_share.is_some_and(|share| share >= TOLD_TO_TURN) {
            stopped(fan, report);
        }
    }
    let all_off = !sample.fans.is_empty()
        && sample.fans.iter().all(|fan| fan.drive_share == Some(0.0) || fan.rpm == Some(0));
    let hottest = sample.hottest().filter(|hottest| *hottest >= HOT);
    if let (true, Some(hottest), true) = (all_off, hottest, sample.board.is_tegra()) {
        report.add(
            Severity::Warning,
            "fan_off",
            [
                format!("no fan turns at {hottest}"),
                "the board will slow down at 99 °C and switch off at 104.5 °C".to_owned(),
                "see whether nvfancontrol.service runs".to_owned(),
            ],
        );
    }
    if sample.facts.fan_profile.as_deref() == Some("quiet") {
        report.add(Severity::Note, "fan_profile_quiet", [
            "the fan follows the profile \"quiet\"".to_owned(),
            "under lasting load the board gets hotter than it has to, and sooner slow".to_owned(),
            "if noise does not matter: FAN_DEFAULT_PROFILE cool in /etc/nvfancontrol.conf, delete \
             /var/lib/nvfancontrol/status, restart nvfancontrol.service"
                .to_owned(),
        ]);
    }
}

fn stopped(fan: &Fan, report: &mut Report) {
    report.add(
        Severity::Serious,
        "fan_stopped",
        [
            format!("the fan {} is told to turn and does not", fan.name),
            "it is stuck, unplugged or broken; under load the board slows down and switches off"
                .to_owned(),
            "see to the fan and its plug".to_owned(),
        ],
    );
}
