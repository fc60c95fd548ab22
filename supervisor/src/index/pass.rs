//! One pass of the indexer over one repository: a child process, what it is told
//! and what it tells.
//!
//! What it tells is gathered and handed on in batches. It is read only when that
//! is wanted; who does not read holds it up, because a pipe takes 64 KiB.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use engine_api::frame::{self, Decoder};
use engine_api::index::{FromIndexer, KnownFile, ToIndexer};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::view::Progress;

/// How long the indexer may say nothing. It counts for itself how long a file may
/// take, and has the lowest priority of all.
const SILENCE: Duration = Duration::from_secs(1800);
/// Messages in one batch at most.
const BATCH: usize = 256;
/// The same in chunks: each is some writes.
const BATCH_CHUNKS: usize = 1000;
/// What has waited this long is handed on, however little it is.
const GATHER: Duration = Duration::from_millis(500);
/// Bytes of its complaint that are shown.
const COMPLAINT: u64 = 1000;

/// A pass that is under way.
#[derive(Debug)]
pub(super) struct Pass {
    child: Child,
    stdout: ChildStdout,
    decoder: Decoder,
    batch: Vec<FromIndexer>,
    chunks: usize,
    batch_began: Instant,
    heard: Instant,
    progress: Progress,
    directories: Vec<String>,
    done: bool,
}

/// What there is to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing was said in the time.
    Nothing,
    /// It is further, but there is nothing to write yet.
    Further,
    /// To be written, all or nothing.
    Write(Vec<FromIndexer>),
    /// It came to its end and all was handed on.
    Ended,
}

