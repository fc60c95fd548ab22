//! What the same conversation costs in other orders: code or passages, then the summary,
//! then the last messages; and cut to what fits of its end.
//!
//! Both are added up in bytes, which are the engine's tokens, and each prompt is compared
//! with the one before: what it begins with in common is not computed again.

use std::collections::HashSet;

use serde_json::Value;

use super::replay::text;
use super::transcripts::content;

/// Messages at the end that such a prompt has.
const LAST: usize = 12;
/// Passages that are chosen for each question, and characters of one.
const CHUNKS: usize = 6;
const CHUNK: usize = 1300;
/// Hundredths of the window for the summary.
const SUMMARY: usize = 8;

pub(crate) struct Orders {
    window: usize,
    answer: usize,
    chunks_first: Line,
    truncated: Line,
    /// The question that the passages were chosen for, and they.
    chosen: (String, String),
}

#[derive(Default)]
struct Line {
    before: String,
    tokens: u64,
    computed: u64,
    answers: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Costs {
    pub(crate) chunks_first: u64,
    /// Of these, answers behind a prompt that was there whole.
    pub(crate) chunks_first_answers: u64,
    pub(crate) truncated: u64,
}

impl Orders {
    pub(crate) fn new(window: u32, answer: u32) -> Self {
        let wide = |number: u32| usize::try_from(number).expect("32 bits fit");
        Self {
            window: wide(window),
            answer: wide(answer),
            chunks_first: Line::default(),
            truncated: Line::default(),
            chosen: (String::new(), String::new()),
        }
    }

    /// `answers` are bytes of what was answered since the turn before.
    pub(crate) fn turn(&mut self, said: &[Value], answers: u64) {
        let prompt = self.chunks_first(said);
        self.chunks_first.send(prompt, answers);
        let prompt = self.truncated(said);
        self.truncated.send(prompt, answers);
    }

    pub(crate) fn costs(&self) -> Costs {
        Costs {
            chunks_first: self.chunks_first.computed,
            chunks_first_answers: self.chunks_first.answers,
            truncated: self.truncated.computed,
        }
    }

    /// System messages and as many of the last ones as fit, which is what Ollama sends.
    pub(crate) fn truncated(&self, said: &[Value]) -> String {
        let (system, rest) = said.split_at(1);
        let room = self.window - self.answer - text(system).len();
        let mut from = rest.len();
        let mut length = 0;
        while from > 0 {
            length += content(&rest[from - 1]).len() + 1;
            if length > room {
                break;
            }
            from -= 1;
        }
        // The last one is sent in any case.
        text(system) + &text(&rest[from.min(rest.len() - 1)..])
    }

    fn chunks_first(&mut self, said: &[Value]) -> String {
        let (system, rest) = said.split_at(1);
        let question = rest.iter().rfind(|message| message["role"] == "user");
        let question = question.map_or("", content);
        let old = &rest[..rest.len().saturating_sub(LAST)];
        if self.chosen.0 != question {
            self.chosen = (question.to_owned(), chunks(old, question));
        }
        // As long as a summary would be, and new with every fifth message, as it would be.
        let summed = &old[..old.len() / 5 * 5];
        let summary: String =
            text(summed).chars().rev().take(self.window * SUMMARY / 100).collect();
        let last = text(&rest[old.len()..]);
        let most = self.window - self.answer;
        let prompt = text(system) + &self.chosen.1 + &summary + &last;
        match prompt.len() > most {
            true => self.truncated(said),
            false => prompt,
        }
    }
}

impl Line {
    fn send(&mut self, prompt: String, answers: u64) {
        let same = self.before.bytes().zip(prompt.bytes()).take_while(|(a, b)| a == b).count();
        self.tokens += prompt.len() as u64;
        self.computed += (prompt.len() - same) as u64;
        if same == self.before.len() {
            self.answers += answers;
        }
        self.before = prompt;
    }
}

/// The pieces that share the most words with the question.
fn chunks(said: &[Value], question: &str) -> String {
    let words = |text: &str| -> HashSet<String> {
        let words = text.split(|char: char| !char.is_alphanumeric());
        words.filter(|word| word.len() > 3).map(str::to_lowercase).collect()
    };
    let asked = words(question);
    let mut pieces: Vec<(usize, String)> = Vec::new();
    for message in said {
        let characters: Vec<char> = content(message).chars().collect();
        for piece in characters.chunks(CHUNK) {
            let piece: String = piece.iter().collect();
            pieces.push((words(&piece).intersection(&asked).count(), piece));
        }
    }
    pieces.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    pieces.into_iter().take(CHUNKS).map(|(_, piece)| piece).collect()
}
