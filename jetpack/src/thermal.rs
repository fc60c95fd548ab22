//! Temperatures, from `/sys/class/thermal` and `/sys/class/hwmon`.
//!
//! The kernel reports millidegrees. A zone whose part is powered down answers
//! `EAGAIN`; its temperature is then absent, never zero. What each zone can
//! bear is read once: trip points do not change while the machine runs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::absent::split;
use crate::hwmon::{Channel, Chip};
use crate::root::{list, read, read_number};
use crate::{Absent, Board, Celsius, Root};

/// What a working sensor can report. Switched-off and broken ones answer with
/// values such as -256 °C or 65261 °C.
const PLAUSIBLE: std::ops::RangeInclusive<i32> = -60_000..=200_000;

/// Orin NX and Orin Nano alert people at this temperature that the outside is
/// hot. The trip is called passive, but nothing slows down.
const HOT_SURFACE: Celsius = Celsius::from_millidegrees(70_000);

/// One temperature and what it must not reach.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Zone {
    /// The kernel's or the driver's name, for example `tj-thermal` or
    /// `coretemp Package id 0`.
    pub name: String,
    pub source: Source,
    pub celsius: Option<Celsius>,
    /// Why `celsius` is `None`.
    pub absent: Option<Absent>,
    /// From here on the machine slows itself down.
    pub limit_celsius: Option<Celsius>,
    /// From here on the machine switches itself off.
    pub critical_celsius: Option<Celsius>,
}

/// Who reports a temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Thermal,
    Hwmon,
    Nvml,
}

/// Where a zone is read, found once.
#[derive(Debug)]
pub(crate) struct Sensor {
    name: String,
    source: Source,
    path: PathBuf,
    limits: Limits,
}

/// What a zone can bear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) slows_down: Option<Celsius>,
    pub(crate) switches_off: Option<Celsius>,
}

impl Sensor {
    pub(crate) fn read(&self) -> Zone {
        let (celsius, absent) = split(read_number(&self.path).and_then(plausible));
        Zone {
            name: self.name.clone(),
            source: self.source,
            celsius,
            absent,
            limit_celsius: self.limits.slows_down,
            critical_celsius: self.limits.switches_off,
        }
    }
}

pub(crate) fn plausible(millidegrees: i32) -> Result<Celsius, Absent> {
    if !PLAUSIBLE.contains(&millidegrees) {
        return Err(Absent::Garbled);
    }
    Ok(Celsius::from_millidegrees(millidegrees))
}

/// All sensors: the kernel's zones first, then chips, each by name.
pub(crate) fn sensors(root: &Root, board: &Board, chips: &[Chip]) -> Vec<Sensor> {
    let mut zones = kernel_zones(root, board);
    let names: Vec<String> = zones.iter().map(|zone| zone.name.replace('-', "_")).collect();
    // The kernel shows its zones a second time as chips of the same name.
    let own = chips.iter().filter(|chip| !names.contains(&chip.name.replace('-', "_")));
    zones.extend(own.flat_map(chip_sensors));
    zones
}

fn kernel_zones(root: &Root, board: &Board) -> Vec<Sensor> {
    let class = root.path("sys/class/thermal");
    let mut sensors: Vec<Sensor> = list(&class)
        .into_iter()
        .filter(|entry| entry.starts_with("thermal_zone"))
        .filter_map(|entry| {
            let directory = class.join(entry);
            let name = read(&directory.join("type")).ok()?;
            // Intel's policy device is no sensor; it always says 20 °C.
            let is_sensor = !name.is_empty() && name != "INT3400 Thermal";
            let limits = trips(&directory, board);
            let path = directory.join("temp");
            is_sensor.then_some(Sensor { name, source: Source::Thermal, path, limits })
        })
        .collect();
    sensors.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    give_the_junction_its_limit(&mut sensors);
    sensors
}

