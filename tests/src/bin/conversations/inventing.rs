//! Summaries of a model that invents: sentences of real conversations with paths,
//! identifiers and numbers in them exchanged for others. How many of these stay?

use std::collections::HashSet;

use engine_api::protocol::{Message, Role};
use serde_json::Value;
use supervisor::memory::summary;
use tests::dice::Dice;

use super::transcripts::{Transcript, content};

/// Words that nobody has said, as a model would invent them.
const INVENTED: [&str; 6] =
    ["src/zorvex_quib.rs", "zorvex_quib", "ZorvexQuib", "zorvexQuib", "48151623", "v9.87.654"];

#[derive(Debug, Default)]
pub(crate) struct Inventing {
    pub(crate) blocks: usize,
    /// Sentences that were made up, and those that were not.
    pub(crate) invented: usize,
    pub(crate) true_ones: usize,
    /// Of the first, those that stayed; of the others as well.
    pub(crate) invented_kept: usize,
    pub(crate) true_kept: usize,
    /// Words with a digit, `_` or `/` that stayed, and that no source has.
    pub(crate) unknown: usize,
}

pub(crate) fn run(transcripts: &[Transcript], seed: u64) -> Inventing {
    let mut inventing = Inventing::default();
    for (number, transcript) in (0..).zip(transcripts) {
        let mut dice = Dice::new(seed, &[number, 7]);
        let messages: Vec<Message> = transcript.messages.iter().map(message).collect();
        for block in summary::blocks(&messages) {
            inventing.blocks += 1;
            let source = summary::source(&messages[block], summary::SOURCES[0]);
            inventing.block(&source, &mut dice);
        }
    }
    inventing
}

impl Inventing {
    fn block(&mut self, source: &str, dice: &mut Dice) {
        let sentences: Vec<&str> = source
            .lines()
            .flat_map(|line| line.split_inclusive(". "))
            .map(str::trim)
            .filter(|sentence| sentence.ends_with('.') && sentence.split(' ').count() > 5)
            .collect();
        let known: HashSet<&str> = source.split(|char: char| !is_word(char)).collect();
        for sentence in sentences {
            let words: Vec<&str> = sentence.split(' ').collect();
            let place = dice.within(1, words.len() - 2);
            let mut made_up = words.clone();
            let invented = INVENTED[dice.below(INVENTED.len())];
            made_up[place] = invented;
            self.invented += 1;
            self.true_ones += 1;
            if let Some(text) = summary::checked(&made_up.join(" "), source) {
                // A part of it may be a sentence of its own, and stay alone.
                self.invented_kept += usize::from(text.contains(invented));
                let odd = |word: &&str| {
                    word.contains(|char: char| char.is_ascii_digit() || char == '_')
                        && !known.contains(word)
                };
                self.unknown += text.split(|char: char| !is_word(char)).filter(odd).count();
            }
            self.true_kept += usize::from(summary::checked(sentence, source).is_some());
        }
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn message(sent: &Value) -> Message {
    Message {
        role: match sent["role"].as_str() {
            Some("system") => Role::System,
            Some("assistant") => Role::Assistant,
            Some("tool") => Role::Tool,
            _ => Role::User,
        },
        content: content(sent).to_owned(),
        tool_calls_json: sent.get("tool_calls").map(Value::to_string),
        tool_call_id: None,
        name: None,
    }
}
