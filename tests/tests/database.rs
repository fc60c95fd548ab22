//! Databases that are damaged, full or torn away in the middle: the server
//! comes back, says what it lost, and answers in any case.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::engine::Engine;
use tests::patience::until;

const CHAT: &str = "/v1/chat/completions";
const DATABASES: [&str; 2] = ["stoker.db", "answers.db"];

fn chat(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}], "stream": true})
}

fn assert_answers(appliance: &Appliance) {
    let stream = appliance.stream(CHAT, &chat("hello")).transcript();
    assert_eq!((stream.text(0).as_str(), stream.is_done()), ("hello", true));
}

fn rows(database: &Path, table: &str) -> i64 {
    let database = Connection::open(database).unwrap();
    database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Every page and every index of both databases is as SQLite would have it.
fn assert_whole(state_dir: &Path) {
    for name in DATABASES {
        let database = Connection::open(state_dir.join(name)).unwrap();
        let verdict: String =
            database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{name}");
    }
}

/// Numbers that are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        // Constants of Knuth's MMIX; the upper bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn killed_at_any_moment_under_load_both_databases_stay_whole() {
    let mut draw = Draw(1);
    let mut appliance = Appliance::start(&Engine::echo_with_steps_of(1));
    let mut written = 0;
    for round in 0..12 {
        let client = appliance.client();
        let load = move || {
            for length in [5, 60, 300, 20, 100] {
                let _ = client.stream(CHAT, &chat(&"x".repeat(length))).transcript();
            }
        };
        let clients: Vec<_> = (0..4).map(|_| thread::spawn(load.clone())).collect();
        sleep(Duration::from_millis(draw.below(900)));
        appliance.signal(Signal::SIGKILL);
        // Each is cut off in the middle of whatever it does, and may fail.
        clients.into_iter().for_each(|client| drop(client.join()));
        let setup = appliance.ended();
        assert_whole(setup.state_path());
        let now = rows(&setup.state_path().join("stoker.db"), "requests");
        assert!(now >= written, "round {round}: {written} rows, then {now}");
        written = now;
        appliance = setup.start();
        assert_eq!(appliance.status()["incidents"], json!([]), "round {round}");
    }
    assert_answers(&appliance);
    assert!(written > 0);
}

/// An appliance that has ended, with this many rows of requests.
fn with_history(requests: i64) -> Setup {
    let appliance = Appliance::start(&Engine::echo());
    assert_answers(&appliance);
    let path = appliance.state_dir().join("stoker.db");
    until("the first row is written", || (rows(&path, "requests") == 1).then_some(()));
    appliance.signal(Signal::SIGTERM);
    let setup = appliance.ended();
    let database = Connection::open(&path).unwrap();
    let insert = "WITH RECURSIVE n (id) AS (SELECT 2 UNION ALL SELECT id + 1 FROM n WHERE id < ?1)
         INSERT INTO requests SELECT n.id, at, client, endpoint, model, outcome, reason,
             prompt_tokens, cached_tokens, completion_tokens, queued_ms, prefill_ms, decode_ms,
             total_ms FROM n, requests WHERE requests.id = 1";
    database.execute(insert, [requests]).unwrap();
    database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    setup
}

fn overwrite(path: &Path, at: usize, with: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with);
    fs::write(path, bytes).unwrap();
}

/// The incident of the damage, once it is there.
fn incident(appliance: &Appliance, kind: &str) -> Value {
    let status = appliance.status_when("it is an incident", |status| {
        status["incidents"].as_array().is_some_and(|all| all.iter().any(|one| one["kind"] == kind))
    });
    let mut incidents = status["incidents"].as_array().unwrap().iter();
    incidents.find(|one| one["kind"] == kind).unwrap().clone()
}

fn set_aside(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir).unwrap().flatten().map(|entry| entry.path());
    let is_aside = |path: &PathBuf| {
        path.to_str().unwrap().contains(".corrupt-")
            && path.extension().is_some_and(|e| {
                !e.to_str().unwrap().ends_with("-wal") && !e.to_str().unwrap().ends_with("-shm")
            })
    };
    entries.filter(is_aside).collect()
}

