//! What happens to engines after they were built: which one serves, which may
//! go, and what is said of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::engine::{manifest, put, put_all};
use crate::place::{Ended, Place};

/// Maps a file until its standard input ends, like a worker that has loaded it.
const MAP: &str = "import mmap, sys
file = open(sys.argv[1], 'rb')
mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print('mapped', flush=True)
sys.stdin.read()";

#[track_caller]
fn says(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in parts {
        assert!(ended.stdout.contains(part), "{part:?} is not in {}", ended.stdout);
    }
}

fn default(place: &Place) -> String {
    let target = fs::read_link(place.engine("default")).unwrap();
    target.to_str().unwrap().to_owned()
}

fn objects(ended: &Ended) -> Vec<serde_json::Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_default_is_switched_and_rolled_back() {
    let place = Place::new();
    place.run(&["rollback"]).failed(3, &["no engine before this one"]);
    put_all(&place, &["one", "two"]);
    says(&place.run(&["use", "one"]), &["one is the default"]);
    says(&place.run(&["use", "two"]), &["two is the default, before it was one"]);
    assert_eq!(default(&place), "two");
    says(&place.run(&["rollback"]), &["one is the default, before it was two"]);
    assert_eq!(default(&place), "one");
    place.run(&["use", "tow"]).failed(3, &[r#"no engine "tow""#]);
    fs::write(place.engine("two/weights.gguf"), "half").unwrap();
    place.run(&["use", "two"]).failed(6, &["engine two is damaged: weights.gguf has 4 bytes"]);
    assert_eq!(default(&place), "one");
}

#[test]
fn an_engine_in_use_is_not_removed() {
    let place = Place::new();
    put_all(&place, &["one", "two", "three"]);
    says(&place.run(&["use", "one"]), &[]);
    place.run(&["remove", "one"]).failed(10, &["engine one is the default"]);
    let ended = place.command(&["remove", "two"]).env("STOKER_ENGINE__MODEL", "two").output();
    Ended::from(ended.unwrap()).failed(10, &["engine two is named by the configuration"]);

    let weights = place.engine("two/weights.gguf");
    let mut command = Command::new("python3");
    command.args(["-c", MAP, weights.to_str().unwrap()]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "mapped\n");
    place.run(&["remove", "two"]).failed(10, &["engine two is loaded by a running worker"]);
    says(&place.run(&["gc"]), &["two stays: it is loaded by a running worker"]);
    drop(holder.stdin.take());
    holder.wait().unwrap();

    says(&place.run(&["remove", "two"]), &["two is removed"]);
    assert!(!place.engine("two").exists());
}

#[test]
fn what_nobody_needs_is_collected() {
    let place = Place::new();
    says(&place.run(&["gc"]), &["there are no engines"]);
    put_all(&place, &["one", "two", "three", "four"]);
    says(&place.run(&["use", "one"]), &[]);
    says(&place.run(&["use", "two"]), &[]);
    place.file("state/engines/.building-x/weights.gguf", b"half");
    let dry = place.run(&["gc", "--dry-run", "--format", "json"]);
    let gone: Vec<_> = objects(&dry)
        .iter()
        .filter(|object| object["kept"] == false)
        .map(|object| object["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(gone, ["four", "three"]);
    assert!(place.engine("four").exists() && place.engine(".building-x").exists());
    says(&place.run(&["gc"]), &["one stays: it is the one to go back to", "2 engines removed"]);
    let mut left: Vec<_> = fs::read_dir(place.path("state/engines")).unwrap().flatten().collect();
    left.sort_by_key(fs::DirEntry::file_name);
    let names: Vec<_> = left.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(names, [".lock", ".previous", "default", "one", "two"]);
}

#[test]
fn an_engine_of_another_machine_is_said_to_be_stale_everywhere() {
    let place = Place::new();
    let mut old = manifest("old", b"old", 1_764_028_800);
    old.backend.version = "llama-cpp-2 0.0.1".into();
    old.bound_to.l4t = Some("36.4.3".into());
    put(&place, &old, b"old");
    says(&place.run(&["use", "old"]), &[]);
    let stale = "llama.cpp llama-cpp-2 0.0.1, here llama-cpp-2 ";
    says(&place.run(&["list"]), &["for L4T 36.4.3, verified 2025-11-25, stale: ", stale]);
    says(&place.run(&["verify", "old"]), &["old is sound", stale]);
    let ended = place.run(&["doctor", "--format", "json"]);
    assert_eq!(ended.code, Some(11), "{ended:?}");
    let finding = &objects(&ended)[0];
    assert_eq!(
        (&finding["kind"], &finding["severity"]),
        (&"stale_engine".into(), &"warning".into())
    );
    assert!(finding["problem"].as_str().unwrap().contains(stale), "{finding}");
}

#[test]
fn all_engines_are_verified_and_the_damaged_one_is_named() {
    let place = Place::new();
    put_all(&place, &["one", "two"]);
    says(&place.run(&["verify"]), &["one is sound", "two is sound", "2 engines are sound"]);
    fs::write(place.engine("one/weights.gguf"), "eno").unwrap();
    let ended = place.run(&["verify"]);
    ended.failed(6, &["one is not sound; the others are"]);
    assert!(ended.stdout.contains("two is sound"), "{ended:?}");
    says(&place.run(&["use", "one"]), &[]);
    place.run(&["use", "two"]);
    fs::remove_file(place.engine("two/weights.gguf")).unwrap();
    let ended = place.run(&["doctor"]);
    ended.failed(12, &["1 serious findings"]);
    assert!(ended.stdout.contains("serious  engine two is damaged"), "{ended:?}");
}

#[test]
fn where_nothing_is_built_the_doctor_says_so() {
    let ended = Place::new().run(&["doctor"]);
    ended.failed(12, &["1 serious findings, 0 warnings"]);
    assert!(ended.stdout.contains("there is no engine [no_default]"), "{ended:?}");
}
