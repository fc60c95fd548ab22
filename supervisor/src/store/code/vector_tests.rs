//! Vectors: kept whole whatever happens, and found by their meaning.

use engine_api::index::FromIndexer;
use proptest::prelude::*;
use vector_scan::Row;

use super::search::{Found, Meant, Question, Search};
use super::tests::{Place, file, question};
use super::*;

const DIMENSION: u32 = 4;

fn maker(identity: u8) -> Maker {
    Maker { identity: [identity; 32], model: format!("model {identity}"), dimension: DIMENSION }
}

/// The vector that an embedder of these tests makes of a text.
fn vector_of(text: &str) -> [f32; 4] {
    let count = |char: char| f32::from(u8::try_from(text.matches(char).count()).unwrap());
    [1.0, count('x'), count('y'), count('z')]
}

/// Gives `most` texts their vectors; how many that were.
fn embed(code: &mut Code, identity: u8, most: usize) -> usize {
    let texts = code.unembedded(most).unwrap();
    let made = texts.iter().map(|text| {
        let row = Row::new(&vector_of(&text.body));
        Embedded { text: text.text, hash: text.hash, row }
    });
    code.embedded([identity; 32], &made.collect::<Vec<_>>()).unwrap();
    texts.len()
}

fn meant(identity: u8, text: &str) -> Meant {
    Meant { identity: [identity; 32], values: vector_of(text).to_vec() }
}

fn found(search: &mut Search, question: &Question, meant: &Meant) -> (Vec<String>, Found) {
    let found = search.find(question, Ok(meant)).unwrap();
    let places = found.hits.iter().map(|hit| format!("{}:{}", hit.path, hit.place));
    (places.collect(), found)
}

fn serving(code: &mut Code) -> Option<Maker> {
    code.standing().unwrap().serving
}

fn gone(path: &str) -> FromIndexer {
    FromIndexer::Gone { path: path.to_owned() }
}

#[test]
fn what_words_do_not_find_meaning_does() {
    let mut place = Place::new();
    let id = place.repository("r", None);
    let functions = [("one", "xx"), ("two", "yyyyy"), ("three", "x yy")];
    place.code.apply(id, &[file("a.rs", &functions)]).unwrap();
    let mut search = Search::new(&place.path());
    let asked = question("nothing says this");
    let (_, none) = found(&mut search, &asked, &meant(1, "yyyy"));
    assert!(none.hits.is_empty() && none.words_only.unwrap().contains("no text has a vector"));

    assert_eq!(place.code.made_by(&maker(1)).unwrap().coverage, Coverage { made: 0, left: 3 });
    embed(&mut place.code, 1, 9);
    assert_eq!(place.code.standing().unwrap().coverage, Coverage { made: 3, left: 0 });
    let (places, all) = found(&mut search, &asked, &meant(1, "yyyy"));
    assert_eq!(places, ["a.rs:two", "a.rs:three", "a.rs:one"]);
    assert_eq!(all.words_only, None);
    assert!(all.hits[0].meaning.unwrap() > 0.95 && all.hits[0].words.is_none());

    // Both together, and words alone where there is no vector to search with.
    let (places, both) = found(&mut search, &question("three"), &meant(1, "xyyy"));
    assert_eq!(places[0], "a.rs:three");
    assert!(both.hits[0].words.is_some() && both.hits[0].meaning.is_some());
    assert_eq!(both.hits[0].in_header, ["three"]);
    let words = search.find(&question("three"), Err("it sleeps".to_owned())).unwrap();
    assert_eq!((words.hits.len(), words.words_only.as_deref()), (1, Some("it sleeps")));
    place.assert_whole();
}

