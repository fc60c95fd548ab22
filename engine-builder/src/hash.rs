//! SHA-256 of what is fetched, placed and published.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};

use crate::report::Meter;

/// Large enough that the hash, not the system call, takes the time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks between the thread that reads and the one that computes the hash.
const CHUNKS: usize = 8;

/// A SHA-256, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String")]
pub struct Sha256Hex(String);

impl Sha256Hex {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    fn finish(hasher: Sha256) -> Self {
        let mut hex = String::with_capacity(64);
        for byte in hasher.finalize() {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        }
        Self(hex)
    }
}

impl std::fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a sha256 in lower-case hexadecimal")]
pub struct NotASha256(String);

impl TryFrom<String> for Sha256Hex {
    type Error = NotASha256;

    fn try_from(text: String) -> Result<Self, NotASha256> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) {
            Ok(Self(text))
        } else {
            Err(NotASha256(text))
        }
    }
}

/// Copies everything from `from` to `to` and returns its hash and length. One
/// thread reads and writes while another computes the hash of what was read.
///
/// # Errors
/// Reading or writing fails, or the work is called off ([`io::ErrorKind::Other`]
/// with [`crate::interrupt::Interrupted`] inside).
pub fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    meter: &mut Meter<'_>,
) -> io::Result<(Sha256Hex, u64)> {
    let (to_hash, chunks) = sync_channel::<Chunk>(CHUNKS);
    let (free, hashed) = sync_channel(CHUNKS);
    thread::scope(|scope| {
        let hasher = scope.spawn(move || {
            let mut hasher = Sha256::new();
            for chunk in chunks {
                hasher.update(&chunk.bytes[..chunk.length]);
                // Nobody takes chunks back any more when the copy has failed.
                let _ = free.send(chunk.bytes);
            }
            Sha256Hex::finish(hasher)
        });
        let copied = read_all(from, to, meter, &to_hash, &hashed);
        drop(to_hash);
        let sha256 = hasher.join().map_err(|_| io::Error::other("the hash was not computed"))?;
        Ok((sha256, copied?))
    })
}

/// What is read at once.
struct Chunk {
    bytes: Vec<u8>,
    length: usize,
}

/// Hands each chunk to the hash and, meanwhile, writes it. The count of chunks
/// bounds the memory: one that is written is read into again.
fn read_all(
    from: &mut dyn Read,
    to: &mut dyn Write,
    meter: &mut Meter<'_>,
    to_hash: &SyncSender<Chunk>,
    hashed: &Receiver<Vec<u8>>,
) -> io::Result<u64> {
    let (mut length, mut chunks) = (0, 0);
    loop {
        let mut bytes = if chunks < CHUNKS {
            chunks += 1;
            vec![0; CHUNK_BYTES]
        } else {
            hashed.recv().map_err(io::Error::other)?
        };
        let count = match from.read(&mut bytes) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        to.write_all(&bytes[..count])?;
        to_hash.send(Chunk { bytes, length: count }).map_err(io::Error::other)?;
        length += count as u64;
        meter.advance(count as u64).map_err(io::Error::other)?;
    }
}

/// The hash of a file's content.
///
/// # Errors
/// As [`copy`].
pub fn file(path: &Path, meter: &mut Meter<'_>) -> io::Result<Sha256Hex> {
    Ok(copy(&mut File::open(path)?, &mut io::sink(), meter)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_standard_example_has_the_standard_hash() {
        assert_eq!(Sha256Hex::of(b"abc").as_str(), ABC);
        let report = Report::silent();
        let mut copied = Vec::new();
        let copy = copy(&mut &b"abc"[..], &mut copied, &mut report.meter(3)).unwrap();
        assert_eq!((copy.0.as_str(), copy.1), (ABC, 3));
        assert_eq!(copied, b"abc");
    }

    #[test]
    fn a_copy_of_many_chunks_is_whole_and_in_order() {
        let bytes: Vec<u8> = (0..CHUNKS * CHUNK_BYTES * 3 + 7)
            .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
            .collect();
        let mut copied = Vec::new();
        let report = Report::silent();
        let found = copy(&mut bytes.as_slice(), &mut copied, &mut report.meter(1)).unwrap();
        assert_eq!(found, (Sha256Hex::of(&bytes), bytes.len() as u64));
        assert!(copied == bytes);
    }

    #[test]
    fn a_reader_or_a_writer_that_fails_ends_the_copy() {
        struct Gone;
        impl Read for Gone {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::NotConnected.into())
            }
        }
        let report = Report::silent();
        let mut half = [7; 3 * CHUNK_BYTES].as_slice().chain(Gone);
        let error = copy(&mut half, &mut io::sink(), &mut report.meter(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        let mut full = [0; 10];
        let error =
            copy(&mut &[7; 11][..], &mut full.as_mut_slice(), &mut report.meter(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn only_64_lower_case_digits_are_a_hash() {
        assert!(Sha256Hex::try_from(ABC.to_owned()).is_ok());
        for text in ["", "abc", &ABC.to_uppercase(), &format!("{ABC}0")] {
            assert!(Sha256Hex::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
