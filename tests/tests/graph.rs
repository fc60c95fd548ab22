//! The graph of names from outside: what a search finds beside its hits.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::appliance::{Appliance, Setup};
use tests::console::{said, stoker};
use tests::engine::Engine;
use tests::patience::until;
use tests::repository::{repository, write};

/// A fan whose speed is set over a bus, in two languages.
fn fans() -> TempDir {
    repository(&[
        ("src/fan.rs", "fn spin_up() {\n    let zither = 7;\n    write_duty(zither);\n}\n"),
        ("src/bus.rs", "pub fn write_duty(value: u8) {\n    raw(value)\n}\n"),
        ("src/main.rs", "fn main() {\n    fan::spin_up();\n}\n"),
        ("tools/fan.py", "def write_duty(value):\n    return value\n"),
    ])
}

/// An appliance with everybody's repository of this name, followed all the time.
fn start(name: &str, code: &Path) -> Appliance {
    let path = code.display();
    let config = format!("[[repository]]\nname = \"{name}\"\npath = \"{path}\"\n");
    Setup::new(&Engine::echo()).config(&config).start()
}

/// Headers of what is found, each with its links.
fn found(appliance: &Appliance, words: &str) -> Vec<String> {
    let answer = appliance.client().post("/v1/search", &json!({"query": words})).good();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |hit: &Value| {
        let links = hit["why"]["linked"].as_array().unwrap().iter().map(|link| {
            format!(" {} {} ({})", text(&link["how"]), text(&link["hit"]), text(&link["name"]))
        });
        text(&hit["header"]) + &links.collect::<String>()
    };
    answer["data"].as_array().unwrap().iter().map(one).collect()
}

fn find_until(appliance: &Appliance, words: &str, expected: &[&str]) {
    until(&format!("{words:?} finds {expected:?}"), || {
        (found(appliance, words) == expected).then_some(())
    });
}

const OF_SPIN: [&str; 3] = [
    "src/fan.rs > spin_up",
    "src/bus.rs > write_duty called by src/fan.rs > spin_up (write_duty)",
    "src/main.rs > main calls src/fan.rs > spin_up (spin_up)",
];

#[test]
fn a_search_brings_what_its_hits_call_and_what_calls_them() {
    let code = fans();
    let appliance = start("fans", code.path());
    find_until(&appliance, "zither", &OF_SPIN);
    let shown = said(&stoker(&appliance, &["search", "zither"]));
    assert!(shown.contains("called by src/fan.rs > spin_up as write_duty"), "{shown}");
    assert!(shown.contains("calls spin_up of src/fan.rs > spin_up"), "{shown}");
}

#[test]
fn a_hostile_file_has_its_names_bounded_and_hides_nobody_elses() {
    let code = fans();
    let calls: String = (0..5000).map(|number| format!("    call_{number}();\n")).collect();
    fs::write(code.path().join("src/many.rs"), format!("fn many() {{\n{calls}}}\n")).unwrap();
    let name = "x".repeat(100_000);
    let long = format!("fn {name}() {{\n    {name}();\n{}}}\n", "    spin_up();\n".repeat(2000));
    fs::write(code.path().join("src/long.rs"), long).unwrap();
    let appliance = start("fans", code.path());
    until("everything is indexed", || {
        (found(&appliance, "call_4999").first()?.starts_with("src/many.rs > many")).then_some(())
    });
    until("what is called is found beside it", || {
        found(&appliance, "zither").contains(&OF_SPIN[1].to_owned()).then_some(())
    });
    let database = Connection::open(appliance.state_dir().join("code.db")).unwrap();
    let count = |select: &str| database.query_row(select, [], |row| row.get::<_, i64>(0)).unwrap();
    let most = count("SELECT max(n) FROM (SELECT count(*) AS n FROM uses GROUP BY text)");
    assert!((1..=64).contains(&most), "{most} names in one chunk");
    assert_eq!(count("SELECT count(*) FROM definitions WHERE length(name) > 80"), 0);
}

