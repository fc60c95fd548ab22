//! What ends a build, sorted by what a person or a script can do about it.

use std::io;
use std::path::{Path, PathBuf};

use engine_api::manifest::{BoundFrom, ManifestError};
use jetpack::Bytes;

use crate::fetch::FetchError;
use crate::fetch::hub::TokenError;
use crate::gguf::GgufError;
use crate::interrupt::Interrupted;
use crate::quality::Bound;
use crate::smoke::SmokeError;
use crate::tool::ToolError;

/// The classes of failure; each has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Io,
    Usage,
    UnknownModel,
    NoRoom,
    Fetch,
    BadModel,
    Smoke,
    Busy,
    Unsupported,
    InUse,
    Warnings,
    Serious,
    Bring,
    Denied,
    Tool,
    Later,
    RolledBack,
    Quality,
    Interrupted,
}

impl Class {
    /// Every class, in the order of their exit codes.
    pub const ALL: [Self; 19] = [
        Self::Io,
        Self::Usage,
        Self::UnknownModel,
        Self::NoRoom,
        Self::Fetch,
        Self::BadModel,
        Self::Smoke,
        Self::Busy,
        Self::Unsupported,
        Self::InUse,
        Self::Warnings,
        Self::Serious,
        Self::Bring,
        Self::Denied,
        Self::Tool,
        Self::Later,
        Self::RolledBack,
        Self::Quality,
        Self::Interrupted,
    ];

