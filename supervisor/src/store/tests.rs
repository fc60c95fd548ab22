//! Rows survive, and nothing that is wrong with the disk reaches an answer.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use rusqlite::Connection;

use super::*;

const BOUNDS: Bounds = Bounds { requests: 100, incidents: 50 };

fn open(path: &Path) -> (Store, StoreThread, Receiver<Report>) {
    let (sender, reports) = channel();
    let report = move |report| drop(sender.send(report));
    let (store, thread) = start(path.to_owned(), BOUNDS, report).unwrap();
    (store, thread, reports)
}

fn request(prompt_tokens: u32) -> RequestRow {
    RequestRow {
        at: 1_700_000_000,
        client: "127.0.0.1".into(),
        endpoint: "/v1/chat/completions",
        model: "m".into(),
        outcome: Outcome::Answered,
        reason: "stop".into(),
        usage: Usage { prompt_tokens, ..Usage::default() },
        queued_ms: Some(1),
        prefill_ms: Some(2),
        decode_ms: None,
        total_ms: 4,
    }
}

fn incident(id: i64) -> IncidentRow {
    let incident = Incident {
        id,
        at: 1_700_000_000,
        kind: "engine_died".into(),
        problem: "p".into(),
        done: "d".into(),
        advice: "a".into(),
    };
    IncidentRow { incident, cause: "c".into(), evidence: serde_json::json!({"exit": 1}) }
}

fn count(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn rows_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (store, thread, reports) = open(&path);
    assert_eq!(reports.recv().unwrap(), Report::Opened { incidents: vec![] });
    store.request(request(7));
    store.incident(incident(1));
    store.incident(incident(2));
    thread.close();
    assert_eq!(count(&path, "requests"), 1);
    let (_store, thread, reports) = open(&path);
    let newest_first = vec![incident(2).incident, incident(1).incident];
    assert_eq!(reports.recv().unwrap(), Report::Opened { incidents: newest_first });
    thread.close();
}

#[test]
fn old_rows_go_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (store, thread, _reports) = open(&path);
    for tokens in 0..500 {
        store.request(request(tokens));
    }
    thread.close();
    assert_eq!(store.dropped(), 0);
    let (_store, thread, _reports) = open(&path);
    thread.close();
    assert_eq!(count(&path, "requests"), 100);
}

#[test]
fn a_corrupt_file_is_set_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    std::fs::write(&path, "this was never a database".repeat(100)).unwrap();
    let (store, thread, reports) = open(&path);
    let Report::SetAside { path: aside, .. } = reports.recv().unwrap() else {
        panic!("not set aside")
    };
    assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("stoker.db.corrupt-"));
    assert!(aside.exists());
    assert_eq!(reports.recv().unwrap(), Report::Opened { incidents: vec![] });
    store.request(request(1));
    thread.close();
    assert_eq!(count(&path, "requests"), 1);
}

#[test]
fn a_page_that_was_overwritten_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (store, thread, _reports) = open(&path);
    for tokens in 0..90 {
        store.request(request(tokens));
    }
    thread.close();
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4096..length].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let (_store, thread, reports) = open(&path);
    assert!(matches!(reports.recv().unwrap(), Report::SetAside { .. }));
    thread.close();
}

#[test]
fn a_path_that_cannot_be_written_is_reported_and_rows_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/such/directory/stoker.db");
    let (store, thread, reports) = open(&path);
    let Report::Failed(trouble) = reports.recv().unwrap() else { panic!("not reported") };
    assert_eq!(trouble.path, path);
    store.request(request(1));
    store.request(request(2));
    thread.close();
    assert_eq!(store.dropped(), 2);
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let (_store, thread, reports) = open(&path);
    let Report::Failed(trouble) = reports.recv().unwrap() else { panic!("not reported") };
    assert!(trouble.cause.contains("newer version"), "{}", trouble.cause);
    thread.close();
    assert!(path.exists());
}

#[test]
fn a_disk_that_is_full_is_reported_and_rows_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (_store, thread, reports) = open(&path);
    reports.recv().unwrap();
    thread.close();
    // A trigger that raises the same error class as a full disk would.
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON requests
             BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
        )
        .unwrap();
    drop(connection);
    let (store, thread, reports) = open(&path);
    assert!(matches!(reports.recv().unwrap(), Report::Opened { .. }));
    store.request(request(1));
    let Report::Failed(trouble) = reports.recv().unwrap() else { panic!("not reported") };
    assert_eq!(trouble.cause, "database or disk is full");
    thread.close();
    assert_eq!(store.dropped(), 1);
}

#[test]
fn a_ping_is_answered_with_a_beat() {
    let dir = tempfile::tempdir().unwrap();
    let (store, thread, reports) = open(&dir.path().join("stoker.db"));
    reports.recv().unwrap();
    let before = store.beats();
    store.ping();
    thread.close();
    assert!(store.beats() > before);
}
