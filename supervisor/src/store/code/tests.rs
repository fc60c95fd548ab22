//! What is written and what is found, and what becomes of a damaged file.

use std::path::PathBuf;

use engine_api::index::{Chunk, ChunkKind, Defined, FromIndexer, IndexedFile, Stamp};
use tempfile::TempDir;

use super::search::{Question, Search};
use super::*;
use crate::index::stem::stem;
use crate::index::words;

pub(super) struct Place {
    pub(super) directory: TempDir,
    pub(super) code: Code,
}

impl Place {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let code = Code::new(&directory.path().join("code.db"));
        Self { directory, code }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("code.db")
    }

    pub(super) fn repository(&mut self, name: &str, owner: Option<&str>) -> i64 {
        let origin = Origin::Path(format!("/srv/{name}").into());
        let new = NewRepository { name: name.into(), origin, owner: owner.map(str::to_owned) };
        self.code.add(&new).unwrap().id
    }

    fn found(&self, question: &Question) -> Vec<String> {
        let found = Search::new(&self.path()).find(question, Err(String::new())).unwrap();
        found
            .hits
            .into_iter()
            .map(|hit| format!("{}/{} {}", hit.repository, hit.path, hit.place))
            .collect()
    }

    pub(super) fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    pub(super) fn count(&self, table: &str) -> i64 {
        let select = format!("SELECT count(*) FROM {table}");
        self.raw().query_row(&select, [], |row| row.get(0)).unwrap()
    }

    /// Every index agrees with its table.
    pub(super) fn assert_whole(&self) {
        let raw = self.raw();
        let verdict: String =
            raw.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        raw.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)", []).unwrap();
        assert_eq!(self.count("words"), self.count("chunks"));
        let lost = "SELECT count(*) FROM texts WHERE id NOT IN (SELECT text FROM chunks)";
        assert_eq!(raw.query_row(lost, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        assert_eq!(vectors::problems(&raw), [""; 0]);
        assert_eq!(names::problems(&raw), [""; 0]);
    }
}

fn stamp(changed_ns: i128) -> Stamp {
    Stamp { changed_ns, size: 1, inode: u64::MAX }
}

/// A file of one function for each of these names and bodies.
pub(super) fn file(path: &str, functions: &[(&str, &str)]) -> FromIndexer {
    let chunks = functions.iter().map(|(name, text)| Chunk {
        header: format!("{path} > {name}"),
        names: vec![(*name).to_owned()],
        kind: ChunkKind::Function,
        first_line: 1,
        last_line: 2,
        text: (*text).to_owned(),
        defines: vec![Defined { name: (*name).to_owned(), line: 0 }],
        uses: Vec::new(),
    });
    let mut hash = [0; 32];
    hash[0] = u8::try_from(functions[0].1.len()).unwrap();
    FromIndexer::Indexed(IndexedFile {
        path: path.to_owned(),
        stamp: stamp(7),
        hash,
        language: "rust".to_owned(),
        note: None,
        chunks: chunks.collect(),
    })
}

pub(super) fn question(text: &str) -> Question {
    Question {
        text: text.to_owned(),
        asker: "127.0.0.1".to_owned(),
        limit: 10,
        ..Question::default()
    }
}

#[test]
fn names_are_found_however_they_are_written() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let functions = [("set_speed", "fn set_speed() { pwm() }"), ("readRPM", "fn readRPM() {}")];
    place.code.apply(id, &[file("src/fan.rs", &functions)]).unwrap();
    for text in ["set_speed", "setSpeed", "set speed", "how do I set the speed", "SETSPEED"] {
        assert_eq!(place.found(&question(text))[0], "fans/src/fan.rs set_speed", "{text}");
    }
    assert_eq!(place.found(&question("read rpm")), ["fans/src/fan.rs readRPM"]);
    assert_eq!(place.found(&question("pwm")), ["fans/src/fan.rs set_speed"]);
    assert_eq!(place.found(&question("zither OR \"*")), [""; 0]);
    let hits =
        Search::new(&place.path()).find(&question("set pwm"), Err(String::new())).unwrap().hits;
    assert_eq!(
        (hits[0].in_header.clone(), hits[0].in_text.clone()),
        (vec!["set".to_owned()], vec!["set".to_owned(), "pwm".to_owned()])
    );
    assert!(hits[0].score > 0.0);
}

