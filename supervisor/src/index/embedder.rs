//! What the index knows of whoever makes vectors: what it is, whether it has other
//! work, and how to ask it.
//!
//! There can be two: the one that texts are given to, and the one before it, whose
//! vectors are searched until the new ones are whole.

use std::fmt;
use std::pin::Pin;

use crate::store::code::Maker;

/// A vector on its way.
pub type Making<'a> = Pin<Box<dyn Future<Output = Result<Vec<f32>, NotMade>> + Send + 'a>>;

/// Makes vectors of texts.
pub trait Embedder: fmt::Debug + Send + Sync {
    /// What texts are given to; or why there is none.
    ///
    /// # Errors
    /// The reason, in words for a person.
    fn maker(&self) -> Result<Maker, String>;

    /// Tells whose vectors are searched, so that this one can be asked about questions.
    fn searched_are(&self, by: Option<&Maker>);

    /// Whether somebody waits for an answer or for vectors.
    fn has_other_work(&self) -> bool;

    /// The vector of a question, by the embedder whose vectors are searched.
    fn of_question(&self, text: String, by: Maker) -> Making<'_>;

    /// The vector of a text that is to be found, of whose end as much is left out as
    /// does not fit. Nobody waits for it.
    fn of_text(&self, text: String, by: Maker) -> Making<'_>;
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
    /// Another one makes vectors now.
    #[error("the embedder was replaced")]
    Replaced,
}
