//! What a doctor says of one thing it found: of the machine, or of what is
//! installed on it.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// How much something matters, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// It costs speed, memory or safety, or something does not work that should.
    Warning,
    /// It stops the appliance, now or at the next boot, loses data, or serves
    /// something that is wrong.
    Serious,
}

/// One thing that was found. Displayed in three lines without a last newline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A constant such as `nvmap_bug`.
    pub kind: &'static str,
    pub severity: Severity,
    pub problem: String,
    /// Why it matters.
    pub why: Cow<'static, str>,
    pub advice: String,
}

impl Display for Severity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Serious => "serious",
        })
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { kind, severity, problem, why, advice } = self;
        write!(f, "{severity:9}{problem} [{kind}]\n{:9}why: {why}\n{:9}do:  {advice}", "", "")
    }
}
