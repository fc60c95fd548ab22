//! Runs one foreign tool of a build, within limits, and says why it failed.
//!
//! The tool leads its own process group; nothing of the group outlives this
//! function. If the builder itself is killed, the group goes on for itself: the
//! next build finds it by a variable in its environment and ends it before it
//! touches the same files ([`end_orphans`]).

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use jetpack::{Bytes, Root, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use crate::child::{ChildError, Group, log_end};
use crate::failure::{self, Ending, Failure, TAIL_BYTES};
use crate::interrupt::Interrupted;
use crate::report::Report;

/// How often a running tool is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How often its memory is counted and its log read, which cost more.
const LOOK: Duration = Duration::from_millis(500);

/// How long processes that were killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Names the directory that a tool works in, so that it can be found again.
const MARK: &str = "STOKER_WORK_DIR";

/// What a tool may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub time: Duration,
    /// Of all its processes together; `None`: as much as there is.
    pub memory: Option<Bytes>,
}

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    Start(#[from] ChildError),
    #[error("{}", log.display())]
    Log { log: PathBuf, source: io::Error },
    #[error("{how}: {}{}; log: {}", failure.sentence(), quoted(&failure.lines), log.display())]
    Failed { how: String, failure: Failure, log: PathBuf },
    #[error("ended well and said nothing of its result; log: {}", log.display())]
    NoResult { log: PathBuf },
    #[error("processes of an earlier build cannot be ended: {0:?}")]
    Orphans(Vec<u32>),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn quoted(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!(" ({})", lines.join(" | ")) }
}

/// Runs `command` for the build in `work` to its end, its output going to the
/// file `log`, and reports the progress that it writes there.
///
/// # Errors
/// See [`ToolError`]. However it ends, no process of its group is left.
pub fn run(
    command: &mut Command,
    work: &Path,
    log: &Path,
    limits: Limits,
    report: &Report,
) -> Result<(), ToolError> {
    let at_log = |source| ToolError::Log { log: log.into(), source };
    let output = File::create(log).map_err(at_log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone().map_err(at_log)?).stderr(output);
    command.env(MARK, work);
    let mut group = Group::spawn(command)?;
    let ending = watch(&mut group, log, limits, report)?;
    drop(group);
    let Some((ending, how)) = ending else { return Ok(()) };
    let tail = log_end(log, TAIL_BYTES).map_err(at_log)?;
    Err(ToolError::Failed { how, failure: failure::explain(ending, &tail), log: log.into() })
}

/// Waits for the end of the group's leader; `None` is a good one.
fn watch(
    group: &mut Group,
    log: &Path,
    limits: Limits,
    report: &Report,
) -> Result<Option<(Ending, String)>, ToolError> {
    let at_log = |source| ToolError::Log { log: log.into(), source };
    let (began, id, root) = (Instant::now(), group.leader().id(), Root::default());
    let mut looked = began;
    let mut meter = report.share();
    loop {
        if let Some(status) = group.leader().try_wait().map_err(at_log)? {
            return Ok(
                (!status.success()).then(|| (ending(status), format!("ended with {status}")))
            );
        }
        if began.elapsed() > limits.time {
            let seconds = limits.time.as_secs();
            let how = format!("was ended after {seconds} s");
            return Ok(Some((Ending::TooSlow(seconds), how)));
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            match share(&log_end(log, TAIL_BYTES).map_err(at_log)?) {
                Some(share) => meter.reach_share(share)?,
                None => report.interrupt().check()?,
            }
            let taken = process::group_memory(&root, id);
            if let (Some(taken), Some(most)) = (taken, limits.memory)
                && taken > most
            {
                let how = format!("was ended at {taken} of memory, the limit is {most}");
                return Ok(Some((Ending::TooLarge(taken), how)));
            }
        }
        std::thread::sleep(POLL);
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or_default()),
    }
}

/// Runs one of our own tools, which writes its result as JSON when it is done.
///
/// # Errors
/// Those of [`run`], and [`ToolError::NoResult`] if no line of the log is one.
pub fn run_own<T: DeserializeOwned>(
    command: &mut Command,
    work: &Path,
    log: &Path,
    limits: Limits,
    report: &Report,
) -> Result<T, ToolError> {
    run(command, work, log, limits, report)?;
    result(log)
}

