//! Short texts that the model makes of a conversation's older messages, and which of
//! their sentences may be believed. Pure.
//!
//! Where a block of messages ends follows from the messages up to there alone, so every
//! later turn and every branch finds the same blocks. A model invents; so a sentence stays
//! only if each path, identifier and number in it stands in what it is about. A small
//! model may leave nothing that is worth its room, and then there is no text.

use std::collections::HashSet;
use std::ops::Range;

use engine_api::protocol::{Message, Role};

use super::ledger::sentences;
use super::reset::{mask, may_begin};

/// Messages of the user in one block; then the next begins.
const TURNS: usize = 8;
/// Characters of one block, masked; then the next begins as soon as one may.
const BLOCK: usize = 6000;
/// Characters of a sentence, and of all of them.
const LONGEST_SENTENCE: usize = 300;
const LONGEST_TEXT: usize = 700;
/// Words of a sentence at least.
const FEWEST_WORDS: usize = 4;
/// Of all words so many hundredths are different ones; less is a model that goes in circles.
const DIFFERENT: usize = 45;
/// Tokens that the model may take for one text.
pub const MOST_TOKENS: u32 = 200;
/// Characters of a block that the model reads; the smaller ones are for small windows.
pub const SOURCES: [usize; 4] = [8000, 4000, 2000, 1000];

/// What the model is told to do with a block.
pub const INSTRUCTION: &str = "You shorten conversations. In two to five short, plain sentences \
                               say what was asked in the messages below, what was done and how \
                               it ended. Use only what they say. No list, no code, no heading.";

/// The blocks that are whole, from the first message on that is not the system's. They end
/// where a conversation may be cut, so that no result stands without its call.
#[must_use]
pub fn blocks(messages: &[Message]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let Some(mut begin) = messages.iter().position(|message| message.role != Role::System) else {
        return blocks;
    };
    let (mut turns, mut characters) = (0, 0);
    for (at, message) in messages.iter().enumerate().skip(begin) {
        let is_long = turns >= TURNS && message.role == Role::User || characters >= BLOCK;
        if is_long && may_begin(messages, at) {
            blocks.push(begin..at);
            (begin, turns, characters) = (at, 0, 0);
        }
        turns += usize::from(message.role == Role::User);
        characters += told(message).chars().count();
    }
    blocks
}

/// A block as the model reads it, in about so many characters: old tool output masked,
/// of each message its first ones.
#[must_use]
pub fn source(block: &[Message], most: usize) -> String {
    let each = most / block.len().max(1);
    let mut source = String::new();
    for message in block {
        let who = match message.role {
            Role::System => continue,
            Role::User => "User",
            Role::Assistant => "Assistant",
            Role::Tool => "Tool",
        };
        let text: String = told(message).trim().chars().take(each.max(40)).collect();
        if !text.is_empty() {
            source.push_str(&format!("{who}: {text}\n"));
        }
    }
    source
}

