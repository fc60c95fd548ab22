//! The forms in which a model's weights are published.

use super::entry::{Entry, Revision};
use crate::hash::Sha256Hex;

/// One form; the catalogue says for each where it is, if it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Form {
    /// A GGUF file inside a released package.
    Package,
    /// A GGUF file on a model hub.
    Gguf,
    /// The makers' own 16-bit checkpoint.
    Checkpoint,
    /// A 4-bit checkpoint, quantised with GPTQ.
    Gptq,
    /// A 4-bit checkpoint, quantised with AWQ.
    Awq,
}

/// Where a form is to be had.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// A repository, or a package's name.
    pub name: &'a str,
    /// `None`: nobody has told it, or a package, which has none.
    pub revision: Option<&'a Revision>,
}

impl Form {
    pub const ALL: [Self; 5] = [Self::Package, Self::Gguf, Self::Checkpoint, Self::Gptq, Self::Awq];

    /// The name on the command line, and of the directory in the cache.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Gguf => "gguf",
            Self::Checkpoint => "checkpoint",
            Self::Gptq => "gptq",
            Self::Awq => "awq",
        }
    }

    /// Where `entry` says that this form is; `None` if it has no such form.
    #[must_use]
    pub fn published(self, entry: &Entry) -> Option<Published<'_>> {
        let source = &entry.source;
        let at = |name, revision| Published { name, revision };
        match self {
            Self::Package => source.package.as_ref().map(|from| at(from.name.as_str(), None)),
            Self::Gguf => {
                source.gguf.as_ref().map(|from| at(&from.repository, from.revision.as_ref()))
            }
            Self::Checkpoint => {
                source.checkpoint.as_ref().map(|from| at(&from.repository, from.revision.as_ref()))
            }
            Self::Gptq => {
                source.gptq.as_ref().map(|from| at(&from.repository, from.revision.as_ref()))
            }
            Self::Awq => {
                source.awq.as_ref().map(|from| at(&from.repository, from.revision.as_ref()))
            }
        }
    }

    /// The hash of one of its files, if the catalogue knows it.
    #[must_use]
    pub fn sha256<'a>(self, entry: &'a Entry, file: &str) -> Option<&'a Sha256Hex> {
        let source = &entry.source;
        match self {
            Self::Package | Self::Gguf => entry.weights.sha256.as_ref(),
            Self::Checkpoint => source.checkpoint.as_ref()?.sha256.get(file),
            Self::Gptq => source.gptq.as_ref()?.sha256.get(file),
            Self::Awq => source.awq.as_ref()?.sha256.get(file),
        }
    }

    /// The form that `build` makes an engine of.
    #[must_use]
    pub fn usual(entry: &Entry) -> Self {
        match &entry.source {
            source if source.package.is_some() => Self::Package,
            source if source.gguf.is_some() => Self::Gguf,
            _ => Self::Checkpoint,
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
