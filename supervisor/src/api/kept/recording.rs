//! Keeps what one answer says, while it says it.
//!
//! Only the beginning is waited for: a client is told that it can come back when
//! that is so. What was said is gathered and given to the store every
//! now and then; if the store does not take it, the record ends there, and a
//! client that comes back has the engine generate the rest once more.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_api::protocol::FinishReason;

use super::Entry;
use crate::request::{Event, Fault};
use crate::store::{AnswerChange, Head, Piece, Store};

/// How long what was said is gathered at most while more is said.
const GATHER: Duration = Duration::from_millis(250);
/// Bytes that are gathered at most.
const MAX_GATHERED: usize = 16 * 1024;

/// The record of one answer, which may have several choices.
#[derive(Debug)]
pub(crate) struct Recording {
    store: Store,
    id: Arc<str>,
    /// Of the next piece.
    number: u32,
    gathered: Vec<u8>,
    since: Instant,
    /// Text that was held back until the end that follows it, by choice.
    rests: Vec<(usize, String)>,
    /// The store has not taken a piece, or all was said.
    over: bool,
}

impl Recording {
    /// Begins a record, so that the client can come back from its first event on;
    /// `None` if the store cannot write it down now.
    pub(super) async fn begin(store: Store, id: Arc<str>, head: Head) -> Option<Self> {
        let (name, head) = (Arc::clone(&id), Some(head));
        let first = Piece { id: name, number: 0, head, said: Vec::new(), finished: false };
        store.begin_answer(first).await.then(|| Self::go_on(store, id, 1))
    }

    /// Goes on with a record that has so many pieces.
    pub(super) fn go_on(store: Store, id: Arc<str>, pieces: u32) -> Self {
        Self {
            store,
            id,
            number: pieces,
            gathered: Vec::new(),
            since: Instant::now(),
            rests: Vec::new(),
            over: false,
        }
    }

    /// Notes what a choice says. `timed`: the times at its end are of all of it.
    pub(crate) fn note(&mut self, index: usize, event: &Event, timed: bool) {
        if self.over {
            return;
        }
        match event {
            Event::Queued { .. } | Event::Done { reason: FinishReason::Cancelled, .. } => {}
            Event::Started { cached_tokens, .. } => {
                self.gather(&Entry::Started { index, cached_tokens: *cached_tokens });
            }
            // The same text would come again with the end, if that were lost.
            Event::Text { text, tokens } if tokens.is_empty() => {
                self.rests.push((index, text.clone()));
            }
            Event::Text { text, tokens } => {
                let (text, tokens) = (Cow::Borrowed(text.as_str()), Cow::Borrowed(&tokens[..]));
                self.gather(&Entry::Text { index, text, tokens });
            }
            Event::Done { reason, usage, timings } => {
                let rests = self.rests.iter().filter(|(choice, _)| *choice == index);
                let rest: String = rests.map(|(_, rest)| rest.as_str()).collect();
                let (usage, timings) = (*usage, timed.then_some(*timings));
                let (rest, reason) = (Cow::Owned(rest), Cow::Borrowed(reason));
                self.gather(&Entry::Done { index, rest, reason, usage, timings });
            }
            // What stops the engine must not come back with every client that
            // does. Any other failure is the server's, and passes.
            Event::Failed(failure) => {
                if failure.fault == Fault::Request {
                    self.forget();
                }
            }
        }
    }

    /// All was said.
    pub(crate) fn finish(&mut self) {
        self.give(true);
        self.over = true;
    }

    fn gather(&mut self, entry: &Entry<'_>) {
        entry.encode(&mut self.gathered);
        if self.gathered.len() >= MAX_GATHERED || self.since.elapsed() >= GATHER {
            self.give(false);
        }
    }

    /// Gives what was gathered to the store.
    fn give(&mut self, finished: bool) {
        if self.over {
            return;
        }
        let said = std::mem::take(&mut self.gathered);
        let id = Arc::clone(&self.id);
        let piece = Piece { id, number: self.number, head: None, said, finished };
        self.over = !self.store.answer(AnswerChange::Grew(piece));
        self.number += 1;
        self.since = Instant::now();
    }

    fn forget(&mut self) {
        self.over = true;
        // If the store is too busy for that, the answer goes with its time.
        let _ = self.store.answer(AnswerChange::Forget(Arc::clone(&self.id)));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.gathered.is_empty() {
            self.give(false);
        }
    }
}
