//! An engine of another release: another one serves in its place, until the
//! chosen one was built again. And what is built again waits for a server at rest.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use engine_api::manifest::{FILE_NAME, Manifest, Smoke};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::appliance::{Appliance, Setup};
use tests::engine::{ECHO, Engine, install_into};
use tests::process;

const RELEASE: &str = "# R36 (release), REVISION: 5.0, GCID: 1, BOARD: generic, EABI: aarch64\n";

/// A machine with Jetson Linux 36.5.0, and a state directory.
struct Yard {
    root: TempDir,
}

impl Yard {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/nv_tegra_release"), RELEASE).unwrap();
        Self { root }
    }

    fn setup(&self, engine: &Engine) -> Setup {
        let root = self.root.path().to_str().unwrap();
        let config = format!(
            "root = {root:?}\n[engine]\nmodel = \"chosen\"\n[telemetry]\nperiod_ms = 200\n"
        );
        Setup::new(engine).config(&config)
    }
}

/// Writes the engine `chosen`, as one that was built for this release.
fn put_chosen(state_dir: &Path, release: &str, engine: &Engine) {
    let place = tempfile::tempdir().unwrap();
    install_into(place.path(), engine);
    let mut manifest = Manifest::read(&place.path().join("engines").join(ECHO)).unwrap();
    manifest.id = "chosen".into();
    manifest.bound_to.l4t = Some(release.into());
    // Without a proof it is no engine for the builder.
    manifest.smoke = Some(Smoke {
        load_ms: 1,
        prefill_tokens_per_s: 1000.0,
        decode_tokens_per_s: 1000.0,
        answer_sha256: "0".repeat(64),
    });
    let dir = state_dir.join("engines/chosen");
    fs::create_dir_all(&dir).unwrap();
    // As a builder does: never half of it.
    fs::write(dir.join("new"), toml::to_string(&manifest).unwrap()).unwrap();
    fs::rename(dir.join("new"), dir.join(FILE_NAME)).unwrap();
}

fn chat(appliance: &Appliance, model: &str) -> Value {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    appliance.post("/v1/chat/completions", &body).good()
}

fn kinds(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect()
}

#[test]
fn another_engine_serves_until_the_chosen_one_was_built_again() {
    let yard = Yard::new();
    let setup = yard.setup(&Engine::echo());
    put_chosen(setup.state_path(), "36.4.3", &Engine::echo());
    let appliance = setup.start();
    let status = appliance.status();
    assert_eq!(status["engine"]["model"], ECHO);
    assert_eq!(kinds(&status["problems"]), ["engine_stale"]);
    let problem = status["problems"][0]["problem"].as_str().unwrap();
    for part in ["chosen was built for L4T 36.4.3, here 36.5.0", "echo is served in its place"] {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(kinds(&status["incidents"]), ["engine_stale"]);
    // Clients go on to ask for the engine that they know.
    assert_eq!(chat(&appliance, "chosen")["choices"][0]["message"]["content"], "hello");

    put_chosen(appliance.state_dir(), "36.5.0", &Engine::echo());
    let status = appliance.status_when("the chosen engine serves", |status| {
        status["engine"]["model"] == "chosen" && status["engine"]["state"]["name"] == "ready"
    });
    assert_eq!(kinds(&status["problems"]), [""; 0]);
    assert_eq!(kinds(&status["incidents"]), ["engine_stale"], "that is no failure");
    assert_eq!(status["engine"]["restarts"], 0);
    assert_eq!(chat(&appliance, "chosen")["choices"][0]["message"]["content"], "hello");
}

#[test]
fn answers_under_way_are_not_disturbed_when_the_chosen_engine_comes_back() {
    let yard = Yard::new();
    let setup = yard.setup(&Engine::echo_with_steps_of(20));
    put_chosen(setup.state_path(), "36.4.3", &Engine::echo());
    let appliance = setup.start();
    let text = "x".repeat(200);
    let body = json!({"messages": [{"role": "user", "content": text}], "stream": true});
    let mut answer = appliance.stream("/v1/chat/completions", &body);
    let first = answer.wait_for_text();
    put_chosen(appliance.state_dir(), "36.5.0", &Engine::echo());
    let rest = answer.transcript();
    assert!(rest.is_done(), "{rest:?}");
    assert_eq!(first + &rest.text(0), text);
    appliance.status_when("the chosen engine serves", |status| {
        status["engine"]["model"] == "chosen" && status["engine"]["state"]["name"] == "ready"
    });
}

#[test]
fn where_nothing_else_is_built_the_reason_is_said_and_nothing_is_tried() {
    let yard = Yard::new();
    let setup = yard.setup(&Engine::Absent);
    put_chosen(setup.state_path(), "36.4.3", &Engine::echo());
    let appliance = setup.listen();
    let status =
        appliance.status_when("it says so", |status| status["engine"]["state"]["name"] == "failed");
    let reason = status["engine"]["state"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("36.4.3, here 36.5.0") && reason.contains("no other engine"),
        "{reason}"
    );
    assert!(status["engine"]["pid"].is_null());
    assert_eq!(kinds(&status["incidents"]), ["engine_stale"]);
    // One that is built now stands in.
    install_into(appliance.state_dir(), &Engine::echo());
    appliance.status_when("another engine serves", |status| {
        status["engine"]["model"] == ECHO && status["engine"]["state"]["name"] == "ready"
    });
}

fn rebuild(yard: &Yard, appliance: &Appliance) -> Output {
    Command::new(process::program("engine-builder"))
        .args(["rebuild", "--when-idle", "--url"])
        .arg(format!("http://{}", appliance.address()))
        .arg("--state-dir")
        .arg(appliance.state_dir())
        .arg("--root")
        .arg(yard.root.path())
        .output()
        .unwrap()
}

#[test]
fn what_is_built_again_waits_for_a_server_at_rest() {
    let yard = Yard::new();
    let setup = yard.setup(&Engine::echo_with_steps_of(20));
    put_chosen(setup.state_path(), "36.4.3", &Engine::echo());
    let appliance = setup.start();
    let body = json!({"messages": [{"role": "user", "content": "x".repeat(1500)}], "stream": true});
    let mut answer = appliance.stream("/v1/chat/completions", &body);
    let _ = answer.wait_for_text();
    let output = rebuild(&yard, &appliance);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(16), "{said}");
    assert!(said.contains("not now: the server runs 1 requests"), "{said}");
    drop(answer);
    appliance.status_when("the server rests", |status| status["queue"]["running"] == 0);
    let output = rebuild(&yard, &appliance);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // An engine of the test backend cannot be built again: it came so far.
    assert_eq!(output.status.code(), Some(9), "{said}");
    assert!(said.contains("chosen cannot be built again by itself"), "{said}");
}
