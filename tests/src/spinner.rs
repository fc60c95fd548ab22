//! A busy process: the same program again, doing nothing but turn round.
//!
//! A program that starts spinners looks for [`ARGUMENT`] before anything else
//! and then calls [`spin`].

use std::hint::black_box;
use std::os::unix::process::parent_id;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// The first argument that makes a program a spinner.
pub const ARGUMENT: &str = "--spin";

/// The second one, if the spinner is to stand apart.
const APART: &str = "apart";

/// No spinner outlives the load it disturbs by more than this, should its
/// parent's end escape it.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// One busy process, ended when this is dropped.
#[derive(Debug)]
pub struct Spinner(Child);

impl Spinner {
    /// At the priority of the servers, on whichever processor it is put.
    ///
    /// `apart`: in a session of its own, as another service is. Where the
    /// kernel shares the processors between sessions first, it then weighs as
    /// much as all of a server's threads together.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(apart: bool) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        Self::run(Command::new(program), apart)
    }

    /// The same, on one processor.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start_on(processor: usize, apart: bool) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &processor.to_string()]).arg(program);
        Self::run(command, apart)
    }

    fn run(mut command: Command, apart: bool) -> anyhow::Result<Self> {
        command.arg(ARGUMENT).args(apart.then_some(APART));
        Ok(Self(command.spawn().context("start a busy process")?))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the process does that [`Spinner::start`] starts: it uses one processor
/// until it is killed, its parent has gone or the limit is over.
///
/// # Errors
/// It cannot have a session of its own.
pub fn spin(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    if arguments.last().as_deref() == Some(APART) {
        nix::unistd::setsid().context("begin a session")?;
    }
    let started = Instant::now();
    let parent = parent_id();
    let mut turns = 0_u64;
    while started.elapsed() < LIMIT && parent_id() == parent {
        for _ in 0..10_000_000 {
            turns = black_box(turns.wrapping_add(1));
        }
    }
    Ok(())
}
