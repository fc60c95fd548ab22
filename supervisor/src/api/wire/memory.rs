//! Answers of the routes for what is remembered.

use serde::Serialize;

use crate::store::memory::{Exported, Shown};

/// `GET /api/memory`.
#[derive(Debug, Serialize)]
pub(crate) struct Conversations<'a> {
    /// Whose they are.
    pub(crate) owner: &'a str,
    /// Whether anything is kept at all.
    pub(crate) kept: bool,
    pub(crate) conversations: &'a [Shown],
}

/// `GET /api/memory/export`.
#[derive(Debug, Serialize)]
pub(crate) struct Export<'a> {
    pub(crate) messages: &'a [Exported],
}

/// `DELETE /api/memory`.
#[derive(Debug, Serialize)]
pub(crate) struct Forgotten {
    /// Conversations.
    pub(crate) forgotten: usize,
}
