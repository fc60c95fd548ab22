//! What is known of a file before it is there.

use std::path::Path;

use super::FetchError;
use super::brought::Refused;
use super::wanted::WantedFile;
use crate::hash::Sha256Hex;

/// Its size and hash as far as they are known, and who says so.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) bytes: Option<u64>,
    pub(super) sha256: Option<Sha256Hex>,
    says: &'static str,
    /// What a file of its kind can have at most.
    pub(super) most: u64,
}

impl Expected {
    /// All is known, from the catalogue.
    pub(super) fn known(bytes: u64, sha256: Sha256Hex) -> Self {
        let says = "the catalogue says";
        Self { bytes: Some(bytes), sha256: Some(sha256), says, most: bytes }
    }

    pub(super) fn of(file: &WantedFile, most: u64) -> Self {
        let says = if file.pinned { "the first fetch found" } else { "the catalogue says" };
        let sha256 = file.sha256.clone();
        Self { bytes: file.bytes, sha256, says, most: file.bytes.unwrap_or(most) }
    }

    /// Refuses a file of another size before any of it is read.
    pub(super) fn allows(&self, path: &Path, found: u64) -> Result<(), FetchError> {
        let source = match self.bytes {
            Some(expected) if expected != found => {
                Refused::Size { found, says: self.says, expected }
            }
            None if found > self.most => Refused::TooLarge { found, most: self.most },
            _ => return Ok(()),
        };
        Err(FetchError::Refused { path: path.into(), source })
    }

    /// Refuses another file.
    pub(super) fn is(&self, path: &Path, found: &Sha256Hex) -> Result<(), FetchError> {
        match &self.sha256 {
            Some(expected) if expected != found => Err(FetchError::WrongHash {
                path: path.into(),
                found: found.clone(),
                says: self.says,
                expected: expected.clone(),
            }),
            _ => Ok(()),
        }
    }
}
