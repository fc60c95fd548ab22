//! Processes seen from outside: where our programs are, and who is alive.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The directory of the release binaries: measuring tools lie in it, and tests below it.
#[must_use]
pub fn binaries() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let place = own.parent().expect("a program lies in a directory");
    match place.ends_with("deps") {
        true => place.parent().expect("cargo puts tests below the binaries").into(),
        false => place.into(),
    }
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

/// Every process that runs.
pub fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The id that a process has in the innermost machine that it is in.
#[must_use]
pub fn inner_id(pid: u32) -> Option<u32> {
    field(pid, "NSpid:")?.split_whitespace().last()?.parse().ok()
}

/// The processes that a process descends from, the nearest first.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    let parent = |pid: &u32| field(*pid, "PPid:")?.trim().parse().ok().filter(|pid| *pid != 0);
    std::iter::successors(Some(pid), parent).skip(1)
}

fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
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

/// One thread of a process that stands still, as in a driver that does not
/// come back, while the others go on.
#[derive(Debug)]
pub struct Stuck {
    /// Dropped to let it go on.
    hold: Option<Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Stuck {
    /// Stops the thread with this name.
    ///
    /// # Panics
    /// There is no such thread, or it may not be stopped.
    #[must_use]
    pub fn thread(pid: u32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
        let named = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let task = tasks.flatten().find(named).unwrap_or_else(|| panic!("no thread {name}"));
        let thread = task.file_name().to_str().and_then(|id| id.parse().ok()).map(Pid::from_raw);
        let thread = thread.expect("a task's name is its id");
        let (hold, held) = channel();
        let (stopped, stands_still) = channel();
        // Only the thread that stopped another may let it go on, or hear of its end.
        let holder = std::thread::spawn(move || {
            let stop = ptrace::attach(thread)
                .and_then(|()| waitpid(thread, Some(WaitPidFlag::__WALL)).map(drop));
            stopped.send(stop).expect("somebody waits for it");
            while held.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
                if waitpid(thread, Some(flags)) != Ok(WaitStatus::StillAlive) {
                    return;
                }
            }
            // It may have been killed meanwhile.
            let _ = ptrace::detach(thread, None);
        });
        let stopped = stands_still.recv().expect("the holder says how it went");
        stopped.unwrap_or_else(|error| panic!("stop thread {name}: {error}"));
        Self { hold: Some(hold), holder: Some(holder) }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        drop(self.hold.take());
        if let Some(holder) = self.holder.take() {
            let _ = holder.join();
        }
    }
}

/// Time between two looks at a thread that stands still.
const PERIOD: Duration = Duration::from_millis(10);

fn id(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("process ids are small"))
}
