//! A file that was brought, copied and its hash compared on the way.

use std::io::{self, Read, Write};

use super::brought::{Found, Refused};
use super::part::Part;
use super::repository::Arrived;
use super::{Expected, FetchError, at};
use crate::hash::{self, Sha256Hex};
use crate::interrupt::Interrupted;
use crate::report::Report;

/// Copies `found` into `part`, which is complete and of the expected hash when
/// this returns, and not finished yet.
pub(super) fn copy(
    found: Found,
    part: &Part,
    expected: &Expected,
    report: &Report,
) -> Result<Arrived, FetchError> {
    expected.allows(&found.path, found.bytes)?;
    let mut file = part.create()?;
    let bytes = found.bytes;
    match copy_checked(&found, &mut file, part, expected, report) {
        Ok(sha256) => Ok(Arrived { file, bytes, sha256, outcome: "copied and checked" }),
        Err(error) => {
            part.remove();
            Err(error)
        }
    }
}

fn copy_checked(
    found: &Found,
    to: &mut dyn Write,
    part: &Part,
    expected: &Expected,
    report: &Report,
) -> Result<Sha256Hex, FetchError> {
    let Found { file, path, bytes } = found;
    // A file that grows while it is read must not fill the disk.
    let mut from = Source { file: file.take(bytes.saturating_add(1)), failed: false };
    let copied = hash::copy(&mut from, to, &mut report.meter(*bytes));
    let (sha256, copied) = copied.map_err(|source| match Interrupted::inside(&source) {
        Some(interrupted) => interrupted.into(),
        None if from.failed => FetchError::Away { path: path.clone(), source },
        None => at("write", &part.part)(source),
    })?;
    if copied != *bytes {
        let source = Refused::Changed { copied, length: *bytes };
        return Err(FetchError::Refused { path: path.clone(), source });
    }
    expected.is(path, &sha256)?;
    Ok(sha256)
}

/// Remembers whether it was reading that failed: then the stick is to blame and
/// not the disk.
struct Source<R> {
    file: R,
    failed: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer);
        self.failed |= matches!(&read, Err(error) if error.kind() != io::ErrorKind::Interrupted);
        read
    }
}
