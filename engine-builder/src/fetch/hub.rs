//! A model hub, and its mirrors, over HTTPS.
//!
//! A file is fetched in parts, several at once. A part counts once it is on the
//! disk; what counts is written down beside the file, with the hub's own mark of
//! the file's version, so that a fetch that was cut short goes on where it was
//! and never mixes two versions. In the end the whole file is read and its hash
//! compared. Nothing else here is trusted.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod address;
mod client;
mod download;
mod journal;
mod token;

pub use address::{Base, NotAnAddress};
pub(super) use download::{Remote, download};
pub(super) use journal::remove as remove_journal;
pub use token::{Token, TokenError};

use crate::error::is_full;
use crate::hash::Sha256Hex;
use crate::interrupt::Interrupted;

/// The hub that is asked unless another is named.
pub const DEFAULT: &str = "https://huggingface.co";

/// Which hub is asked, and how.
#[derive(Debug)]
pub struct Hub {
    /// The hub and its mirrors, in the order in which they are asked.
    pub bases: Vec<Base>,
    pub token: Option<Token>,
    /// After so long without a byte a connection is given up.
    pub patience: Duration,
}

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("connect to {host}")]
    Connect { host: String, source: std::io::Error },
    #[error("speak to {host}")]
    Speak { host: String, source: hyper::Error },
    #[error("{host} was silent for {patience:?}")]
    Silent { host: String, patience: Duration },
    #[error("{host} says {status}{}", advice(*status))]
    Status { host: String, status: u16, wait: Option<Duration> },
    #[error("{host} {what}")]
    Nonsense { host: String, what: &'static str },
    #[error("{host} says that it has {found} bytes, {says} {expected}")]
    Size { host: String, found: u64, says: &'static str, expected: u64 },
    #[error("{host} has another version than a moment ago")]
    Changed { host: String },
    #[error("{host} sent a file with the sha256 {found}, {says} {expected}")]
    Hash { host: String, found: Sha256Hex, says: &'static str, expected: Sha256Hex },
    #[error("{} has {free} bytes free, the file needs {needed}", path.display())]
    Room { path: PathBuf, needed: u64, free: u64 },
    #[error("this machine trusts no certificates; install ca-certificates")]
    NoRoots,
    #[error("{doing} {}", path.display())]
    Disk { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl HubError {
    pub(super) fn is_not_there(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Status { status: 401 | 403, .. })
    }

    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, Self::Room { .. }) || is_full(self)
    }

    /// Whether the same request may go better a little later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Speak { .. } | Self::Silent { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether another mirror may have what this one has not.
    fn is_of_this_mirror(&self) -> bool {
        !matches!(
            self,
            Self::Interrupted(_) | Self::Disk { .. } | Self::Room { .. } | Self::NoRoots
        )
    }
}

/// What a person can do about it.
fn advice(status: u16) -> &'static str {
    match status {
        401 => {
            ": it wants a token; put one into a file that only you can read, and name it with --token-file"
        }
        403 => ": this token may not have it, or the model's terms were not accepted at the hub",
        404 => ": it has no such file at this revision",
        429 => ": too many requests; try again later",
        _ => "",
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}
