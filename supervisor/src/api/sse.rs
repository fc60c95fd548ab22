//! How documents stand in a streamed body: server-sent events for OpenAI's
//! clients, lines for Ollama's.
//!
//! An event is `data: {json}`, perhaps `id: …`, and an empty line; a line is
//! the JSON alone. JSON never contains a raw line end, so neither can be torn
//! apart.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use crate::api::kept::Position;

/// Ends a stream that was answered in full, and nothing else does.
const DONE: &[u8] = b"data: [DONE]";

/// A comment that keeps idle connections open. The word matters: a widespread
/// client takes a line that starts with `: ping` for the end of the stream. No
/// empty line follows: after an event with an id, openai-python takes that for
/// another event, which is empty, and raises.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n";

/// Where a stream is after an event; a client gives it back to get the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventId<'a> {
    pub(crate) answer: &'a str,
    pub(crate) position: &'a Position,
}

/// Appends `document` as one event.
pub(crate) fn event(out: &mut BytesMut, document: &impl Serialize, id: Option<EventId<'_>>) {
    out.put_slice(b"data: ");
    json(out, document);
    end(out, id);
}

/// Appends the event that ends a stream that was answered in full.
pub(crate) fn done(out: &mut BytesMut, id: Option<EventId<'_>>) {
    out.put_slice(DONE);
    end(out, id);
}

fn end(out: &mut BytesMut, id: Option<EventId<'_>>) {
    if let Some(EventId { answer, position }) = id {
        // A `BytesMut` grows as needed.
        let _ = write!(out, "\nid: {answer}:{position}");
    }
    out.put_slice(b"\n\n");
}

/// Appends `document` as one line.
pub(crate) fn line(out: &mut BytesMut, document: &impl Serialize) {
    json(out, document);
    out.put_u8(b'\n');
}

fn json(out: &mut BytesMut, document: &impl Serialize) {
    let written = serde_json::to_writer(out.writer(), document);
    written.expect("memory takes every byte, and the documents have no map with odd keys");
}