/// `tj-thermal` is the hottest of all zones and has no trip of its own that
/// slows anything down, so the lowest limit of the others holds for it.
fn give_the_junction_its_limit(sensors: &mut [Sensor]) {
    let lowest = sensors.iter().filter_map(|sensor| sensor.limits.slows_down).min();
    for sensor in sensors.iter_mut().filter(|sensor| sensor.name == "tj-thermal") {
        sensor.limits.slows_down = sensor.limits.slows_down.or(lowest);
    }
}

fn trips(zone: &Path, board: &Board) -> Limits {
    let mut limits = Limits::default();
    let alerts = alert_trips(zone);
    for file in list(zone) {
        let Some(number) = file.strip_prefix("trip_point_").and_then(|f| f.strip_suffix("_type"))
        else {
            continue;
        };
        let Some(at) = limit(&zone.join(format!("trip_point_{number}_temp"))) else { continue };
        let limit = match read(&zone.join(&file)).as_deref() {
            Ok("critical") => &mut limits.switches_off,
            Ok("passive" | "hot") if !only_alerts(number, at, &alerts, board) => {
                &mut limits.slows_down
            }
            _ => continue,
        };
        *limit = Some(limit.map_or(at, |other| other.min(at)));
    }
    limits
}

/// Whether reaching a trip changes nothing but a notice to people.
fn only_alerts(trip: &str, at: Celsius, alerts: &Alerts, board: &Board) -> bool {
    match alerts {
        Alerts::Of(trips) => trips.iter().any(|alert| alert == trip),
        Alerts::Unknown => at == HOT_SURFACE && board.has_module("p3767"),
    }
}

/// The trips of a zone that are bound to nothing but a hot-surface alert.
#[derive(Debug)]
enum Alerts {
    Of(Vec<String>),
    /// The kernel does not show what the trips are bound to.
    Unknown,
}

fn alert_trips(zone: &Path) -> Alerts {
    let bindings: Vec<(String, String)> = list(zone)
        .into_iter()
        .filter_map(|file| {
            let device = file.strip_suffix("_trip_point")?;
            let kind = read(&zone.join(device).join("type")).ok()?;
            Some((read(&zone.join(&file)).ok()?, kind))
        })
        .collect();
    if bindings.is_empty() {
        return Alerts::Unknown;
    }
    let slows =
        |trip: &str| bindings.iter().any(|(at, kind)| at == trip && kind != "hot-surface-alert");
    Alerts::Of(bindings.iter().map(|(trip, _)| trip.clone()).filter(|trip| !slows(trip)).collect())
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
    }
}

