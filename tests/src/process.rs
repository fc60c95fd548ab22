//! Processes seen from outside: where our programs are, and who is alive.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The directory of the release binaries: the tests' own lie below it.
#[must_use]
pub fn binaries() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let deps = own.parent().expect("a program lies in a directory");
    deps.parent().expect("cargo puts tests below the binaries").into()
}

/// One of our programs.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = binaries().join(name);
    assert!(path.exists(), "{} is not built; `cargo build --release` does it", path.display());
    path
}

/// Sends a signal to one process.
///
/// # Panics
/// There is no such process.
pub fn signal(pid: u32, signal: Signal) {
    kill(id(pid), signal).unwrap_or_else(|error| panic!("send {signal} to {pid}: {error}"));
}

/// Whether the process runs. One that ended and was not collected does not.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name is in brackets and may hold anything; the state follows it.
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// What a process is called, as far as the kernel keeps it; `None` if there is
/// no such process.
#[must_use]
pub fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Resident memory of a process, in bytes.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a process has resident memory") * 1024
}

fn id(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("process ids are small"))
}
