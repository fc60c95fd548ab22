//! What a person or a program sees while a build goes on.
//!
//! Text goes to standard error, the result to standard output. On a terminal
//! the running step rewrites its line; otherwise each step writes a line when
//! it ends, and a long one says now and then how far it is. With
//! `--format json` standard output carries one object a line and nothing else.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::json;

mod meter;

pub use meter::Meter;

use crate::error::Error;
use crate::interrupt::Interrupt;

/// Text for people or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// The steps of a build, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Plan,
    Preflight,
    Fetch,
    Quantise,
    Build,
    Verify,
    Publish,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Preflight => "preflight",
            Self::Fetch => "fetch",
            Self::Quantise => "quantise",
            Self::Build => "build",
            Self::Verify => "verify",
            Self::Publish => "publish",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Silent,
    Lines,
    Terminal,
    Json,
}

/// Where progress goes. Nothing that is written here can fail a build.
#[derive(Debug)]
pub struct Report {
    mode: Mode,
    interrupt: Interrupt,
    started: Instant,
    /// The running step and when it began.
    step: Cell<(Step, Instant)>,
}

impl Report {
    #[must_use]
    pub fn new(format: Format, interrupt: Interrupt) -> Self {
        let mode = match format {
            Format::Json => Mode::Json,
            Format::Text if std::io::stderr().is_terminal() => Mode::Terminal,
            Format::Text => Mode::Lines,
        };
        let now = Instant::now();
        Self { mode, interrupt, started: now, step: Cell::new((Step::Plan, now)) }
    }

    /// A report that nobody reads.
    #[must_use]
    pub fn silent() -> Self {
        Self { mode: Mode::Silent, ..Self::new(Format::Text, Interrupt::default()) }
    }

    #[must_use]
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// A step begins; `doing` says what it does, in a few words.
    pub fn begin(&self, step: Step, doing: &str) {
        self.step.set((step, Instant::now()));
        match self.mode {
            Mode::Terminal => self.rewrite(doing),
            Mode::Json => event(&json!({"event": "begin", "step": step.name(), "text": doing})),
            Mode::Lines | Mode::Silent => {}
        }
    }

    /// The running step ended well; `outcome` says what came of it.
    pub fn end(&self, outcome: &str) {
        let (step, began) = self.step.get();
        let seconds = began.elapsed().as_secs_f64();
        match self.mode {
            Mode::Terminal | Mode::Lines => {
                self.line(&format!("{:<10} {outcome} ({seconds:.1} s)", step.name()));
            }
            Mode::Json => event(&json!({
                "event": "end", "step": step.name(), "text": outcome, "elapsed_s": seconds
            })),
            Mode::Silent => {}
        }
    }

    /// Something worth knowing that is not progress.
    pub fn note(&self, text: &str) {
        let (step, _) = self.step.get();
        match self.mode {
            Mode::Terminal | Mode::Lines => self.line(&format!("{:<10} {text}", step.name())),
            Mode::Json => event(&json!({"event": "note", "step": step.name(), "text": text})),
            Mode::Silent => {}
        }
    }

    /// The command's result: a line for people, the members of an object for programs.
    pub fn result(&self, text: &str, mut facts: serde_json::Value) {
        let seconds = self.started.elapsed().as_secs_f64();
        match self.mode {
            Mode::Terminal | Mode::Lines => {
                self.clear();
                // A closed pipe is the reader's choice, not a failure of the build.
                let _ = writeln!(std::io::stdout(), "{text} ({seconds:.1} s)");
            }
            Mode::Json => {
                facts["event"] = "result".into();
                facts["elapsed_s"] = seconds.into();
                event(&facts);
            }
            Mode::Silent => {}
        }
    }

    /// What stands over a table; programs need none.
    pub fn heading(&self, text: &str) {
        if matches!(self.mode, Mode::Terminal | Mode::Lines) {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// One of many things that were asked for.
    pub fn item(&self, text: &str, facts: serde_json::Value) {
        match self.mode {
            Mode::Terminal | Mode::Lines => {
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            Mode::Json => event(&facts),
            Mode::Silent => {}
        }
    }

    /// The command failed.
    pub fn failure(&self, error: &Error) {
        self.clear();
        let (class, chain) = (error.class(), error.chain());
        if self.mode == Mode::Json {
            event(&json!({
                "event": "failure", "class": class.name(), "exit": class.exit_code(), "error": chain
            }));
        }
        let _ = writeln!(std::io::stderr(), "engine-builder: {chain}");
    }

    /// Counts bytes towards `total`.
    #[must_use]
    pub fn meter(&self, total: u64) -> Meter<'_> {
        Meter::bytes(self, total)
    }

    /// Counts shares of the whole, from 0 to 1.
    #[must_use]
    pub fn share(&self) -> Meter<'_> {
        Meter::share(self)
    }

    /// How often a meter may speak; `None` if nobody listens.
    fn period(&self) -> Option<Duration> {
        match self.mode {
            Mode::Silent => None,
            Mode::Terminal => Some(Duration::from_millis(100)),
            Mode::Json => Some(Duration::from_millis(500)),
            Mode::Lines => Some(Duration::from_secs(5)),
        }
    }

    fn progress(&self, text: &str, share: f64, left: Option<Duration>) {
        let (step, _) = self.step.get();
        match self.mode {
            Mode::Terminal => self.rewrite(text),
            Mode::Lines => self.line(&format!("{:<10} {text}", step.name())),
            Mode::Json => event(&json!({
                "event": "progress", "step": step.name(), "share": share, "text": text,
                "left_s": left.map(|left| left.as_secs_f64().round())
            })),
            Mode::Silent => {}
        }
    }

    fn rewrite(&self, text: &str) {
        let (step, _) = self.step.get();
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "\r\x1b[K{:<10} {text}", step.name());
        let _ = stderr.flush();
    }

    fn line(&self, text: &str) {
        self.clear();
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn clear(&self) {
        if self.mode == Mode::Terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn event(value: &serde_json::Value) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{value}");
    let _ = stdout.flush();
}
