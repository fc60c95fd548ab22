//! What the index knows of whoever makes vectors: what it is, whether it has other
//! work, and how to ask it.

use std::fmt;
use std::pin::Pin;

use crate::store::code::Maker;

/// A vector on its way, with the identity of what makes it.
pub type Making<'a> =
    Pin<Box<dyn Future<Output = Result<([u8; 32], Vec<f32>), NotMade>> + Send + 'a>>;

/// Makes vectors of texts.
pub trait Embedder: fmt::Debug + Send + Sync {
    /// What it is; `None` if there is none.
    fn maker(&self) -> Option<Maker>;

    /// Whether somebody waits for an answer or for vectors.
    fn has_other_work(&self) -> bool;

    /// The vector of a question.
    fn of_question(&self, text: String) -> Making<'_>;

    /// The vector of a text that is to be found, of whose end as much is left out as
    /// does not fit. Nobody waits for it.
    fn of_text(&self, text: String) -> Making<'_>;
}

/// Why there is no vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMade {
    /// This text can have none.
    #[error("the text cannot be used: {0}")]
    Text(String),
    /// It failed at this text, or stopped.
    #[error("the embedder failed: {0}")]
    Failed(String),
    /// It may make one later.
    #[error("{0}")]
    Later(String),
}
