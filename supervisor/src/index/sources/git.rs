//! The system's git as a bounded process: the newest commit of a repository, and its
//! files.
//!
//! It talks to machines that nobody here knows. So it gets no configuration but ours, no
//! terminal, no hooks, no submodules and four protocols; its processes are a group
//! that is killed when it takes too long or too much, or when nobody waits any more. It
//! is tied to the thread that waits for it, so that nothing is written after a supervisor
//! that was killed.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, prlimit};

use super::complaint;
use super::tree::Part;
use super::url::{GitUrl, SCHEMES};
use crate::tied;

/// How long a server may take to tell its newest commit.
const ASKING: Duration = Duration::from_secs(30);
/// How long all files may take.
const CLONING: Duration = Duration::from_secs(900);
/// Between two looks at a process and at what it wrote.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at what it wrote are further apart, because each goes over all files.
const MEASURE: Duration = Duration::from_secs(1);
/// Bytes of what it says that are kept; the end says what went wrong.
const SAID: usize = 16 * 1024;
/// Bytes of memory that each of its processes may have for data.
const MEMORY: u64 = 1 << 30;
/// Asks nobody, and believes no host that is not known already.
const SSH: &str =
    "ssh -oBatchMode=yes -oConnectTimeout=10 -oStrictHostKeyChecking=yes -oControlMaster=no";

/// What git may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'a> {
    /// On the disk.
    pub(super) bytes: u64,
    /// Nobody waits any more.
    pub(super) cancelled: &'a AtomicBool,
}

/// The newest commit of what the server has checked out.
///
/// # Errors
/// In words, for whoever added the repository.
pub(super) fn newest(url: &GitUrl, bounds: Bounds<'_>) -> Result<String, String> {
    let mut command = git();
    command.args(["ls-remote", "--", url.as_str(), "HEAD"]);
    let said = run(command, ASKING, bounds, None)?;
    let commit = said.split_whitespace().next().unwrap_or_default();
    let good = matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit());
    match good {
        true => Ok(commit.to_owned()),
        false => Err("it has no commit yet; push one to its default branch".to_owned()),
    }
}

/// Puts the files of the newest commit into a part, and says which commit that is.
///
/// # Errors
/// In words, for whoever added the repository.
pub(super) fn bring(url: &GitUrl, part: &Part, bounds: Bounds<'_>) -> Result<String, String> {
    let files = part.files();
    let mut command = git();
    command.args(["clone", "--depth=1", "--single-branch", "--no-tags", "--no-local"]);
    command.args(["--no-recurse-submodules", "--template=", "--progress", "--"]);
    command.arg(url.as_str()).arg(&files);
    run(command, CLONING, bounds, Some(part))?;
    let commit = head(&files, bounds)?;
    // Only the files are of interest; the rest would be half of it again.
    fs::remove_dir_all(files.join(".git"))
        .map_err(|error| format!("what git wrote cannot be used: {error}"))?;
    Ok(commit)
}

fn head(files: &Path, bounds: Bounds<'_>) -> Result<String, String> {
    let mut command = git();
    command.arg("-C").arg(files).args(["rev-parse", "--verify", "HEAD"]);
    let said = run(command, ASKING, bounds, None)
        .map_err(|_| "it has no commit yet; push one to its default branch".to_owned())?;
    Ok(said.trim().to_owned())
}

