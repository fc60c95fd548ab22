//! What a step computes of a prompt that is not computed yet.

use super::count;
use crate::backend::{Chunk, Slot};
use crate::sequence::Sequence;

/// A part of one running sequence's prompt.
#[derive(Debug)]
pub(super) struct Part {
    /// Of the sequence in `running`.
    pub(super) index: usize,
    pub(super) slot: Slot,
    pub(super) from: usize,
    pub(super) length: usize,
    /// Whether the prompt is complete with it.
    pub(super) last: bool,
}

impl Part {
    /// As much of it as fits into `left` tokens, which it takes; `None` if
    /// there are none left.
    pub(super) fn within(self, left: &mut usize) -> Option<Self> {
        let length = self.length.min(*left);
        *left -= length;
        (length > 0).then_some(Self { last: self.last && length == self.length, length, ..self })
    }

    pub(super) fn chunk<'a>(&self, sequence: &'a Sequence) -> Chunk<'a> {
        let tokens = &sequence.context()[self.from..self.from + self.length];
        Chunk { slot: self.slot, tokens, from: count(self.from), logits: self.last }
    }
}
