//! Another embedder takes over the index of code: its vectors are made beside those of
//! the one before it, which are searched until the new ones are whole.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::answer::Answer;
use tests::appliance::{Appliance, Setup};
use tests::console::{said, stoker};
use tests::engine::{EMBEDDER, Engine, GGUF_EMBEDDER, install_embedder, install_gguf_embedder};
use tests::patience::until;

const TEXTS: u64 = 40;
const QUERY: &str = "make the fan spin faster";
const HIT: &str = "board.rs > set_blower_pwm";

/// One function that is found by its meaning alone, among many.
fn repository() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut code = "fn set_blower_pwm(duty: u8) { write_register(0x30, duty); }\n\n".to_owned();
    for number in 1..TEXTS {
        code += &format!("fn task_{number}() {{\n    compute({number});\n}}\n\n");
    }
    fs::write(root.path().join("board.rs"), code).unwrap();
    root
}

/// Stopped, when all vectors by the small embedder are made and another one is chosen
/// that is not built yet.
fn indexed(code: &Path) -> Setup {
    let config = |embedder: &str| {
        format!(
            "[embedding]\nmodel = \"{embedder}\"\n[index]\nperiod_s = 1\n\
             [[repository]]\nname = \"board\"\npath = \"{}\"\n",
            code.display()
        )
    };
    let setup = Setup::new(&Engine::echo_with_steps_of(100)).config(&config(EMBEDDER));
    install_embedder(setup.state_path());
    let mut appliance = setup.start();
    let _ = when_made(&appliance, EMBEDDER);
    appliance.signal(Signal::SIGTERM);
    assert!(appliance.wait_for_exit().success());
    appliance.ended().config(&config(GGUF_EMBEDDER))
}

fn when_made(appliance: &Appliance, by: &str) -> Value {
    appliance.status_when("every text has a vector", |status| {
        let vectors = &status["index"]["vectors"];
        vectors["model"] == by && vectors["made"] == TEXTS && vectors["left"] == 0
    })
}

/// An answer that goes on, builds the new embedder, and looks at it wait for the answer.
fn held_up(appliance: &Appliance) -> Answer {
    let chat = json!({
        "messages": [{ "role": "user", "content": "the answer goes on".repeat(80) }],
        "stream": true,
    });
    let answer = appliance.stream("/v1/chat/completions", &chat);
    let _ = appliance.status_when("the answer runs", |status| status["queue"]["running"] == 1);
    install_gguf_embedder(appliance.state_dir());
    let _ = appliance.status_when("the new vectors wait", |status| {
        let vectors = &status["index"]["vectors"];
        vectors["model"] == GGUF_EMBEDDER && vectors["state"] == "yielding"
    });
    answer
}

fn search(appliance: &Appliance) -> Value {
    appliance.post("/v1/search", &json!({ "query": QUERY })).good()
}

fn meant(appliance: &Appliance) -> Value {
    until("it is searched by meaning", || {
        Some(search(appliance)).filter(|found| found["words_only"].is_null())
    })
}

fn count(state_dir: &Path, select: &str) -> u64 {
    let database = Connection::open(state_dir.join("code.db")).unwrap();
    let whole = database.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(whole.unwrap(), "ok");
    database.query_row(select, [], |row| row.get(0)).unwrap()
}

#[test]
fn the_old_vectors_are_searched_until_the_new_ones_are_whole_whatever_is_killed() {
    let code = repository();
    let appliance = indexed(code.path()).start();
    // So they are where nothing makes any.
    assert_eq!(meant(&appliance)["data"][0]["header"], HIT);
    let vectors = appliance.status()["index"]["vectors"].clone();
    let reason = vectors["reason"].as_str().unwrap();
    assert!(vectors["model"] == EMBEDDER && reason.contains(GGUF_EMBEDDER), "{vectors}");

    let answer = held_up(&appliance);
    assert_eq!(meant(&appliance)["data"][0]["header"], HIT);
    let status = appliance.status();
    let vectors = &status["index"]["vectors"];
    assert_eq!((&vectors["searched"], &vectors["former"]), (&json!(EMBEDDER), &json!(true)));
    assert_eq!((&vectors["made"], &vectors["left"]), (&json!(0), &json!(TEXTS)));
    // Clients' vectors are by the new one, and the old one runs for questions alone.
    assert_eq!(status["embedder"]["model"], GGUF_EMBEDDER);
    assert_eq!(status["former_embedder"]["model"], EMBEDDER);
    assert_eq!(status["former_embedder"]["state"]["name"], "ready");
    let shown = said(&stoker(&appliance, &["index", "status"]));
    let made = format!("vectors by {GGUF_EMBEDDER}: 0 of {TEXTS} texts");
    let to_the_old = format!("questions go to the vectors by {EMBEDDER} until these are made");
    assert!(shown.contains(&made) && shown.contains(&to_the_old), "{shown}");
    drop(answer);

    let _ = appliance.status_when("some vectors are made", |status| {
        status["index"]["vectors"]["made"].as_u64() > Some(0)
    });
    appliance.signal(Signal::SIGKILL);
    let setup = appliance.ended();
    let searched = "SELECT count(*) FROM vectors
                    WHERE id >> 40 = (SELECT id FROM embedders WHERE whole = 1)";
    assert_eq!(count(setup.state_path(), searched), TEXTS);

    let appliance = setup.start();
    let status = when_made(&appliance, GGUF_EMBEDDER);
    assert_eq!(status["index"]["vectors"]["searched"], GGUF_EMBEDDER);
    assert_eq!(meant(&appliance)["data"][0]["header"], HIT);
    let gone = "the old one is not needed";
    let _ = appliance.status_when(gone, |status| status["former_embedder"].is_null());
    let state_dir = appliance.state_dir();
    let gone = || count(state_dir, "SELECT count(*) FROM embedders") == 1;
    until("the old vectors are deleted", || gone().then_some(()));
    assert_eq!(count(state_dir, "SELECT count(*) FROM vectors"), TEXTS);
    assert_eq!(count(state_dir, "SELECT sum(live) FROM vector_blocks"), TEXTS);
}

#[test]
fn without_the_old_embedder_words_count_alone_until_the_new_vectors_are_whole() {
    let code = repository();
    let setup = indexed(code.path());
    fs::remove_dir_all(setup.state_path().join("engines").join(EMBEDDER)).unwrap();
    let appliance = setup.start();
    let answer = held_up(&appliance);
    let found = search(&appliance);
    let reason = found["words_only"].as_str().unwrap();
    assert!(reason.contains(EMBEDDER) && reason.contains("not there any more"), "{reason}");
    assert_eq!(appliance.status()["former_embedder"], Value::Null);
    drop(answer);
    let _ = when_made(&appliance, GGUF_EMBEDDER);
    assert_eq!(meant(&appliance)["data"][0]["header"], HIT);
}