#[test]
fn a_change_is_found_at_once_and_a_text_without_a_vector_by_its_words() {
    let mut place = Place::new();
    let id = place.repository("r", None);
    place
        .code
        .apply(id, &[file("a.rs", &[("one", "xx")]), file("b.rs", &[("two", "yy")])])
        .unwrap();
    place.code.made_by(&maker(1)).unwrap();
    embed(&mut place.code, 1, 9);
    let mut search = Search::new(&place.path());
    let asked = question("new");
    assert_eq!(found(&mut search, &asked, &meant(1, "xx")).0, ["a.rs:one", "b.rs:two"]);
    place.code.apply(id, &[gone("a.rs"), file("c.rs", &[("new", "zzzzzz")])]).unwrap();
    assert_eq!(found(&mut search, &asked, &meant(1, "yy")).0, ["c.rs:new", "b.rs:two"]);
    embed(&mut place.code, 1, 9);
    assert_eq!(found(&mut search, &question("?"), &meant(1, "zz")).0, ["c.rs:new", "b.rs:two"]);
    place.assert_whole();
}

#[test]
fn renames_copies_and_branches_cost_no_vector() {
    let mut place = Place::new();
    let (id, other) = (place.repository("r", None), place.repository("s", None));
    place.code.made_by(&maker(1)).unwrap();
    let old = file("a.rs", &[("one", "xx"), ("two", "yy")]);
    place.code.apply(id, std::slice::from_ref(&old)).unwrap();
    place.code.apply(other, &[file("copy.rs", &[("one", "xx")])]).unwrap();
    assert_eq!(embed(&mut place.code, 1, 9), 2);
    // Another branch, and back.
    place.code.apply(id, &[file("a.rs", &[("one", "changed")])]).unwrap();
    assert_eq!((place.count("parked"), embed(&mut place.code, 1, 9)), (1, 1));
    place.assert_whole();
    place.code.apply(id, &[old]).unwrap();
    assert_eq!(place.code.standing().unwrap().coverage, Coverage { made: 2, left: 0 });
    let (places, _) = found(&mut Search::new(&place.path()), &question("?"), &meant(1, "yy"));
    assert_eq!(places[0], "a.rs:two");
    // Whoever has a repository forgotten gets rid of those as well.
    assert_eq!(place.count("parked"), 1);
    place.code.remove(other).unwrap();
    assert_eq!(place.count("parked"), 0);
    place.assert_whole();
}

#[test]
fn vectors_of_two_embedders_never_meet() {
    let mut place = Place::new();
    let id = place.repository("r", None);
    place
        .code
        .apply(id, &[file("a.rs", &[("one", "xx"), ("two", "yy"), ("three", "zz")])])
        .unwrap();
    place.code.made_by(&maker(1)).unwrap();
    embed(&mut place.code, 1, 9);
    let mut search = Search::new(&place.path());
    assert_eq!(place.code.made_by(&maker(2)).unwrap().coverage, Coverage { made: 0, left: 3 });
    let asked = question("?");
    let (_, none) = found(&mut search, &asked, &meant(2, "x"));
    assert!(none.words_only.is_some());
    assert_eq!(
        found(&mut search, &asked, &meant(1, "x")).0.len(),
        3,
        "the old ones are still there"
    );
    assert_eq!(serving(&mut place.code), Some(maker(1)));
    // What the old one made meanwhile is not taken for the new one's.
    embed(&mut place.code, 1, 9);
    assert_eq!(place.code.standing().unwrap().coverage, Coverage { made: 0, left: 3 });
    embed(&mut place.code, 2, 2);
    assert_eq!(found(&mut search, &asked, &meant(2, "x")).0.len(), 2);
    assert_eq!(found(&mut search, &asked, &meant(1, "x")).0.len(), 3);
    // Back again, there is nothing to do.
    assert_eq!(place.code.made_by(&maker(1)).unwrap().coverage, Coverage { made: 3, left: 0 });
    assert_eq!(place.code.made_by(&maker(2)).unwrap().coverage, Coverage { made: 2, left: 1 });
    embed(&mut place.code, 2, 9);
    assert_eq!(serving(&mut place.code), Some(maker(2)));
    while place.code.delete_old_vectors().unwrap() {}
    assert_eq!((place.count("embedders"), place.count("vectors")), (1, 3));
    assert!(found(&mut search, &asked, &meant(1, "x")).1.words_only.is_some());
    let wrong = Meant { values: vec![1.0; 5], ..meant(2, "") };
    assert!(found(&mut search, &asked, &wrong).1.words_only.unwrap().contains("length"));
    place.assert_whole();
}

