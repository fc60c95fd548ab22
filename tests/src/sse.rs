//! Server-sent events out of a byte stream, as far as an answer's stream uses
//! them: `data`, `id`, and comments that are passed over.

/// Longest event that is waited for; a real one has a few hundred bytes.
const MAX_EVENT: usize = 1 << 20;

/// Bytes that have come and no event yet.
#[derive(Debug, Default)]
pub struct Events {
    buffer: Vec<u8>,
    /// Where the next event begins.
    start: usize,
}

/// One event with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// What a client that reconnects says it has seen last.
    pub id: Option<&'a [u8]>,
    pub data: &'a [u8],
}

/// An event has more bytes than any sane server sends.
#[derive(Debug, thiserror::Error)]
#[error("the server sent an event of more than {MAX_EVENT} bytes")]
pub struct TooLong;

impl Events {
    /// # Errors
    /// What has come is longer than any event.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() + bytes.len() > MAX_EVENT {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole event; comments and empty events are passed over.
    #[expect(clippy::should_implement_trait, reason = "an event borrows from the buffer")]
    pub fn next(&mut self) -> Option<Event<'_>> {
        let range = loop {
            let rest = &self.buffer[self.start..];
            let length = rest.windows(2).position(|pair| pair == b"\n\n")?;
            let range = self.start..self.start + length;
            self.start += length + 2;
            if field(&self.buffer[range.clone()], b"data: ").is_some() {
                break range;
            }
        };
        let event = &self.buffer[range];
        Some(Event { id: field(event, b"id: "), data: field(event, b"data: ")? })
    }
}

/// The rest of the line that begins with `name`.
fn field<'a>(event: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut() {
        let stream = b": keep-alive\n\ndata: one\n\nid: a:7\ndata: two\n\n";
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                events.push(piece).unwrap();
                while let Some(Event { id, data }) = events.next() {
                    found.push((id.map(<[u8]>::to_vec), data.to_vec()));
                }
            }
            let expected = [(None, b"one".to_vec()), (Some(b"a:7".to_vec()), b"two".to_vec())];
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        events.push(&vec![b'x'; MAX_EVENT]).unwrap();
        assert!(events.push(b"x").is_err());
    }
}
