//! A report as text for people.

use std::fmt::{self, Display, Formatter};

use jetpack::Severity;

use super::Report;

/// The whole report.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) &'a Report);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        for finding in &report.findings {
            writeln!(f, "{finding}")?;
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
