//! What was said before, in pieces that can be found again. Pure.

use serde::{Deserialize, Serialize};

/// Characters of a passage, about: a fact stands in one, and little else does.
const PASSAGE: usize = 700;
/// Passages of one message; what is behind them is not found again.
pub const MOST_PASSAGES: u16 = 512;

/// A passage that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Who said it: `user`, `assistant` or `tool`.
    pub role: String,
    pub text: String,
    /// Words of the question that stand in it, each once.
    pub words: Vec<String>,
    /// Two and more of them that stand side by side there as in the question.
    pub phrases: Vec<String>,
    /// Its message's place among all of the conversation, in the order in which they came.
    pub at: i64,
}

/// A message in passages, cut between lines, sentences or words where that leaves more
/// than half, and never inside a character.
#[must_use]
pub fn passages(content: &str) -> Vec<&str> {
    let mut passages = Vec::new();
    let mut rest = content;
    while !rest.is_empty() && passages.len() < usize::from(MOST_PASSAGES) {
        let end = match rest.char_indices().nth(PASSAGE) {
            None => rest.len(),
            Some((end, _)) => {
                let after = |sign: &str| rest[..end].rfind(sign).map(|at| at + sign.len());
                let ends = ["\n", ". ", " "].into_iter().filter_map(after);
                ends.into_iter().find(|at| at * 2 > end).unwrap_or(end)
            }
        };
        let (passage, after) = rest.split_at(end);
        if !passage.trim().is_empty() {
            passages.push(passage);
        }
        rest = after;
    }
    passages
}

/// Whether it is worth its tokens: it shares more with the question than one word and a
/// quarter of them, or all that there is.
fn is_about(passage: &Passage, words_asked: usize) -> bool {
    let shared = passage.words.len();
    shared >= 2 && shared * 4 >= words_asked || shared >= words_asked.max(1)
}

/// Whether one may say again, and otherwise, what another said before of the same thing: it
/// has all of its phrases, or all of its words and two that stand side by side in both.
#[must_use]
pub fn is_newer(one: &Passage, other: &Passage) -> bool {
    let has_all = |one: &[String], other: &[String]| {
        !other.is_empty() && other.iter().all(|it| one.contains(it))
    };
    let pairs = |passage: &Passage| -> Vec<(String, String)> {
        let pairs = passage.phrases.iter().flat_map(|phrase| {
            let words: Vec<&str> = phrase.split([' ', '_']).collect();
            words
                .windows(2)
                .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
                .collect::<Vec<_>>()
        });
        pairs.collect()
    };
    let shares_a_pair = || {
        let known = pairs(other);
        pairs(one).iter().any(|pair| known.contains(pair))
    };
    one.at > other.at
        && (has_all(&one.phrases, &other.phrases)
            || has_all(&one.words, &other.words) && shares_a_pair())
}

/// Those that are about the question, which has so many words, and newer ones than such.
#[must_use]
pub fn about(found: Vec<Passage>, words_asked: usize) -> Vec<Passage> {
    let is_about: Vec<bool> = found.iter().map(|it| is_about(it, words_asked)).collect();
    let kept: Vec<bool> = (found.iter().zip(&is_about))
        .map(|(one, &about)| {
            about
                || found.iter().zip(&is_about).any(|(other, about)| *about && is_newer(one, other))
        })
        .collect();
    found.into_iter().zip(kept).filter_map(|(passage, kept)| kept.then_some(passage)).collect()
}

/// The best first, as they are given, but behind newer ones of the same thing:
/// what was said of something last stands before what was said of it earlier.
#[must_use]
pub fn newest_first(found: Vec<Passage>) -> Vec<Passage> {
    let mut ordered: Vec<Passage> = Vec::with_capacity(found.len());
    for passage in found {
        let is_older = |other: &Passage| is_newer(&passage, other);
        let place = ordered.iter().position(is_older).unwrap_or(ordered.len());
        ordered.insert(place, passage);
    }
    ordered
}

/// One passage as it stands in a prompt, with what was said since of values in it.
#[must_use]
pub fn item(passage: &Passage, since: &[String]) -> String {
    let mut item = format!("- {}: {}\n", passage.role, passage.text.trim());
    for line in since {
        item.push_str(&format!("  [since then {}]\n", line.trim_start_matches("- ")));
    }
    item
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passage(at: i64, phrases: &[&str]) -> Passage {
        let mut words: Vec<String> =
            phrases.iter().flat_map(|phrase| phrase.split(' ')).map(str::to_owned).collect();
        words.sort();
        words.dedup();
        let phrases = phrases.iter().map(|&phrase| phrase.to_owned()).collect();
        Passage { role: "user".into(), text: String::new(), words, phrases, at }
    }

    #[test]
    fn passages_end_with_lines_where_they_can() {
        let text = format!("{}\n{}\n", "a".repeat(500), "b".repeat(500));
        let lengths: Vec<_> = passages(&text).iter().map(|passage| passage.len()).collect();
        assert_eq!(lengths, [501, 501]);
        let lengths: Vec<_> =
            passages(&"ä".repeat(1500)).iter().map(|p| p.chars().count()).collect();
        assert_eq!(lengths, [700, 700, 100]);
    }

    #[test]
    fn what_was_said_last_of_something_stands_before_what_was_said_earlier() {
        let order = |found: &[(i64, &[&str])]| -> Vec<i64> {
            let found = found.iter().map(|(at, phrases)| passage(*at, phrases)).collect();
            newest_first(found).iter().map(|passage| passage.at).collect()
        };
        assert_eq!(order(&[(1, &["amber gateway"]), (2, &["amber gateway"])]), [2, 1]);
        assert_eq!(order(&[(1, &["amber gateway"]), (2, &["dusty gateway"])]), [1, 2]);
        assert_eq!(order(&[(1, &["a b", "c d"]), (2, &["a b"])]), [1, 2]);
        assert_eq!(order(&[(2, &["a b"]), (9, &[]), (1, &["a b"]), (3, &["a b"])]), [3, 2, 9, 1]);
        assert_eq!(order(&[(1, &[]), (2, &[])]), [1, 2]);
    }

    #[test]
    fn the_same_is_said_again_with_a_word_between() {
        let mut newer = passage(2, &["amber gateway"]);
        newer.words.push("lives".into());
        let older = passage(1, &["amber gateway lives"]);
        assert!(is_newer(&newer, &older) && !is_newer(&older, &newer));
        let mut of_another = passage(3, &["gateway lives"]);
        assert!(!is_newer(&of_another, &older));
        of_another.words.push("amber".into());
        assert!(is_newer(&of_another, &older));
        let found = newest_first(vec![older.clone(), newer.clone()]);
        assert_eq!(found, [newer, older]);
    }

    #[test]
    fn what_is_newer_than_an_answer_stays_with_it() {
        let kept = |found: &[&Passage]| about(found.iter().map(|&it| it.clone()).collect(), 12);
        let (mut older, newer) = (passage(1, &["a b"]), passage(2, &["a b"]));
        assert_eq!(kept(&[&older, &newer]), []);
        older.words.extend(["c".to_owned(), "d".to_owned()]);
        let little = passage(3, &["x y"]);
        assert_eq!(kept(&[&older, &newer, &little]), [older, newer]);
    }

    proptest! {
        #[test]
        fn nothing_but_space_is_left_out(text in "([a-z \n]{0,900}){0,4}") {
            let said = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(said(&passages(&text).concat()), said(&text));
            prop_assert!(passages(&text).iter().all(|passage| passage.chars().count() <= PASSAGE));
        }
    }
}
