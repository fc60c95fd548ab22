//! Rows survive, and nothing that is wrong with the disk reaches an answer.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use rusqlite::Connection;

use super::*;

pub(super) const BOUNDS: Bounds = Bounds {
    requests: 100,
    incidents: 50,
    answers_kept: Duration::from_secs(60),
    answers_bytes: 1 << 20,
};

fn paths(path: &Path) -> Paths {
    Paths { history: path.to_owned(), answers: path.with_file_name("answers.db") }
}

/// A store and what it reports of its history.
pub(super) fn open(path: &Path) -> (Store, StoreThread, Receiver<Report>) {
    open_with(path, BOUNDS)
}

pub(super) fn open_with(path: &Path, bounds: Bounds) -> (Store, StoreThread, Receiver<Report>) {
    let (sender, reports) = channel();
    let report = move |report| match report {
        Report::AnswersOpened | Report::AnswersFailed(_) => {}
        report => drop(sender.send(report)),
    };
    let (store, thread) = start(paths(path), bounds, report).unwrap();
    (store, thread, reports)
}

pub(super) fn request(prompt_tokens: u32) -> RequestRow {
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

pub(super) fn incident(id: i64) -> IncidentRow {
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

pub(super) fn count(path: &Path, table: &str) -> i64 {
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
fn what_the_engine_did_not_tell_is_null_and_older_rows_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let older = Connection::open(&path).unwrap();
    older.execute_batch(include_str!("../../migrations/0001_requests_and_incidents.sql")).unwrap();
    let row = "INSERT INTO requests VALUES (41, 1, 'c', 'e', 'm', 'answered', 'stop', 9, 3, 5,
        NULL, NULL, NULL, 2)";
    older.execute(row, []).unwrap();
    older.pragma_update(None, "user_version", 1).unwrap();
    drop(older);
    let (store, thread, _reports) = open(&path);
    store.request(request(7));
    let known = Usage { cached_tokens: Some(0), ..Usage::default() };
    store.request(RequestRow { usage: known, ..request(7) });
    thread.close();
    let connection = Connection::open(&path).unwrap();
    let mut cached = connection.prepare("SELECT id, cached_tokens FROM requests").unwrap();
    let cached = cached.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let cached: Vec<(i64, Option<u32>)> = cached.map(Result::unwrap).collect();
    assert_eq!(cached, [(41, Some(3)), (42, None), (43, Some(0))]);
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
fn a_row_that_cannot_be_written_is_reported_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (_store, thread, reports) = open(&path);
    reports.recv().unwrap();
    thread.close();
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

fn piece(number: u32, said: &str) -> AnswerChange {
    let head = (number == 0)
        .then(|| Head { owner: "alice".into(), recipe: b"tell me of quetzals".to_vec() });
    let said = said.as_bytes().to_vec();
    AnswerChange::Grew(Piece { id: "a-1".into(), number, head, said, finished: false })
}

fn find(store: &Store, owner: &str) -> Option<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let found = runtime.block_on(store.find("a-1", owner)).unwrap()?;
    assert_eq!(found.recipe, b"tell me of quetzals");
    Some(found.pieces.into_iter().map(|piece| String::from_utf8(piece).unwrap()).collect())
}

#[test]
fn an_answer_is_found_by_its_owner_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (store, thread, _reports) = open(&path);
    assert!(store.answer(piece(0, "The ")) && store.answer(piece(1, "quetzal")));
    assert_eq!(find(&store, "alice"), Some(vec!["The ".to_owned(), "quetzal".to_owned()]));
    assert_eq!(find(&store, "bob"), None);
    thread.close();
    let (store, thread, _reports) = open(&path);
    assert!(store.answer(piece(2, " is green")));
    assert_eq!(find(&store, "alice").unwrap().concat(), "The quetzal is green");
    assert!(store.answer(AnswerChange::Forget("a-1".into())));
    assert_eq!(find(&store, "alice"), None);
    thread.close();
}

