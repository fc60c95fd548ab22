//! The words by which code is found: identifiers whole and taken apart, so that
//! `setSpeed`, `set_speed` and "set speed" meet. Pure.
//!
//! What is written into the index and what is asked go through the same
//! splitting; stemming and case are left to SQLite's tokenizer.

/// Characters of one word that count. What is longer was not written by hand.
const LONGEST_WORD: usize = 64;
/// Words of one question that count.
const MOST_TERMS: usize = 32;
/// Words that say nothing of code, in a question that has others.
const FILLERS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "how",
    "i", "in", "is", "it", "my", "of", "on", "or", "that", "the", "there", "this", "to", "we",
    "what", "when", "where", "which", "with",
];

/// A text as it is put into the index: each identifier, then what it is made of.
#[must_use]
pub fn split(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + text.len() / 4);
    for identifier in identifiers(text) {
        push(&mut words, identifier);
        let parts: Vec<_> = identifier.split('_').filter(|part| !part.is_empty()).collect();
        for part in &parts {
            let pieces = camel(part);
            if pieces.len() > 1 {
                pieces.iter().for_each(|piece| push(&mut words, piece));
            }
        }
        if parts.len() > 1 {
            push(&mut words, &parts.concat());
        }
    }
    words
}

/// The words of a question, each once, in lower case and without fillers.
#[must_use]
pub fn terms(question: &str) -> Vec<String> {
    let split = split(question).to_lowercase();
    let mut terms: Vec<String> = Vec::new();
    // The tokenizer would split there as well.
    for term in split.split([' ', '_']).filter(|term| !term.is_empty()) {
        if !terms.iter().any(|known| known == term) {
            terms.push(term.to_owned());
        }
    }
    let says_something = |term: &String| !FILLERS.contains(&term.as_str());
    if terms.iter().any(says_something) {
        terms.retain(says_something);
    }
    terms.truncate(MOST_TERMS);
    terms
}

/// What a name is made of, in lower case: `setSpeed` and `set_speed` are "set", "speed".
#[must_use]
pub fn parts(name: &str) -> Vec<String> {
    let parts = identifiers(name).flat_map(|identifier| identifier.split('_'));
    parts.filter(|part| !part.is_empty()).flat_map(camel).map(str::to_lowercase).collect()
}

fn push(words: &mut String, word: &str) {
    if !words.is_empty() {
        words.push(' ');
    }
    words.push_str(word);
}

/// Runs of letters, digits and `_`, cut where they are monstrous.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    let runs = text.split(|char: char| !char.is_alphanumeric() && char != '_');
    runs.filter(|run| run.contains(char::is_alphanumeric)).map(|run| {
        let end = run.char_indices().nth(LONGEST_WORD).map_or(run.len(), |(end, _)| end);
        &run[..end]
    })
}

/// `HTTPServer2Go` → `HTTP`, `Server2`, `Go`.
fn camel(word: &str) -> Vec<&str> {
    let chars: Vec<_> = word.char_indices().collect();
    let mut pieces = Vec::new();
    let mut start = 0;
    for (number, &(at, char)) in chars.iter().enumerate().skip(1) {
        let before = chars[number - 1].1;
        let next = chars.get(number + 1).map(|&(_, next)| next);
        let begins =
            char.is_uppercase() && (!before.is_uppercase() || next.is_some_and(char::is_lowercase));
        if begins {
            pieces.push(&word[start..at]);
            start = at;
        }
    }
    pieces.push(&word[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identifiers_stand_whole_and_in_parts() {
        for (text, words) in [
            ("fan.set_speed(7)", "fan set_speed setspeed 7"),
            ("setSpeed", "setSpeed set Speed"),
            ("parse_HTTPServer2Go", "parse_HTTPServer2Go HTTP Server2 Go parseHTTPServer2Go"),
            ("__init__", "__init__"),
            ("größeÄndern", "größeÄndern größe Ändern"),
            ("// --", ""),
        ] {
            assert_eq!(split(text), words, "{text}");
        }
    }

    #[test]
    fn a_name_is_what_it_is_made_of() {
        for name in ["set_fanSpeed", "SetFan_speed", "__set, fan::Speed"] {
            assert_eq!(parts(name), ["set", "fan", "speed"], "{name}");
        }
    }

    #[test]
    fn a_question_is_its_words_once_without_fillers() {
        assert_eq!(
            terms("How do I set the fan's setSpeed?"),
            ["set", "fan", "s", "setspeed", "speed"]
        );
        assert_eq!(terms("set_speed"), ["set", "speed", "setspeed"]);
        assert_eq!(terms("what is it"), ["what", "is", "it"]);
        assert_eq!(terms("\"*) OR NEAR("), ["near"]);
        assert_eq!(terms("(-:"), [""; 0]);
        assert_eq!(terms(&"word ".repeat(9)).len(), 1);
    }

    proptest! {
        #[test]
        fn every_way_to_write_a_name_is_found_by_every_other(parts in prop::collection::vec("[a-z]{2,8}", 1..4)) {
            let snake = parts.join("_");
            let pascal: String =
                parts.iter().map(|part| part[..1].to_uppercase() + &part[1..]).collect();
            let said = |text: &str| split(text).to_lowercase().replace('_', " ");
            for (one, other) in [(&snake, &pascal), (&pascal, &snake)] {
                let said = said(one);
                let words: Vec<_> = said.split(' ').collect();
                for term in terms(other) {
                    prop_assert!(words.contains(&term.as_str()), "{term} is not in {words:?}");
                }
            }
        }

        #[test]
        fn any_text_gives_words_that_can_be_quoted(text in ".{0,300}") {
            for term in terms(&text) {
                prop_assert!(!term.is_empty() && !term.contains(['"', ' ', '_']), "{term:?}");
            }
        }
    }
}
