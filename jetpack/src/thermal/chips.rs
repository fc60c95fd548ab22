//! Temperatures of chips that are no zones of the kernel's: a PC's processor,
//! disks, adapters.

use super::{Limits, Sensor, Source, limit};
use crate::hwmon::{Channel, Chip};
use crate::steady::Steady;

/// All sensors of these chips, except those that the kernel shows a second
/// time as zones of the same name.
pub(super) fn zones(chips: &[Chip], kernel: &[String]) -> Vec<Sensor> {
    let names: Vec<String> = kernel.iter().map(|zone| zone.replace('-', "_")).collect();
    let own = chips.iter().filter(|chip| !names.contains(&chip.name.replace('-', "_")));
    own.flat_map(chip_sensors).collect()
}

fn chip_sensors(chip: &Chip) -> Vec<Sensor> {
    let mut channels = chip.channels("temp", "_input");
    if chip.name == "coretemp" {
        prefer_packages(&mut channels);
    }
    channels.into_iter().map(|channel| chip_sensor(chip, &channel)).collect()
}

/// Reading a core's temperature wakes that core; the package says enough.
fn prefer_packages(channels: &mut Vec<Channel>) {
    let is_package = |channel: &Channel| {
        channel.label.as_deref().is_some_and(|label| label.starts_with("Package"))
    };
    if channels.iter().any(is_package) {
        channels.retain(is_package);
    }
}

fn chip_sensor(chip: &Chip, channel: &Channel) -> Sensor {
    let number = channel.number;
    let file = |attribute: &str| chip.path(&format!("temp{number}_{attribute}"));
    let label = channel.label.clone().unwrap_or_else(|| format!("temp{number}"));
    let switches_off = limit(&file("crit"));
    // Intel processors slow down at `crit`; their `max` is when fans should run.
    let slows_down = if chip.name == "coretemp" { None } else { limit(&file("max")) };
    Sensor {
        name: format!("{} {label}", chip.name),
        source: Source::Hwmon,
        path: file("input"),
        limits: Limits { slows_down: slows_down.or(switches_off), switches_off },
        steady: Steady::default(),
    }
}