/// Without anything of this machine's or a user's settings.
fn git() -> Command {
    let mut command = tied::command("git");
    command.env_clear();
    let kept = ["PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"];
    command.envs(kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs([
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_SSH_COMMAND", SSH),
        // Its words are read.
        ("LC_ALL", "C"),
    ]);
    let mut set = |setting: &str| {
        command.args([OsStr::new("-c"), OsStr::new(setting)]);
    };
    set("protocol.allow=never");
    for scheme in SCHEMES {
        set(&format!("protocol.{scheme}.allow=always"));
    }
    for setting in [
        "core.hooksPath=/dev/null",
        "core.symlinks=false",
        "core.fsmonitor=false",
        "core.askPass=",
        "credential.helper=",
        "submodule.recurse=false",
        "gc.auto=0",
        "maintenance.auto=false",
        // A large file goes through in pieces, and one thread has less in memory.
        "core.bigFileThreshold=1m",
        "fetch.unpackLimit=1",
        "pack.threads=1",
        "index.threads=1",
        "checkout.workers=1",
        "http.lowSpeedLimit=1000",
        "http.lowSpeedTime=30",
    ] {
        set(setting);
    }
    command
}

/// What it prints, once it has come to a good end.
fn run(
    mut command: Command,
    time: Duration,
    bounds: Bounds<'_>,
    part: Option<&Part>,
) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its helpers are of its group and go with it.
    let child = command.process_group(0).spawn();
    let child = child
        .map_err(|error| format!("the process that becomes git cannot be started: {error}"))?;
    let mut group = Group { child, over: false };
    group.limit(bounds.bytes);
    let (printed, said) = (group.child.stdout.take(), group.child.stderr.take());
    std::thread::scope(|scope| {
        // They end with the group, which is gone at the end of this.
        let printed = scope.spawn(|| printed.map(last_of).unwrap_or_default());
        let said = scope.spawn(|| said.map(last_of).unwrap_or_default());
        let ended = group.follow(time, bounds, part);
        group.kill();
        let printed = printed.join().unwrap_or_default();
        let said = said.join().unwrap_or_default();
        match ended? {
            None => Ok(printed),
            Some(signal) => Err(complaint::in_words(&format!("{said}{signal}"))),
        }
    })
}

/// The last bytes of it, as text.
fn last_of(mut from: impl Read) -> String {
    let (mut last, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        last.extend_from_slice(&buffer[..read]);
        if last.len() > 2 * SAID {
            last.drain(..last.len() - SAID);
        }
    }
    String::from_utf8_lossy(&last).into_owned()
}

/// A git with its helpers. Dropped, all of them are killed.
struct Group {
    child: Child,
    /// All of them were killed.
    over: bool,
}

impl Group {
    fn limit(&self, bytes: u64) {
        let Some(pid) =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        else {
            return;
        };
        // It would have ours, which says that we are the last to go.
        let _ = fs::write(format!("/proc/{}/oom_score_adj", self.child.id()), "1000");
        let at_most = |most| Rlimit { current: Some(most), maximum: Some(most) };
        for (resource, most) in [
            (Resource::Fsize, bytes),
            (Resource::Data, MEMORY),
            (Resource::Core, 0),
            (Resource::Cpu, CLONING.as_secs()),
        ] {
            // It may have ended already.
            let _ = prlimit(Some(pid), resource, at_most(most));
        }
    }

    /// Waits for its end; what ended it, where that was no good end.
    fn follow(
        &mut self,
        time: Duration,
        Bounds { bytes, cancelled }: Bounds<'_>,
        part: Option<&Part>,
    ) -> Result<Option<String>, String> {
        let began = Instant::now();
        let mut measured = began;
        loop {
            let is_over = match self.child.try_wait() {
                Ok(None) => false,
                Ok(Some(status)) if status.success() => true,
                Ok(Some(status)) => {
                    let signal = status.signal().map(|signal| format!("\nsignal {signal}"));
                    return Ok(Some(signal.unwrap_or_default()));
                }
                Err(error) => return Err(format!("wait for git: {error}")),
            };
            if let Some(part) = part
                && (is_over || measured.elapsed() >= MEASURE)
            {
                measured = Instant::now();
                if part.bytes() > bytes {
                    return Err(too_large(bytes));
                }
            }
            if is_over {
                return Ok(None);
            }
            if cancelled.load(Ordering::Relaxed) {
                return Err("it is not wanted any more".to_owned());
            }
            if began.elapsed() > time {
                return Err(format!(
                    "its host did not send everything within {} s; it is asked again in a while",
                    time.as_secs()
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn kill(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if let Ok(group) = i32::try_from(self.child.id()) {
            // Helpers may be there although git itself has ended.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn too_large(bytes: u64) -> String {
    format!("it takes more than {} MiB; `index.source_bytes` is the bound", bytes / (1024 * 1024))
}
