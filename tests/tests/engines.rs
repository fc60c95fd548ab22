//! Engines that are damaged or are none: refused when they are built, and
//! named when they are damaged later.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::appliance::{Appliance, Setup};
use tests::engine::{Engine, REAL, real_engine};
use tests::process;

/// Exit code for a file that is damaged or is not what it should be.
const DAMAGED: i32 = 6;
/// Exit code for an engine that a worker cannot load.
const UNPROVEN: i32 = 7;

fn weights() -> Vec<u8> {
    fs::read(real_engine().join("weights.gguf")).unwrap()
}

fn build(gguf: &Path, state_dir: &Path) -> Output {
    Command::new(process::program("engine-builder"))
        .args(["build", "--name", "mine", "--gguf"])
        .arg(gguf)
        .arg("--state-dir")
        .arg(state_dir)
        .output()
        .unwrap()
}

/// Building an engine from `bytes` fails with these words and leaves nothing.
fn assert_not_built(bytes: &[u8], code: i32, words: &[&str]) {
    let place = TempDir::new().unwrap();
    let gguf = place.path().join("model.gguf");
    fs::write(&gguf, bytes).unwrap();
    let output = build(&gguf, place.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert!(!place.path().join("engines/mine").exists());
}

#[test]
fn a_truncated_model_is_not_built() {
    let whole = weights();
    for length in [20, 100_000, whole.len() - 1] {
        assert_not_built(&whole[..length], DAMAGED, &["model.gguf"]);
    }
}

#[test]
fn a_file_that_is_no_model_is_not_built() {
    for bytes in [&b""[..], b"hello", &[0; 4096], &[0xFF; 4096]] {
        assert_not_built(bytes, DAMAGED, &["model.gguf", "GGUF"]);
    }
}

#[test]
fn a_model_of_an_unknown_architecture_is_not_built() {
    let mut bytes = weights();
    let key = b"general.architecture";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    // A type and a length come before the text.
    let text = &mut bytes[at + 12..at + 17];
    assert_eq!(text, b"llama");
    text.copy_from_slice(b"lhama");
    assert_not_built(&bytes, UNPROVEN, &["lhama"]);
}

/// A copy of the default model's engine, for damage.
fn copy_of_the_engine() -> (TempDir, PathBuf) {
    let place = TempDir::new().unwrap();
    let copy = place.path().join(REAL);
    fs::create_dir(&copy).unwrap();
    for name in ["engine.toml", "weights.gguf"] {
        fs::copy(real_engine().join(name), copy.join(name)).unwrap();
    }
    (place, copy)
}

/// It does not answer, says why everywhere, and has stopped trying.
fn assert_failed(appliance: &Appliance) -> Value {
    let status = appliance
        .status_when("it has failed", |status| status["engine"]["state"]["name"] == "failed");
    let reason = status["engine"]["state"]["reason"].as_str().unwrap().to_owned();
    assert!(status["engine"]["pid"].is_null());
    assert!(status["engine"]["restarts"].as_u64().unwrap() <= 1, "no restart without end");

    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    for stream in [false, true] {
        let mut body = body.clone();
        body["stream"] = json!(stream);
        let error = appliance.post("/v1/chat/completions", &body).refusal(503);
        assert!(error["message"].as_str().unwrap().contains(&reason), "{error}: {reason}");
    }
    assert_eq!(appliance.get("/health").status, 503);
    let page = appliance.client().send("GET", "/", &[("accept", "text/html")], b"").whole();
    assert!(page.text().contains("<title>Stoker</title>"));
    status
}

#[test]
fn an_engine_whose_weights_were_damaged_is_named_and_not_tried_without_end() {
    let (_place, engine) = copy_of_the_engine();
    let weights = fs::File::options().write(true).open(engine.join("weights.gguf")).unwrap();
    weights.set_len(1_000_000).unwrap();
    let appliance = Setup::new(&Engine::At(engine)).listen();
    let status = assert_failed(&appliance);
    let incident = &status["incidents"][0];
    assert_eq!(incident["kind"], "engine_load_failed");
    assert!(incident["done"].as_str().unwrap().contains("only the status is served"), "{incident}");
    assert!(incident["advice"].as_str().unwrap().contains("engine-builder"), "{incident}");
}

#[test]
fn an_engine_whose_weights_are_gone_is_named() {
    let (_place, engine) = copy_of_the_engine();
    fs::remove_file(engine.join("weights.gguf")).unwrap();
    let appliance = Setup::new(&Engine::At(engine)).listen();
    let status = assert_failed(&appliance);
    let reason = status["engine"]["state"]["reason"].as_str().unwrap();
    assert!(reason.contains("weights.gguf"), "{reason}");
}

#[test]
fn an_engine_whose_manifest_is_damaged_is_named() {
    let (_place, engine) = copy_of_the_engine();
    fs::write(engine.join("engine.toml"), "manifest_version = \"").unwrap();
    let appliance = Setup::new(&Engine::At(engine)).listen();
    let status = assert_failed(&appliance);
    let reason = status["engine"]["state"]["reason"].as_str().unwrap();
    assert!(reason.contains("engine.toml"), "{reason}");
}
