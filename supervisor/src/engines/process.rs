//! The operating system's side of a worker: start it or take it over, hear what
//! it says on stdout and stderr, end it, and always collect its exit status.
//!
//! The worker's stdin is one end of its control socket, its stdout and stderr
//! are one end of another; everything else of ours is close-on-exec. It leads a
//! process group of its own, so a Ctrl-C meant for us does not reach it and a
//! kill reaches its children. It gets no parent-death signal: it ends when
//! nobody holds the other end of its control socket any more. systemd keeps
//! that end, too, so a worker outlives the supervisor that started it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine_api::handover;
use jetpack::Root;
use jetpack::process::Waits;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::systemd::keeper::{Keeper, LeftWorker};

/// Variables by which systemd speaks to us, and to no child of ours.
const OURS_ALONE: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FDSTORE",
];
/// Lines of the worker's output that are kept as evidence.
pub const KEPT_LINES: usize = 20;
/// Longest line, in bytes; the rest of a longer one is cut.
const MAX_LINE: usize = 1024;
/// How long a process may take to be gone after SIGKILL. A process that is
/// stuck in a driver takes longer; it is then left to the kernel.
const REAP: Duration = Duration::from_secs(5);
/// The same for one that waits for a processor to die on.
const STARVED_REAP: Duration = Duration::from_secs(300);
/// Enough for one system call.
const WATCH_STACK: usize = 64 * 1024;
/// How long output may still come after the exit, from a grandchild that
/// holds the socket.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A worker process that runs, or ran and was not collected yet.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    running: Running,
    control: OwnedFd,
    keeper: Keeper,
    output: JoinSet<()>,
    lines: Arc<Mutex<VecDeque<String>>>,
}

#[derive(Debug)]
enum Running {
    /// Ours, to be waited for.
    Child(Child),
    /// Somebody else's.
    Foreign { handle: Arc<OwnedFd>, ended: oneshot::Receiver<()> },
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// `None` if it is stuck, or was no child of ours: the kernel tells the
    /// status to the parent alone.
    pub status: Option<ExitStatus>,
    /// It could not be ended: it is stuck in the kernel.
    pub stuck: bool,
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

/// There is nothing to take over.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} ended while there was no supervisor")]
pub struct Gone {
    pub pid: u32,
}

impl Process {
    /// Starts the program at `path`.
    ///
    /// # Errors
    /// There is no such program, or no more processes or descriptors.
    pub fn spawn(path: &Path, keeper: Keeper) -> Result<Self, SpawnError> {
        let start = || {
            let (control, stdin) = handover::control_pair()?;
            let (log, output) = StdUnixStream::pair()?;
            let mut command = Command::new(path);
            for name in OURS_ALONE {
                command.env_remove(name);
            }
            let child = command
                .stdin(Stdio::from(stdin))
                .stdout(Stdio::from(OwnedFd::from(output.try_clone()?)))
                .stderr(Stdio::from(OwnedFd::from(output)))
                .process_group(0)
                .spawn()?;
            Ok((child, control, log))
        };
        let (child, control, log) =
            start().map_err(|source| SpawnError { path: path.into(), source })?;
        let pid = child.id().expect("a child that was not waited for has an id");
        keeper.keep_worker(pid, &control, &log);
        Ok(Self::new(pid, Running::Child(child), control, Some(log), keeper))
    }

    /// Takes over a process that an earlier supervisor started.
    ///
    /// # Errors
    /// It has ended.
    pub fn adopt(left: LeftWorker, keeper: Keeper) -> Result<Self, Gone> {
        let LeftWorker { pid, control, log } = left;
        let gone = |_| {
            keeper.forget_worker(pid);
            Gone { pid }
        };
        let foreign = watch_process(pid).map_err(gone)?;
        // Looked at last: while the control socket stands the process lives, so
        // the id was still its own when it was opened.
        if has_hung_up(&control) {
            return Err(gone(io::ErrorKind::BrokenPipe.into()));
        }
        Ok(Self::new(pid, foreign, control, log, keeper))
    }

