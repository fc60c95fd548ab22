//! How far an update is, in words and for the status document.

use std::io::{self, Write};
use std::path::Path;

use jetpack::Root;
use serde::Serialize;

use super::phase::Phase;
use super::place::Place;
use super::record::{Progress, Record, What};
use super::{Offer, Options, UpdateError, WENT_BACK, begin, follow};
use crate::console::Format;

/// What the server shows of the last update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct News {
    #[serde(flatten)]
    pub progress: Progress,
    /// The same in words.
    pub text: String,
}

/// The last update of the machine below `root`; `None` if there was none, or if nothing
/// can be read of it.
#[must_use]
pub fn news(root: &Root) -> Option<News> {
    Place::below(root).record().ok().flatten().map(of)
}

fn of(record: Record) -> News {
    let text = line(&record);
    News { progress: record.progress, text }
}

/// `stoker update status`.
///
/// # Errors
/// The record cannot be read, or nothing be printed.
pub fn status(root: &Path, format: Format, out: &mut impl Write) -> Result<(), UpdateError> {
    let news = Place::below(&Root::new(root)).record()?.map(of);
    match (format, news) {
        (Format::Json, news) => return print_json(news.as_ref(), out),
        (Format::Text, None) => writeln!(out, "there was no update"),
        (Format::Text, Some(news)) => writeln!(out, "{}", news.text),
    }
    .map_err(UpdateError::Print)
}

/// `stoker update FILE`: begins, follows and says how it ended, or only looks. The exit
/// status.
///
/// # Errors
/// See [`UpdateError`].
pub fn update(options: &Options, format: Format, out: &mut impl Write) -> Result<u8, UpdateError> {
    let mut steps = Steps { out: (format == Format::Text).then_some(&mut *out) };
    let Offer { from, to, signer, bytes, is_whole } = begin(options, &mut steps)?;
    if options.dry_run {
        let whole = if is_whole { ", whole" } else { "" };
        let looked = serde_json::json!({
            "from": from, "to": to, "signer": signer, "bytes": bytes, "dry_run": true
        });
        match format {
            Format::Json => writeln!(out, "{looked}"),
            Format::Text => writeln!(
                out,
                "signed by {signer}{whole} and for this machine: version {to}; {from} is \
                 installed and nothing was changed"
            ),
        }
        .map_err(UpdateError::Print)?;
        return Ok(0);
    }
    let record = follow(&options.root, &mut steps)?;
    let code = match record.progress.phase {
        Phase::Committed | Phase::Trial { .. } => 0,
        _ => WENT_BACK,
    };
    if record.is_left_to_a_restart() && format == Format::Text {
        writeln!(out, "the machine starts again; `stoker update status` says then how it ends")
            .map_err(UpdateError::Print)?;
    }
    if format == Format::Json {
        print_json(Some(&of(record)), out)?;
    }
    Ok(code)
}

/// Says each step to a person, and none to a program.
struct Steps<W> {
    out: Option<W>,
}

impl<W: Write> Write for Steps<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().map_or(Ok(bytes.len()), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

fn print_json(news: Option<&News>, out: &mut impl Write) -> Result<(), UpdateError> {
    let text = serde_json::to_string(&news).map_err(|error| UpdateError::Record(error.into()))?;
    writeln!(out, "{text}").map_err(UpdateError::Print)
}

/// One line for a person.
pub(super) fn line(record: &Record) -> String {
    let Record { progress: Progress { from, to, phase, percent, .. }, bounds, what, .. } = record;
    match phase {
        Phase::Ready => format!("version {to} is ready to be installed"),
        Phase::Installing => match (what, percent) {
            (What::System { new_slot, .. }, Some(percent)) => {
                format!("version {to} is being written to system {new_slot}: {percent} %")
            }
            _ => format!("version {to} is being installed"),
        },
        Phase::Trial { starts } => format!(
            "version {to} is on trial: it has {} s to be well and {} s to stay so (start {starts} of {})",
            bounds.patience_s,
            bounds.steady_s,
            super::phase::MOST_STARTS
        ),
        Phase::GoingBack { why } => format!("version {from} comes back, because {why}"),
        Phase::Committed => format!("version {to} is installed and well; {from} was before it"),
        Phase::WentBack { why } => {
            format!("version {from} is there as before; {to} was given up, because {why}")
        }
    }
}
