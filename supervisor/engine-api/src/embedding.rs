//! Embeddings: what makes a vector of a text, in a manifest, and the messages about
//! it, on the wire.
//!
//! Vectors of two models never mean the same, nor do those of one model with another
//! pooling or prefix. All of that stands in the engine's manifest, and nowhere else.

use serde::{Deserialize, Serialize};

use crate::protocol::{RequestId, TokenId};

/// Inputs of one [`Embed`] at most. Who has more sends several, so that others have
/// their turn between them, and no frame comes near its bound.
pub const MOST_INPUTS: usize = 16;

/// Bytes of one text at most. No window is anywhere near, and turning a text into
/// tokens takes time that nothing interrupts.
pub const LONGEST_TEXT: usize = 1024 * 1024;

/// How an embedder's hidden states become one vector, and what is put before a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// Numbers in one vector.
    pub dimension: u32,
    pub pooling: Pooling,
    /// Whether every vector has the length 1, so that a product of two is their cosine.
    pub normalise: bool,
    /// What the model wants before a text that is searched for.
    #[serde(default)]
    pub query_prefix: String,
    /// What it wants before a text that is to be found.
    #[serde(default)]
    pub document_prefix: String,
}

/// Which of the tokens' states make the vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The first one's.
    First,
    /// The last one's.
    Last,
}

impl Embedding {
    /// What stands before a text with this purpose.
    #[must_use]
    pub fn prefix(&self, purpose: Purpose) -> &str {
        match purpose {
            Purpose::Plain => "",
            Purpose::Query => &self.query_prefix,
            Purpose::Document => &self.document_prefix,
        }
    }
}

/// What a vector is wanted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The text as it is.
    #[default]
    Plain,
    /// To search with.
    Query,
    /// To be found.
    Document,
}

/// Some texts whose vectors are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embed {
    pub id: RequestId,
    /// [`MOST_INPUTS`] at most.
    pub inputs: Vec<Input>,
    pub purpose: Purpose,
    /// Leave out the end of what does not fit the window, and say so, in place of
    /// refusing it.
    pub cut: bool,
}

/// One text, or what a client made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    Text(String),
    /// Token ids of the model, without those that begin and end every text.
    Tokens(Vec<TokenId>),
}

/// The vector of one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    pub values: Vec<f32>,
    /// Tokens that were computed for it.
    pub tokens: u32,
    /// Whether its end was left out.
    pub cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_follows_from_the_purpose() {
        let embedding = Embedding {
            dimension: 384,
            pooling: Pooling::Mean,
            normalise: true,
            query_prefix: "query: ".into(),
            document_prefix: "passage: ".into(),
        };
        assert_eq!(
            [Purpose::Plain, Purpose::Query, Purpose::Document].map(|it| embedding.prefix(it)),
            ["", "query: ", "passage: "]
        );
    }
}