    fn new(
        pid: u32,
        running: Running,
        control: OwnedFd,
        log: Option<StdUnixStream>,
        keeper: Keeper,
    ) -> Self {
        let lines = Arc::default();
        let mut output = JoinSet::new();
        match log.map(watched).transpose() {
            Ok(log) => {
                if let Some(log) = log {
                    output.spawn(follow(log, pid, Arc::clone(&lines)));
                }
            }
            Err(error) => tracing::warn!(%error, pid, "the worker's output is not heard"),
        }
        Self { pid, running, control, keeper, output, lines }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Hands the worker a new connection.
    ///
    /// # Errors
    /// It is gone, or reads none of them.
    pub fn connect(&self) -> io::Result<UnixStream> {
        watched(handover::offer(&self.control)?)
    }

    /// Whether somebody stopped it by a signal. Left behind, it would never hear
    /// that its sockets were closed, and keep its memory for ever.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        jetpack::process::is_stopped(&Root::default(), self.pid).unwrap_or(false)
    }

    /// Lets the process run on for the supervisor that comes after us.
    pub fn leave(self) {
        tracing::info!(pid = self.pid, "engine left running for the next supervisor");
    }

    /// Waits up to `grace` for the process to end by itself, then kills its
    /// whole group, and collects it.
    pub async fn end(mut self, grace: Duration) -> Exit {
        let (status, stuck) = match timeout(grace, self.running.ended()).await {
            Ok(status) => (status, false),
            Err(_) => {
                self.kill();
                self.reap().await
            }
        };
        self.keeper.forget_worker(self.pid);
        let _ =
            timeout(LAST_WORDS, async { while self.output.join_next().await.is_some() {} }).await;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Exit { status, stuck, lines: lines.iter().cloned().collect() }
    }

    /// The exit status, and whether the process is stuck, after it was killed.
    async fn reap(&mut self) -> (Option<ExitStatus>, bool) {
        let killed = Instant::now();
        loop {
            if let Ok(status) = timeout(REAP, self.running.ended()).await {
                return (status, false);
            }
            let starves = Waits::read(&Root::new("/"), self.pid).is_ok_and(|it| it.is_ready);
            if !starves || killed.elapsed() >= STARVED_REAP {
                return (None, true);
            }
        }
    }

    fn kill(&self) {
        // The only error is that nobody is left.
        match &self.running {
            Running::Child(_) => {
                if let Ok(group) = i32::try_from(self.pid) {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
            }
            Running::Foreign { handle, .. } => {
                let _ = pidfd_send_signal(handle, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Running {
    /// Resolves when the process has ended, with its status if it can be had.
    async fn ended(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await.ok(),
            Self::Foreign { ended, .. } => {
                // It is not dropped before it was sent.
                let _ = ended.await;
                None
            }
        }
    }
}

/// Waits for the end of a process on a thread: it takes no unsafe code, and
/// there is one such process at most.
fn watch_process(pid: u32) -> io::Result<Running> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let handle = Arc::new(pidfd_open(pid, PidfdFlags::empty())?);
    let (tell, ended) = oneshot::channel();
    let watched = Arc::clone(&handle);
    let wait = move || {
        let mut process = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
        while poll(&mut process, PollTimeout::NONE) == Err(Errno::EINTR) {}
        // Nobody waits if the process was left running.
        let _ = tell.send(());
    };
    std::thread::Builder::new().name("engine-end".into()).stack_size(WATCH_STACK).spawn(wait)?;
    Ok(Running::Foreign { handle, ended })
}

fn has_hung_up(control: &OwnedFd) -> bool {
    let mut socket = [PollFd::new(control.as_fd(), PollFlags::empty())];
    poll(&mut socket, PollTimeout::ZERO).is_err() || socket[0].any().unwrap_or(true)
}

fn watched(socket: StdUnixStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
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