#[test]
fn the_first_embedder_serves_as_far_as_it_is_and_a_whole_one_until_the_next_is() {
    let mut place = Place::new();
    let id = place.repository("r", None);
    place.code.apply(id, &many(60)).unwrap();
    assert_eq!(serving(&mut place.code), None);
    place.code.made_by(&maker(1)).unwrap();
    embed(&mut place.code, 1, 9);
    assert_eq!(serving(&mut place.code), Some(maker(1)));
    // One that was never whole has nothing ahead of the next one.
    place.code.made_by(&maker(2)).unwrap();
    assert_eq!(serving(&mut place.code), Some(maker(2)));
    while embed(&mut place.code, 2, 100) > 0 {}
    // A third one is given up for a fourth, and the second one's are searched all the time.
    place.code.made_by(&maker(3)).unwrap();
    embed(&mut place.code, 3, 300);
    place.code.made_by(&maker(4)).unwrap();
    while place.code.delete_old_vectors().unwrap() {}
    assert_eq!((place.count("embedders"), place.count("vectors")), (2, 600));
    // So it is when texts come and go meanwhile.
    place.code.apply(id, &[gone("0.rs"), file("x.rs", &[("new", "new")])]).unwrap();
    embed(&mut place.code, 4, 590);
    assert_eq!(serving(&mut place.code), Some(maker(2)));
    place.assert_whole();
    let path = place.path();
    drop(std::mem::replace(&mut place.code, Code::new(&path)));
    assert_eq!(serving(&mut place.code), Some(maker(2)));
    embed(&mut place.code, 4, 1);
    let standing = place.code.standing().unwrap();
    let coverage = Coverage { made: 591, left: 0 };
    assert_eq!(standing, Standing { coverage, serving: Some(maker(4)) });
    // What is deleted in parts is whole after each part.
    while place.code.delete_old_vectors().unwrap() {
        place.assert_whole();
    }
    assert_eq!((place.count("embedders"), place.count("vectors")), (1, 591));
    // Without texts there is nothing to wait for.
    place.code.remove(id).unwrap();
    assert_eq!(place.code.made_by(&maker(5)).unwrap().serving, Some(maker(5)));
}

#[test]
fn meaning_shows_nobody_what_is_not_theirs() {
    let mut place = Place::new();
    let (shared, private) =
        (place.repository("shared", None), place.repository("own", Some("key a")));
    place
        .code
        .apply(shared, &[file("a.rs", &[("one", "xx")]), file("t/b.rs", &[("both", "y")])])
        .unwrap();
    place
        .code
        .apply(private, &[file("c.rs", &[("mine", "xxx")]), file("d.rs", &[("both", "y")])])
        .unwrap();
    place.code.made_by(&maker(1)).unwrap();
    embed(&mut place.code, 1, 9);
    let mut search = Search::new(&place.path());
    let asked = question("?");
    let near = meant(1, "xxx");
    assert_eq!(found(&mut search, &asked, &near).0, ["a.rs:one", "t/b.rs:both"]);
    let alice = Question { asker: "key a".to_owned(), ..asked.clone() };
    assert_eq!(found(&mut search, &alice, &near).0, ["c.rs:mine", "a.rs:one", "t/b.rs:both"]);
    let own = Question { repositories: vec!["own".to_owned()], ..alice.clone() };
    assert_eq!(found(&mut search, &own, &near).0, ["c.rs:mine", "d.rs:both"]);
    assert_eq!(found(&mut search, &Question { asker: "key b".into(), ..own }, &near).0, [""; 0]);
    let below = Question { path: Some("t/".to_owned()), ..alice.clone() };
    assert_eq!(found(&mut search, &below, &near).0, ["t/b.rs:both"]);
    let python = Question { languages: vec!["python".to_owned()], ..alice };
    assert_eq!(found(&mut search, &python, &near).0, [""; 0]);
    // A filter that was remembered is not, once the data is another.
    place.code.apply(shared, &[gone("t/b.rs")]).unwrap();
    assert_eq!(found(&mut search, &below, &near).0, [""; 0]);
}

