//! The kernel's thermal zones: which there are, and which of their trips slow
//! something down.

use std::path::Path;

use super::{Limits, Sensor, Source, limit};
use crate::root::{list, read};
use crate::steady::Steady;
use crate::{Board, Celsius, Root};

/// Orin NX and Orin Nano alert people at this temperature that the outside is
/// hot. The trip is called passive, but nothing slows down.
const HOT_SURFACE: Celsius = Celsius::from_millidegrees(70_000);

/// The names of all zones, sensors or not.
pub(super) fn names(root: &Root) -> Vec<String> {
    let class = root.path("sys/class/thermal");
    let zones = list(&class).into_iter().filter(|entry| entry.starts_with("thermal_zone"));
    zones.filter_map(|entry| read(&class.join(entry).join("type")).ok()).collect()
}

/// All sensors, by name.
pub(super) fn zones(root: &Root, board: &Board) -> Vec<Sensor> {
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
            let steady = Steady::default();
            is_sensor.then_some(Sensor { name, source: Source::Thermal, path, limits, steady })
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