fn result<T: DeserializeOwned>(log: &Path) -> Result<T, ToolError> {
    let tail =
        log_end(log, TAIL_BYTES).map_err(|source| ToolError::Log { log: log.into(), source })?;
    let text = String::from_utf8_lossy(&tail);
    let result = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    result.ok_or_else(|| ToolError::NoResult { log: log.into() })
}

/// Ends what tools of a build in `work` are left from a builder that was killed.
/// For the holder of the builder's lock.
///
/// # Errors
/// [`ToolError::Orphans`] if some cannot be ended.
pub fn end_orphans(work: &Path) -> Result<(), ToolError> {
    let began = Instant::now();
    loop {
        let left = left_in(work);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() > GONE {
            return Err(ToolError::Orphans(left));
        }
        for pid in left.into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(POLL);
    }
}

/// Processes of tools that work in `work`, which is its real path. Those of
/// another user are only seen by root.
#[must_use]
pub fn left_in(work: &Path) -> Vec<u32> {
    process::with_variable(&Root::default(), &format!("{MARK}={}", work.display()))
}

/// The share of its work that a tool says is done: the last percentage in its
/// log, as progress bars write it.
fn share(tail: &[u8]) -> Option<f32> {
    let text = String::from_utf8_lossy(tail);
    let percent = text.rmatch_indices('%').find_map(|(end, _)| {
        let before = &text[..end];
        let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        before[before.len() - digits..].parse::<u8>().ok().filter(|percent| *percent <= 100)
    });
    percent.map(|percent| f32::from(percent) / 100.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::Cause;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(script: &str, limits: Limits) -> Result<(), ToolError> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(&mut command, dir.path(), &dir.path().join("log"), limits, &Report::silent())
    }

    fn cause(script: &str, limits: Limits) -> Cause {
        match sh(script, limits) {
            Err(ToolError::Failed { failure, .. }) => failure.cause,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failure_is_explained_from_its_log() {
        let limits = Limits { time: LONG, memory: None };
        sh("exit 0", limits).unwrap();
        assert_eq!(cause("echo No space left on device >&2; exit 1", limits), Cause::Disk);
        assert_eq!(cause("kill -9 $$", limits), Cause::Memory);
        let said = sh("echo first; echo last; exit 3", limits).unwrap_err().to_string();
        assert!(said.starts_with("ended with exit status: 3: nothing known"), "{said}");
        assert!(said.contains("(last); log: "), "{said}");
    }

    #[test]
    fn limits_hold() {
        let slow = Limits { time: Duration::from_millis(1), memory: None };
        assert_eq!(cause("sleep 600", slow), Cause::TooSlow);
        let large = Limits { time: LONG, memory: Some(Bytes::new(1)) };
        assert_eq!(cause("sleep 600", large), Cause::Memory);
    }

    #[test]
    fn a_tool_that_outlived_its_builder_is_found_and_ended() {
        let work = tempfile::tempdir().unwrap();
        let mut orphan = Command::new("sleep").arg("600").env(MARK, work.path()).spawn().unwrap();
        end_orphans(Path::new("/somewhere/else")).unwrap();
        assert!(orphan.try_wait().unwrap().is_none());
        // A killed process keeps no environment, even before it is waited for.
        end_orphans(work.path()).unwrap();
        assert_eq!(orphan.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn the_last_percentage_counts() {
        assert_eq!(share(b"10%|#   | 20%|##"), Some(0.2));
        assert_eq!(share(b"100 % of 300%"), None);
        assert_eq!(share(b"no bar"), None);
        assert_eq!(share(b"\xff50%\xff"), Some(0.5));
    }

    #[test]
    fn a_result_is_the_last_line_that_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let said = |text: &str| {
            std::fs::write(&log, text).unwrap();
            result::<[u32; 2]>(&log)
        };
        assert_eq!(said("50%\n[1,2]\n[3,4]\nbye\n").unwrap(), [3, 4]);
        for text in ["", "50%\n", "[1,2", "[1]\n"] {
            assert!(matches!(said(text), Err(ToolError::NoResult { .. })), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_log_has_a_share_or_none(log in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(share(&log).is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
    }
}
