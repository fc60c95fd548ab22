//! What the worker says on stderr, which is the supervisor's evidence when
//! something went wrong: warnings and errors, one line each.
//!
//! llama.cpp reports why a file cannot be loaded only in its log, so the first
//! error is kept for the message to the supervisor: those that follow say no
//! more than that it failed.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::filter::LevelFilter;

/// The first error line, if there was one.
static FIRST_ERROR: Mutex<Option<String>> = Mutex::new(None);

/// Sends events, llama.cpp's among them, to stderr.
pub fn install() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(|| Line(Vec::new()))
        .init();
    llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
}

/// Why llama.cpp failed, in its own words.
#[must_use]
pub fn first_error() -> Option<String> {
    FIRST_ERROR.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// One event on its way to stderr.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = String::from_utf8_lossy(&self.0);
        if let Some(message) = line.trim().strip_prefix("ERROR ") {
            let mut first = FIRST_ERROR.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| message.to_owned());
        }
        // Without stderr there is nobody left to tell.
        let _unheard = io::stderr().write_all(&self.0);
    }
}
