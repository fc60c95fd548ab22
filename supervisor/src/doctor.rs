//! `stoker doctor`: what is wrong with this machine, why it matters and what to
//! do about it.
//!
//! ```text
//! Machine::sample ──► Seen ──► findings ──► Report ──► text or JSON, exit code
//! ```
//!
//! A finding is a pure function of what was seen. Nothing is changed, and no
//! server need run. What could not be looked at is listed as such: it is
//! neither well nor ill.

mod boot;
mod disk;
mod memory;
mod power;
mod release;
mod report;
mod sensors;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jetpack::disk::Disk;
use jetpack::{Finding, Machine, Root, Sample, Severity};
use serde::Serialize;

use crate::console::Format;
use crate::health::unsafe_shutdowns;

/// What the findings are drawn from.
#[derive(Debug, Clone)]
pub struct Seen {
    pub sample: Sample,
    pub state_dir: PathBuf,
    /// Room for the state directory; `None` when it is not known, as on a
    /// captured board.
    pub disk: Option<Disk>,
    /// How often the machine went off without being shut down; `None` where nobody counts.
    pub unsafe_shutdowns: Option<u32>,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unchecked {
    pub what: &'static str,
    pub why: String,
}

/// All that was found, the most serious first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub unchecked: Vec<Unchecked>,
}

/// Exit status when something deserves a look but nothing is serious.
pub const WARNINGS: u8 = 3;
/// Exit status when something is serious.
pub const SERIOUS: u8 = 4;

impl Report {
    /// Looks at what was seen.
    #[must_use]
    pub fn of(seen: &Seen) -> Self {
        let mut report = Self::default();
        release::look(seen, &mut report);
        boot::look(seen, &mut report);
        power::look(seen, &mut report);
        memory::look(seen, &mut report);
        disk::look(seen, &mut report);
        sensors::look(seen, &mut report);
        report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        report
    }

    /// 0 when nothing is wrong, [`WARNINGS`] or [`SERIOUS`] else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.severity).max() {
            None | Some(Severity::Note) => 0,
            Some(Severity::Warning) => WARNINGS,
            Some(Severity::Serious) => SERIOUS,
        }
    }

    fn add(&mut self, severity: Severity, kind: &'static str, [problem, why, advice]: [String; 3]) {
        self.findings.push(Finding { kind, severity, problem, why: why.into(), advice });
    }

    fn not_checked(&mut self, what: &'static str, why: impl ToString) {
        self.unchecked.push(Unchecked { what, why: why.to_string() });
    }
}

impl Seen {
    /// Looks at the machine below `root`, whose state is in `state_dir`.
    #[must_use]
    pub fn now(root: &Path, state_dir: &Path) -> Self {
        let root = Root::new(root);
        // A state directory that is not there yet will be made on the same disk.
        let there = state_dir.ancestors().find(|path| path.exists()).unwrap_or(state_dir);
        let disk = Disk::holding(there).ok().filter(|_| root.is_this_machine());
        let unsafe_shutdowns = unsafe_shutdowns(&root);
        let sample = Machine::open(root).sample();
        Self { sample, state_dir: state_dir.to_owned(), disk, unsafe_shutdowns }
    }
}

/// Looks, and prints what was found.
///
/// # Errors
/// It cannot be printed.
pub fn doctor(
    root: &Path,
    state_dir: &Path,
    format: Format,
    out: &mut impl Write,
) -> io::Result<u8> {
    let report = Report::of(&Seen::now(root, state_dir));
    match format {
        Format::Text => write!(out, "{}", report::Text(&report))?,
        Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
    }
    Ok(report.exit_code())
}

#[cfg(test)]
mod tests;