/// What of an answer may stand for the source it is about; `None` if that is nothing.
#[must_use]
pub fn checked(answer: &str, source: &str) -> Option<String> {
    // A model that thinks aloud first ends its thoughts so.
    let answer = answer.rsplit("</think>").next().unwrap_or_default();
    let known = known(source);
    let mut text = String::new();
    let mut said: HashSet<String> = HashSet::new();
    for sentence in answer.lines().flat_map(|line| sentences(line.trim())) {
        let length = sentence.chars().count();
        let is_whole = sentence.ends_with(['.', '!', '?']);
        let may_stay = is_whole
            && length <= LONGEST_SENTENCE
            && sentence.split_whitespace().count() >= FEWEST_WORDS
            && !INSTRUCTION.contains(sentence)
            && facts(sentence).iter().all(|fact| known.contains(fact));
        if !may_stay || !said.insert(sentence.to_lowercase()) {
            continue;
        }
        if text.chars().count() + length >= LONGEST_TEXT {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(sentence);
    }
    let words: Vec<String> = words(&text).map(str::to_lowercase).collect();
    let different: HashSet<&String> = words.iter().collect();
    let goes_in_circles = different.len() * 100 < words.len() * DIFFERENT;
    (!text.is_empty() && !goes_in_circles).then_some(text)
}

/// The sentences of a text of which `is_good` says so.
#[must_use]
pub fn only(text: &str, is_good: impl Fn(&str) -> bool) -> String {
    let good: Vec<&str> = sentences(text).filter(|sentence| is_good(sentence)).collect();
    good.join(" ")
}

/// A message without what goes first.
fn told(message: &Message) -> String {
    let masked = (message.role == Role::Tool).then(|| mask(&message.content)).flatten();
    masked.unwrap_or_else(|| message.content.clone())
}

/// A sentence's paths, identifiers and numbers; names in the middle of it as well.
fn facts(sentence: &str) -> Vec<&str> {
    let all = words(sentence).enumerate();
    all.filter(|(place, word)| is_fact(word, *place == 0)).map(|(_, word)| word).collect()
}

fn is_fact(word: &str, is_first: bool) -> bool {
    let upper = |skipped: usize| word.chars().skip(skipped).any(char::is_uppercase);
    word.chars().any(|char| !char.is_alphabetic() && char != '-') || upper(usize::from(is_first))
}

/// Everything in the source that a sentence may name: its words, and what a path or a
/// place in a file ends and begins with.
fn known(source: &str) -> HashSet<&str> {
    let mut known = HashSet::new();
    for word in words(source) {
        known.insert(word);
        for (at, _) in word.match_indices(['/', ':']) {
            known.insert(trimmed(&word[..at]));
            known.insert(trimmed(&word[at + 1..]));
        }
    }
    known
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |char: char| char.is_whitespace() || "\"'`’“”()[]{}<>,;=|*!?".contains(char);
    text.split(between).map(trimmed).filter(|word| !word.is_empty())
}

fn trimmed(word: &str) -> &str {
    word.trim_matches(|char: char| ".:-/".contains(char))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::chain::tests::message;

    const SOURCE: &str = "User: The test in src/fan.rs:12 fails, set_speed takes 30 s.\n\
                          Assistant: Anna fixed FanCurve in v2.1 with `cargo test`.";

    #[test]
    fn a_sentence_with_anything_invented_goes() {
        for good in [
            "The test in src/fan.rs fails because set_speed takes 30 s.",
            "The user asked about it and Anna fixed it.",
            "FanCurve was fixed in v2.1 with the command `cargo test`.",
            "It was fixed with a test-driven approach.",
        ] {
            assert_eq!(checked(good, SOURCE).as_deref(), Some(good));
        }
        for invented in [
            "The test in src/fans.rs fails because of time.",
            "The function set_speeds takes too long here.",
            "It takes 3 s to run the test.",
            "The fix was made by Bertram a week ago.",
            "It is fixed in version v2.10 of this.",
            "The method getSpeed is the one to blame.",
        ] {
            assert_eq!(checked(invented, SOURCE), None, "{invented}");
        }
        let both = "The fix was in 4 files. Anna fixed it with cargo.";
        assert_eq!(checked(both, SOURCE).unwrap(), "Anna fixed it with cargo.");
    }

    #[test]
    fn what_says_nothing_goes() {
        let long = format!("It is {}.", "very ".repeat(80));
        let circles = "It is a test of the test of the test of the test of the test of it.";
        for nothing in ["", "Yes.", "It was then", INSTRUCTION, &long, circles] {
            assert_eq!(checked(nothing, SOURCE), None, "{nothing}");
        }
        let twice = "Anna fixed it with cargo. Anna fixed it with cargo.";
        assert_eq!(checked(twice, SOURCE).unwrap(), "Anna fixed it with cargo.");
        let thought = "<think>There are 7 files in here.</think>\nAnna fixed it with cargo.";
        assert_eq!(checked(thought, SOURCE).unwrap(), "Anna fixed it with cargo.");
        assert_eq!(only(both(), |sentence| !sentence.contains("30")), "It is slow.");
    }

    fn both() -> &'static str {
        "It is slow. It takes 30 s."
    }

    #[test]
    fn output_of_tools_is_masked_before_the_model_reads_it() {
        let block = [
            message(Role::User, "why?"),
            message(Role::Tool, &format!("3 failed\n{}", "x".repeat(900))),
        ];
        let source = source(&block, 8000);
        assert!(source.starts_with("User: why?\nTool: [Old output"), "{source}");
        assert!(source.contains("3 failed") && !source.contains("xxx"), "{source}");
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let role = prop_oneof![
            Just(Role::System),
            Just(Role::User),
            Just(Role::User),
            Just(Role::Assistant),
            Just(Role::Tool),
        ];
        (role, "[ab ]{0,30}").prop_map(|(role, text)| message(role, &text.repeat(60)))
    }

    proptest! {
        #[test]
        fn nothing_stays_that_the_source_does_not_have(
            answer in "([Aa]b_[0-9]?|src/[ab]\\.rs|[a-c]{1,4}|[A-C][a-c]{2}|[0-9]{1,3}|\\. | ){0,60}\\.",
            source in "([Aa]b_[0-9]?|src/[ab]\\.rs|[a-c]{1,4}|[A-C][a-c]{2}|[0-9]{1,3}|: | ){0,60}",
        ) {
            let Some(text) = checked(&answer, &source) else { return Ok(()) };
            prop_assert!(text.chars().count() <= LONGEST_TEXT);
            for sentence in sentences(&text) {
                for word in sentence.split(' ').skip(1) {
                    let word = word.trim_matches(['.', ':', '/']);
                    if word.contains(|char: char| char.is_ascii_digit() || "_/".contains(char)) {
                        prop_assert!(source.contains(word), "{word} in {sentence}");
                    }
                }
            }
        }

        #[test]
        fn any_answer_is_borne(answer in ".{0,200}", source in ".{0,200}") {
            let _ = checked(&answer, &source);
        }

        #[test]
        fn blocks_stand_side_by_side_and_more_messages_move_none(
            messages in prop::collection::vec(any_message(), 0..60), fewer in 0_usize..60,
        ) {
            let all = blocks(&messages);
            prop_assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            let fewer = &messages[..fewer.min(messages.len())];
            prop_assert!(all.starts_with(&blocks(fewer)));
            prop_assert!(all.iter().all(|block| may_begin(&messages, block.end)));
        }
    }
}
