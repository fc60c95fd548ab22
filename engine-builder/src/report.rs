//! What a person or a program sees while a build goes on.
//!
//! Text goes to standard error, the result to standard output. On a terminal
//! the running step rewrites its line; otherwise each step writes a line when
//! it ends, and a long one says now and then how far it is. With
//! `--format json` standard output carries one object a line and nothing else.
//! The same is left in a file for the supervisor, which shows it to those who did
//! not start the build.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use engine_api::progress::Outcome;
use serde_json::json;

mod meter;
mod notice;

pub use meter::Meter;
use meter::Reached;
use notice::Notice;
pub(crate) use notice::forget;

use crate::error::{Class, Error};
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
    Convert,
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
            Self::Convert => "convert",
            Self::Quantise => "quantise",
            Self::Build => "build",
            Self::Verify => "verify",
            Self::Publish => "publish",
        }
    }

    /// Its place among the steps, from 1. Few builds convert or quantise, so
    /// that counts as a part of building.
    fn number(self) -> u32 {
        match self {
            Self::Plan => 1,
            Self::Preflight => 2,
            Self::Fetch => 3,
            Self::Convert | Self::Quantise | Self::Build => 4,
            Self::Verify => 5,
            Self::Publish => 6,
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
    /// What others can see, while [`Self::shown`] runs.
    notice: RefCell<Option<Notice>>,
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
        let (step, notice) = (Cell::new((Step::Plan, now)), RefCell::default());
        Self { mode, interrupt, started: now, step, notice }
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

    /// Does `work` on `engine` where the supervisor sees how far it is and how it
    /// ended. For the holder of the lock in `state_dir`.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn shown<T>(
        &self,
        state_dir: &Path,
        engine: &str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (step, _) = self.step.get();
        self.notice.replace(Some(Notice::new(state_dir, engine, step)));
        let done = work();
        if let Some(notice) = self.notice.take() {
            match &done {
                Ok(_) => notice.end(Outcome::Built, &format!("{engine} is built")),
                Err(error) if error.class() == Class::Interrupted => {
                    notice.end(Outcome::Interrupted, "it was called off; the next build goes on");
                }
                Err(error) => notice.end(Outcome::Failed, &error.chain()),
            }
        }
        done
    }

    fn notice(&self, tell: impl FnOnce(&mut Notice)) {
        if let Some(notice) = self.notice.borrow_mut().as_mut() {
            tell(notice);
        }
    }

    /// A step begins; `doing` says what it does, in a few words.
    pub fn begin(&self, step: Step, doing: &str) {
        self.step.set((step, Instant::now()));
        self.notice(|notice| notice.begin(step, doing));
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
        self.notice(|notice| notice.say(outcome));
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
        self.notice(|notice| notice.say(text));
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

    /// How often the file that others see may be written; `None` if there is none.
    fn notice_period(&self) -> Option<Duration> {
        self.notice.borrow().as_ref().map(|_| notice::PERIOD)
    }

    fn show_to_others(&self, reached: &Reached) {
        let Reached { share, bytes, left } = *reached;
        self.notice(|notice| notice.progress(&reached.words(), Some(share), bytes, left));
    }

    fn progress(&self, reached: &Reached) {
        let (step, _) = self.step.get();
        let (text, Reached { share, left, .. }) = (&reached.words(), *reached);
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