    /// The exit code. It never changes its meaning.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Io => 1,
            Self::Usage => 2,
            Self::UnknownModel => 3,
            Self::NoRoom => 4,
            Self::Fetch => 5,
            Self::BadModel => 6,
            Self::Smoke => 7,
            Self::Busy => 8,
            Self::Unsupported => 9,
            Self::InUse => 10,
            Self::Warnings => 11,
            Self::Serious => 12,
            Self::Bring => 13,
            Self::Denied => 14,
            Self::Tool => 15,
            Self::Later => 16,
            Self::RolledBack => 17,
            Self::Quality => 18,
            Self::Interrupted => 130,
        }
    }

    /// The name in `--format json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Usage => "usage",
            Self::UnknownModel => "unknown_model",
            Self::NoRoom => "no_room",
            Self::Fetch => "fetch",
            Self::BadModel => "bad_model",
            Self::Smoke => "smoke",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::InUse => "in_use",
            Self::Warnings => "warnings",
            Self::Serious => "serious",
            Self::Bring => "bring",
            Self::Denied => "denied",
            Self::Tool => "tool",
            Self::Later => "later",
            Self::RolledBack => "rolled_back",
            Self::Quality => "quality",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why the command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    NoPlanFits(String),
    #[error("{}{}: {problem}", place(path, *line), key_in(key))]
    Catalogue { path: PathBuf, line: Option<usize>, key: String, problem: String },
    #[error("{}: these are no pins: {problem}; remove the file if the model may be learnt anew", path.display())]
    Pins { path: PathBuf, problem: String },
    #[error("the hub's token")]
    Token { source: TokenError },
    #[error("there is no model {name:?}{}", nearest(known))]
    UnknownModel { name: String, known: Vec<String> },
    #[error("there is no engine {name:?} in {}{}", dir.display(), nearest(known))]
    UnknownEngine { name: String, dir: PathBuf, known: Vec<String> },
    #[error("{} has {free} free, this build needs {needed} there", path.display())]
    Disk { path: PathBuf, needed: Bytes, free: Bytes },
    #[error(
        "the engine needs {needed} of memory ({weights} weights, {kv} for conversations), {available} are available{}",
        advice(*users_that_fit)
    )]
    Memory { needed: Bytes, weights: Bytes, kv: Bytes, available: Bytes, users_that_fit: u16 },
    #[error("there is no engine-worker at {}; build it or name it with --worker", path.display())]
    NoWorker { path: PathBuf },
    #[error("fetch {model}")]
    Fetch { model: String, source: FetchError },
    #[error("model file {}", path.display())]
    Model { path: PathBuf, source: GgufError },
    #[error("model file {}: {}", path.display(), crate::pickle::INSTEAD)]
    Pickle { path: PathBuf },
    #[error("model file {} is not what the catalogue describes: {what}", path.display())]
    OtherModel { path: PathBuf, what: String },
    #[error("engine {id}")]
    Manifest { id: String, source: ManifestError },
    #[error("engine {id} is damaged: {what}; build it again")]
    Damaged { id: String, what: String },
    #[error("engine {id} {why}")]
    InUse { id: String, why: String },
    #[error("what engine-worker (process {pid}) has loaded cannot be seen; do this as root")]
    Hidden { pid: u32 },
    #[error("{0}")]
    Later(String),
    #[error("the new engine {id} failed where it serves, and the one before it is back")]
    RolledBack { id: String, source: Box<Error> },
    #[error("there is no engine before this one in {}", dir.display())]
    NoPrevious { dir: PathBuf },
    #[error("{0} is not sound; the others are")]
    NotAllSound(String),
    #[error("{0}")]
    Findings(String, Class),
    #[error("ask {} what it can run", worker.display())]
    Worker { worker: PathBuf, source: SmokeError },
    #[error("smoke run of {model}")]
    Smoke { model: String, source: SmokeError },
    #[error(
        "engine {id} predicts the fixed text of {tokens} tokens badly: {}, {}; it is not published \
         and what served before goes on serving: {}",
        perplexity_in_words(*perplexity), bound_in_words(*bound), better(*quantised)
    )]
    Quality {
        id: String,
        /// `None`: not a number.
        perplexity: Option<f64>,
        bound: Bound,
        tokens: u32,
        /// Whether it was quantised here.
        quantised: bool,
    },
    #[error(
        "model file {} computes what is not a number, so nothing good can be quantised from it; \
         fetch or bring it again",
        path.display()
    )]
    BadSource { path: PathBuf },
    #[error("{step}")]
    Tool { step: String, source: ToolError },
    #[error("another engine-builder{} is at work in {}", holder.map(|pid| format!(" (process {pid})")).unwrap_or_default(), dir.display())]
    Busy { dir: PathBuf, holder: Option<u32> },
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Error {
    /// Wraps what went wrong with one model's files.
    pub(crate) fn fetch(model: String, source: FetchError) -> Self {
        match source {
            FetchError::Interrupted(interrupted) => interrupted.into(),
            source => Self::Fetch { model, source },
        }
    }

    /// Its class, which decides the exit code.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Usage(_)
            | Self::NoWorker { .. }
            | Self::Catalogue { .. }
            | Self::Pins { .. }
            | Self::Token { .. } => Class::Usage,
            Self::Unsupported(_) => Class::Unsupported,
            Self::UnknownModel { .. } | Self::UnknownEngine { .. } | Self::NoPrevious { .. } => {
                Class::UnknownModel
            }
            Self::InUse { .. } | Self::Hidden { .. } => Class::InUse,
            Self::Findings(_, class) => *class,
            Self::Later(_) => Class::Later,
            Self::RolledBack { .. } => Class::RolledBack,
            Self::Disk { .. } | Self::Memory { .. } | Self::NoPlanFits(_) => Class::NoRoom,
            Self::Fetch { source: FetchError::Interrupted(_), .. }
            | Self::Smoke { source: SmokeError::Interrupted(_), .. }
            | Self::Worker { source: SmokeError::Interrupted(_), .. }
            | Self::Tool { source: ToolError::Interrupted(_), .. }
            | Self::Interrupted(_) => Class::Interrupted,
            Self::Fetch { source, .. } if is_full(source) => Class::NoRoom,
            Self::Fetch { source: FetchError::Pins(error), .. } => error.class(),
            Self::Fetch { source: FetchError::Offline { .. }, .. } => Class::Bring,
            Self::Fetch { source: FetchError::Missing { .. }, .. } => Class::Bring,
            Self::Fetch { source: FetchError::Hub { source, .. }, .. } if source.is_denied() => {
                Class::Denied
            }
            Self::Fetch { source: FetchError::Hub { source, .. }, .. } if source.is_no_room() => {
                Class::NoRoom
            }
            Self::Fetch { source, .. } if source.is_bad_file() => Class::BadModel,
            Self::Fetch { .. } => Class::Fetch,
            Self::Model { source: GgufError::Read(_), .. } => Class::Io,
            Self::Model { .. }
            | Self::Pickle { .. }
            | Self::OtherModel { .. }
            | Self::Manifest { .. }
            | Self::NotAllSound(_)
            | Self::Damaged { .. } => Class::BadModel,
            Self::Smoke { .. } | Self::Worker { .. } => Class::Smoke,
            Self::Quality { .. } | Self::BadSource { .. } => Class::Quality,
            Self::Tool { source: ToolError::Failed { failure, .. }, .. } => failure.class(),
            Self::Tool { source: ToolError::Log { source, .. }, .. } if is_full(source) => {
                Class::NoRoom
            }
            Self::Tool { .. } => Class::Tool,
            Self::Busy { .. } => Class::Busy,
            Self::Io { .. } if is_full(self) => Class::NoRoom,
            Self::Io { .. } => Class::Io,
        }
    }

    /// The error and its causes on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line.replace(['\n', '\r'], " ")
}

