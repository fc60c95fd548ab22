//! What is known of a file before it is there.

use std::path::Path;

use super::FetchError;
use super::brought::Refused;
use super::hub::HubError;
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

    /// Refuses what a hub says of its length before anything comes.
    pub(super) fn allows_from_hub(&self, host: &str, found: u64) -> Result<(), HubError> {
        let (says, expected) = match self.bytes {
            Some(expected) if expected != found => (self.says, expected),
            None if found > self.most => ("such a file has at most", self.most),
            _ => return Ok(()),
        };
        Err(HubError::Size { host: host.into(), found, says, expected })
    }

    /// Refuses other content than is known, or, where nothing is known, than the
    /// hub itself has announced.
    pub(super) fn is_from_hub(
        &self,
        host: &str,
        found: &Sha256Hex,
        announced: Option<&Sha256Hex>,
    ) -> Result<(), HubError> {
        let announced = announced.map(|sha256| ("the hub said", sha256));
        let known = self.sha256.as_ref().map(|sha256| (self.says, sha256));
        match known.or(announced) {
            Some((says, expected)) if expected != found => Err(HubError::Hash {
                host: host.into(),
                found: found.clone(),
                says,
                expected: expected.clone(),
            }),
            _ => Ok(()),
        }
    }
}