#[test]
fn what_can_have_no_vector_is_not_asked_for_again() {
    let mut place = Place::new();
    let id = place.repository("r", None);
    place.code.made_by(&maker(1)).unwrap();
    place.code.apply(id, &[file("a.rs", &[("one", "xx")])]).unwrap();
    let [text] = &place.code.unembedded(9).unwrap()[..] else { panic!("there is one text") };
    let made = Embedded { text: text.text, hash: text.hash, row: None };
    // Meanwhile its number belongs to another text.
    place.code.apply(id, &[file("a.rs", &[("two", "yy")])]).unwrap();
    let left = place.code.embedded([1; 32], std::slice::from_ref(&made)).unwrap().coverage;
    assert_eq!(left, Coverage { made: 0, left: 1 });
    let [text] = &place.code.unembedded(9).unwrap()[..] else { panic!("there is one text") };
    let made = Embedded { hash: text.hash, ..made };
    assert_eq!(
        place.code.embedded([1; 32], &[made]).unwrap().coverage,
        Coverage { made: 0, left: 0 }
    );
    place.assert_whole();
}

/// Some hundred texts, each another, in files of ten.
fn many(files: usize) -> Vec<FromIndexer> {
    let names: Vec<_> = (0..files * 10).map(|number| format!("f{number}")).collect();
    let one = |(at, names): (usize, &[String])| {
        let functions: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        file(&format!("{at}.rs"), &functions)
    };
    names.chunks(10).enumerate().map(one).collect()
}

#[test]
fn holes_are_filled_and_empty_blocks_go() {
    let mut place = Place::new();
    let id = place.repository("r", None);
    place.code.made_by(&maker(1)).unwrap();
    place.code.apply(id, &many(120)).unwrap();
    while embed(&mut place.code, 1, 100) > 0 {}
    assert_eq!((place.count("vectors"), place.count("vector_blocks")), (1200, 5));
    let leave: Vec<_> =
        (0..120).filter(|at| at % 3 > 0).map(|at| gone(&format!("{at}.rs"))).collect();
    place.code.apply(id, &leave).unwrap();
    assert_eq!(place.count("vector_blocks"), 5);
    place.assert_whole();
    place.code.passed(id).unwrap();
    assert_eq!((place.count("vectors"), place.count("vector_blocks")), (400, 2));
    place.assert_whole();
    // They come back from where they were parked, into holes first.
    place.code.apply(id, &many(120)).unwrap();
    assert_eq!(place.code.standing().unwrap().coverage, Coverage { made: 1200, left: 0 });
    assert_eq!(place.count("vector_blocks"), 5);
    place.assert_whole();
    place.code.remove(id).unwrap();
    assert_eq!((place.count("vectors"), place.count("vector_rows")), (0, 0));
}

