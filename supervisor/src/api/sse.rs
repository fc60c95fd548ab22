//! How documents stand in a streamed body: server-sent events for OpenAI's
//! clients, lines for Ollama's.
//!
//! An event is `data: {json}` and an empty line; a line is the JSON alone.
//! JSON never contains a raw line end, so neither can be torn apart.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

/// Ends a stream that was answered in full, and nothing else does.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// A comment that keeps idle connections open. The word matters: a widespread
/// client takes a line that starts with `: ping` for the end of the stream.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Appends `document` as one event.
pub(crate) fn event(out: &mut BytesMut, document: &impl Serialize) {
    out.put_slice(b"data: ");
    json(out, document);
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
