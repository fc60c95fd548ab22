//! Whole machines: what a sample of each recreated board says, that nothing in
//! a file can stop it, and that the list of files is complete.

use std::path::{Path, PathBuf};

use super::*;
use crate::{tree, watch};
use proptest::prelude::*;

#[test]
fn a_machine_without_any_file_says_unknown_everywhere() {
    let tree = tree::of(&[]);
    let sample = Machine::open(tree.root()).sample();
    assert_eq!(sample.hottest(), None);
    assert_eq!((sample.power_watts, sample.power_absent), (None, Some(Absent::NoTotal)));
    assert_eq!((sample.memory, sample.memory_absent), (None, Some(Absent::NotReported)));
    assert_eq!((sample.gpus, sample.gpus_absent), (vec![], Some(Absent::NoDriver)));
    assert_eq!((sample.cpu.cores, sample.cpu.busy_share, sample.cpu.load), (None, None, None));
    assert!(sample.zones.is_empty() && sample.rails.is_empty() && sample.fans.is_empty());
}

#[test]
fn an_orin_nano_is_read_whole() {
    let tree = tree::orin_nano();
    let mut machine = Machine::open(tree.root());
    let sample = machine.sample();
    assert!(sample.board.is_tegra());
    assert_eq!(sample.hottest(), Some(Celsius::from_millidegrees(50_218)));
    assert_eq!(sample.power_watts, Some(Watts::from_milliwatts(4_640)));
    assert!(sample.memory.is_some_and(|memory| memory.unified));
    assert_eq!(sample.gpus_absent, Some(Absent::Integrated));
    assert_eq!(sample.cpu.cores, Some(6));
    assert_eq!(sample.cpu.absent, Some(Absent::NotYet));
    assert_eq!(sample.fans.len(), 1);
    assert_eq!(sample.power_mode.and_then(|mode| mode.name).as_deref(), Some("25W"));
    assert_eq!((sample.clocks.gpu_busy_share, sample.silent), (Some(0.62), vec![]));
}

#[test]
fn a_sample_is_json_in_the_units_of_its_names() {
    let tree = tree::orin_nano();
    let json = serde_json::to_value(Machine::open(tree.root()).sample()).unwrap();
    assert_eq!(json["power_watts"], 4.64);
    assert_eq!(json["memory"]["total_bytes"], 7_789_952_u64 * 1024);
    assert_eq!(json["board"]["l4t"], "36.5.0");
    let zone = |name: &str| {
        json["zones"].as_array().unwrap().iter().find(|zone| zone["name"] == name).unwrap()
    };
    assert_eq!(zone("tj-thermal")["celsius"], 50.218);
    assert_eq!(zone("tj-thermal")["source"], "thermal");
    assert_eq!(zone("cv0-thermal")["celsius"], serde_json::Value::Null);
    assert_eq!(zone("cv0-thermal")["absent"], "this machine does not report it");
}

#[test]
fn the_order_of_sensors_does_not_follow_the_kernel_s_numbers() {
    let names = |tree: &tree::Tree| {
        let zones = Machine::open(tree.root()).sample().zones;
        zones.into_iter().map(|zone| zone.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&tree::orin_nano()), names(&tree::orin_nano_renumbered()));
}

#[test]
fn sensors_that_appear_later_are_found() {
    let tree = tree::of(&[]);
    let mut machine = Machine::open(tree.root());
    machine.sample();
    tree.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    tree.write("sys/class/thermal/thermal_zone0/temp", "40000\n");
    assert_eq!(machine.sample().hottest(), None);
    let later = machine.sample_at(Instant::now() + crate::group::SEARCH_PERIOD);
    assert_eq!(later.hottest(), Some(Celsius::from_millidegrees(40_000)));
}

#[test]
fn a_sample_grows_old() {
    let sample = Machine::open(tree::of(&[]).root()).sample();
    let later = sample.taken + Duration::from_secs(3);
    assert_eq!(sample.age(later), Duration::from_secs(3));
    assert_eq!(sample.age(sample.taken - Duration::from_secs(1)), Duration::ZERO);
}

