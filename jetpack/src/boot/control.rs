//! NVIDIA's `nvbootctrl`: which of two systems runs, how often each may still
//! fail, and marking this boot as good.
//!
//! Its exit status says little: without `/dev/mem` it complains, leaves with 1,
//! and what it printed is right nevertheless. So its text decides where there is
//! one. The words are those of the R35 and R36 releases.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Root;

const PROGRAM: &str = "usr/sbin/nvbootctrl";
const SYSTEMCTL: &str = "bin/systemctl";

/// It reads and writes the firmware's variables, which takes well below a second.
const LIMIT: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Most that is read of what it says.
const MAX_SAID: u64 = 16 * 1024;

/// What the board can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Systems {
    /// One system; the firmware has nothing to go back to.
    One,
    Two(Pair),
}

/// Two systems, of which one runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub running: System,
    pub other: System,
}

/// One of two systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// `A` or `B`.
    pub name: char,
    /// Boots that may fail before the firmware gives it up.
    pub retries: u32,
    pub boots: bool,
}

/// Why `nvbootctrl` was of no use.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("run {}", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("{} did not end within {} s", .0.display(), LIMIT.as_secs())]
    TooLong(PathBuf),
    #[error("{} ended with {status}: {said}", program.display())]
    Failed { program: PathBuf, status: ExitStatus, said: String },
    #[error("nvbootctrl says something unknown of the systems: {0}")]
    Unclear(String),
}

/// The program on this machine.
#[derive(Debug, Clone)]
pub struct Control {
    program: PathBuf,
}

impl Control {
    /// `None` where NVIDIA's tools are not installed.
    #[must_use]
    pub fn find(root: &Root) -> Option<Self> {
        root.has(PROGRAM).then(|| Self { program: root.path(PROGRAM) })
    }

    /// Asks which systems there are.
    ///
    /// # Errors
    /// It cannot be run, or says nothing that is known.
    pub fn systems(&self) -> Result<Systems, ControlError> {
        let (_, said) = run(&self.program, &["-t", "rootfs", "dump-slots-info"])?;
        parse(&said).ok_or_else(|| ControlError::Unclear(in_one_line(&said)))
    }

    /// Marks this boot as good: the system that runs gets all its retries again.
    ///
    /// # Errors
    /// It cannot be run, or says that it failed.
    pub fn verify(&self) -> Result<(), ControlError> {
        run_well(&self.program, &["verify"])
    }
}

/// Has systemd start the machine again, in order, and does not wait for it.
///
/// # Errors
/// systemd cannot be told.
pub fn restart_machine(root: &Root) -> Result<(), ControlError> {
    run_well(&root.path(SYSTEMCTL), &["--no-block", "reboot"])
}

fn run_well(program: &PathBuf, arguments: &[&str]) -> Result<(), ControlError> {
    let (status, said) = run(program, arguments)?;
    if status.success() {
        return Ok(());
    }
    Err(ControlError::Failed { program: program.clone(), status, said: in_one_line(&said) })
}

/// Both of its outputs as one text, in no certain order.
fn run(program: &PathBuf, arguments: &[&str]) -> Result<(ExitStatus, String), ControlError> {
    let failed = |source| ControlError::Run { program: program.clone(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let readers = [child.stdout.take().map(read_all), child.stderr.take().map(read_all)];
    let Some(status) = end_of(&mut child).map_err(failed)? else {
        // Whoever hangs in the kernel cannot be ended, nor waited for.
        let _ = child.kill();
        return Err(ControlError::TooLong(program.clone()));
    };
    let said = readers.into_iter().flatten().filter_map(|reader| reader.join().ok()).collect();
    Ok((status, said))
}

/// `None` when it took too long.
fn end_of(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        match child.try_wait()? {
            None if began.elapsed() < LIMIT => thread::sleep(BETWEEN_LOOKS),
            ended => return Ok(ended),
        }
    }
}

fn read_all(from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error counts.
        let _ = from.take(MAX_SAID).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn in_one_line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parse(said: &str) -> Option<Systems> {
    let lines = || said.lines().map(str::trim);
    if lines().any(|line| line == "RootFS A/B is not enabled.") {
        return Some(Systems::One);
    }
    let name = lines().find_map(|line| line.strip_prefix("Current rootfs slot: "))?;
    let mut systems: Vec<System> = lines().filter_map(system).collect();
    let at = systems.iter().position(|system| name == system.name.to_string())?;
    if systems.len() != 2 || systems[0].name == systems[1].name {
        return None;
    }
    let running = systems.remove(at);
    Some(Systems::Two(Pair { running, other: systems.remove(0) }))
}

/// `slot: 0,             retry_count: 3,             status: normal`
fn system(line: &str) -> Option<System> {
    let mut fields = line.split(',').map(str::trim);
    let name = match fields.next()?.strip_prefix("slot: ")? {
        "0" => 'A',
        "1" => 'B',
        _ => return None,
    };
    let retries = fields.next()?.strip_prefix("retry_count: ")?.parse().ok()?;
    let boots = fields.next()?.strip_prefix("status: ")? == "normal";
    Some(System { name, retries, boots })
}

#[cfg(test)]
mod tests;
