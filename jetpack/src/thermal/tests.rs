//! Temperatures of boards and PCs, by name, with what each can bear.

use super::*;
use crate::tree::{self, Tree};
use proptest::prelude::*;

fn zones(tree: &Tree) -> Vec<Zone> {
    let (root, now) = (tree.root(), Instant::now());
    let (mut kernel, mut chips) = (Zones::new(&root, &Board::read(&root)), ChipZones::new(&root));
    kernel.find();
    chips.find();
    kernel.read(now).into_iter().chain(chips.read(now)).collect()
}

/// Name, temperature, where it slows down and where it switches off.
fn lines(tree: &Tree) -> Vec<String> {
    let show = |celsius: Option<Celsius>| celsius.map_or("-".into(), |c| c.degrees().to_string());
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
            "cv1-thermal: - < 99 < 104.5",
            "cv2-thermal: - < 99 < 104.5",
            "gpu-thermal: 49.25 < 99 < 104.5",
            "soc0-thermal: 47.281 < 99 < 104.5",
            "soc1-thermal: 48.281 < 99 < 104.5",
            "soc2-thermal: 46.75 < 99 < 104.5",
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
    fn a_temperature_is_read_back_exactly(millidegrees in -60_000..=150_000) {
        let tree = tree::of(&[("sys/class/thermal/thermal_zone0/type", "x\n")]);
        tree.write("sys/class/thermal/thermal_zone0/temp", format!("{millidegrees}\n"));
        prop_assert_eq!(zones(&tree)[0].celsius, Some(Celsius::from_millidegrees(millidegrees)));
    }
}