#[test]
fn a_page_in_the_middle_costs_the_rows_on_it_and_no_others() {
    let setup = with_history(2000);
    let path = setup.state_path().join("stoker.db");
    let pages = fs::metadata(&path).unwrap().len() / 4096;
    overwrite(&path, usize::try_from(pages / 2 * 4096).unwrap(), &[0xA5; 4096]);
    let appliance = setup.start();
    assert_answers(&appliance);
    let incident = incident(&appliance, "database_corrupt");
    let done = incident["done"].as_str().unwrap();
    assert!(done.contains("were taken over") && done.contains("lost"), "{done}");
    let left = rows(&path, "requests");
    assert!((1500..2000).contains(&left), "{left} rows; {done}");
    assert_eq!(set_aside(appliance.state_dir()).len(), 1);
}

#[test]
fn a_database_without_its_first_page_is_begun_anew() {
    let setup = with_history(500);
    let path = setup.state_path().join("stoker.db");
    overwrite(&path, 0, &[0; 4096]);
    let appliance = setup.start();
    assert_answers(&appliance);
    let incident = incident(&appliance, "database_corrupt");
    assert!(incident["done"].as_str().unwrap().contains("lost"), "{incident}");
    until("rows are written again", || (rows(&path, "requests") > 0).then_some(()));
}

#[test]
fn damage_that_is_only_found_by_a_statement_is_repaired_as_well() {
    let setup = with_history(50);
    let path = setup.state_path().join("stoker.db");
    // Every page is in order, but a table is not there.
    let database = Connection::open(&path).unwrap();
    database.execute_batch("DROP TABLE incidents").unwrap();
    drop(database);
    let appliance = setup.start();
    let incident = incident(&appliance, "database_corrupt");
    let done = incident["done"].as_str().unwrap();
    assert!(done.contains("50 rows of requests were taken over"), "{done}");
    assert_answers(&appliance);
    until("a row is written beside them", || (rows(&path, "requests") == 51).then_some(()));
    until("the incident is written", || (rows(&path, "incidents") == 1).then_some(()));
}

#[test]
fn damaged_answers_are_deleted_and_not_set_aside() {
    let setup = with_history(1);
    fs::write(setup.state_path().join("answers.db"), "not a database ".repeat(1000)).unwrap();
    let appliance = setup.start();
    assert_answers(&appliance);
    let _ = incident(&appliance, "kept_answers_lost");
    assert!(set_aside(appliance.state_dir()).is_empty());
    let answers = appliance.state_dir().join("answers.db");
    until("an answer is kept again", || (rows(&answers, "answers") > 0).then_some(()));
}

/// A file system of 2 MiB in place of the state directory, with the engine in
/// it. Seen by the server alone.
const SMALL_DISK: &str = r#"
set -e
state=$1
shift
mkdir "$state.small"
mount -t tmpfs -o size=2m stoker "$state.small"
cp -a "$state/." "$state.small"
mount --move "$state.small" "$state"
exec "$@"
"#;

#[test]
fn a_disk_that_fills_up_is_a_problem_until_there_is_room_again() {
    let setup = Setup::new(&Engine::echo());
    let state_dir = setup.state_path().to_str().unwrap().to_owned();
    let own_mounts = ["unshare", "--mount", "--map-root-user"];
    let script = ["sh", "-c", SMALL_DISK, "small-disk", &state_dir];
    let appliance = setup.through(&[&own_mounts[..], &script[..]].concat()).start();
    assert_answers(&appliance);
    // The server's own view of its files.
    let filling = format!("/proc/{}/root{state_dir}/filling", appliance.pid());
    let problems = |appliance: &Appliance| {
        let status = appliance.status();
        let kinds = status["problems"].as_array().unwrap().iter();
        kinds.map(|problem| problem["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // It ends with an error, because the disk is full.
    let _ = fs::write(&filling, vec![0; 4 << 20]);
    until("the problem is seen", || {
        assert_answers(&appliance);
        problems(&appliance).contains(&"state_dir_full".to_owned()).then_some(())
    });
    fs::remove_file(&filling).unwrap();
    until("it is over", || {
        assert_answers(&appliance);
        problems(&appliance).is_empty().then_some(())
    });
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}
