//! How much of a stream a client has seen.
//!
//! A stream is made of steps. Each choice begins, says its tokens one after the
//! other, says what text was held back, and ends; then the whole says its usage
//! and ends. A position counts the steps of each choice and of the whole:
//! `12,7` of two choices, `14,9,1` with the usage. Clients give it back as it is.

use std::fmt;

/// Steps of each choice, then of the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    choices: Vec<u32>,
    whole: u32,
}

impl Position {
    /// Before everything, in a stream with so many choices.
    pub(crate) fn start(choices: usize) -> Self {
        Self { choices: vec![0; choices], whole: 0 }
    }

    /// Reads what a client gives back; `None` if it is none of such a stream.
    pub(crate) fn parse(text: &str, choices: usize) -> Option<Self> {
        let steps: Option<Vec<u32>> = text.split(',').map(|steps| steps.parse().ok()).collect();
        let mut steps = steps?;
        let whole = if steps.len() == choices + 1 { steps.pop()? } else { 0 };
        (steps.len() == choices).then_some(Self { choices: steps, whole })
    }

    /// Counts steps of one choice.
    pub(crate) fn step(&mut self, choice: usize, steps: usize) {
        let count = &mut self.choices[choice];
        *count = count.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
    }

    /// Counts a step of the whole.
    pub(crate) fn step_whole(&mut self) {
        self.whole += 1;
    }

    /// Whether this choice has come further here than in `other`.
    pub(crate) fn is_past(&self, other: &Self, choice: usize) -> bool {
        self.choices[choice] > other.choices.get(choice).copied().unwrap_or(0)
    }

    /// Whether the whole has come further here than in `other`.
    pub(crate) fn whole_is_past(&self, other: &Self) -> bool {
        self.whole > other.whole
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, steps) in self.choices.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{steps}")?;
        }
        if self.whole > 0 {
            write!(f, ",{}", self.whole)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        for (text, choices) in [("0", 1), ("12", 1), ("12,1", 1), ("12,7", 2), ("14,9,2", 2)] {
            assert_eq!(Position::parse(text, choices).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_position_of_this_stream_is_refused() {
        for text in ["", "x", "-1", "1,2,3", "1,", "4294967296", "1 "] {
            assert_eq!(Position::parse(text, 1), None, "{text:?}");
        }
        assert_eq!(Position::parse("12", 2), None);
    }
}
