//! A build beside a server that goes on serving: seen over HTTP and on the page
//! while it runs, when it was killed, and when it has ended.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::appliance::{Appliance, Setup};
use tests::browser::{Browser, Screen};
use tests::engine::{Engine, real_engine};
use tests::patience::until;
use tests::process;

/// A server, and beside it a builder whose worker starts when it is let go.
struct Yard {
    appliance: Appliance,
    place: TempDir,
}

/// Waits for the file that lets it go, or for the end of its builder.
const WORKER: &str = "#!/bin/sh
while [ ! -e \"$STOKER_TEST_GO\" ] && kill -0 $PPID; do sleep 0.05; done
exec \"$STOKER_TEST_WORKER\" \"$@\"
";

impl Yard {
    fn new() -> Self {
        let setup = Setup::new(&Engine::echo()).config("[telemetry]\nperiod_ms = 200\n");
        let yard = Self { appliance: setup.start(), place: tempfile::tempdir().unwrap() };
        fs::write(yard.worker(), WORKER).unwrap();
        fs::set_permissions(yard.worker(), Permissions::from_mode(0o755)).unwrap();
        yard
    }

    fn worker(&self) -> PathBuf {
        self.place.path().join("worker")
    }

    /// Builds the default model under a name of its own.
    fn build(&self) -> Child {
        Command::new(process::program("engine-builder"))
            .args(["build", "--name", "mine", "--format", "json", "--gguf"])
            .arg(real_engine().join("weights.gguf"))
            .arg("--state-dir")
            .arg(self.appliance.state_dir())
            .arg("--worker")
            .arg(self.worker())
            .env("STOKER_TEST_GO", self.place.path().join("go"))
            .env("STOKER_TEST_WORKER", process::program("engine-worker"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn let_go(&self) {
        fs::write(self.place.path().join("go"), "").unwrap();
    }

    fn build_when(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.appliance.status_when(what, |status| is(&status["build"]))["build"].clone()
    }
}

#[test]
fn a_build_is_seen_while_it_runs_and_when_it_has_ended() {
    let yard = Yard::new();
    assert_eq!(yard.appliance.status()["build"], Value::Null);
    let mut builder = yard.build();
    let build = yard.build_when("the build waits for its worker", |build| {
        build["state"] == "running" && build["step"] == "verify"
    });
    assert_eq!(build["engine"], "mine");
    assert_eq!((&build["step_number"], &build["steps"]), (&5.into(), &6.into()));
    assert_eq!(build["pid"], builder.id());
    assert_eq!(build["text"], "loading the engine in a worker");
    assert!(build["share"].is_null() && build["ended"].is_null(), "{build}");
    yard.let_go();
    assert!(builder.wait().unwrap().success());
    let build = yard.build_when("the build has ended", |build| build["state"] == "built");
    assert_eq!(build["text"], "mine is built");
    assert!(build["ended"]["at"].as_u64() >= build["started"].as_u64(), "{build}");
    assert_eq!(yard.appliance.status()["engine"]["model"], "echo", "what serves goes on serving");
}

#[test]
fn a_builder_that_is_killed_is_seen_to_be_gone() {
    let yard = Yard::new();
    let mut builder = yard.build();
    yard.build_when("the build waits for its worker", |build| build["step"] == "verify");
    builder.kill().unwrap();
    builder.wait().unwrap();
    let build = yard.build_when("it was cut", |build| build["state"] == "cut");
    assert_eq!((&build["engine"], &build["ended"]), (&"mine".into(), &Value::Null));
    yard.let_go();
    assert!(yard.build().wait().unwrap().success());
    yard.build_when("the next one ends well", |build| build["state"] == "built");
}

#[test]
fn a_build_that_is_called_off_or_fails_says_so() {
    let yard = Yard::new();
    let mut builder = yard.build();
    yard.build_when("the build waits for its worker", |build| build["step"] == "verify");
    process::signal(builder.id(), Signal::SIGTERM);
    assert_eq!(builder.wait().unwrap().code(), Some(130));
    yard.build_when("it was called off", |build| build["state"] == "interrupted");

    fs::write(yard.worker(), "#!/bin/sh\necho no such device >&2\nexit 3\n").unwrap();
    assert_eq!(yard.build().wait().unwrap().code(), Some(7));
    let build = yard.build_when("it failed", |build| build["state"] == "failed");
    assert!(build["text"].as_str().unwrap().contains("no such device"), "{build}");
}

#[test]
fn the_page_shows_a_build() {
    let yard = Yard::new();
    let browser = Browser::start(Screen::Phone);
    browser.open(&format!("http://{}/", yard.appliance.address()));
    let wait_for = |words: &str| {
        until(&format!("the page says {words:?}"), || {
            browser.text().to_lowercase().contains(words).then_some(())
        });
    };
    wait_for("ready");
    assert!(!browser.text().contains("Build of an engine"));
    let mut builder = yard.build();
    wait_for("building mine");
    wait_for("step 5 of 6, verify");
    let width = browser.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(width <= 360, "the page is {width} points wide");
    builder.kill().unwrap();
    builder.wait().unwrap();
    wait_for("the build was cut short: mine");
    yard.let_go();
    assert!(yard.build().wait().unwrap().success());
    wait_for("built mine");
    assert_eq!(browser.complaints(), [""; 0]);
}
