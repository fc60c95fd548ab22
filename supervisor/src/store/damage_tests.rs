//! Any damage to the files is survived: the store opens, says so, and writes.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use super::tests::{BOUNDS, count, incident, open, open_with, request};
use super::*;

/// Numbers that are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        // Constants of Knuth's MMIX; the upper bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

const PAGE: usize = 4096;

/// Where SQLite keeps the schema's version. Damage there looks like a newer
/// program's file, which is left alone.
const VERSION: std::ops::Range<usize> = 60..64;

fn damage(bytes: &mut Vec<u8>, draw: &mut Draw) {
    let version = bytes[VERSION].to_vec();
    let page = draw.below(bytes.len() / PAGE) * PAGE;
    match draw.below(6) {
        0 => bytes[page..page + PAGE].fill(0),
        1 => bytes[page..page + PAGE].iter_mut().for_each(|byte| *byte = draw.byte()),
        2 => bytes.truncate(draw.below(bytes.len())),
        3 => {
            let from = draw.below(bytes.len() / PAGE) * PAGE;
            bytes.copy_within(from..from + PAGE, page);
        }
        _ => {
            for _ in 0..=draw.below(200) {
                // Mostly where the structure of a page stands.
                let within = if draw.below(2) == 0 { draw.below(PAGE) } else { draw.below(100) };
                bytes[page + within] ^= 1 << draw.below(8);
            }
        }
    }
    if let Some(place) = bytes.get_mut(VERSION) {
        place.copy_from_slice(&version);
    }
}

fn answer(number: u32) -> AnswerChange {
    let head = Some(Head { owner: "alice".into(), recipe: vec![7; 3000] });
    let id = format!("a-{number}").into();
    AnswerChange::Grew(Piece { id, number: 0, head, said: vec![8; 2000], finished: true })
}

fn quick_check(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    connection.query_one("PRAGMA quick_check(1)", [], |row| row.get(0)).unwrap()
}

#[test]
fn any_damage_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let answers = dir.path().join("answers.db");
    let (store, thread, _reports) = open(&path);
    for number in 0..90 {
        store.request(request(number));
        store.incident(incident(i64::from(number / 3 + 1)));
        assert!(store.answer(answer(number)));
    }
    thread.close();
    let whole = [&path, &answers].map(|path| std::fs::read(path).unwrap());
    let mut replaced = 0;
    for seed in 0..60 {
        let mut draw = Draw(seed);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stoker.db");
        for (path, bytes) in [path.clone(), dir.path().join("answers.db")].iter().zip(&whole) {
            let mut bytes = bytes.clone();
            damage(&mut bytes, &mut draw);
            std::fs::write(path, bytes).unwrap();
        }
        let (store, thread, reports) = open(&path);
        store.request(request(1000));
        store.incident(incident(1000));
        assert!(store.answer(answer(1000)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let found = runtime.block_on(store.find("a-1000", "alice"));
        assert!(found.unwrap().is_some(), "seed {seed}: the new answer is not there");
        thread.close();
        let reports: Vec<_> = reports.try_iter().collect();
        let opened = reports.iter().any(|report| matches!(report, Report::Opened { .. }));
        assert!(opened, "seed {seed}: {reports:?}");
        let failed = reports.iter().any(|report| matches!(report, Report::Failed(_)));
        assert!(!failed && store.dropped() == 0, "seed {seed}: {reports:?}");
        replaced += usize::from(reports.len() > 1);
        assert_eq!(quick_check(&path), "ok", "seed {seed}");
        let connection = Connection::open(&path).unwrap();
        let newest = "SELECT count(*) FROM requests WHERE prompt_tokens = 1000";
        let newest: i64 = connection.query_one(newest, [], |row| row.get(0)).unwrap();
        assert_eq!(newest, 1, "seed {seed}: the new row is not there");
    }
    assert!(replaced > 15, "only {replaced} rounds did any harm");
}

/// Ids of the requests in the file.
fn ids(path: &Path) -> BTreeSet<i64> {
    let connection = Connection::open(path).unwrap();
    let mut select = connection.prepare("SELECT id FROM requests").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn rows_around_a_bad_page_are_taken_over_and_the_others_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stoker.db");
    let bounds = Bounds { requests: 1000, ..BOUNDS };
    let (store, thread, _reports) = open_with(&path, bounds);
    for number in 0..600 {
        store.request(request(number));
    }
    for number in 1..=30 {
        store.incident(incident(number));
    }
    thread.close();
    let mut bytes = std::fs::read(&path).unwrap();
    let is_leaf_of_requests = |page: &&mut [u8]| {
        const LEAF: u8 = 0x0d;
        page[0] == LEAF && page.windows(8).any(|window| window == b"/v1/chat")
    };
    bytes.chunks_mut(PAGE).filter(is_leaf_of_requests).nth(3).unwrap().fill(0xA5);
    std::fs::write(&path, bytes).unwrap();

    let (_store, thread, reports) = open_with(&path, bounds);
    let Report::SetAside { rescued, .. } = reports.recv().unwrap() else { panic!("not set aside") };
    let Report::Opened { incidents } = reports.recv().unwrap() else { panic!("not opened") };
    thread.close();
    assert_eq!(incidents.len(), 20, "{rescued}");
    let left = ids(&path);
    assert!((400..600).contains(&left.len()), "{} rows: {rescued}", left.len());
    let lost: Vec<i64> = (1..=600).filter(|id| !left.contains(id)).collect();
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    assert!(rescued.contains(&format!("ids {first} to {last} are lost")), "{rescued}");
    assert_eq!(count(&path, "incidents"), 30);
}
