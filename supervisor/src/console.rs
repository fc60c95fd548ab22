//! What the command line asks of a running server and shows to a person:
//! `stoker status`, once or again and again, and below it `stoker index` and
//! `stoker search`. `stoker key` and `stoker claim` change files that the server reads.

pub(crate) mod ask;
pub mod claim;
pub mod code;
pub mod key;
pub mod memory;
mod table;
pub mod upload;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use ask::{get, host_of};

/// Between two looks of [`watch`]; the server samples no more often by default.
const WATCH_PERIOD: Duration = Duration::from_secs(2);
/// Moves a terminal's cursor to its upper left corner and clears what is below.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// How the status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Why there is no status to show.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("{0} is not an address such as http://127.0.0.1:11434")]
    Url(String),
    #[error("no server answers at {host}; start one with `stoker serve`")]
    Connect { host: String, source: io::Error },
    #[error("read the answer of {host}")]
    Read { host: String, source: io::Error },
    #[error("{host} does not answer like a stoker: {problem}")]
    Answer { host: String, problem: String },
    #[error("{0}")]
    Refused(String),
    #[error("send {}", path.display())]
    Send { path: PathBuf, source: io::Error },
    #[error("print the answer")]
    Print(#[source] io::Error),
}

/// Asks the server at `url` for its status and prints it to `out`.
///
/// # Errors
/// See [`StatusError`].
pub fn status(url: &str, format: Format, out: &mut impl Write) -> Result<(), StatusError> {
    let host = host_of(url).ok_or_else(|| StatusError::Url(url.to_owned()))?;
    let body = get(&host, "/api/status")?;
    match format {
        Format::Json => writeln!(out, "{}", body.trim_end()),
        Format::Text => {
            let status: Value = serde_json::from_str(&body)
                .map_err(|error| StatusError::Answer { host, problem: error.to_string() })?;
            write!(out, "{}", table::Table(&status))
        }
    }
    .map_err(StatusError::Print)
}

/// Prints the status again and again. A server that does not answer is said and
/// asked again: it may be restarting.
///
/// # Errors
/// The address is none, or nobody reads what is printed any more.
pub fn watch(
    url: &str,
    format: Format,
    clear: bool,
    out: &mut impl Write,
) -> Result<std::convert::Infallible, StatusError> {
    host_of(url).ok_or_else(|| StatusError::Url(url.to_owned()))?;
    loop {
        // Whole, so that the terminal never shows half of it.
        let mut page = Vec::new();
        if clear && format == Format::Text {
            page.extend_from_slice(CLEAR);
        }
        match status(url, format, &mut page) {
            Ok(()) => {}
            Err(error) if format == Format::Json => drop(error),
            Err(error) => {
                let _ = writeln!(page, "{error}");
            }
        }
        out.write_all(&page).and_then(|()| out.flush()).map_err(StatusError::Print)?;
        std::thread::sleep(WATCH_PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_ends_when_nobody_reads() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let watched = watch("http://127.0.0.1:1", Format::Text, true, &mut Closed);
        assert!(matches!(watched, Err(StatusError::Print(_))));
        let watched = watch("https://a", Format::Text, true, &mut Closed);
        assert!(matches!(watched, Err(StatusError::Url(_))));
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let error = status("http://127.0.0.1:1", Format::Text, &mut Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no server answers at 127.0.0.1:1; start one with `stoker serve`"
        );
    }
}
