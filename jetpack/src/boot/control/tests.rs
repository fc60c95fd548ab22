//! What NVIDIA's tool prints, with and without its complaints, and what is no answer.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::tree;
use proptest::prelude::*;

/// As NVIDIA's program prints it.
const TWO: &str = "Current rootfs slot: A\nActive rootfs slot: A\nnum_slots: 2\n\
    slot: 0,             retry_count: 3,             status: normal\n\
    slot: 1,             retry_count: 0,             status: unbootable\n";

fn two() -> Systems {
    Systems::Two(Pair {
        running: System { name: 'A', retries: 3, boots: true },
        other: System { name: 'B', retries: 0, boots: false },
        next: 'A',
    })
}

/// A machine whose `nvbootctrl` is this script.
fn with(script: &str) -> (tree::Tree, Control) {
    let tree = tree::of(&[(PROGRAM, &format!("#!/bin/sh\n{script}\n"))]);
    let program = tree.path().join(PROGRAM);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let control = Control::find(&tree.root()).unwrap();
    (tree, control)
}

#[test]
fn two_systems_are_told_with_what_each_may_still_fail() {
    assert_eq!(parse(TWO), Some(two()));
    let other = TWO.replace("Current rootfs slot: A", "Current rootfs slot: B");
    let Some(Systems::Two(pair)) = parse(&other) else { panic!("{other}") };
    assert_eq!((pair.running.name, pair.other.name, pair.next), ('B', 'A', 'A'));
    assert_eq!(pair.system('B'), Some(&pair.running));
    assert_eq!(parse("RootFS A/B is not enabled.\n"), Some(Systems::One));
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let bootloader = "Current version: 36.4.7\nCapsule update status: 1\n\
        Current bootloader slot: A\nActive bootloader slot: A\nnum_slots: 2\n\
        slot: 0,             status: normal\nslot: 1,             status: normal\n";
    let twice = TWO.replace("slot: 1", "slot: 0");
    let third = TWO.replace("Current rootfs slot: A", "Current rootfs slot: C");
    for said in ["", bootloader, &twice, &third, "Error: can not open /dev/mem\n"] {
        assert_eq!(parse(said), None, "{said}");
    }
}

#[test]
fn a_complaint_and_its_exit_status_do_not_spoil_an_answer() {
    let script = format!("echo 'Error: can not open /dev/mem' >&2; cat <<END\n{TWO}END\nexit 1");
    assert_eq!(with(&script).1.systems().unwrap(), two());
    let error = with("echo 'what?'; exit 0").1.systems().unwrap_err();
    assert_eq!(error.to_string(), "nvbootctrl says something unknown of the systems: what?");
}

#[test]
fn marking_fails_when_it_says_so() {
    assert!(with("test \"$*\" = verify").1.verify().is_ok());
    let error = with("echo 'no firmware'; exit 3").1.verify().unwrap_err().to_string();
    assert!(error.ends_with("ended with exit status: 3: no firmware"), "{error}");
    assert!(Control::find(&tree::pc().root()).is_none());
}

#[test]
fn the_next_boot_s_system_is_set_and_read_back() {
    let script = |active: &str| {
        let said = TWO.replace("Active rootfs slot: A", &format!("Active rootfs slot: {active}"));
        format!("case $* in 'set-active-boot-slot 1') exit 1 ;; esac; cat <<END\n{said}END")
    };
    // Its status says little, and what it says afterwards a lot.
    assert!(with(&script("B")).1.start_next('B').is_ok());
    assert!(with(&script("A")).1.start_next('B').is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        said in "(Current rootfs slot: |Active rootfs slot: |slot: |retry_count: |status: |normal|[0-9A-C]|,|\n| ){0,30}"
    ) {
        let _ = parse(&said);
    }
}
