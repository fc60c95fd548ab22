//! All requests of an embedder: one text after the other, first come, first served.
//!
//! A request is at most [`MOST_INPUTS`] texts, so nobody waits long for somebody
//! else's. A text that cannot be used ends its request and no other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use engine_api::embedding::{Embed, Input, LONGEST_TEXT, MOST_INPUTS, Vector};
use engine_api::protocol::{
    Asker, FromWorker, Generate, Heartbeat, Limits, PromptProblem, RequestId, TokenId,
};

use crate::backend::StepError;
use crate::backend::embedder::Embedder;
use crate::grammar::{Constraint, GrammarError};
use crate::requests::Requests;

/// Bytes of a text, for each token of the window, that are looked at first. A text
/// in which so many are already too many tokens is not read to its end.
const BYTES_A_TOKEN: usize = 32;

/// The requests and the embedder that computes them.
pub struct Vectors {
    embedder: Box<dyn Embedder>,
    /// Tokens of one text at most, with those that stand around it.
    context: usize,
    vocabulary: u32,
    pace: Duration,
    waiting: VecDeque<Job>,
    /// Messages since they were last taken.
    out: Vec<FromWorker>,
    progress: Heartbeat,
}

/// A request and what it has so far.
#[derive(Debug)]
struct Job {
    embed: Embed,
    vectors: Vec<Vector>,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Vectors {
    /// No requests yet, for texts of at most `context` tokens.
    #[must_use]
    pub fn new(embedder: Box<dyn Embedder>, vocabulary: u32, context: u32, limits: Limits) -> Self {
        let progress =
            Heartbeat { threads: embedder.description().threads, ..Heartbeat::default() };
        let (waiting, out) = (VecDeque::new(), Vec::new());
        let context = context as usize;
        let mut vectors =
            Self { embedder, context, vocabulary, pace: Duration::ZERO, waiting, out, progress };
        vectors.set_limits(limits);
        vectors
    }

    fn fail(&mut self, id: RequestId, reason: impl Into<String>) {
        self.out.push(FromWorker::Failed { id, reason: reason.into() });
    }

    /// The tokens of one input, and whether its end was left out.
    fn tokens(&self, embed: &Embed, input: &Input) -> Result<(Vec<TokenId>, bool), PromptProblem> {
        let (before, after) = self.embedder.frame();
        let around = before.len() + after.len();
        let room = self.context.saturating_sub(around);
        let (mut tokens, whole) = match input {
            Input::Tokens(tokens) => (self.known(tokens)?, true),
            Input::Text(text) => self.text(self.embedder.embedding().prefix(embed.purpose), text),
        };
        let cut = tokens.len() > room;
        if cut && !embed.cut {
            return Err(PromptProblem::TooLong {
                tokens: count(tokens.len() + around),
                at_least: !whole,
                context: count(self.context),
            });
        }
        tokens.truncate(room);
        Ok(([before, &tokens, after].concat(), cut))
    }

    fn known(&self, tokens: &[TokenId]) -> Result<Vec<TokenId>, PromptProblem> {
        match tokens.iter().find(|token| token.0 >= self.vocabulary) {
            Some(token) => {
                Err(PromptProblem::UnknownToken { id: token.0, vocabulary: self.vocabulary })
            }
            None => Ok(tokens.to_vec()),
        }
    }

    /// The tokens of a text with its prefix, and whether they are all that it has.
    fn text(&self, prefix: &str, text: &str) -> (Vec<TokenId>, bool) {
        let text = match prefix {
            "" => text.into(),
            prefix => std::borrow::Cow::from(format!("{prefix}{text}")),
        };
        let beginning = beginning(&text, self.context * BYTES_A_TOKEN);
        let tokens = self.embedder.tokenize(beginning);
        if tokens.len() > self.context || beginning.len() == text.len() {
            let whole = beginning.len() == text.len();
            return (tokens, whole);
        }
        // Mostly space, or words that are one token however long they are.
        (self.embedder.tokenize(&text), true)
    }
}

/// At most so many bytes of `text`, which end where a word does.
fn beginning(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let most = &text[..end];
    most.rfind(char::is_whitespace).map_or(most, |at| &most[..at])
}

impl Requests for Vectors {
    fn add(&mut self, request: Generate, _now: Instant) {
        self.fail(request.id, "this engine makes embeddings and no answers");
    }

    fn embed(&mut self, embed: Embed) {
        let is_long =
            |input: &Input| matches!(input, Input::Text(text) if text.len() > LONGEST_TEXT);
        if embed.inputs.len() > MOST_INPUTS || embed.inputs.iter().any(is_long) {
            return self.fail(embed.id, "more texts, or longer ones, than was agreed");
        }
        self.waiting.push_back(Job { embed, vectors: Vec::new() });
    }

    /// No request here waits for one.
    fn constrain(&mut self, _id: RequestId, _constraint: Result<Constraint, GrammarError>) {}

