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
    /// Words of the question that stand in it.
    pub words: u32,
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
#[must_use]
pub fn is_about(passage: &Passage, words_asked: usize) -> bool {
    let shared = passage.words as usize;
    shared >= 2 && shared * 4 >= words_asked || shared >= words_asked.max(1)
}

/// The best first, as they are given, but behind newer ones that have all of their phrases:
/// what was said of something last stands before what was said of it earlier.
#[must_use]
pub fn newest_first(found: Vec<Passage>) -> Vec<Passage> {
    let mut ordered: Vec<Passage> = Vec::with_capacity(found.len());
    for passage in found {
        let is_older = |other: &Passage| {
            other.at < passage.at
                && !other.phrases.is_empty()
                && other.phrases.iter().all(|phrase| passage.phrases.contains(phrase))
        };
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
        let passage = |at, phrases: &[&str]| Passage {
            role: "user".into(),
            text: String::new(),
            words: 2,
            phrases: phrases.iter().map(|&phrase| phrase.to_owned()).collect(),
            at,
        };
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

    proptest! {
        #[test]
        fn nothing_but_space_is_left_out(text in "([a-z \n]{0,900}){0,4}") {
            let said = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(said(&passages(&text).concat()), said(&text));
            prop_assert!(passages(&text).iter().all(|passage| passage.chars().count() <= PASSAGE));
        }
    }
}
