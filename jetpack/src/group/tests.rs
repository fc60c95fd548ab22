//! Sensors whose reads do not return, for real: opening a pipe that nobody
//! writes blocks as a driver does.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::tree::{self, Tree};
use crate::{Absent, Celsius, Machine, Sample, Zone};

/// Longer than anything that is waited for here.
const BOUND: Duration = Duration::from_secs(60);

fn zone(number: u32, file: &str) -> String {
    format!("sys/class/thermal/thermal_zone{number}/{file}")
}

fn named<'a>(sample: &'a Sample, name: &str) -> &'a Zone {
    sample.zones.iter().find(|zone| zone.name == name).unwrap()
}

/// The number of the zone with this name on a board that is not renumbered.
const CPU: u32 = 0;
const GPU: u32 = 1;

fn whats(sample: &Sample) -> Vec<&str> {
    sample.silent.iter().map(|silent| silent.what.as_str()).collect()
}

/// Lets the read of a pipe return, with `content`, and puts a file there.
fn answer(tree: &Tree, path: &str, content: &str) {
    let pipe = tree.path().join(path);
    let mut end = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    // Before the read returns, so that the next one finds the file.
    tree.remove(path);
    tree.write(path, content);
    end.write_all(content.as_bytes()).unwrap();
}

fn sample_until(machine: &mut Machine, is: impl Fn(&Sample) -> bool) -> Sample {
    let deadline = Instant::now() + BOUND;
    loop {
        let sample = machine.sample();
        if is(&sample) {
            return sample;
        }
        assert!(Instant::now() < deadline, "{:?}", sample.silent);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_sensor_that_hangs_is_silent_alone() {
    let tree = tree::orin_nano();
    tree.hang(zone(CPU, "temp"));
    let sample = Machine::open(tree.root()).sample();
    assert!(matches!(named(&sample, "cpu-thermal").absent, Some(Absent::NoAnswer { .. })));
    let gpu = Some(Celsius::from_millidegrees(49_250));
    assert_eq!(named(&sample, "gpu-thermal").celsius, gpu);
    assert!(sample.power_watts.is_some() && sample.memory.is_some());
    assert_eq!(whats(&sample), [zone(CPU, "temp")]);
    let json = serde_json::to_string(&sample).unwrap();
    assert!(json.contains("its driver has not answered for"), "{json}");
}

#[test]
fn two_sensors_that_hang_silence_their_driver_and_no_other() {
    let tree = tree::orin_nano();
    let mut machine = Machine::open(tree.root());
    assert!(machine.sample().silent.is_empty());
    tree.hang(zone(CPU, "temp"));
    tree.hang(zone(GPU, "temp"));
    let sample = machine.sample();
    assert_eq!(sample.hottest(), None);
    assert_eq!(sample.zones.len(), 9);
    assert_eq!(whats(&sample), ["temperatures".to_owned(), zone(CPU, "temp")]);
    assert!(sample.power_watts.is_some() && sample.clocks.gpu.is_some());
    // No further thread is lost, and nobody waits for these again.
    let before = Instant::now();
    assert_eq!(machine.sample().silent.len(), 2);
    assert!(before.elapsed() < BOUND);
}

#[test]
fn a_sensor_that_answers_again_is_read_again() {
    let tree = tree::orin_nano();
    tree.hang(zone(CPU, "temp"));
    tree.hang(zone(GPU, "temp"));
    let mut machine = Machine::open(tree.root());
    assert_eq!(machine.sample().silent.len(), 2);
    let reads = |name, millidegrees| {
        let celsius = Some(Celsius::from_millidegrees(millidegrees));
        let says = move |zone: &Zone| zone.name == name && zone.celsius == celsius;
        move |sample: &Sample| sample.zones.iter().any(says)
    };
    answer(&tree, &zone(GPU, "temp"), "51000\n");
    sample_until(&mut machine, reads("gpu-thermal", 51_000));
    answer(&tree, &zone(CPU, "temp"), "52000\n");
    let sample = sample_until(&mut machine, reads("cpu-thermal", 52_000));
    assert!(sample.silent.is_empty(), "{:?}", sample.silent);
}

#[test]
fn power_that_hangs_is_not_power_that_nobody_measures() {
    let tree = tree::orin_nano();
    let mut machine = Machine::open(tree.root());
    assert!(machine.sample().power_watts.is_some());
    tree.hang("sys/class/hwmon/hwmon9/curr1_input");
    let sample = machine.sample();
    assert!(matches!(sample.power_absent, Some(Absent::NoAnswer { .. })));
    assert!(sample.rails.iter().any(|rail| rail.watts.is_some()));
}

#[test]
fn a_machine_is_opened_whichever_file_hangs() {
    for path in ["proc/device-tree/model", "sys/class/thermal/thermal_zone3/type"] {
        let tree = tree::orin_nano();
        tree.hang(path);
        let sample = Machine::open(tree.root()).sample();
        assert!(sample.hottest().is_some(), "{path}");
    }
}