#[test]
fn every_board_has_its_own_total() {
    for (tree, name, watts) in [
        (tree::orin_nano(), "Jetson Orin Nano 8GB", 4.64),
        (tree::orin_nx_16gb(), "Jetson Orin NX 16GB", 4.644),
        // Not the rail of the second monitor, which the first one feeds.
        (tree::agx_orin_64gb(), "Jetson AGX Orin 64GB", 8.514),
        (tree::orin_nano_jetpack_7(), "Jetson Orin Nano 8GB", 4.64),
    ] {
        let sample = Machine::open(tree.root()).sample();
        let module = sample.facts.module.as_ref().unwrap();
        assert_eq!((module.name, sample.cpu.cores), (name, Some(module.cores)));
        assert_eq!(sample.power_watts.map(Watts::watts), Some(watts), "{name}");
        assert!(sample.silent.is_empty() && sample.clocks.gpu.is_some(), "{name}");
    }
}

#[test]
fn what_rarely_changes_is_read_once_a_minute() {
    let tree = tree::orin_nano();
    let mut machine = Machine::open(tree.root());
    let start = Instant::now();
    machine.sample_at(start);
    tree.write("sys/fs/ext4/nvme0n1p1/errors_count", "3\n");
    let errors = |sample: Sample| sample.facts.storage.ext4[0].errors;
    assert_eq!(errors(machine.sample_at(start + Duration::from_secs(2))), 0);
    assert_eq!(errors(machine.sample_at(start + crate::group::SEARCH_PERIOD)), 3);
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

/// Whether a path fits a pattern in which `*` is anything within a name.
fn fits(path: &str, pattern: &str) -> bool {
    let (mut names, mut patterns) = (path.split('/'), pattern.split('/'));
    loop {
        match (names.next(), patterns.next()) {
            (None, None) => return true,
            (Some(name), Some(pattern)) if fits_name(name, pattern) => {}
            _ => return false,
        }
    }
}

fn leads_to(directory: &str, pattern: &str) -> bool {
    let depth = directory.split('/').count();
    fits(directory, &pattern.split('/').take(depth).collect::<Vec<_>>().join("/"))
}

fn fits_name(name: &str, pattern: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return name == pattern };
    let Some(rest) = name.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits_name(&rest[at..], after))
}

#[test]
fn the_list_of_files_has_all_that_is_read() {
    let list: Vec<&str> = include_str!("../../files")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    for tree in [tree::orin_nano(), tree::agx_orin_64gb(), tree::pc()] {
        Machine::open(tree.root()).sample();
        let root: Root = tree.root();
        for path in watch::seen::below(root.as_path()) {
            // A directory is in the list by the files in it.
            let is_file = root.as_path().join(&path).is_file();
            let path = path.to_str().unwrap();
            let listed =
                |pattern: &&str| fits(path, pattern) || (!is_file && leads_to(path, pattern));
            assert!(list.iter().any(listed), "{path} is not in the list");
        }
    }
}

proptest! {
    // Each case rewrites all of a board's files, which are about 200.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_bytes_in_any_file_stop_a_machine(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..48), 1..8),
        numbers in prop::collection::vec("-?[0-9]{1,24}\n", 1..8),
        keep in 0_usize..6,
    ) {
        let tree = tree::agx_orin_64gb();
        for (index, path) in files(tree.path()).into_iter().enumerate() {
            let name = path.file_name().unwrap().to_str().unwrap();
            // Most sensors are only found by a name that is right.
            let is_name = ["name", "type", "compatible"].contains(&name) || name.ends_with("_label");
            if path.is_symlink() || (is_name && keep > 0) {
                continue;
            }
            let bytes = &contents[index % contents.len()];
            let number = &numbers[index % numbers.len()];
            std::fs::write(&path, if index % 2 == 0 { bytes } else { number.as_bytes() }).unwrap();
        }
        // A thread that panicked would never answer again.
        let mut machine = Machine::open(tree.root());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !machine.sample().silent.is_empty() {
            prop_assert!(Instant::now() < deadline);
        }
        serde_json::to_string(&machine.sample()).unwrap();
    }
}
