//! A foreign program: its own process group, a time limit, its output in a log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt::Interrupted;

/// How often a running child is looked at. It bounds how late its end is seen.
const POLL: Duration = Duration::from_millis(100);

/// How much of a log's end is looked at for the cause of a failure.
const TAIL_BYTES: u64 = 4096;

/// Why a foreign program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("{program} is not installed")]
    Missing { program: String },
    #[error("start {program}")]
    Start { program: String, source: io::Error },
    #[error("{program} took longer than {limit:?} and was ended")]
    TooSlow { program: String, limit: Duration },
    #[error("{program} ended with {status}{}", last_words(last))]
    Failed { program: String, status: ExitStatus, last: String },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// A child and everything it started; killed when dropped.
#[derive(Debug)]
pub struct Group(std::process::Child);

impl Group {
    /// Starts `command` as the leader of a new process group.
    ///
    /// # Errors
    /// The program does not exist or cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self, ChildError> {
        let program = name(command);
        command.process_group(0).spawn().map(Self).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ChildError::Missing { program },
            _ => ChildError::Start { program, source },
        })
    }

    /// The leader, for its pipes and its exit status.
    pub fn leader(&mut self) -> &mut std::process::Child {
        &mut self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            // Grandchildren may outlive the leader; none left is fine too.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// Runs `command` to its end, its output going to the file `log`, and calls
/// `look` ten times a second.
///
/// # Errors
/// See [`ChildError`]. However it ends, no process of its group is left.
pub fn run(
    command: &mut Command,
    log: &Path,
    limit: Duration,
    look: &mut dyn FnMut() -> Result<(), Interrupted>,
) -> Result<(), ChildError> {
    let program = name(command);
    let start = |source| ChildError::Start { program: program.clone(), source };
    let output = File::create(log).map_err(start)?;
    command.stdin(Stdio::null()).stdout(output.try_clone().map_err(start)?).stderr(output);
    let started = Instant::now();
    let mut group = Group::spawn(command)?;
    loop {
        if let Some(status) = group.leader().try_wait().map_err(start)? {
            if status.success() {
                return Ok(());
            }
            let last = last_line(log).unwrap_or_default();
            return Err(ChildError::Failed { program, status, last });
        }
        if started.elapsed() > limit {
            return Err(ChildError::TooSlow { program, limit });
        }
        look()?;
        std::thread::sleep(POLL);
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn last_words(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// The last bytes of a log that may still grow, at most `most` of them.
///
/// # Errors
/// The log cannot be read.
pub fn log_end(log: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    Ok(end)
}

/// The last line with anything on it.
fn last_line(log: &Path) -> io::Result<String> {
    let tail = log_end(log, TAIL_BYTES)?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    Ok(line.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<(), ChildError> {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        run(Command::new("sh").args(["-c", script]), &log, limit, &mut || Ok(()))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_failure_ends_with_the_programs_last_line() {
        let error = sh("echo one; echo two >&2; echo; exit 3", LONG).unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit status: 3: two");
    }

    #[test]
    fn a_program_over_its_time_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        let written = || std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'));
        let log = dir.path().join("log");
        // The limit is reached only once the grandchild is there.
        let mut stop = || if written() { Err(Interrupted) } else { Ok(()) };
        let result = run(Command::new("sh").args(["-c", &script]), &log, LONG, &mut stop);
        assert!(matches!(result, Err(ChildError::Interrupted(_))));
        let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + LONG;
        // A killed process is a zombie until init has reaped it.
        let alive = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        while alive() {
            assert!(Instant::now() < deadline, "process {pid} survived its group");
            std::thread::yield_now();
        }
        let slow = sh("sleep 600", Duration::from_millis(1));
        assert!(matches!(slow, Err(ChildError::TooSlow { .. })));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("no-such-program-here");
        let result = run(&mut command, &dir.path().join("log"), LONG, &mut || Ok(()));
        assert_eq!(result.unwrap_err().to_string(), "no-such-program-here is not installed");
    }
}
