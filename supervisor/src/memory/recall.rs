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
}

/// A message in passages, cut between lines where that leaves more than half, and
/// never inside a character.
#[must_use]
pub fn passages(content: &str) -> Vec<&str> {
    let mut passages = Vec::new();
    let mut rest = content;
    while !rest.is_empty() && passages.len() < usize::from(MOST_PASSAGES) {
        let end = match rest.char_indices().nth(PASSAGE) {
            None => rest.len(),
            Some((end, _)) => {
                let line = rest[..end].rfind('\n').map(|at| at + 1);
                line.filter(|at| at * 2 > end).unwrap_or(end)
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

/// One passage as it stands in a prompt.
#[must_use]
pub fn item(passage: &Passage) -> String {
    format!("- {}: {}\n", passage.role, passage.text.trim())
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

    proptest! {
        #[test]
        fn nothing_but_space_is_left_out(text in "([a-z \n]{0,900}){0,4}") {
            let said = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(said(&passages(&text).concat()), said(&text));
            prop_assert!(passages(&text).iter().all(|passage| passage.chars().count() <= PASSAGE));
        }
    }
}