#[test]
fn an_index_of_an_earlier_version_gets_its_names_with_the_next_pass() {
    let code = fans();
    let appliance = start("fans", code.path());
    find_until(&appliance, "zither", &OF_SPIN);
    appliance.signal(Signal::SIGKILL);
    let setup = appliance.ended();
    let database = Connection::open(setup.state_path().join("code.db")).unwrap();
    // As version 2 of it was: no names, and another way of cutting.
    database
        .execute_batch(
            "DROP TABLE uses; DROP TABLE definitions; ALTER TABLE texts DROP COLUMN named;
             UPDATE files SET hash = zeroblob(32); PRAGMA user_version = 2;",
        )
        .unwrap();
    let texts = |database: &Connection| -> Vec<i64> {
        let mut select = database.prepare("SELECT id FROM texts ORDER BY id").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(texts(&database).len(), 4);
    drop(database);
    let appliance = setup.start();
    find_until(&appliance, "zither", &OF_SPIN);
}

#[test]
fn an_edit_is_found_without_waiting_for_the_next_pass() {
    let code = fans();
    fs::write(code.path().join(".gitignore"), "made/\n*.log\n").unwrap();
    // A pass an hour: what is found sooner was seen.
    let path = code.path().display();
    let config =
        format!("[index]\nperiod_s = 3600\n[[repository]]\nname = \"fans\"\npath = \"{path}\"\n");
    let appliance = Setup::new(&Engine::echo()).config(&config).start();
    find_until(&appliance, "zither", &OF_SPIN);
    let write = |path, text| write(code.path(), path, text);
    // Whichever pass finds it, the repository is watched from the second one on.
    write("src/bus.rs", "fn harp() {}\n");
    find_until(&appliance, "harp", &["src/bus.rs > harp"]);
    let new = ["one/deep/a.rs > oboe"];
    write("one/deep/a.rs", "fn oboe() {}\n");
    find_until(&appliance, "oboe", &new);
    fs::rename(code.path().join("one"), code.path().join("two")).unwrap();
    find_until(&appliance, "oboe", &["two/deep/a.rs > oboe"]);
    // As editors do it: beside, then over it.
    write("two/deep/.a.rs.tmp", "fn bassoon() {}\n");
    fs::rename(code.path().join("two/deep/.a.rs.tmp"), code.path().join("two/deep/a.rs")).unwrap();
    find_until(&appliance, "bassoon", &["two/deep/a.rs > bassoon"]);
    write("made/b.rs", "fn viola() {}\n");
    write("src/c.log", "viola\n");
    fs::remove_dir_all(code.path().join("two")).unwrap();
    find_until(&appliance, "bassoon", &[]);
    assert_eq!(found(&appliance, "viola"), [""; 0]);
    write(".gitignore", "*.log\n");
    find_until(&appliance, "viola", &["made/b.rs > viola"]);
    let status = appliance.status();
    assert_eq!(status["index"]["repositories"][0]["unwatched"], Value::Null);
}

#[test]
fn a_map_shows_what_most_rests_on_within_its_budget() {
    let code = fans();
    for number in 0..6 {
        let text = format!("fn user_{number}() {{\n    bus::write_duty({number});\n}}\n");
        fs::write(code.path().join(format!("src/user_{number}.rs")), text).unwrap();
    }
    let appliance = start("fans", code.path());
    until("everything is indexed", || {
        (found(&appliance, "user_5").first()? == "src/user_5.rs > user_5").then_some(())
    });
    let map = |query: &str| appliance.get(&format!("/api/repositories/fans/map{query}")).good();
    let all = map("");
    assert_eq!(all["files"][0]["path"], "src/bus.rs", "{all}");
    let first = json!({"line": 1, "name": "write_duty", "text": "pub fn write_duty(value: u8) {"});
    assert_eq!(all["files"][0]["definitions"], json!([first]));
    assert_eq!(all["definitions"], 10);
    let small = map("?tokens=15");
    assert!(small["tokens_about"].as_u64().unwrap() <= 15, "{small}");
    assert_eq!(small["files"].as_array().unwrap().len(), 1, "{small}");
    assert_eq!(map("?focus=src%2Fmain.rs")["definitions"], 10);
    let shown = said(&stoker(&appliance, &["index", "map", "fans", "--tokens", "40"]));
    assert!(shown.starts_with("src/bus.rs\n     1  pub fn write_duty"), "{shown}");
    let _ = appliance.get("/api/repositories/fans/map?tokens=0").refusal(400);
    let _ = appliance.get("/api/repositories/nobodys/map").refusal(404);
}

#[test]
fn a_private_map_is_its_keys_alone() {
    let code = fans();
    let appliance = Setup::new(&Engine::echo()).start();
    let alice = appliance.client().with_key("alice");
    let body = json!({"path": code.path(), "name": "plans"});
    let _ = alice.post("/api/repositories", &body).good();
    until("alice's is mapped", || {
        let map = alice.get("/api/repositories/plans/map").good();
        (map["definitions"] == 4).then_some(())
    });
    for stranger in [appliance.client(), appliance.client().with_key("bob")] {
        let refusal = stranger.get("/api/repositories/plans/map").refusal(404);
        assert_eq!(refusal["code"], "repository_not_found");
    }
}
