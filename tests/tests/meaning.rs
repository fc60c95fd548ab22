//! Code that is found by what it does, whatever it calls that: with a real embedder,
//! without one, and with one that dies.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::appliance::{Appliance, Setup};
use tests::console::{said, stoker};
use tests::engine::{EMBEDDER, Engine, install_embedder};
use tests::patience::until;

const SEARCH: &str = "/v1/search";

/// Functions whose names and words are not those that people ask with.
const CODE: &str = "
fn set_blower_pwm(duty: u8) { write_register(0x30, duty); }

fn read_junction_celsius() -> f32 { f32::from(read_register(0x31)) / 8.0 }

fn open_tcp_socket(host: &str, port: u16) -> Socket { Socket::connect(host, port) }

fn parse_json_document(bytes: &[u8]) -> Value { Value::from_slice(bytes) }

fn sort_descending(numbers: &mut Vec<u32>) { numbers.sort_by(|a, b| b.cmp(a)); }
";

fn repository(path: &str, text: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(path), text).unwrap();
    root
}

fn setup(code: &Path) -> Setup {
    let path = code.display();
    Setup::new(&Engine::echo()).config(&format!(
        "[index]\nperiod_s = 1\n[[repository]]\nname = \"board\"\npath = \"{path}\"\n"
    ))
}

fn with_embedder(code: &Path) -> Setup {
    let setup = setup(code);
    install_embedder(setup.state_path());
    setup
}

/// Once all of so many texts have vectors.
fn when_made(appliance: &Appliance, texts: u64) -> Value {
    let status = appliance.status_when("every text has a vector", |status| {
        let vectors = &status["index"]["vectors"];
        vectors["made"] == texts && vectors["left"] == 0 && vectors["state"] == "made"
    });
    status["index"]["vectors"].clone()
}

fn search(appliance: &Appliance, query: &str) -> Value {
    appliance.post(SEARCH, &json!({ "query": query })).good()
}

/// The same, once the embedder has told what the question means.
fn meant(appliance: &Appliance, query: &str) -> Value {
    until(&format!("{query:?} is searched by its meaning"), || {
        Some(search(appliance, query)).filter(|found| found["words_only"].is_null())
    })
}

#[test]
fn code_is_found_by_what_it_means() {
    let code = repository("board.rs", CODE);
    let appliance = with_embedder(code.path()).start();
    assert_eq!(when_made(&appliance, 5)["model"], EMBEDDER);
    for (query, name) in [
        ("make the fan spin faster", "set_blower_pwm"),
        ("how hot is the chip", "read_junction_celsius"),
        ("talk to another computer over the network", "open_tcp_socket"),
        ("order from largest to smallest", "sort_descending"),
    ] {
        let found = meant(&appliance, query);
        let hit = &found["data"][0];
        assert_eq!(hit["header"], format!("board.rs > {name}"), "{query}: {found}");
        assert!(hit["meaning"].as_f64().unwrap() > 0.1, "{hit}");
        let scores = found["data"].as_array().unwrap().iter();
        let scores: Vec<_> = scores.map(|hit| hit["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|one, next| one >= next), "{scores:?}");
    }
    // A name is found by its words as well, and both are told.
    let hit = &meant(&appliance, "read_junction_celsius")["data"][0];
    assert_eq!(hit["header"], "board.rs > read_junction_celsius");
    assert!(hit["words"].as_f64().unwrap() > 0.0 && hit["meaning"].as_f64().unwrap() > 0.5);

    let said = said(&stoker(&appliance, &["index", "status"]));
    assert!(said.contains(&format!("vectors by {EMBEDDER}: 5 of 5 texts\n")), "{said}");

    // Without its embedder it is at no loss for words, and soon has another one.
    let pid = appliance.status()["embedder"]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    let found = search(&appliance, "sort_descending");
    assert_eq!(found["data"][0]["header"], "board.rs > sort_descending");
    let _ = meant(&appliance, "how hot is the chip");
}

#[test]
fn without_an_embedder_words_count_alone_until_there_is_one() {
    let code = repository("board.rs", CODE);
    let appliance = setup(code.path()).start();
    let indexed = "it is indexed";
    let status =
        appliance.status_when(indexed, |status| status["index"]["repositories"][0]["chunks"] == 5);
    assert_eq!(status["index"]["vectors"], Value::Null);
    let found = search(&appliance, "junction");
    assert_eq!(found["words_only"], "no embedder is installed");
    assert_eq!(found["data"][0]["header"], "board.rs > read_junction_celsius");
    install_embedder(appliance.state_dir());
    let _ = when_made(&appliance, 5);
    let found = meant(&appliance, "how hot is the chip");
    assert_eq!(found["data"][0]["header"], "board.rs > read_junction_celsius", "{found}");
}

#[test]
fn killed_while_it_embeds_it_goes_on_where_it_was() {
    let functions: String = (0..64)
        .map(|number| format!("fn task_{number}() {{\n    compute({number});\n}}\n\n"))
        .collect();
    let code = repository("tasks.rs", &functions);
    let mut appliance = with_embedder(code.path()).start();
    let mut before = 0;
    for _ in 0..2 {
        let _ = appliance.status_when("some more vectors are written", |status| {
            let made = status["index"]["vectors"]["made"].as_u64();
            made.is_some_and(|made| made > before || before == 64)
        });
        appliance.signal(Signal::SIGKILL);
        let setup = appliance.ended();
        let database = Connection::open(setup.state_path().join("code.db")).unwrap();
        let select = "SELECT count(*) FROM vectors";
        let now = database.query_row(select, [], |row| row.get::<_, u64>(0)).unwrap();
        assert!(now >= before, "{now} vectors of {before} are left");
        before = now;
        appliance = setup.start();
    }
    let _ = when_made(&appliance, 64);
    let database = Connection::open(appliance.state_dir().join("code.db")).unwrap();
    let count = |select: &str| database.query_row(select, [], |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(count("SELECT sum(live) FROM vector_blocks"), 64);
    assert_eq!(count("SELECT count(*) FROM unembedded"), 0);
    assert_eq!(
        database.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(),
        "ok"
    );
}
