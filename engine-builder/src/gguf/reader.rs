//! Numbers and strings from a file of known length, never past its end.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use super::GgufError;

/// Reads forward and knows how much is left.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    position: u64,
    length: u64,
}

impl<R: BufRead + Seek> Reader<R> {
    pub(super) fn new(input: R, length: u64) -> Self {
        Self { input, position: 0, length }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn remaining(&self) -> u64 {
        self.length - self.position
    }

    /// Up to four bytes: a file may be shorter than that.
    pub(super) fn first_bytes(&mut self) -> Result<Vec<u8>, GgufError> {
        self.bytes(self.remaining().min(4))
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| self.failed(error))?;
        Ok(bytes)
    }

    /// The next `count` bytes; the memory is asked for only once it is known
    /// that the file has them.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, GgufError> {
        self.claim(count)?;
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(count).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == count => Ok(bytes),
            Ok(_) => Err(GgufError::TruncatedHeader { length: self.length }),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(super) fn skip(&mut self, count: u64) -> Result<(), GgufError> {
        self.claim(count)?;
        let offset = i64::try_from(count).map_err(|_| self.malformed("skips too far"))?;
        // `SeekFrom::Current` accounts for what the buffer has read ahead.
        self.input.seek(SeekFrom::Current(offset)).map_err(GgufError::Read)?;
        Ok(())
    }

    pub(super) fn malformed(&self, problem: &'static str) -> GgufError {
        GgufError::Malformed { position: self.position, problem }
    }

    /// Refuses a count of things that take at least `least_bytes` each and so
    /// cannot all be in the rest of the file.
    pub(super) fn bound(
        &self,
        what: &'static str,
        count: u64,
        least_bytes: u64,
        most: u64,
    ) -> Result<(), GgufError> {
        let most = most.min(self.remaining() / least_bytes);
        if count > most { Err(GgufError::TooMany { what, count, most }) } else { Ok(()) }
    }

    fn claim(&mut self, count: u64) -> Result<(), GgufError> {
        if count > self.remaining() {
            return Err(GgufError::TruncatedHeader { length: self.length });
        }
        self.position += count;
        Ok(())
    }

    /// A file that shrinks while it is read is truncated too.
    fn failed(&self, error: io::Error) -> GgufError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => GgufError::TruncatedHeader { length: self.length },
            _ => GgufError::Read(error),
        }
    }
}
