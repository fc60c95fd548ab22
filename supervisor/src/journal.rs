//! Where events go: to the journal when stderr is the journal, else to stderr.
//!
//! `STOKER_LOG`, else `RUST_LOG`, filters; without them `info` and above are
//! written. No prompt and no answer text is ever part of an event.

use std::io::IsTerminal;

use nix::sys::stat::fstat;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

const DEFAULT_FILTER: &str = "info";

/// Starts writing events.
///
/// # Errors
/// Events are written already.
pub fn start() -> Result<(), TryInitError> {
    let journal = stderr_is_journal().then(tracing_journald::layer).and_then(Result::ok);
    let sink = match journal {
        Some(journal) => journal.boxed(),
        None => {
            let terminal = std::io::stderr().is_terminal();
            fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false).boxed()
        }
    };
    tracing_subscriber::registry().with(sink.with_filter(filter())).try_init()
}

fn filter() -> EnvFilter {
    let variable = ["STOKER_LOG", "RUST_LOG"].iter().find_map(|name| std::env::var(name).ok());
    let directives = variable.filter(|text| !text.is_empty());
    EnvFilter::builder().parse_lossy(directives.as_deref().unwrap_or(DEFAULT_FILTER))
}

/// systemd gives the device and inode of the journal's socket; a program that
/// was started with stderr elsewhere inherits the variable all the same.
fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = fstat(std::io::stderr()) else { return false };
    named == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}
