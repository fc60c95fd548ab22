//! A report as text for people.

use std::fmt::{self, Display, Formatter};

use super::{Report, Severity};

/// The whole report.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) &'a Report);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        for finding in &report.findings {
            let severity = match finding.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Serious => "serious",
            };
            writeln!(f, "{severity:9}{} [{}]", finding.problem, finding.kind)?;
            writeln!(f, "{:9}why: {}", "", finding.why)?;
            writeln!(f, "{:9}do:  {}", "", finding.advice)?;
        }
        for unchecked in &report.unchecked {
            writeln!(f, "{:9}not looked at: {} ({})", "", unchecked.what, unchecked.why)?;
        }
        let worst = report.findings.iter().map(|finding| finding.severity).max();
        match worst {
            None => writeln!(f, "nothing is wrong"),
            Some(Severity::Note) => writeln!(f, "nothing is wrong, some things are worth knowing"),
            Some(_) => Ok(()),
        }
    }
}