/// Wraps an error of the operating system with what was being done to which path.
pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| match Interrupted::inside(&source) {
        Some(interrupted) => interrupted.into(),
        None => Error::Io { doing, path, source },
    }
}

/// Whether the disk was full, or the quota used up, somewhere down the chain.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// `FILE:LINE`.
fn place(path: &Path, line: Option<usize>) -> String {
    line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()))
}

fn key_in(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(": {key}") }
}

fn nearest(known: &[String]) -> String {
    match known {
        [] => "; `engine-builder list` shows what there is".into(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

fn perplexity_in_words(perplexity: Option<f64>) -> String {
    match perplexity {
        Some(perplexity) => format!("its perplexity is {perplexity:.2}"),
        None => "its output is not a number".into(),
    }
}

fn bound_in_words(Bound { most, from }: Bound) -> String {
    let whose = match from {
        BoundFrom::Catalogue => "by the catalogue",
        BoundFrom::Source => "after what its source measures",
    };
    format!("at most {most:.2} is allowed {whose}")
}

fn better(quantised: bool) -> &'static str {
    if quantised {
        "quantise to a larger type or from a file of 16 bits; if it is far above the bound, bring \
         the source again"
    } else {
        "bring the file again; if that changes nothing, this machine's llama.cpp computes wrong"
    }
}

fn advice(users_that_fit: u16) -> String {
    match users_that_fit {
        0 => "; a smaller --context or a smaller model would fit".into(),
        users => format!("; --users {users} would fit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_on_one_line() {
        let source = io::Error::other("first\nsecond");
        let error = Error::Io { doing: "write", path: "/x/engine.toml".into(), source };
        assert_eq!(error.chain(), "write /x/engine.toml: first second");
        assert_eq!(error.class(), Class::Io);
    }

    #[test]
    fn a_full_disk_is_its_own_class() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::Io { doing: "write", path: "/x".into(), source };
        assert_eq!(error.class(), Class::NoRoom);
    }

    #[test]
    fn a_bad_engine_is_said_with_both_figures_and_what_to_do() {
        let of = |perplexity, from, quantised| {
            let (id, bound) = ("small".into(), Bound { most: 20.0, from });
            Error::Quality { id, perplexity, bound, tokens: 900, quantised }.chain()
        };
        assert_eq!(
            of(Some(812.345), BoundFrom::Catalogue, true),
            "engine small predicts the fixed text of 900 tokens badly: its perplexity is 812.35, at \
             most 20.00 is allowed by the catalogue; it is not published and what served before goes \
             on serving: quantise to a larger type or from a file of 16 bits; if it is far above the \
             bound, bring the source again"
        );
        let nothing = of(None, BoundFrom::Source, false);
        assert!(
            nothing.contains("its output is not a number, at most 20.00 is allowed after what")
        );
        assert!(nothing.contains("bring the file again"));
    }

    #[test]
    fn exit_codes_stay_as_documented() {
        let codes = Class::ALL.map(Class::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 130]);
    }
}
