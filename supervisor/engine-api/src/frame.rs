//! How messages stand on a byte stream: a length and a body, bounded.
//!
//! A frame is a little-endian `u32` with the length of the body, then the body
//! in postcard encoding. A length over [`MAX_BODY`] or a body that does not
//! decode exactly means that the peer is broken; the stream cannot be used
//! further. [`Decoder`] takes bytes as they come and owns no socket, so the
//! supervisor drives it with tokio and the worker with blocking reads.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest body, in bytes: a full 131,072-token window of ids and its text,
/// with room to spare.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

const LENGTH_BYTES: usize = 4;

/// Why a stream of frames cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {length} bytes is over the bound of {MAX_BODY}")]
    TooLong { length: usize },
    #[error("frame body is not a message")]
    Malformed(#[source] postcard::Error),
    #[error("frame has {extra} bytes after its message")]
    Trailing { extra: usize },
}

/// Appends `message` as one frame to `out`.
///
/// # Errors
/// The encoded message is longer than [`MAX_BODY`]; `out` is then unchanged.
pub fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    let encoded = {
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        postcard::to_extend(message, std::mem::take(out)).map_err(FrameError::Malformed)
    };
    *out = encoded?;
    let length = out.len() - start - LENGTH_BYTES;
    let Some(prefix) = u32::try_from(length).ok().filter(|_| length <= MAX_BODY) else {
        out.truncate(start);
        return Err(FrameError::TooLong { length });
    };
    out[start..start + LENGTH_BYTES].copy_from_slice(&prefix.to_le_bytes());
    Ok(())
}

/// Turns bytes, in whatever pieces they arrive, into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where the next frame starts in `buffer`.
    start: usize,
}

impl Decoder {
    /// Takes bytes that were read. Call [`Decoder::next`] until it has none left.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// The stream is broken and must be closed.
    #[expect(
        clippy::should_implement_trait,
        reason = "each call chooses its message, and can fail"
    )]
    pub fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some((prefix, rest)) = pending.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLong { length });
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let (message, extra) = postcard::take_from_bytes(body).map_err(FrameError::Malformed)?;
        if !extra.is_empty() {
            return Err(FrameError::Trailing { extra: extra.len() });
        }
        self.start += LENGTH_BYTES + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::embedding::{Embed, Input, Purpose, Vector};
    use crate::protocol::{FromWorker, RequestId, ToWorker, Token, TokenId};

    fn tokens(id: u64, text: String) -> FromWorker {
        let token = Token { id: TokenId(7), logprobs: None };
        FromWorker::Tokens { id: RequestId(id), tokens: vec![token], text }
    }

    proptest! {
        #[test]
        fn messages_survive_any_chunking(texts in prop::collection::vec(".{0,40}", 1..8), chunk in 1usize..50) {
            let sent: Vec<_> = (0..).zip(texts).map(|(id, text)| tokens(id, text)).collect();
            let mut bytes = Vec::new();
            for message in &sent {
                encode(message, &mut bytes).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut received = Vec::new();
            for piece in bytes.chunks(chunk) {
                decoder.push(piece);
                while let Some(message) = decoder.next::<FromWorker>().unwrap() {
                    received.push(message);
                }
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn inputs_and_vectors_survive_exactly(
            text in ".{0,40}",
            ids in prop::collection::vec(any::<u32>(), 0..5),
            values in prop::collection::vec(any::<f32>(), 0..9),
            tokens in any::<u32>(),
            cut in any::<bool>(),
        ) {
            let mut decoder = Decoder::default();
            let (id, ids) = (RequestId(1), ids.into_iter().map(TokenId).collect());
            let inputs = vec![Input::Text(text), Input::Tokens(ids)];
            let asked = ToWorker::Embed(Box::new(Embed { id, inputs, purpose: Purpose::Query, cut }));
            let mut bytes = Vec::new();
            encode(&asked, &mut bytes).unwrap();
            decoder.push(&bytes);
            prop_assert_eq!(decoder.next::<ToWorker>().unwrap(), Some(asked));
            // By their bits: a NaN is not equal to itself.
            let bits = |values: &[f32]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
            let sent = bits(&values);
            bytes.clear();
            let vectors = vec![Vector { values, tokens, cut }];
            encode(&FromWorker::Embedded { id, vectors }, &mut bytes).unwrap();
            decoder.push(&bytes);
            let Some(FromWorker::Embedded { vectors, .. }) = decoder.next().unwrap() else {
                panic!("another message")
            };
            prop_assert_eq!(bits(&vectors[0].values), sent);
            prop_assert_eq!((vectors[0].tokens, vectors[0].cut), (tokens, cut));
        }

        #[test]
        fn garbage_is_an_error_or_a_wait_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next::<FromWorker>() {}
        }
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_its_body_arrives() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.next::<FromWorker>(), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn bytes_after_the_message_are_refused() {
        let mut bytes = Vec::new();
        encode(&FromWorker::Loading { fraction: 0.5 }, &mut bytes).unwrap();
        bytes.push(0);
        bytes[0] += 1;
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        assert!(matches!(decoder.next::<FromWorker>(), Err(FrameError::Trailing { extra: 1 })));
    }
}