#[test]
fn words_are_weighed_by_bm25_over_all_of_their_forms_and_names() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let texts: Vec<_> = (0..60usize)
        .map(|number| {
            let word = |every: usize, word: &str| {
                if number % every == 0 {
                    format!("{word} ").repeat(number % 4 + 1)
                } else {
                    String::new()
                }
            };
            let rest = "filler ".repeat(number % 7);
            format!("all {} {} {rest} parsing{number}", word(2, "speeds"), word(5, "fan_curve"))
        })
        .collect();
    let names: Vec<_> = (0..60).map(|number| format!("f{}", number % 9)).collect();
    let functions: Vec<_> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    place.code.apply(id, &[file("speed/a.rs", &functions)]).unwrap();
    // The first is in all of them, so that all are counted.
    let asked = Question { limit: 50, ..question("all speed curves f3") };
    let ours = Search::new(&place.path()).find(&asked, Err(String::new())).unwrap().hits;
    assert_eq!(ours.len(), 50);
    assert!(ours.is_sorted_by(|one, next| one.score >= next.score));

    // The formula once more, from the words as they stand in the index.
    let stems = |text: &str| -> Vec<String> {
        let split = words::split(text).to_lowercase();
        split.split([' ', '_']).map(stem).collect()
    };
    let (typical, saturation, length_share, header) = (100.0, 2.0, 0.9, 4.0);
    let chunks: Vec<_> = functions
        .iter()
        .map(|(name, text)| (stems(&format!("speed/a.rs {name}")), stems(text)))
        .collect();
    let count = |words: &[String], term: &str| words.iter().filter(|word| *word == term).count();
    for hit in &ours {
        let at = texts.iter().position(|text| *text == hit.text).unwrap();
        let (above, below) = &chunks[at];
        let long = below.len() as f64 / typical;
        let length = saturation * (1.0 - length_share + length_share * long);
        // Each word counts a little less than the one before.
        let asked = (30u32..).zip(["all", "speed", "curv", "f3"]);
        let words: f64 = asked
            .map(|(at, term)| {
                let has = |(above, below): &&(Vec<String>, Vec<String>)| {
                    count(above, term) + count(below, term) > 0
                };
                let has = chunks.iter().filter(has).count() as f64;
                let weight = ((60.0 - has + 0.5) / (has + 0.5)).ln().max(1e-6);
                let uses = count(above, term) as f64 * header + count(below, term) as f64;
                30.0 / f64::from(at) * weight * uses * (saturation + 1.0) / (uses + length)
            })
            .sum();
        let expected = if hit.place == "f3" { words * 1.2 } else { words };
        let off = (hit.score - expected).abs();
        assert!(off < 1e-9, "{}: {} {expected}", hit.text, hit.score);
    }
}

#[test]
fn a_file_is_replaced_renamed_and_gone() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let first = file("a.rs", &[("one", "fn one() { alpha }")]);
    place.code.apply(id, &[first.clone(), file("b.rs", &[("two", "fn two() {}")])]).unwrap();
    let FromIndexer::Indexed(indexed) = &first else { unreachable!() };
    let same = FromIndexer::Same {
        path: "c.rs".to_owned(),
        stamp: stamp(9),
        hash: indexed.hash,
        known_as: "a.rs".to_owned(),
    };
    place.code.apply(id, &[same, FromIndexer::Gone { path: "a.rs".to_owned() }]).unwrap();
    assert_eq!(place.found(&question("alpha")), ["fans/c.rs one"]);
    assert_eq!(place.count("texts"), 2, "nothing was written twice");
    place.code.apply(id, &[file("c.rs", &[("three", "fn three() { beta }")])]).unwrap();
    assert_eq!(place.found(&question("alpha")), [""; 0]);
    assert_eq!(place.found(&question("beta")), ["fans/c.rs three"]);
    place.assert_whole();
}

#[test]
fn what_is_known_is_what_was_told() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let skipped = |path: &str, stamp| FromIndexer::Skipped {
        path: path.to_owned(),
        stamp,
        reason: "it is binary".to_owned(),
    };
    let said = [
        file("a.rs", &[("one", "fn one() {}")]),
        skipped("b.bin", Some(stamp(8))),
        skipped("loop", None),
        FromIndexer::Touched { path: "a.rs".to_owned(), stamp: stamp(11) },
    ];
    place.code.apply(id, &said).unwrap();
    let mut known = Vec::new();
    place
        .code
        .known(id, &mut |file| {
            known.push((file.path, file.stamp.map(|stamp| stamp.changed_ns), file.hash.is_some()));
            true
        })
        .unwrap();
    known.sort();
    assert_eq!(
        known,
        [
            ("a.rs".to_owned(), Some(11), true),
            ("b.bin".to_owned(), Some(8), false),
            ("loop".to_owned(), None, false),
        ]
    );
    assert_eq!(place.code.counts(id).unwrap(), Counts { files: 1, skipped: 2, chunks: 1 });
}