#[test]
fn no_byte_of_a_forgotten_vector_stays() {
    let mut place = Place::new();
    let (id, other) = (place.repository("r", None), place.repository("s", None));
    let long = Maker { dimension: 64, ..maker(1) };
    place.code.made_by(&long).unwrap();
    place.code.apply(id, &[file("a.rs", &[("one", "secret")])]).unwrap();
    place.code.apply(other, &[file("a.rs", &[("one", "other")])]).unwrap();
    let values: Vec<f32> = (0..64u16).map(|number| f32::from(number * 37 % 61) - 30.0).collect();
    let row = Row::new(&values).unwrap();
    for text in place.code.unembedded(9).unwrap() {
        let flat = Row::new(&[1.0; 64]);
        let row = if text.body == "secret" { Some(row.clone()) } else { flat };
        place
            .code
            .embedded([1; 32], &[Embedded { text: text.text, hash: text.hash, row }])
            .unwrap();
    }
    let parts = [blocks::unsigned(&row.coarse), blocks::unsigned(&row.fine)];
    let holds = |place: &Place| {
        let files = std::fs::read_dir(place.directory.path()).unwrap().flatten();
        let all = files.map(|file| std::fs::read(file.path()).unwrap());
        all.flat_map(|bytes| parts.clone().map(|part| bytes.windows(64).any(|it| it == part)))
            .any(|holds| holds)
    };
    assert!(holds(&place));
    place.code.remove(id).unwrap();
    assert!(!holds(&place));
    place.assert_whole();
}

#[derive(Debug, Clone)]
enum Act {
    Write { repository: usize, file: u8, texts: Vec<u8> },
    Gone { repository: usize, file: u8 },
    Embed { most: usize },
    Passed,
    Change { identity: u8 },
    DeleteOld,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let texts = prop::collection::vec(0u8..12, 1..5);
    prop_oneof![
        4 => (0usize..2, 0u8..4, texts).prop_map(|(repository, file, texts)| Act::Write { repository, file, texts }),
        2 => (0usize..2, 0u8..4).prop_map(|(repository, file)| Act::Gone { repository, file }),
        4 => (1usize..9).prop_map(|most| Act::Embed { most }),
        1 => Just(Act::Passed),
        1 => (1u8..3).prop_map(|identity| Act::Change { identity }),
        1 => Just(Act::DeleteOld),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_text_has_its_vector_or_waits_for_it(acts in prop::collection::vec(act(), 1..30)) {
        let mut place = Place::new();
        let ids = [place.repository("r", None), place.repository("s", None)];
        let mut identity = 1;
        place.code.made_by(&maker(identity)).unwrap();
        // One reader sees all of it; what it has in memory must follow.
        let mut reader = Search::new(&place.path());
        for act in acts {
            match act {
                Act::Write { repository, file: number, texts } => {
                    let bodies: Vec<_> = texts.iter().map(|text| "x".repeat((*text).into()) + "y").collect();
                    let functions: Vec<_> = bodies.iter().map(|body| ("f", body.as_str())).collect();
                    place.code.apply(ids[repository], &[file(&format!("{number}.rs"), &functions)]).unwrap();
                }
                Act::Gone { repository, file } => {
                    place.code.apply(ids[repository], &[gone(&format!("{file}.rs"))]).unwrap();
                }
                Act::Embed { most } => { embed(&mut place.code, identity, most); }
                Act::Passed => { place.code.passed(ids[0]).unwrap(); }
                Act::Change { identity: to } => {
                    identity = to;
                    place.code.made_by(&maker(identity)).unwrap();
                }
                Act::DeleteOld => { place.code.delete_old_vectors().unwrap(); }
                Act::Reopen => {
                    let path = place.path();
                    drop(std::mem::replace(&mut place.code, Code::new(&path)));
                    place.code.made_by(&maker(identity)).unwrap();
                }
            }
            place.assert_whole();
            let Standing { coverage: Coverage { made, left }, serving } = place.code.made_by(&maker(identity)).unwrap();
            prop_assert!(serving.is_some());
            prop_assert!(left > 0 || serving == Some(maker(identity)));
            prop_assert_eq!(made + left, u64::try_from(place.count("texts")).unwrap());
            let all = Question { limit: 50, ..question("?") };
            let (places, _) = found(&mut reader, &all, &meant(identity, "xxx"));
            prop_assert_eq!(u64::try_from(places.len()).unwrap(), made);
            let (fresh, _) = found(&mut Search::new(&place.path()), &all, &meant(identity, "xxx"));
            prop_assert_eq!(places, fresh);
        }
    }
}