/// A limit that means something; firmware leaves unused ones at or below zero,
/// or at the end of the scale.
fn limit(path: &Path) -> Option<Celsius> {
    let millidegrees = read_number(path).ok()?;
    plausible(millidegrees).ok().filter(|_| millidegrees > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwmon::chips;
    use crate::tree::{self, Tree};
    use proptest::prelude::*;

    fn zones(tree: &Tree) -> Vec<Zone> {
        let root = tree.root();
        sensors(&root, &Board::read(&root), &chips(&root)).iter().map(Sensor::read).collect()
    }

    /// Name, temperature, where it slows down and where it switches off.
    fn lines(tree: &Tree) -> Vec<String> {
        let show =
            |celsius: Option<Celsius>| celsius.map_or("-".into(), |c| c.degrees().to_string());
        zones(tree)
            .into_iter()
            .map(|zone| {
                let limits = (show(zone.limit_celsius), show(zone.critical_celsius));
                format!("{}: {} < {} < {}", zone.name, show(zone.celsius), limits.0, limits.1)
            })
            .collect()
    }

    #[test]
    fn a_jetson_s_hot_surface_alert_is_not_a_limit() {
        assert_eq!(
            lines(&tree::orin_nano()),
            [
                "cpu-thermal: 47.875 < 99 < 104.5",
                "cv0-thermal: - < 99 < 104.5",
                "gpu-thermal: 49.25 < 99 < 104.5",
                "tj-thermal: 50.218 < 99 < 104.5",
            ]
        );
    }

    #[test]
    fn bindings_tell_an_alert_from_a_throttle_on_any_board() {
        let tree = tree::of(&[
            ("sys/class/thermal/thermal_zone0/type", "case\n"),
            ("sys/class/thermal/thermal_zone0/temp", "30000\n"),
            ("sys/class/thermal/thermal_zone0/trip_point_0_type", "passive\n"),
            ("sys/class/thermal/thermal_zone0/trip_point_0_temp", "60000\n"),
            ("sys/class/thermal/thermal_zone0/trip_point_1_type", "passive\n"),
            ("sys/class/thermal/thermal_zone0/trip_point_1_temp", "80000\n"),
            ("sys/class/thermal/thermal_zone0/cdev0/type", "hot-surface-alert\n"),
            ("sys/class/thermal/thermal_zone0/cdev0_trip_point", "0\n"),
            ("sys/class/thermal/thermal_zone0/cdev1/type", "cpufreq-cpu0\n"),
            ("sys/class/thermal/thermal_zone0/cdev1_trip_point", "1\n"),
        ]);
        assert_eq!(lines(&tree), ["case: 30 < 80 < -"]);
    }

    #[test]
    fn a_pc_s_chips_have_limits_of_their_own() {
        assert_eq!(
            lines(&tree::pc()),
            [
                "acpi-z: 41 < - < 119",
                "coretemp Package id 0: 55 < 100 < 100",
                "k10temp Tctl: 60.5 < - < -",
                "nvme Composite: 38.85 < 81.85 < 84.85",
                "nvme Sensor 1: - < - < -",
            ]
        );
    }

    #[test]
    fn each_reading_that_is_not_there_says_why() {
        let broken = |temp: &str| {
            let tree = tree::of(&[("sys/class/thermal/thermal_zone0/type", "x\n")]);
            tree.write("sys/class/thermal/thermal_zone0/temp", temp);
            zones(&tree).remove(0)
        };
        for garbled in ["", "hot", "-256000", "65261850", "99999999999999999999"] {
            let zone = broken(garbled);
            assert_eq!((zone.celsius, zone.absent), (None, Some(Absent::Garbled)), "{garbled:?}");
        }
        assert_eq!(broken("0\n").celsius, Some(Celsius::from_millidegrees(0)));
        assert_eq!(broken("-5000\n").celsius, Some(Celsius::from_millidegrees(-5000)));
    }

    #[test]
    fn a_zone_without_power_is_told_from_a_broken_one() {
        let absent = |errno| Absent::from_io(&std::io::Error::from_raw_os_error(errno));
        assert_eq!(absent(nix::libc::EAGAIN), Absent::PoweredDown);
        assert_eq!(absent(nix::libc::EACCES), Absent::NoPermission);
        assert_eq!(absent(nix::libc::ENOENT), Absent::NotReported);
        assert!(matches!(absent(nix::libc::EIO), Absent::Failed(_)));
        assert!(matches!(absent(nix::libc::ETIMEDOUT), Absent::Failed(_)));
    }

    proptest! {
        // Each case writes a tree, which costs more than all the parsing.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_bytes_in_a_zone_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let tree = tree::of(&[]);
            for file in ["type", "temp", "trip_point_0_type", "trip_point_0_temp", "cdev0_trip_point"] {
                tree.write(format!("sys/class/thermal/thermal_zone0/{file}"), &bytes);
            }
            for file in ["name", "temp1_input", "temp1_label", "temp1_max", "in1_label", "in1_input"] {
                tree.write(format!("sys/class/hwmon/hwmon0/{file}"), &bytes);
            }
            let _ = zones(&tree);
        }

        #[test]
        fn a_temperature_is_read_back_exactly(millidegrees in PLAUSIBLE) {
            let tree = tree::of(&[("sys/class/thermal/thermal_zone0/type", "x\n")]);
            tree.write("sys/class/thermal/thermal_zone0/temp", format!("{millidegrees}\n"));
            prop_assert_eq!(zones(&tree)[0].celsius, Some(Celsius::from_millidegrees(millidegrees)));
        }
    }
}
