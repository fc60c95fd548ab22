//! NVIDIA's `nvbootctrl`: which of two systems runs, how often each may still
//! fail, and marking this boot as good.
//!
//! Its exit status says little: without `/dev/mem` it complains, leaves with 1,
//! and what it printed is right nevertheless. So its text decides where there is
//! one. The words are those of the R35 and R36 releases.

use std::path::PathBuf;
use std::time::Duration;

use crate::Root;
use crate::program::{Program, ProgramError, in_one_line};

/// What the systems are called, by NVIDIA's numbers.
pub const NAMES: [char; 2] = ['A', 'B'];

const PROGRAM: &str = "usr/sbin/nvbootctrl";
const SYSTEMCTL: &str = "bin/systemctl";

/// It reads and writes the firmware's variables, which takes well below a second.
const LIMIT: Duration = Duration::from_secs(20);

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
    /// Which one the next boot starts.
    pub next: char,
}

impl Pair {
    /// The one of that name.
    #[must_use]
    pub fn system(&self, name: char) -> Option<&System> {
        [&self.running, &self.other].into_iter().find(|system| system.name == name)
    }
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
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("nvbootctrl says something unknown of the systems: {0}")]
    Unclear(String),
}

/// The program on this machine.
#[derive(Debug, Clone)]
pub struct Control {
    program: Program,
}

impl Control {
    /// `None` where NVIDIA's tools are not installed.
    #[must_use]
    pub fn find(root: &Root) -> Option<Self> {
        root.has(PROGRAM).then(|| Self { program: program(root.path(PROGRAM)) })
    }

    /// Asks which systems there are.
    ///
    /// # Errors
    /// It cannot be run, or says nothing that is known.
    pub fn systems(&self) -> Result<Systems, ControlError> {
        let (_, said) = self.program.run(&["-t", "rootfs", "dump-slots-info"])?;
        parse(&said).ok_or_else(|| ControlError::Unclear(in_one_line(&said)))
    }

    /// The same, where only two systems are of use; `None` if there is one.
    ///
    /// # Errors
    /// As [`Self::systems`].
    pub fn pair(&self) -> Result<Option<Pair>, ControlError> {
        Ok(match self.systems()? {
            Systems::Two(pair) => Some(pair),
            Systems::One => None,
        })
    }

    /// Has the next boots start the system of that name, one of [`NAMES`]. Loader and
    /// system change together.
    ///
    /// # Errors
    /// It cannot be run, says that it failed, or says afterwards that nothing changed.
    pub fn start_next(&self, name: char) -> Result<(), ControlError> {
        let number = NAMES.iter().position(|one| *one == name);
        let number = number.map_or_else(String::new, |number| number.to_string());
        let (_, said) = self.program.run(&["set-active-boot-slot", &number])?;
        match self.pair()? {
            Some(pair) if pair.next == name => Ok(()),
            _ => Err(ControlError::Unclear(in_one_line(&said))),
        }
    }

    /// Marks this boot as good: the system that runs gets all its retries again.
    ///
    /// # Errors
    /// It cannot be run, or says that it failed.
    pub fn verify(&self) -> Result<(), ControlError> {
        Ok(self.program.run_well(&["verify"]).map(drop)?)
    }
}

/// Has systemd start the machine again, in order, and does not wait for it.
///
/// # Errors
/// systemd cannot be told.
pub fn restart_machine(root: &Root) -> Result<(), ControlError> {
    Ok(program(root.path(SYSTEMCTL)).run_well(&["--no-block", "reboot"]).map(drop)?)
}

fn program(path: PathBuf) -> Program {
    Program { path, limit: LIMIT }
}

fn parse(said: &str) -> Option<Systems> {
    let lines = || said.lines().map(str::trim);
    if lines().any(|line| line == "RootFS A/B is not enabled.") {
        return Some(Systems::One);
    }
    let named = |what: &str| {
        let name = lines().find_map(|line| line.strip_prefix(what))?;
        NAMES.into_iter().find(|one| name == one.to_string())
    };
    let (name, next) = (named("Current rootfs slot: ")?, named("Active rootfs slot: ")?);
    let mut systems: Vec<System> = lines().filter_map(system).collect();
    let at = systems.iter().position(|system| system.name == name)?;
    if systems.len() != 2 || systems[0].name == systems[1].name {
        return None;
    }
    let running = systems.remove(at);
    Some(Systems::Two(Pair { running, other: systems.remove(0), next }))
}

/// `slot: 0,             retry_count: 3,             status: normal`
fn system(line: &str) -> Option<System> {
    let mut fields = line.split(',').map(str::trim);
    let number: usize = fields.next()?.strip_prefix("slot: ")?.parse().ok()?;
    let name = *NAMES.get(number)?;
    let retries = fields.next()?.strip_prefix("retry_count: ")?.parse().ok()?;
    let boots = fields.next()?.strip_prefix("status: ")? == "normal";
    Some(System { name, retries, boots })
}

#[cfg(test)]
mod tests;
