//! The operating system's side of a worker: start it, hear what it says on
//! stdout and stderr, end it, and always collect its exit status.
//!
//! The worker's stdin is one end of a socket pair; everything else of ours is
//! close-on-exec. It leads a process group of its own, so a Ctrl-C meant for
//! us does not reach it and a kill reaches its children. It gets no
//! parent-death signal: it ends at end of file on its socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Variables by which systemd speaks to us, and to no child of ours.
const OURS_ALONE: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];
/// Lines of the worker's output that are kept as evidence.
pub const KEPT_LINES: usize = 20;
/// Longest line, in bytes; the rest of a longer one is cut.
const MAX_LINE: usize = 1024;
/// How long a process may take to be gone after SIGKILL. A process that is
/// stuck in a driver takes longer; it is then left to the kernel.
const REAP: Duration = Duration::from_secs(5);
/// How long output may still come after the exit, from a grandchild that
/// holds the pipe.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A worker process that runs, or ran and was not collected yet.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    output: JoinSet<()>,
    lines: Arc<Mutex<VecDeque<String>>>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// `None` if it could not be collected: it is stuck in the kernel.
    pub status: Option<ExitStatus>,
    /// The last lines that it wrote.
    pub lines: Vec<String>,
}

/// The worker could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start {}", path.display())]
pub struct SpawnError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Process {
    /// Starts the program at `path`; the returned socket is the peer of its stdin.
    ///
    /// # Errors
    /// There is no such program, or no more processes or descriptors.
    pub fn spawn(path: &Path) -> Result<(Self, UnixStream), SpawnError> {
        let start = || {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let ours = UnixStream::from_std(ours)?;
            let mut command = Command::new(path);
            for name in OURS_ALONE {
                command.env_remove(name);
            }
            let child = command
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()?;
            Ok((child, ours))
        };
        let (mut child, socket) =
            start().map_err(|source| SpawnError { path: path.into(), source })?;
        let pid = child.id().expect("a child that was not waited for has an id");
        let lines = Arc::default();
        let mut output = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            output.spawn(follow(stdout, pid, Arc::clone(&lines)));
        }
        if let Some(stderr) = child.stderr.take() {
            output.spawn(follow(stderr, pid, Arc::clone(&lines)));
        }
        Ok((Self { child, pid, output, lines }, socket))
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits up to `grace` for the process to end by itself, then kills its
    /// whole group, and collects it.
    pub async fn end(mut self, grace: Duration) -> Exit {
        let by_itself = timeout(grace, self.child.wait()).await;
        let status = match by_itself {
            Ok(status) => status.ok(),
            Err(_) => {
                self.kill_group();
                timeout(REAP, self.child.wait()).await.ok().and_then(Result::ok)
            }
        };
        let _ =
            timeout(LAST_WORDS, async { while self.output.join_next().await.is_some() {} }).await;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Exit { status, lines: lines.iter().cloned().collect() }
    }

    fn kill_group(&self) {
        let Ok(group) = i32::try_from(self.pid) else { return };
        // The only error is that nobody is left in the group.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// Passes each line on to the log and keeps the last ones.
async fn follow(mut from: impl AsyncRead + Unpin, pid: u32, lines: Arc<Mutex<VecDeque<String>>>) {
    let mut line = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        for byte in &chunk[..count] {
            match byte {
                b'\n' => keep(&mut line, pid, &lines),
                _ if line.len() < MAX_LINE => line.push(*byte),
                _ => {}
            }
        }
    }
    if !line.is_empty() {
        keep(&mut line, pid, &lines);
    }
}

fn keep(line: &mut Vec<u8>, pid: u32, lines: &Mutex<VecDeque<String>>) {
    let text = String::from_utf8_lossy(line).trim_end().to_owned();
    line.clear();
    tracing::info!(target: "engine_worker", pid, "{text}");
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() == KEPT_LINES {
        lines.pop_front();
    }
    lines.push_back(text);
}