#[tokio::test]
async fn an_answer_has_begun_when_its_first_piece_is_in_the_file_and_never_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let first = || Piece {
        id: "a-1".into(),
        number: 0,
        head: Some(Head { owner: "alice".into(), recipe: Vec::new() }),
        said: Vec::new(),
        finished: false,
    };
    let (store, thread, _reports) = open(&path);
    assert!(store.begin_answer(first()).await);
    // Another reader sees it while the thread runs, as one would after its end.
    let answers = Connection::open(path.with_file_name("answers.db")).unwrap();
    let count: i64 =
        answers.query_one("SELECT count(*) FROM pieces", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
    thread.close();
    assert!(!store.begin_answer(first()).await, "the thread is gone");

    let newer = tempfile::tempdir().unwrap();
    let path = newer.path().join("stoker.db");
    let answers = Connection::open(path.with_file_name("answers.db")).unwrap();
    answers.pragma_update(None, "user_version", 99).unwrap();
    drop(answers);
    let (store, thread, _reports) = open(&path);
    assert!(!store.begin_answer(first()).await, "it cannot be written");
    thread.close();
}

#[test]
fn what_follows_a_gap_is_not_used_and_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, thread, _reports) = open(&dir.path().join("stoker.db"));
    for change in [piece(0, "a"), piece(1, "b"), piece(3, "old"), piece(4, "older")] {
        assert!(store.answer(change));
    }
    assert_eq!(find(&store, "alice").unwrap(), ["a", "b"]);
    assert!(store.answer(piece(2, "c")));
    assert_eq!(find(&store, "alice").unwrap(), ["a", "b", "c"]);
    thread.close();
}

#[test]
fn of_too_many_answers_the_oldest_finished_ones_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (store, thread, _reports) = open_with(&path, Bounds { answers_bytes: 3000, ..BOUNDS });
    for (id, finished) in [("1", false), ("2", true), ("3", true), ("4", true)] {
        let head = Some(Head { owner: "alice".into(), recipe: Vec::new() });
        let piece = Piece { id: id.into(), number: 0, head, said: vec![0; 1000], finished };
        assert!(store.answer(AnswerChange::Grew(piece)));
    }
    thread.close();
    let answers = Connection::open(path.with_file_name("answers.db")).unwrap();
    let mut left = answers.prepare("SELECT id FROM answers ORDER BY id").unwrap();
    let left: Vec<String> =
        left.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(left, ["1", "3", "4"]);
    let pieces: i64 =
        answers.query_one("SELECT count(*) FROM pieces", [], |row| row.get(0)).unwrap();
    assert_eq!(pieces, 3);
}

#[test]
fn a_thread_that_hangs_is_given_a_bounded_amount_of_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    // The report blocks the thread until it is let go.
    let (let_go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let report = move |_| wait.lock().unwrap().recv().unwrap_or_default();
    let (store, thread) = start(paths(&path), BOUNDS, report).unwrap();
    let big = |number| {
        let said = vec![0; 1 << 20];
        AnswerChange::Grew(Piece { id: "a-1".into(), number, head: None, said, finished: false })
    };
    let taken = (0..20).filter(|number| store.answer(big(*number))).count();
    assert_eq!((taken, store.pieces_dropped()), (7, 13));
    let small = (0..2000).filter(|_| store.answer(piece(1, "x"))).count();
    assert!(small < QUEUE / 2, "{small}");
    for tokens in 0..100 {
        store.request(request(tokens));
    }
    assert_eq!(store.dropped(), 0, "rows have room");
    drop(let_go);
    thread.close();
}

#[test]
fn only_our_user_may_read_answers() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let (store, thread, _reports) = open(&path);
    assert!(store.answer(piece(0, "x")));
    assert!(find(&store, "alice").is_some());
    for name in ["answers.db", "answers.db-wal", "answers.db-shm"] {
        let mode = std::fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    thread.close();
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
