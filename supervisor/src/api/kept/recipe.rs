//! A kept answer as bytes: what is needed to say it again and to go on, and
//! what it has said so far.
//!
//! postcard does not say what its bytes mean, so a format and the protocol's
//! version, whose types these are, stand before them. An answer of another
//! version cannot be read and counts as unknown.

use std::borrow::Cow;

use engine_api::protocol::{FinishReason, PROTOCOL_VERSION, Timings, Token, TokenId, Usage};
use serde::{Deserialize, Serialize};

use crate::api::job::Plan;
use crate::api::openai::Kind;
use crate::api::wire::openai_reply::Stamp;
use crate::store::KeptAnswer;

/// Grows when a type here changes.
const FORMAT: u32 = 4;

/// What does not change while an answer grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    pub(crate) kind: Kind,
    pub(crate) stamp: Stamp,
    /// Name of the model that generates it.
    pub(crate) model: String,
    pub(crate) include_usage: bool,
    pub(crate) logprobs: bool,
    pub(crate) echo: Vec<String>,
    pub(crate) plan: Plan,
}

/// Something that one choice said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry<'a> {
    Started {
        index: usize,
        cached_tokens: Option<u32>,
    },
    Text {
        index: usize,
        text: Cow<'a, str>,
        tokens: Cow<'a, [Token]>,
    },
    /// `rest` is text that was held back until the end.
    Done {
        index: usize,
        rest: Cow<'a, str>,
        reason: Cow<'a, FinishReason>,
        usage: Usage,
        timings: Option<Timings>,
    },
}

/// All that is known of an answer that was kept.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) recipe: Recipe,
    pub(crate) said: Vec<Entry<'static>>,
    /// How many pieces hold it; the next one gets this number.
    pub(crate) pieces: u32,
}

impl Recipe {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(&(FORMAT, PROTOCOL_VERSION, self)).expect("memory takes every byte")
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (versions, rest) = postcard::take_from_bytes::<(u32, u32)>(bytes).ok()?;
        (versions == (FORMAT, PROTOCOL_VERSION)).then(|| postcard::from_bytes(rest).ok())?
    }
}

impl Entry<'_> {
    /// Appends it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        *out = postcard::to_extend(self, std::mem::take(out)).expect("memory takes every byte");
    }

    fn decode(piece: &[u8]) -> Option<Vec<Entry<'static>>> {
        let mut entries = Vec::new();
        let mut rest = piece;
        while !rest.is_empty() {
            let entry;
            (entry, rest) = postcard::take_from_bytes(rest).ok()?;
            entries.push(entry);
        }
        Some(entries)
    }
}

impl Past {
    /// `None` if another version wrote it.
    pub(crate) fn decode(kept: &KeptAnswer) -> Option<Self> {
        let recipe = Recipe::decode(&kept.recipe)?;
        let pieces: Option<Vec<_>> = kept.pieces.iter().map(|piece| Entry::decode(piece)).collect();
        let said = pieces?.concat();
        let in_range = |entry: &Entry<'_>| entry.index() < recipe.plan.answers();
        let pieces = u32::try_from(kept.pieces.len()).ok()?;
        said.iter().all(in_range).then_some(Self { recipe, said, pieces })
    }

    /// The tokens that a choice has so far; `None` if it is done.
    pub(crate) fn generated(&self, choice: usize) -> Option<Vec<TokenId>> {
        let mut generated = Vec::new();
        for entry in self.said.iter().filter(|entry| entry.index() == choice) {
            match entry {
                Entry::Started { .. } => {}
                Entry::Text { tokens, .. } => generated.extend(tokens.iter().map(|token| token.id)),
                Entry::Done { .. } => return None,
            }
        }
        Some(generated)
    }

    /// Whether every choice is done.
    pub(crate) fn is_finished(&self) -> bool {
        let done = self.said.iter().filter(|entry| matches!(entry, Entry::Done { .. })).count();
        done == self.recipe.plan.answers()
    }
}

impl Entry<'_> {
    pub(super) fn index(&self) -> usize {
        match self {
            Self::Started { index, .. } | Self::Text { index, .. } | Self::Done { index, .. } => {
                *index
            }
        }
    }
}