    fn cancel(&mut self, id: RequestId) {
        let before = self.waiting.len();
        self.waiting.retain(|job| job.embed.id != id);
        if self.waiting.len() < before {
            self.fail(id, "it was cancelled");
        }
    }

    /// Nothing is kept.
    fn forget(&mut self, _asker: Asker) {}

    fn abandon(&mut self) {
        self.waiting.clear();
        self.out.clear();
    }

    fn set_limits(&mut self, limits: Limits) {
        self.pace = Duration::from_micros(limits.pace_us.into());
    }

    fn share_cores(&mut self, alone: bool) {
        self.embedder.share_cores(alone);
    }

    fn rest(&self, step: Duration) -> Duration {
        self.pace.saturating_sub(step)
    }

    fn rested(&mut self, _step: Duration, _rest: Duration) {}

    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    fn has_work(&self) -> bool {
        !self.is_idle()
    }

    fn take_messages(&mut self) -> Vec<FromWorker> {
        std::mem::take(&mut self.out)
    }

    fn progress(&mut self) -> Heartbeat {
        self.progress.prefilling = u32::from(!self.waiting.is_empty());
        self.progress.waiting = count(self.waiting.len().saturating_sub(1));
        let progress = self.progress.clone();
        self.progress.worst_step_us = 0;
        progress
    }

    /// Computes one text.
    fn step(&mut self) -> Result<(), StepError> {
        let Some(mut job) = self.waiting.pop_front() else { return Ok(()) };
        let id = job.embed.id;
        let at = job.vectors.len();
        if let Some(input) = job.embed.inputs.get(at) {
            let begun = Instant::now();
            let (tokens, cut) = match self.tokens(&job.embed, input) {
                Ok(tokens) => tokens,
                Err(problem) => {
                    let input = count(at);
                    self.out.push(FromWorker::Unembedded { id, input, problem });
                    return Ok(());
                }
            };
            let values = match self.embedder.embed(&tokens) {
                Ok(values) => values,
                Err(error) => {
                    self.fail(id, error.to_string());
                    return Ok(());
                }
            };
            let tokens = count(tokens.len());
            job.vectors.push(Vector { values, tokens, cut });
            let progress = &mut self.progress;
            progress.steps += 1;
            progress.prefill_tokens += u64::from(tokens);
            progress.step_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            progress.worst_step_us = progress.worst_step_us.max(progress.step_us);
        }
        if job.vectors.len() < job.embed.inputs.len() {
            self.waiting.push_front(job);
        } else {
            self.out.push(FromWorker::Embedded { id, vectors: job.vectors });
        }
        Ok(())
    }
}

/// A count as the protocol carries it; nothing here comes near the bound.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use engine_api::embedding::{Embedding, Pooling, Purpose};
    use engine_api::protocol::ModelFacts;

    use super::*;
    use crate::backend::Description;
    use crate::requests::promises::LIMITS;

    /// A token is a word's length, and a vector is the sum of all tokens.
    struct Counting {
        embedding: Embedding,
        alone: bool,
    }

    const CONTEXT: u32 = 6;

    impl Embedder for Counting {
        fn description(&self) -> Description {
            Description {
                backend: "counting",
                device: String::new(),
                model: ModelFacts::default(),
                slots: 1,
                context: CONTEXT,
                kv_bytes: 0,
                threads: 1,
                largest_step: CONTEXT,
                reproducible: true,
            }
        }

        fn embedding(&self) -> &Embedding {
            &self.embedding
        }

        fn tokenize(&self, text: &str) -> Vec<TokenId> {
            text.split_whitespace().map(|word| TokenId(count(word.len()))).collect()
        }

        fn frame(&self) -> (&[TokenId], &[TokenId]) {
            (&[TokenId(100)], &[TokenId(200)])
        }

        fn embed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, StepError> {
            if tokens.contains(&TokenId(13)) {
                return Err(StepError { doing: "count", cause: "thirteen".into() });
            }
            Ok(vec![tokens.iter().map(|token| token.0 as f32).sum()])
        }

        fn share_cores(&mut self, alone: bool) {
            self.alone = alone;
        }
    }

    fn vectors() -> Vectors {
        let embedding = Embedding {
            dimension: 1,
            pooling: Pooling::Mean,
            normalise: false,
            query_prefix: "find ".into(),
            document_prefix: String::new(),
        };
        Vectors::new(Box::new(Counting { embedding, alone: false }), 300, CONTEXT, LIMITS)
    }

    fn asked(id: u64, inputs: Vec<Input>) -> Embed {
        Embed { id: RequestId(id), inputs, purpose: Purpose::Plain, cut: false }
    }

    fn texts(texts: &[&str]) -> Vec<Input> {
        texts.iter().map(|text| Input::Text((*text).into())).collect()
    }