impl Pass {
    /// Starts the program on a repository, or on `only` these places of it if there are
    /// any, `tell`ing it what is known.
    ///
    /// # Errors
    /// It cannot be started, or ends before it knows everything.
    pub(super) fn start(
        indexer: &Path,
        repository: &Path,
        only: &BTreeSet<String>,
        tell: impl FnOnce(&mut dyn FnMut(KnownFile) -> bool) -> Result<(), String>,
    ) -> Result<Self, String> {
        let mut command = Command::new(indexer);
        // It reads foreign code and needs nothing of ours.
        command.args(["pass", "--format", "frames", "--"]).arg(repository).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("start the indexer {}: {error}", indexer.display()))?;
        let stdin = child.stdin.take().expect("it was started with a pipe");
        let stdout = child.stdout.take().expect("it was started with a pipe");
        let now = Instant::now();
        let mut pass = Self {
            child,
            stdout,
            decoder: Decoder::default(),
            batch: Vec::new(),
            chunks: 0,
            batch_began: now,
            heard: now,
            progress: Progress::default(),
            directories: Vec::new(),
            done: false,
        };
        match tell_all(stdin, only, tell) {
            Ok(()) => Ok(pass),
            Err(problem) => Err(pass.end().unwrap_or(problem)),
        }
    }

    /// Directories that it has told of since this was asked last.
    pub(super) fn directories(&mut self) -> Vec<String> {
        std::mem::take(&mut self.directories)
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Listens for at most `wait`.
    ///
    /// # Errors
    /// It ended before it had looked at everything, or talks nonsense.
    pub(super) fn step(&mut self, wait: Duration) -> Result<Step, String> {
        let began = Instant::now();
        let read = self.listen(wait)?;
        self.progress.worked += began.elapsed();
        let further = self.take()?;
        let full = self.batch.len() >= BATCH || self.chunks >= BATCH_CHUNKS;
        let old = !self.batch.is_empty() && self.batch_began.elapsed() >= GATHER;
        if full || old || self.done && !self.batch.is_empty() {
            self.chunks = 0;
            return Ok(Step::Write(std::mem::take(&mut self.batch)));
        }
        match read {
            Some(0) if self.done => self.end().map_or(Ok(Step::Ended), Err),
            Some(0) => Err(self.end().unwrap_or_else(|| "the indexer ended too early".to_owned())),
            _ if further => Ok(Step::Further),
            _ => Ok(Step::Nothing),
        }
    }

    /// It was held up for so long by us, and not by itself.
    pub(super) fn was_held(&mut self) {
        self.heard = Instant::now();
    }

    /// Writing counts as work.
    pub(super) fn wrote_for(&mut self, time: Duration) {
        self.progress.worked += time;
    }

    /// Bytes that came; `None` if there were none in the time.
    fn listen(&mut self, wait: Duration) -> Result<Option<usize>, String> {
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {
                if self.heard.elapsed() > SILENCE {
                    self.kill();
                    return Err(format!("the indexer said nothing for {} s", SILENCE.as_secs()));
                }
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) => return Err(format!("wait for the indexer: {error}")),
        }
        let mut buffer = [0; 64 * 1024];
        let read = self.stdout.read(&mut buffer);
        let read = read.map_err(|error| format!("read what the indexer says: {error}"))?;
        self.heard = Instant::now();
        self.decoder.push(&buffer[..read]);
        Ok(Some(read))
    }

    /// Sorts what was said; whether it is further.
    fn take(&mut self) -> Result<bool, String> {
        let mut further = false;
        loop {
            let said = self.decoder.next();
            let said = said.map_err(|error| format!("the indexer talks nonsense: {error}"))?;
            match said {
                None => return Ok(further),
                Some(FromIndexer::Progress { looked_at, of }) => {
                    self.progress.looked_at = looked_at;
                    self.progress.of = Some(of);
                    further = true;
                }
                Some(FromIndexer::Directory { path }) => self.directories.push(path),
                Some(FromIndexer::Done(_)) => self.done = true,
                Some(said) => {
                    if self.batch.is_empty() {
                        self.batch_began = Instant::now();
                    }
                    if let FromIndexer::Indexed(file) = &said {
                        self.chunks += file.chunks.len();
                    }
                    self.batch.push(said);
                }
            }
        }
    }

    /// Waits for its end; why that is a bad one, if it is.
    fn end(&mut self) -> Option<String> {
        let mut said = Vec::new();
        if let Some(stderr) = &mut self.child.stderr {
            // The complaint ends with the process, or is long enough.
            let _ = stderr.take(COMPLAINT).read_to_end(&mut said);
        }
        let status = self.child.wait();
        match status {
            Ok(status) if status.success() => None,
            Ok(status) => Some(complaint(&said, status)),
            Err(error) => Some(format!("wait for the indexer: {error}")),
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The indexer's own words, else how it ended.
fn complaint(said: &[u8], status: ExitStatus) -> String {
    let said = String::from_utf8_lossy(said);
    // As anyhow prints an error and its causes, one below the other.
    let lines = said.lines().map(|line| {
        let line = line.trim().trim_start_matches("Error: ");
        line.trim_start_matches(|char: char| char.is_ascii_digit()).trim_start_matches(": ")
    });
    let words: Vec<_> =
        lines.filter(|line| !line.is_empty() && *line != "Caused by:").take(4).collect();
    let mut complaint = words.join(": ");
    if complaint.is_empty() {
        let _ = write!(complaint, "the indexer ended with {status}");
    }
    complaint
}

/// It reads all of this before it says anything, so nothing stands still.
fn tell_all(
    stdin: ChildStdin,
    only: &BTreeSet<String>,
    tell: impl FnOnce(&mut dyn FnMut(KnownFile) -> bool) -> Result<(), String>,
) -> Result<(), String> {
    let mut stdin = BufWriter::new(stdin);
    let mut wrote = Ok(());
    tell(&mut |file| {
        wrote = say(&mut stdin, &ToIndexer::Known(file));
        wrote.is_ok()
    })?;
    let mut all = only.iter().map(|path| ToIndexer::Only(path.clone()));
    wrote
        .and_then(|()| all.try_for_each(|only| say(&mut stdin, &only)))
        .and_then(|()| say(&mut stdin, &ToIndexer::Begin))
        .and_then(|()| stdin.flush())
        .map_err(|error| format!("tell the indexer what is known: {error}"))
}

fn say(stdin: &mut impl Write, said: &ToIndexer) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame::encode(said, &mut bytes).map_err(io::Error::other)?;
    stdin.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_complaint_is_one_line_and_never_empty() {
        let failed = ExitStatus::from_raw(1 << 8);
        let said = b"Error: look at /x\n\nCaused by:\n    0: it hurts\n    1: No such file\n";
        assert_eq!(complaint(said, failed), "look at /x: it hurts: No such file");
        assert_eq!(complaint(b"", failed), "the indexer ended with exit status: 1");
        let killed = ExitStatus::from_raw(9);
        assert_eq!(complaint(b"\n", killed), "the indexer ended with signal: 9 (SIGKILL)");
    }
}
