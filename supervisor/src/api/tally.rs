//! What the answers of one job used together.

use engine_api::protocol::{Timings, Usage};

/// Summed as the answers end. A prompt counts once, however many answers it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Answers to each prompt.
    choices: usize,
    pub(crate) usage: Usage,
    /// Of the only answer, if its time is known; several answers share theirs in
    /// no way that could be added up.
    pub(crate) timings: Option<(Usage, Timings)>,
    ended: usize,
}

impl Tally {
    pub(crate) fn new(choices: usize) -> Self {
        let usage = Usage { cached_tokens: Some(0), ..Usage::default() };
        Self { choices, usage, timings: None, ended: 0 }
    }

    /// Counts the answer with this index.
    pub(crate) fn add(&mut self, index: usize, usage: Usage, timings: Option<Timings>) {
        if index.is_multiple_of(self.choices) {
            self.usage.prompt_tokens += usage.prompt_tokens;
            // Of several prompts, one that is unknown makes the sum unknown.
            let both = self.usage.cached_tokens.zip(usage.cached_tokens);
            self.usage.cached_tokens = both.map(|(sum, more)| sum + more);
        }
        self.usage.completion_tokens += usage.completion_tokens;
        self.ended += 1;
        let only = timings.filter(|_| self.ended == 1);
        self.timings = only.map(|timings| (usage, timings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_once() {
        let mut tally = Tally::new(2);
        for index in [1, 0, 3, 2] {
            let usage =
                Usage { prompt_tokens: 10, cached_tokens: Some(index), completion_tokens: 5 };
            tally.add(index as usize, usage, Some(Timings::default()));
        }
        let usage = Usage { prompt_tokens: 20, cached_tokens: Some(2), completion_tokens: 20 };
        assert_eq!(tally.usage, usage);
        assert_eq!(tally.timings, None);
    }

    #[test]
    fn what_one_engine_did_not_tell_is_unknown_in_the_sum() {
        let mut tally = Tally::new(1);
        for (index, cached_tokens) in [Some(3), None, Some(4)].into_iter().enumerate() {
            tally.add(index, Usage { cached_tokens, ..Usage::default() }, None);
        }
        assert_eq!(tally.usage.cached_tokens, None);
    }

    #[test]
    fn one_answer_has_timings() {
        let mut tally = Tally::new(1);
        let timings = Timings { queued_us: 1, prefill_us: 2, decode_us: 3 };
        tally.add(0, Usage::default(), Some(timings));
        assert_eq!(tally.timings, Some((Usage::default(), timings)));
    }
}
