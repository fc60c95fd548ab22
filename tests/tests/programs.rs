//! What the programs need and what they are made of, as `scripts/cross-build` asks
//! and tells it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tests::machine::repository;
use tests::process::program;

fn needs(limits: &[&str]) -> Output {
    Command::new("python3")
        .arg(repository().join("scripts/lib/needs.py"))
        .args(limits)
        .arg(program("stoker"))
        .output()
        .unwrap()
}

#[test]
fn a_program_that_needs_a_newer_library_is_named_with_its_symbols() {
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let fine = needs(&["--glibc", "99.0", "--glibcxx", "99.0"]);
    assert!(fine.status.success(), "{}", said(&fine));
    let newer = needs(&["--glibc", "2.17"]);
    assert!(!newer.status.success());
    let said = said(&newer);
    assert!(said.contains("stoker needs GLIBC_2.34, newer than 2.17, for "), "{said}");
    assert!(said.contains("pthread_create"), "{said}");
    let newest = needs(&["--newest", "GLIBC"]);
    assert!(String::from_utf8_lossy(&newest.stdout).starts_with("2."));
}

/// The document for these programs.
fn materials(programs: &[&str]) -> Vec<u8> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "aarch64-unknown-linux-gnu"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let mut script = Command::new("python3")
        .arg(repository().join("scripts/lib/materials.py"))
        .arg(repository().join("Cargo.lock"))
        .arg("1700000000")
        .args(programs)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    script.stdin.take().unwrap().write_all(&metadata.stdout).unwrap();
    let output = script.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn the_bill_of_materials_has_what_is_built_in_and_nothing_that_only_tests_use() {
    let text = materials(&["stoker", "engine-worker"]);
    assert_eq!(materials(&["stoker", "engine-worker"]), text);
    let document: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(document["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let components = document["components"].as_array().unwrap();
    let names: BTreeSet<_> = components.iter().map(|it| it["name"].as_str().unwrap()).collect();
    for there in ["supervisor", "engine-worker", "jetpack", "hyper", "llama-cpp-sys-2"] {
        assert!(names.contains(there), "{there}");
    }
    for absent in ["engine-builder", "proptest", "tests", "virtual-jetson"] {
        assert!(!names.contains(absent), "{absent}");
    }
    for component in components {
        let name = &component["name"];
        assert_ne!(component["licenses"].as_array().unwrap().len(), 0, "{name}");
        let ours = component["type"] == "application";
        assert_eq!(component["hashes"].is_null(), ours, "{name}");
        let within = component["components"][0]["name"].as_str();
        assert_eq!(
            within.is_some(),
            ["llama-cpp-sys-2", "libsqlite3-sys"].iter().any(|it| name == it)
        );
    }
    let dependencies = document["dependencies"].as_array().unwrap();
    assert_eq!(dependencies.len(), components.len() + 1);
}
