//! The graph of names: what it brings to a search, and that it goes with its texts.

use engine_api::index::FromIndexer;

use super::search::Search;
use super::tests::{Place, file, question};

/// A file of one function for each of these names, bodies and what they call.
fn calling(path: &str, functions: &[(&str, &str, &[&str])]) -> FromIndexer {
    let bodies: Vec<_> = functions.iter().map(|(name, body, _)| (*name, *body)).collect();
    let mut said = file(path, &bodies);
    if let FromIndexer::Indexed(file) = &mut said {
        for (chunk, (.., calls)) in file.chunks.iter_mut().zip(functions) {
            chunk.uses = calls.iter().map(|name| (*name).to_owned()).collect();
        }
    }
    said
}

/// What is found, each with why it was added.
fn found(place: &Place, text: &str) -> Vec<String> {
    let found = Search::new(&place.path()).find(&question(text), Err(String::new())).unwrap();
    let one = |hit: &super::search::Hit| {
        let why = hit
            .linked
            .iter()
            .map(|link| format!(" {} {} ({})", link.way.in_words(), link.hit, link.name));
        format!("{}{}", hit.header(), why.collect::<String>())
    };
    found.hits.iter().map(one).collect()
}

#[test]
fn what_a_hit_calls_and_what_calls_it_is_added_with_the_reason() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let files = [
        calling("a.rs", &[("spin", "fn spin() { zither }", &["write_duty", "unknown"])]),
        calling("b.rs", &[("write_duty", "fn write_duty() { pwm }", &[])]),
        calling("c.rs", &[("main", "fn main() { start }", &["spin"])]),
        calling("d.py", &[("write_duty", "def write_duty(): other", &[])]),
    ];
    place.code.apply(id, &files).unwrap();
    place.raw().execute("UPDATE files SET language = 'python' WHERE path = 'd.py'", []).unwrap();
    let of_spin = [
        "a.rs > spin",
        "b.rs > write_duty called by a.rs > spin (write_duty)",
        "c.rs > main calls a.rs > spin (spin)",
    ];
    assert_eq!(found(&place, "zither"), of_spin);
    // Without its other end nothing is added.
    place.code.apply(id, &[FromIndexer::Gone { path: "b.rs".to_owned() }]).unwrap();
    assert_eq!(found(&place, "zither"), [of_spin[0], of_spin[2]]);
    place.assert_whole();
}

#[test]
fn a_name_of_many_definitions_or_of_another_repository_adds_nothing() {
    let mut place = Place::new();
    let (id, other) = (place.repository("fans", None), place.repository("others", None));
    let run = |path: &str| calling(path, &[("run", &*format!("fn run() {{ {path} }}"), &[])]);
    let mut files: Vec<_> = (0..30).map(|number| run(&format!("{number}.rs"))).collect();
    files.push(calling("a.rs", &[("spin", "fn spin() { zither }", &["run", "stop"])]));
    place.code.apply(id, &files).unwrap();
    place.code.apply(other, &[calling("b.rs", &[("stop", "fn stop() {}", &[])])]).unwrap();
    assert_eq!(found(&place, "zither"), ["a.rs > spin"]);
}

#[test]
fn what_its_asker_may_not_see_is_not_added() {
    let mut place = Place::new();
    let (shared, private) =
        (place.repository("fans", None), place.repository("fans", Some("key a")));
    let spin = calling("a.rs", &[("spin", "fn spin() { zither }", &["secret"])]);
    place.code.apply(shared, std::slice::from_ref(&spin)).unwrap();
    let secret = calling("b.rs", &[("secret", "fn secret() {}", &["spin"])]);
    // Its text is also that of a file that everybody sees.
    place.code.apply(private, &[spin, secret]).unwrap();
    assert_eq!(found(&place, "zither"), ["a.rs > spin"]);
    place.code.remove(private).unwrap();
    place.assert_whole();
    assert_eq!((place.count("definitions"), place.count("uses")), (1, 1));
}

#[test]
fn names_are_written_once_for_a_text_and_again_for_one_of_an_earlier_version() {
    let mut place = Place::new();
    let id = place.repository("fans", None);
    let spin = |path: &str| calling(path, &[("spin", "fn spin() { zither }", &["run"])]);
    place.code.apply(id, &[spin("a.rs"), spin("b.rs")]).unwrap();
    let counts = |place: &Place| (place.count("definitions"), place.count("uses"));
    assert_eq!(counts(&place), (1, 1));
    let raw = place.raw();
    raw.execute_batch("DELETE FROM uses; DELETE FROM definitions; UPDATE texts SET named = 0;")
        .unwrap();
    place.code.apply(id, &[spin("a.rs")]).unwrap();
    assert_eq!(counts(&place), (1, 1));
    place.assert_whole();
}