#[test]
fn private_code_is_found_by_its_owner_alone() {
    let mut place = Place::new();
    let shared = place.repository("shared", None);
    let alices = place.repository("secret", Some("key a"));
    place.code.apply(shared, &[file("a.rs", &[("run", "fn run() {}")])]).unwrap();
    place.code.apply(alices, &[file("b.rs", &[("run", "fn run() { more }")])]).unwrap();
    assert_eq!(place.found(&question("run")), ["shared/a.rs run"]);
    let alice = Question { asker: "key a".to_owned(), ..question("run") };
    assert_eq!(place.found(&alice).len(), 2);
    let named = Question { repositories: vec!["secret".to_owned()], ..question("run") };
    assert_eq!(place.found(&named), [""; 0]);
}

#[test]
fn filters_and_bounds_hold_and_the_same_text_comes_once() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let functions = [("run", "fn run() {}")];
    let said = [
        file("src/a.rs", &functions),
        file("src/copy.rs", &functions),
        file("tests/b.rs", &[("run_b", "fn run_b() { run() }")]),
    ];
    place.code.apply(id, &said).unwrap();
    assert_eq!(place.found(&question("run")).len(), 2);
    let within = |path: &str| Question { path: Some(path.to_owned()), ..question("run") };
    assert_eq!(place.found(&within("tests/")), ["fans/tests/b.rs run_b"]);
    assert_eq!(place.found(&within("*b.rs")), ["fans/tests/b.rs run_b"]);
    let python = Question { languages: vec!["python".to_owned()], ..question("run") };
    assert_eq!(place.found(&python), [""; 0]);
    assert_eq!(place.found(&Question { limit: 1, ..question("run") }).len(), 1);
}

#[test]
fn what_was_forgotten_is_in_none_of_the_files() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let other = place.repository("other", None);
    place.code.apply(id, &[file("a.rs", &[("one", "fn one() { xylophonist }")])]).unwrap();
    place.code.apply(other, &[file("a.rs", &[("one", "fn one() { harpist }")])]).unwrap();
    let holds = |place: &Place, word: &[u8]| {
        let files = std::fs::read_dir(place.directory.path()).unwrap().flatten();
        files
            .filter(|file| {
                let bytes = std::fs::read(file.path()).unwrap();
                bytes.windows(word.len()).any(|window| window == word)
            })
            .count()
            > 0
    };
    assert!(holds(&place, b"xylophonist"));
    place.code.remove(id).unwrap();
    assert!(!holds(&place, b"xylophonist"));
    // What the tokenizer made of it.
    assert!(!holds(&place, b"xylophon"));
    assert_eq!(place.found(&question("harpist")), ["other/a.rs one"]);
    place.assert_whole();
}

#[test]
fn the_configuration_decides_about_its_own_repositories_only() {
    let mut place = Place::new();
    let added = place.repository("added", None);
    let of = |name: &str| NewRepository {
        name: name.into(),
        origin: Origin::Path(format!("/srv/{name}").into()),
        owner: None,
    };
    let first = place.code.settle(&[of("one"), of("two")]).unwrap();
    assert_eq!(first.len(), 3);
    let again = place.code.settle(&[of("one"), of("two")]).unwrap();
    assert_eq!(first, again, "nothing is made anew");
    let left = place.code.settle(&[of("two")]).unwrap();
    let names: Vec<_> = left.iter().map(|kept| kept.is.name.as_str()).collect();
    assert_eq!(names, ["added", "two"]);
    assert_eq!(left[0].id, added);
}

#[test]
fn a_damaged_file_costs_the_index_but_not_the_repositories() {
    let mut place = Place::new();
    let id = place.repository("fans", Some("key a"));
    let functions: Vec<_> =
        (0..300).map(|_| ("run", "fn run() { some more words of it }")).collect();
    place.code.apply(id, &[file("a.rs", &functions)]).unwrap();
    let path = place.path();
    drop(std::mem::replace(&mut place.code, Code::new(&path)));
    place.raw().execute_batch("DROP TABLE files").unwrap();
    assert!(place.code.counts(id).unwrap_err().to_string().contains("made again"));
    assert!(place.code.was_replaced() && !place.code.was_replaced());
    let kept = place.code.settle(&[]).unwrap();
    assert_eq!((kept.len(), kept[0].is.owner.as_deref(), kept[0].passed), (1, Some("key a"), None));
    place.code.apply(kept[0].id, &[file("a.rs", &[("run", "fn run() {}")])]).unwrap();
    let aside = std::fs::read_dir(place.directory.path()).unwrap().flatten();
    assert!(!aside.into_iter().any(|file| file.file_name().to_string_lossy().contains("corrupt")));
}
