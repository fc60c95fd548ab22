//! Where code comes from: a directory of this machine, a git URL, or an upload.
//!
//! ```text
//!  git URL ─► fetching, a thread ─► git, a bounded process ─┐
//!  upload ──► unpack, bounded ──────────────────────────────┴► part ─ renamed ─► tree ─► indexer
//! ```
//!
//! What is brought lies in the state directory, each time as a new tree that is made
//! beside the one before and renamed when it is whole ([`tree`]). So a kill at any
//! moment leaves the old tree or the new one.

mod complaint;
mod fetching;
mod git;
pub mod tree;
pub mod unpack;
mod url;

use std::fmt;
use std::path::PathBuf;

pub(super) use fetching::{Brought, Done, Fetcher, Job};
pub use url::{GitUrl, WrongUrl};

/// As an upload stands in the database, where others have a path or a URL.
const UPLOAD: &str = "upload";

/// Where a repository's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A directory of this machine; absolute.
    Path(PathBuf),
    /// Polled.
    Url(GitUrl),
    /// Sent by whom it belongs to.
    Upload,
}

impl Origin {
    /// From the text that it is kept and shown as.
    #[must_use]
    pub fn of_text(text: String) -> Self {
        match GitUrl::parse(&text) {
            _ if text == UPLOAD => Self::Upload,
            Ok(url) => Self::Url(url),
            Err(_) => Self::Path(text.into()),
        }
    }

    /// One word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Url(_) => "git",
            Self::Upload => UPLOAD,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
            Self::Upload => f.write_str(UPLOAD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_known_by_its_text() {
        let url = GitUrl::parse("https://git.lan/team/fans.git").unwrap();
        for origin in [Origin::Path("/srv/upload".into()), Origin::Url(url), Origin::Upload] {
            assert_eq!(Origin::of_text(origin.to_string()), origin);
        }
    }
}
