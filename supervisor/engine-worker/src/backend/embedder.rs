//! What a runtime must be able to do that makes vectors and no answers.
//!
//! It computes one text at a time. A batch would be padded to its longest text, and
//! int8 models scale their activations by the largest of the whole batch: a vector
//! would depend on what was asked for beside it.

use engine_api::embedding::{Embedding, Pooling};
use engine_api::protocol::TokenId;

use super::{Description, StepError};

/// A loaded embedder. All calls come from one thread.
pub trait Embedder {
    /// What it is and what it computes on.
    fn description(&self) -> Description;

    /// How its vectors are made.
    fn embedding(&self) -> &Embedding;

    /// The tokens of `text` alone. Text such as `[SEP]` is text.
    fn tokenize(&self, text: &str) -> Vec<TokenId>;

    /// The tokens before and after every text.
    fn frame(&self) -> (&[TokenId], &[TokenId]);

    /// The vector of one framed text.
    ///
    /// # Errors
    /// The runtime's own; this text is lost, and nothing else.
    fn embed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, StepError>;

    /// Whether to compute with all threads or with one, because other processes
    /// need the cores.
    fn share_cores(&mut self, alone: bool);
}

/// The tokens that a model wants before and after every text, for example `[CLS]` and
/// `[SEP]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    before: Vec<TokenId>,
    after: Vec<TokenId>,
}

impl Frame {
    /// What stands before and after `inner` in `whole`, the same text in its frame.
    #[must_use]
    pub fn of(whole: &[TokenId], inner: &[TokenId]) -> Option<Self> {
        if inner.is_empty() {
            return None;
        }
        let at = whole.windows(inner.len()).position(|window| window == inner)?;
        let (before, after) = (whole[..at].to_vec(), whole[at + inner.len()..].to_vec());
        Some(Self { before, after })
    }

    /// Before and after.
    #[must_use]
    pub fn parts(&self) -> (&[TokenId], &[TokenId]) {
        (&self.before, &self.after)
    }

    /// A text in its frame.
    #[must_use]
    pub fn around(&self, tokens: &[TokenId]) -> Vec<TokenId> {
        [&self.before, tokens, &self.after].concat()
    }
}

/// The vector of a text whose hidden states a runtime has computed.
///
/// # Errors
/// The runtime's own.
pub fn vector(states: anyhow::Result<Vec<f32>>, how: &Embedding) -> Result<Vec<f32>, StepError> {
    let states = states.map_err(|error| StepError {
        doing: "compute the hidden states of a text",
        cause: format!("{error:#}"),
    })?;
    Ok(pool(&states, how))
}

/// One vector out of the hidden states of a text, `dimension` numbers for each token.
#[must_use]
pub fn pool(states: &[f32], how: &Embedding) -> Vec<f32> {
    let dimension = how.dimension.max(1) as usize;
    let mut rows = states.chunks_exact(dimension);
    let mut vector = match how.pooling {
        Pooling::Mean => {
            let mut sum = vec![0.0; dimension];
            let count = rows.len().max(1) as f32;
            for row in rows {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            sum.iter_mut().for_each(|value| *value /= count);
            sum
        }
        Pooling::First => rows.next().unwrap_or_default().to_vec(),
        Pooling::Last => rows.next_back().unwrap_or_default().to_vec(),
    };
    if how.normalise {
        normalise(&mut vector);
    }
    vector
}

/// Gives a vector the length 1; one without a length stays as it is.
fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(pooling: Pooling, normalise: bool) -> Vec<f32> {
        let (query_prefix, document_prefix) = (String::new(), String::new());
        let how = Embedding { dimension: 2, pooling, normalise, query_prefix, document_prefix };
        pool(&[3.0, 0.0, 1.0, 2.0, 5.0, 10.0], &how)
    }

    #[test]
    fn states_become_one_vector() {
        assert_eq!(pooled(Pooling::Mean, false), [3.0, 4.0]);
        assert_eq!(pooled(Pooling::First, false), [3.0, 0.0]);
        assert_eq!(pooled(Pooling::Last, false), [5.0, 10.0]);
        assert_eq!(pooled(Pooling::Mean, true), [0.6, 0.8]);
    }

    #[test]
    fn what_stands_around_a_text_is_told_from_an_example() {
        let ids = |ids: &[u32]| ids.iter().copied().map(TokenId).collect::<Vec<_>>();
        let frame = |whole: &[u32], inner: &[u32]| {
            let frame = Frame::of(&ids(whole), &ids(inner))?;
            Some((frame.before, frame.after))
        };
        assert_eq!(frame(&[101, 7, 102], &[7]), Some((ids(&[101]), ids(&[102]))));
        assert_eq!(frame(&[7, 2], &[7]), Some((ids(&[]), ids(&[2]))));
        assert_eq!(frame(&[1, 2], &[7]), None);
        assert_eq!(frame(&[1, 2], &[]), None);
        let both = Frame::of(&ids(&[1, 7, 2]), &ids(&[7])).unwrap();
        assert_eq!(both.around(&ids(&[8, 9])), ids(&[1, 8, 9, 2]));
    }

    #[test]
    fn nothing_has_no_length_and_is_not_divided_by_it() {
        let mut nothing = [0.0; 3];
        normalise(&mut nothing);
        assert_eq!(nothing, [0.0; 3]);
    }
}
