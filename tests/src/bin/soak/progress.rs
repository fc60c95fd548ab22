//! How far a long run is, said on standard error.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use ::tests::spoken::time_left;

/// Between two lines where nobody watches, and two looks where somebody does.
const LINE_PERIOD: Duration = Duration::from_secs(15);
const TERMINAL_PERIOD: Duration = Duration::from_millis(500);

/// Says how far something is, not too often.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    said: Option<Instant>,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), said: None, terminal: std::io::stderr().is_terminal() }
    }

    /// `share` of it is done, 0 to 1.
    pub(crate) fn say(&mut self, share: f64, what: &str) {
        let now = Instant::now();
        let period = if self.terminal { TERMINAL_PERIOD } else { LINE_PERIOD };
        if self.said.is_some_and(|said| now - said < period) {
            return;
        }
        self.said = Some(now);
        let left = match left(now - self.began, share) {
            Some(Duration::ZERO) => "; waiting for the last".to_owned(),
            Some(left) => format!("; about {} left", time_left(left)),
            None => String::new(),
        };
        let line = match self.terminal {
            true => format!("\r\x1b[K{what}{left}"),
            false => format!("{what}{left}\n"),
        };
        // Progress is worth no failure.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.said.is_some() {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// Says one thing.
pub(crate) fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// How long the rest takes if it goes on like this.
fn left(elapsed: Duration, share: f64) -> Option<Duration> {
    (share > 0.0).then(|| elapsed.mul_f64(((1.0 - share) / share).clamp(0.0, 1e6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_what_the_beginning_took() {
        let elapsed = Duration::from_secs(30);
        assert_eq!(left(elapsed, 0.25), Some(Duration::from_secs(90)));
        assert_eq!(left(elapsed, 1.0), Some(Duration::ZERO));
        assert_eq!(left(elapsed, 0.0), None);
    }
}
