//! A program that ends with the thread that started it, however that ends: killed by the
//! kernel, also where nobody is left who could.
//!
//! The kernel is asked for that by the program's own process before it becomes the program.
//! Nothing of ours runs between fork and exec, so our own program is started in its place,
//! asks ([`become_it`]) and hands over. What the program starts itself is not tied; it
//! notices by its pipes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The subcommand of ours that becomes another program.
pub const SUBCOMMAND: &str = "tied";
/// Our own program, also where the file was replaced since.
const OWN: &str = "/proc/self/exe";

/// Starts a program that way.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(OWN);
    command.args([SUBCOMMAND, &std::process::id().to_string(), program]);
    command
}

/// Becomes the program, for as long as `parent` lives. Returns only if that cannot be.
#[must_use]
pub fn become_it(parent: u32, program: &OsStr, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have ended before that.
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() != parent {
        return io::Error::other("whoever started it has ended");
    }
    Command::new(program).args(arguments).exec()
}
