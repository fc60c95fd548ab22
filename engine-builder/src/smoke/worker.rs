//! One worker process: started, spoken with on one connection, and surely ended.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine_api::frame::{self, Decoder};
use engine_api::handover;
use engine_api::protocol::{FromWorker, Heartbeat, ToWorker};

use super::fault::{LastWords, SmokeError};
use crate::child::Group;
use crate::interrupt::Interrupt;

/// How long a read waits before it looks whether the work was called off.
const POLL: Duration = Duration::from_millis(100);

/// Time that a worker may take to end after its socket is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Lines of standard error that are kept, and bytes of each.
const KEPT_LINES: usize = 3;
const KEPT_BYTES: usize = 300;

type Lines = Arc<Mutex<VecDeque<String>>>;

/// Who a smoke run is held with.
pub(super) trait Peer {
    fn send(&mut self, message: &ToWorker) -> Result<(), SmokeError>;

    /// The next message that is not a heartbeat. `limit` is the longest time
    /// without progress.
    fn receive(&mut self, doing: &'static str, limit: Duration) -> Result<FromWorker, SmokeError>;

    /// What it last wrote to its standard error.
    fn last_words(&self) -> LastWords;
}

/// A worker and the near ends of its sockets. Killed when dropped.
#[derive(Debug)]
pub(super) struct Worker {
    process: Group,
    /// The worker ends when this is closed.
    control: Option<OwnedFd>,
    socket: UnixStream,
    decoder: Decoder,
    interrupt: Interrupt,
    lines: Lines,
    /// Ends when the worker's standard error does.
    listener: Option<std::thread::JoinHandle<()>>,
    progress: Progress,
}

/// What a heartbeat counts; a worker that does not move it is hung.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    steps: u64,
    prefill_tokens: u64,
    decode_tokens: u64,
}

impl Worker {
    /// Starts `command` with a control socket as its standard input.
    pub(super) fn start(mut command: Command, interrupt: Interrupt) -> Result<Self, SmokeError> {
        let (control, far) = handover::control_pair()?;
        // Offered before there is anybody to take it: whoever dies early has died
        // with its connection.
        let socket = handover::offer(&control)?;
        socket.set_read_timeout(Some(POLL))?;
        command.stdin(far).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Group::spawn(&mut command)?;
        // The far end must live in the worker alone, or its death is not seen.
        drop(command);
        let lines = Lines::default();
        let stderr = process.leader().stderr.take();
        let listener = stderr.map(|stderr| listen(stderr, Arc::clone(&lines))).transpose()?;
        let (decoder, progress) = (Decoder::default(), Progress::default());
        let control = Some(control);
        Ok(Self { process, control, socket, decoder, interrupt, lines, listener, progress })
    }

    /// Lets the worker end by itself, as the end of its control socket asks it to.
    pub(super) fn finish(mut self) {
        drop(self.control.take());
        self.wait();
    }

    /// Of the process, which leads its group.
    pub(super) fn pid(&mut self) -> u32 {
        self.process.leader().id()
    }

    fn moved(&mut self, heartbeat: &Heartbeat) -> bool {
        let progress = Progress {
            steps: heartbeat.steps,
            prefill_tokens: heartbeat.prefill_tokens,
            decode_tokens: heartbeat.decode_tokens,
        };
        let moved = progress != self.progress;
        self.progress = progress;
        moved
    }

    fn died(&mut self, doing: &'static str) -> SmokeError {
        let Some(status) = self.wait() else {
            return SmokeError::Hung { doing, limit: FAREWELL, last: self.last_words() };
        };
        if let Some(listener) = self.listener.take() {
            // The pipe has ended with the process; all its lines are wanted.
            let _ = listener.join();
        }
        SmokeError::Died { doing, status, last: self.last_words() }
    }

    /// Its exit status, if it ends in time.
    fn wait(&mut self) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.process.leader().try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Peer for Worker {
    fn send(&mut self, message: &ToWorker) -> Result<(), SmokeError> {
        let mut bytes = Vec::new();
        frame::encode(message, &mut bytes)?;
        match self.socket.write_all(&bytes) {
            // It died; the next read says how.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    fn receive(&mut self, doing: &'static str, limit: Duration) -> Result<FromWorker, SmokeError> {
        let mut deadline = Instant::now() + limit;
        let mut bytes = [0; 16 * 1024];
        loop {
            while let Some(message) = self.decoder.next()? {
                match message {
                    FromWorker::Heartbeat(heartbeat) => {
                        if self.moved(&heartbeat) {
                            deadline = Instant::now() + limit;
                        }
                    }
                    message => return Ok(message),
                }
            }
            self.interrupt.check()?;
            if Instant::now() > deadline {
                return Err(SmokeError::Hung { doing, limit, last: self.last_words() });
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(self.died(doing)),
                Ok(count) => self.decoder.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(self.died(doing));
                }
                Err(error) if is_patience(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn last_words(&self) -> LastWords {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        LastWords(lines.iter().cloned().collect())
    }
}

/// Keeps the last lines of a worker's standard error until it ends.
fn listen(stderr: ChildStderr, lines: Lines) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("worker-stderr".into()).spawn(move || {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line without end must not fill the memory.
            match reader.by_ref().take(64 * 1024).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text: String =
                String::from_utf8_lossy(&line).trim().chars().take(KEPT_BYTES).collect();
            if text.is_empty() {
                continue;
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(text);
        }
    })
}

fn is_patience(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that is a shell script; its control socket is file descriptor 0.
    fn script(script: &str) -> Worker {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Worker::start(command, Interrupt::default()).unwrap()
    }

    #[test]
    fn a_dead_worker_leaves_its_status_and_its_last_lines() {
        let mut worker = script("for n in 1 2 3 4 5; do echo line $n >&2; done; exit 3");
        let error = worker.receive("loading", FAREWELL).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the worker died while loading (exit status: 3); its last words: line 3 | line 4 | line 5"
        );
    }

    #[test]
    fn a_worker_that_says_nothing_is_hung() {
        let mut worker = script("exec sleep 600");
        let error = worker.receive("loading", Duration::from_millis(1)).unwrap_err();
        assert!(matches!(error, SmokeError::Hung { doing: "loading", .. }), "{error}");
    }

    #[test]
    fn a_worker_that_babbles_is_not_understood() {
        let babble = "import socket, time
control = socket.socket(fileno=0)
_, (connection,), _, _ = socket.recv_fds(control, 1, 1)
socket.socket(fileno=connection).send(b'\\xff' * 4)
time.sleep(600)";
        let mut worker = script(&format!("exec python3 -c \"{babble}\""));
        let error = worker.receive("loading", FAREWELL).unwrap_err();
        assert!(matches!(error, SmokeError::Garbage(_)), "{error}");
    }

    #[test]
    fn a_line_without_end_is_kept_in_pieces_of_bounded_length() {
        let mut worker = script("head -c 300000 /dev/zero | tr '\\0' x >&2");
        worker.receive("loading", FAREWELL).unwrap_err();
        let LastWords(lines) = worker.last_words();
        assert!(lines.iter().all(|line| line.len() == KEPT_BYTES), "{lines:?}");
    }

    #[test]
    fn heartbeats_count_only_if_they_show_progress() {
        let mut worker = script("exec sleep 600");
        let beat = |steps| Heartbeat { steps, waiting: 3, ..Heartbeat::default() };
        let moves = [0, 1, 1, 2].map(|steps| worker.moved(&beat(steps)));
        assert_eq!(moves, [false, true, false, true]);
    }
}
