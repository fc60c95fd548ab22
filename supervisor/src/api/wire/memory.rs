//! Answers of the routes for what is remembered.

use serde::Serialize;

use super::stoker::Sections;
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

/// `memory` of `GET /api/status`: numbers, and nothing that anybody said.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Chats {
    /// Whether anything is remembered.
    pub(crate) kept: bool,
    pub(crate) kept_days: Option<u64>,
    /// Of what was said, at most.
    pub(crate) most_bytes: Option<u64>,
    /// These are `null` while it is out of order.
    pub(crate) conversations: Option<u64>,
    pub(crate) messages: Option<u64>,
    pub(crate) bytes: Option<u64>,
    /// Why they are.
    pub(crate) reason: Option<String>,
    /// Newest first.
    pub(crate) receipts: Vec<Noted>,
}

/// A receipt in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Noted {
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// Pieces of code; `null` where none was wished for.
    pub(crate) code_added: Option<usize>,
    pub(crate) code_kept: Option<usize>,
    pub(crate) code_left_out: Option<usize>,
    /// Messages, and passages; `null` where no memory was wished for.
    pub(crate) masked: Option<usize>,
    pub(crate) replaced: Option<usize>,
    pub(crate) recalled: Option<usize>,
    /// Tokens of the parts of the prompt.
    pub(crate) sections: Option<Sections>,
    pub(crate) problems: usize,
}

/// `DELETE /api/memory`.
#[derive(Debug, Serialize)]
pub(crate) struct Forgotten {
    /// Conversations.
    pub(crate) forgotten: usize,
}
