//! RAUC: a whole system from one signed file, written to the one of two systems that does
//! not run.
//!
//! It checks signature and board once more while it installs, block by block, and marks
//! what it writes to as not to be started until it is whole. Which system starts next it
//! does not say: that is set when the machine's own settings are there, too.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::Root;
use crate::program::{Program, ProgramError};

const PROGRAM: &str = "usr/bin/rauc";
/// What the image says of its two systems.
const SETTINGS: &str = "etc/rauc/system.conf";

/// A system of some gigabytes, read from a stick and written to a card.
const INSTALL_LIMIT: Duration = Duration::from_secs(3 * 3600);
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// The program, on a machine that has two systems.
#[derive(Debug, Clone)]
pub struct Rauc {
    program: PathBuf,
    /// What this machine is, in the words of its image.
    compatible: String,
}

/// What a file says of itself, once its signature is believed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Offered {
    /// For which machines.
    pub compatible: String,
    pub version: String,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RaucError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("rauc does not take the file: {0}")]
    Refused(String),
    #[error("rauc says something unknown of the file: {0}")]
    Unclear(String),
    #[error("the system is for {offered}, and this machine is {own}")]
    OtherMachine { offered: String, own: String },
}

impl Rauc {
    /// `None` where it is not installed, or has not been told of two systems.
    #[must_use]
    pub fn find(root: &Root) -> Option<Self> {
        let settings = root.read(SETTINGS).ok()?;
        let compatible = compatible(&settings)?.to_owned();
        root.has(PROGRAM).then(|| Self { program: root.path(PROGRAM), compatible })
    }

    /// Whether somebody who is trusted has signed this file for this machine, and what it
    /// holds. It is not read to its end.
    ///
    /// # Errors
    /// It is not, or nobody can say.
    pub fn look(&self, file: &Path) -> Result<Offered, RaucError> {
        let program = self.program(LOOK_LIMIT);
        let arguments = ["info", "--output-format=json"].map(PathBuf::from);
        let (status, said) = program.run(&[&arguments[..], &[file.to_owned()]].concat())?;
        if !status.success() {
            return Err(RaucError::Refused(reason(&said)));
        }
        // What it does is said before and after.
        let line = said.lines().find(|line| line.starts_with('{'));
        let offered: Offered = line
            .and_then(|line| serde_json::from_str(line).ok())
            .ok_or_else(|| RaucError::Unclear(crate::program::in_one_line(&said)))?;
        match offered.compatible == self.compatible {
            true => Ok(offered),
            false => {
                let own = self.compatible.clone();
                Err(RaucError::OtherMachine { offered: offered.compatible, own })
            }
        }
    }

    /// Writes the system in this file over the one that does not run. `percent` is told
    /// how far that is.
    ///
    /// # Errors
    /// RAUC says what is wrong. The system that runs is as before.
    pub fn install(&self, file: &Path, mut percent: impl FnMut(u8)) -> Result<(), RaucError> {
        let arguments = [PathBuf::from("install"), file.to_owned()];
        self.program(INSTALL_LIMIT).run_telling(&arguments, |line| {
            if let Some(done) = progress(line) {
                percent(done);
            }
        })?;
        Ok(())
    }

    fn program(&self, limit: Duration) -> Program {
        Program { path: self.program.clone(), limit }
    }
}

/// Becomes RAUC's service, which is told which system runs: what the kernel was started
/// with need not say.
///
/// # Errors
/// It could not be started. Nothing else returns.
pub fn become_service(root: &Root, running: Option<char>) -> io::Error {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(root.path(PROGRAM));
    command.args(["--mount=/run/rauc", "service"]);
    if let Some(running) = running {
        command.arg(format!("--override-boot-slot={running}"));
    }
    command.exec()
}

/// What it says beside what it does.
fn reason(said: &str) -> String {
    let lines = said.lines().filter(|line| !line.contains("rauc-Message: "));
    crate::program::in_one_line(&lines.collect::<Vec<_>>().join(" "))
}

/// The value of `compatible` in the section `system`.
fn compatible(settings: &str) -> Option<&str> {
    let mut lines = settings.lines().map(str::trim);
    lines.find(|line| *line == "[system]")?;
    lines.take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim_end() == "compatible").then(|| value.trim_start())
    })
}

/// ` 40% Copying image to rootfs.1`
fn progress(line: &str) -> Option<u8> {
    let (number, _) = line.trim_start().split_once('%')?;
    number.parse().ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tree;

    const CONF: &str =
        "[keyring]\ncompatible=no\n\n[system]\nbootloader=custom\ncompatible = a-box\n";

    /// A machine whose RAUC is this script.
    fn with(script: &str) -> (tree::Tree, Rauc) {
        let tree = tree::of(&[(PROGRAM, &format!("#!/bin/sh\n{script}\n")), (SETTINGS, CONF)]);
        let program = tree.path().join(PROGRAM);
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let rauc = Rauc::find(&tree.root()).unwrap();
        (tree, rauc)
    }

    #[test]
    fn only_what_is_for_this_machine_is_offered() {
        let said = |compatible: &str| {
            let document =
                format!(r#"{{"compatible":"{compatible}","version":"1.2.3","images":[]}}"#);
            with(&format!("echo 'Verified inline signature' >&2; echo '{document}'"))
        };
        let offered = said("a-box").1.look(Path::new("file")).unwrap();
        assert_eq!(offered, Offered { compatible: "a-box".into(), version: "1.2.3".into() });
        let other = said("b-box").1.look(Path::new("file")).unwrap_err();
        assert_eq!(other.to_string(), "the system is for b-box, and this machine is a-box");
        let (_tree, rauc) = with("echo 'rauc-Message: Reading' >&2; echo 'wrong key' >&2; exit 1");
        let refused = rauc.look(Path::new("file")).unwrap_err().to_string();
        assert_eq!(refused, "rauc does not take the file: wrong key");
        let (_tree, rauc) = with("echo '{'");
        assert!(matches!(rauc.look(Path::new("file")), Err(RaucError::Unclear(_))));
    }

    #[test]
    fn how_far_it_is_is_told_and_a_failure_says_why() {
        let lines =
            "echo installing; echo '  0% Installing'; echo ' 60% Copying'; echo '100% done'";
        let mut seen = Vec::new();
        let (_tree, rauc) = with(lines);
        rauc.install(Path::new("file"), |percent| seen.push(percent)).unwrap();
        assert_eq!(seen, [0, 60, 100]);
        let (_tree, rauc) = with("echo 'LastError: Invalid bundle' >&2; exit 1");
        let error = rauc.install(Path::new("file"), |_| ()).unwrap_err().to_string();
        assert!(error.contains("LastError: Invalid bundle"), "{error}");
    }

    #[test]
    fn a_machine_without_two_systems_has_none() {
        assert!(Rauc::find(&tree::of(&[(SETTINGS, CONF)]).root()).is_none());
        assert!(Rauc::find(&tree::of(&[(PROGRAM, "")]).root()).is_none());
        assert_eq!(compatible("[system]\n[other]\ncompatible=x\n"), None);
        assert_eq!(progress("140% x"), None);
    }
}