    /// All messages until nothing is left to do.
    fn run(vectors: &mut Vectors) -> Vec<FromWorker> {
        while vectors.has_work() {
            vectors.step().unwrap();
        }
        vectors.take_messages()
    }

    fn vector(value: f32, tokens: u32, cut: bool) -> Vector {
        Vector { values: vec![value], tokens, cut }
    }

    #[test]
    fn each_text_gets_its_vector_in_order_and_first_come_goes_first() {
        let mut vectors = vectors();
        vectors.embed(asked(1, texts(&["a bc", ""])));
        vectors.embed(asked(2, vec![Input::Tokens(vec![TokenId(7)])]));
        let expected = [
            FromWorker::Embedded {
                id: RequestId(1),
                vectors: vec![vector(303.0, 4, false), vector(300.0, 2, false)],
            },
            FromWorker::Embedded { id: RequestId(2), vectors: vec![vector(307.0, 3, false)] },
        ];
        assert_eq!(run(&mut vectors), expected);
        assert_eq!(vectors.progress().steps, 3);
    }

    #[test]
    fn the_purpose_puts_its_prefix_before_the_text() {
        let mut vectors = vectors();
        vectors.embed(Embed { purpose: Purpose::Query, ..asked(1, texts(&["a"])) });
        let expected =
            FromWorker::Embedded { id: RequestId(1), vectors: vec![vector(305.0, 4, false)] };
        assert_eq!(run(&mut vectors), [expected]);
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused_with_its_length_or_cut_aloud() {
        let mut vectors = vectors();
        let inputs = || texts(&["a", "a a a a a"]);
        vectors.embed(asked(1, inputs()));
        vectors.embed(Embed { cut: true, ..asked(2, inputs()) });
        let problem = PromptProblem::TooLong { tokens: 7, at_least: false, context: 6 };
        let expected = [
            FromWorker::Unembedded { id: RequestId(1), input: 1, problem },
            FromWorker::Embedded {
                id: RequestId(2),
                vectors: vec![vector(301.0, 3, false), vector(304.0, 6, true)],
            },
        ];
        assert_eq!(run(&mut vectors), expected);
    }

    #[test]
    fn a_text_far_too_long_is_not_read_to_its_end_and_much_space_is_no_length() {
        let mut vectors = vectors();
        vectors.embed(asked(1, texts(&[&"ab ".repeat(100_000)])));
        vectors.embed(asked(2, texts(&[&format!("{}ab", " ".repeat(100_000))])));
        let messages = run(&mut vectors);
        let FromWorker::Unembedded { problem, .. } = &messages[0] else { panic!("{messages:?}") };
        // A sixty-four of the window's bytes hold so many words, and two stand around.
        let (tokens, context) = (66, 6);
        assert_eq!(*problem, PromptProblem::TooLong { tokens, at_least: true, context });
        let expected =
            FromWorker::Embedded { id: RequestId(2), vectors: vec![vector(302.0, 3, false)] };
        assert_eq!(messages[1], expected);
    }

    #[test]
    fn the_beginning_of_a_text_ends_with_a_word_and_never_within_a_letter() {
        assert_eq!(beginning("short", 9), "short");
        assert_eq!(beginning("two words", 6), "two");
        assert_eq!(beginning("ääää", 3), "ä");
        assert_eq!(beginning("ä", 1), "");
    }

    #[test]
    fn what_fails_fails_alone() {
        let mut vectors = vectors();
        vectors.embed(asked(1, texts(&["thirteen-----"])));
        vectors.embed(asked(2, vec![Input::Tokens(vec![TokenId(300)])]));
        vectors.embed(asked(3, texts(&["a"; MOST_INPUTS + 1])));
        vectors.embed(asked(4, texts(&["a"])));
        let ids: Vec<_> = run(&mut vectors)
            .into_iter()
            .map(|message| match message {
                FromWorker::Failed { id, .. } => ("failed", id.0),
                FromWorker::Unembedded { id, .. } => ("unusable", id.0),
                FromWorker::Embedded { id, .. } => ("made", id.0),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids, [("failed", 3), ("failed", 1), ("unusable", 2), ("made", 4)]);
    }

    #[test]
    fn a_request_that_was_cancelled_ends_once_and_answers_are_not_made_here() {
        let mut vectors = vectors();
        vectors.embed(asked(1, texts(&["a", "b"])));
        vectors.step().unwrap();
        vectors.cancel(RequestId(1));
        vectors.cancel(RequestId(1));
        assert_eq!(vectors.take_messages().len(), 1);
        assert!(vectors.is_idle());
        let chat = crate::requests::promises::request(9, crate::requests::promises::chat("hello"));
        vectors.add(chat, Instant::now());
        assert!(matches!(
            vectors.take_messages()[..],
            [FromWorker::Failed { id: RequestId(9), .. }]
        ));
    }
}
