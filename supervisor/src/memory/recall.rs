//! What was said before, in pieces that can be found again. Pure.

use serde::{Deserialize, Serialize};

/// Characters of a passage, about: a fact stands in one, and little else does.
const PASSAGE: usize = 700;
/// Passages of one message; what is behind them is not found again.
pub const MOST_PASSAGES: u16 = 512;
/// A word that more than one of so many messages have says nothing of what is asked,
const COMMON_IN_ONE_OF: usize = 4;
/// where there are more than so many that have it.
const SELDOM: usize = 7;
/// Words of a question that two messages do not both have by chance.
const REPEATED: usize = 8;

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

/// What shares words with a question, among all that was said in a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What is not sent any more, the best first.
    pub gone: Vec<Passage>,
    /// What stands in the prompt.
    pub there: Vec<Passage>,
    /// Messages of the conversation.
    pub messages: usize,
}

impl Found {
    /// Words of the question that say nothing here: so many messages have them.
    fn common(&self) -> Vec<String> {
        let most = (self.messages / COMMON_IN_ONE_OF).max(SELDOM);
        let mut words: Vec<(&String, i64)> = (self.gone.iter().chain(&self.there))
            .flat_map(|passage| passage.words.iter().map(|word| (word, passage.at)))
            .collect();
        words.sort_unstable();
        words.dedup();
        let messages_of_each = words.chunk_by(|one, other| one.0 == other.0);
        let common = messages_of_each.filter(|messages| messages.len() > most);
        common.map(|messages| messages[0].0.clone()).collect()
    }
}

impl Passage {
    /// Only what these words are not.
    fn without(self, common: &[String]) -> Self {
        let is_common = |word: &str| common.iter().any(|common| common == word);
        let mut passage = self;
        passage.words.retain(|word| !is_common(word));
        passage.phrases.retain(|phrase| !phrase.split([' ', '_']).all(is_common));
        passage
    }
}

/// Whether it is worth its tokens: it shares more with the question than one word and a
/// quarter of them, or all that there is.
fn is_about(passage: &Passage, words_asked: usize) -> bool {
    let shared = passage.words.len();
    shared >= 2 && shared * 4 >= words_asked || shared >= words_asked.max(1)
}

/// Whether a newer message repeats so much of what it shares with the question that it is
/// another of the same kind, as where each message is written by the same template.
fn is_repeated(passage: &Passage, by: &Passage) -> bool {
    by.at > passage.at
        && passage.words.len() >= REPEATED
        && passage.words.iter().all(|word| by.words.contains(word))
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

/// Those of what is gone that are about the question, which has so many words, and newer
/// ones than such; without what newer messages repeat. Words that say nothing are not
/// among those of what is left.
#[must_use]
pub fn about(found: Found, words_asked: usize) -> Vec<Passage> {
    let common = found.common();
    let words_asked = words_asked.saturating_sub(common.len());
    let newer =
        |one: &Passage| found.there.iter().chain(&found.gone).any(|it| is_repeated(one, it));
    let is_repeated: Vec<bool> = found.gone.iter().map(newer).collect();
    let all: Vec<_> = found.gone.into_iter().map(|passage| passage.without(&common)).collect();
    let is_about: Vec<bool> = all.iter().map(|it| is_about(it, words_asked)).collect();
    let kept: Vec<bool> = (all.iter().zip(&is_about).zip(is_repeated))
        .map(|((one, &about), is_repeated)| {
            let is_newer_than_such =
                || all.iter().zip(&is_about).any(|(other, about)| *about && is_newer(one, other));
            !is_repeated && (about || is_newer_than_such())
        })
        .collect();
    all.into_iter().zip(kept).filter_map(|(passage, kept)| kept.then_some(passage)).collect()
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

    fn places(found: Found, words_asked: usize) -> Vec<i64> {
        about(found, words_asked).iter().map(|passage| passage.at).collect()
    }

    fn gone(gone: &[&Passage]) -> Found {
        let gone: Vec<_> = gone.iter().map(|&passage| passage.clone()).collect();
        Found { messages: gone.len(), gone, there: Vec::new() }
    }

    #[test]
    fn what_is_newer_than_an_answer_stays_with_it() {
        let (mut older, newer) = (passage(1, &["a b"]), passage(2, &["a b"]));
        assert!(places(gone(&[&older, &newer]), 12).is_empty());
        older.words.extend(["c".to_owned(), "d".to_owned()]);
        let little = passage(3, &["x y"]);
        assert_eq!(places(gone(&[&older, &newer, &little]), 12), [1, 2]);
    }

    #[test]
    fn words_that_stand_everywhere_do_not_count() {
        let phrase = "please look at the file and fix it";
        let mut all: Vec<_> = (1..=16).map(|at| passage(at, &[phrase])).collect();
        all[3].words.extend(["amber".to_owned(), "gateway".to_owned()]);
        all.push(passage(17, &["amber gateway"]));
        // The second would share too little with sixteen words if all of them counted.
        let found = Found { gone: all.clone(), there: Vec::new(), messages: 34 };
        assert_eq!(places(found, 16), [4, 17]);
        let found = Found { gone: all[..7].to_vec(), there: Vec::new(), messages: 14 };
        assert_eq!(places(found, 20).len(), 2, "seven are not everywhere, but repeat each other");
    }

    #[test]
    fn what_a_newer_message_repeats_is_left_out() {
        let phrase = "step one two three four five six seven";
        let (older, newer) = (passage(1, &[phrase]), passage(2, &[phrase]));
        let found = |there: &Passage| Found { there: vec![there.clone()], ..gone(&[&older]) };
        assert!(places(found(&newer), 9).is_empty());
        assert_eq!(places(found(&passage(0, &[phrase])), 9), [1]);
        assert_eq!(places(found(&passage(2, &["step one two three"])), 9), [1]);
        assert_eq!(places(gone(&[&older, &newer]), 9), [2]);
        let little = passage(1, &["amber gateway"]);
        let asked_before = passage(2, &["amber gateway"]);
        let found = Found { there: vec![asked_before], ..gone(&[&little]) };
        assert_eq!(places(found, 3), [1], "a question that was asked is not an answer");
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
