//! A program of the system that is run to its end, within a limit of time, and what it
//! says, within a limit of bytes.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Most that is kept of what it says.
const MAX_SAID: u64 = 16 * 1024;

/// Of one whose lines were told, those that an error repeats.
const LAST_LINES: usize = 3;

/// Where it is, and how long it may take.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub limit: Duration,
}

/// Why a program was of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("run {}", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("{} did not end within {} s", program.display(), limit.as_secs())]
    TooLong { program: PathBuf, limit: Duration },
    #[error("{} ended with {status}: {said}", program.display())]
    Failed { program: PathBuf, status: ExitStatus, said: String },
}

impl Program {
    /// What it says; its status has to be 0.
    ///
    /// # Errors
    /// It cannot be run, takes too long, or says that it failed.
    pub fn run_well(&self, arguments: &[impl AsRef<OsStr>]) -> Result<String, ProgramError> {
        let (status, said) = self.run(arguments)?;
        if status.success() {
            return Ok(said);
        }
        let program = self.path.clone();
        Err(ProgramError::Failed { program, status, said: in_one_line(&said) })
    }

    /// Runs it to its end, and tells each line that it writes to its standard output. Its
    /// status has to be 0.
    ///
    /// # Errors
    /// It cannot be run, takes too long, or says that it failed.
    pub fn run_telling(
        &self,
        arguments: &[impl AsRef<OsStr>],
        mut tell: impl FnMut(&str),
    ) -> Result<(), ProgramError> {
        let failed = |source| ProgramError::Run { program: self.path.clone(), source };
        let mut child = self.start(arguments).map_err(failed)?;
        let complaints = child.stderr.take().map(read_all);
        let lines = child.stdout.take().map(lines_of);
        let began = Instant::now();
        let (mut last, mut status) = (VecDeque::new(), None);
        while status.is_none() {
            if began.elapsed() >= self.limit {
                let _ = child.kill();
                return Err(ProgramError::TooLong {
                    program: self.path.clone(),
                    limit: self.limit,
                });
            }
            // It has ended when it says no more, or a little later.
            match lines.as_ref().map(|lines| lines.recv_timeout(BETWEEN_LOOKS)) {
                Some(Ok(line)) => {
                    tell(&line);
                    last.push_back(line);
                    last.drain(..last.len().saturating_sub(LAST_LINES));
                }
                Some(Err(RecvTimeoutError::Timeout)) => {}
                Some(Err(RecvTimeoutError::Disconnected)) | None => {
                    status = child.try_wait().map_err(failed)?;
                    thread::sleep(BETWEEN_LOOKS);
                }
            }
        }
        match status {
            Some(status) if !status.success() => {
                let said = complaints.and_then(|reader| reader.join().ok()).unwrap_or_default();
                let said = in_one_line(&format!("{} {said}", Vec::from(last).join(" ")));
                Err(ProgramError::Failed { program: self.path.clone(), status, said })
            }
            _ => Ok(()),
        }
    }

    /// Its status and both of its outputs as one text, in no certain order.
    ///
    /// # Errors
    /// It cannot be run or takes too long.
    pub fn run(
        &self,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<(ExitStatus, String), ProgramError> {
        let failed = |source| ProgramError::Run { program: self.path.clone(), source };
        let mut child = self.start(arguments).map_err(failed)?;
        let readers = [child.stdout.take().map(read_all), child.stderr.take().map(read_all)];
        let Some(status) = self.end_of(&mut child).map_err(failed)? else {
            // Whoever hangs in the kernel cannot be ended, nor waited for.
            let _ = child.kill();
            return Err(ProgramError::TooLong { program: self.path.clone(), limit: self.limit });
        };
        let said = readers.into_iter().flatten().filter_map(|reader| reader.join().ok()).collect();
        Ok((status, said))
    }

    fn start(&self, arguments: &[impl AsRef<OsStr>]) -> io::Result<Child> {
        Command::new(&self.path)
            .args(arguments)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// `None` when it took too long.
    fn end_of(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            match child.try_wait()? {
                None if began.elapsed() < self.limit => thread::sleep(BETWEEN_LOOKS),
                ended => return Ok(ended),
            }
        }
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error counts. The rest is read as well: a program
        // that cannot say what it has to say would end.
        let _ = from.by_ref().take(MAX_SAID).read_to_end(&mut bytes);
        let _ = io::copy(&mut from, &mut io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Its lines, as they come; one that is too long comes in parts.
fn lines_of(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = from.by_ref().take(MAX_SAID).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                // Nobody listens, and it may go on talking nevertheless.
                let _ = io::copy(&mut from, &mut io::sink());
                return;
            }
        }
    });
    receiver
}

pub(crate) fn in_one_line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(limit: Duration) -> Program {
        Program { path: "/bin/sh".into(), limit }
    }

    #[test]
    fn what_it_says_counts_and_a_failure_repeats_it_in_one_line() {
        let shell = shell(Duration::from_secs(60));
        assert_eq!(shell.run_well(&["-c", "echo well"]).unwrap(), "well\n");
        let error = shell.run_well(&["-c", "echo no; echo more >&2; exit 3"]).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("/bin/sh ended with exit status: 3: "), "{said}");
        // Far more than is kept, and than a pipe holds.
        let long = shell.run_well(&["-c", "head -c 1000000 /dev/zero"]).unwrap();
        assert_eq!(long.len() as u64, MAX_SAID);
        let none = Program { path: "/none".into(), ..shell };
        assert_eq!(none.run(&[""; 0]).unwrap_err().to_string(), "run /none");
    }

    #[test]
    fn one_that_does_not_end_is_left() {
        let error = shell(Duration::ZERO).run(&["-c", "exec sleep 60"]).unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh did not end within 0 s");
    }
}
