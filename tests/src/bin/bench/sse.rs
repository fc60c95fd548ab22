//! Server-sent events out of a byte stream, as far as an OpenAI stream uses them.

/// Longest event that is waited for; a real one has a few hundred bytes.
const MAX_EVENT: usize = 1 << 20;

/// Bytes that have come and no event yet.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: Vec<u8>,
    /// Where the next event begins.
    start: usize,
}

/// An event has more bytes than any sane server sends.
#[derive(Debug, thiserror::Error)]
#[error("the server sent an event of more than {MAX_EVENT} bytes")]
pub(crate) struct TooLong;

impl Events {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() + bytes.len() > MAX_EVENT {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next whole event; comments and empty events are passed over.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let rest = &self.buffer[self.start..];
            let length = rest.windows(2).position(|pair| pair == b"\n\n")?;
            let begin = self.start;
            self.start += length + 2;
            if self.buffer[begin..].starts_with(b"data: ") {
                return Some(&self.buffer[begin + b"data: ".len()..begin + length]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut() {
        let stream = b": keep-alive\n\ndata: one\n\ndata: two\n\n";
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                events.push(piece).unwrap();
                while let Some(data) = events.next() {
                    found.push(data.to_vec());
                }
            }
            assert_eq!(found, [b"one", b"two"], "cut at {cut}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        events.push(&vec![b'x'; MAX_EVENT]).unwrap();
        assert!(events.push(b"x").is_err());
    }
}
