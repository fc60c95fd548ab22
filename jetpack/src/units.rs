//! Units of systemd that are started, stopped and put there.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::Root;
use crate::program::{Program, ProgramError};
use crate::setting::Setting;

const SYSTEMCTL: &str = "bin/systemctl";

/// A stop takes what a drain takes; a start, until a unit says that it is ready.
const LIMIT: Duration = Duration::from_secs(180);

/// The systemd of the machine below a root.
#[derive(Debug, Clone)]
pub struct Units {
    root: Root,
    systemctl: Program,
}

impl Units {
    #[must_use]
    pub fn of(root: &Root) -> Self {
        let systemctl = Program { path: root.path(SYSTEMCTL), limit: LIMIT };
        Self { root: root.clone(), systemctl }
    }

    /// Stops a unit, and waits until it has ended.
    ///
    /// # Errors
    /// systemd says so, or cannot be asked.
    pub fn stop(&self, unit: &str) -> Result<(), ProgramError> {
        self.systemctl.run_well(&["stop", unit]).map(drop)
    }

    /// Has a unit started, and does not wait for it.
    ///
    /// # Errors
    /// systemd cannot be asked.
    pub fn start(&self, unit: &str) -> Result<(), ProgramError> {
        // After many failures it would not be started otherwise.
        let _ = self.systemctl.run(&["reset-failed", unit]);
        self.systemctl.run_well(&["--no-block", "start", unit]).map(drop)
    }

    /// Has a unit started again, and does not wait for it.
    ///
    /// # Errors
    /// systemd cannot be asked.
    pub fn restart(&self, unit: &str) -> Result<(), ProgramError> {
        self.systemctl.run_well(&["--no-block", "restart", unit]).map(drop)
    }

    /// A unit's process; `None` if it has none.
    ///
    /// # Errors
    /// systemd cannot be asked.
    pub fn process(&self, unit: &str) -> Result<Option<u32>, ProgramError> {
        let said = self.systemctl.run_well(&["show", "--value", "--property=MainPID", unit])?;
        Ok(said.trim().parse().ok().filter(|pid| *pid != 0))
    }

    /// Puts a unit there, at this path below the root, to be started at each boot.
    ///
    /// # Errors
    /// It cannot be written, or systemd not told of it.
    pub fn put(&self, unit: &Setting) -> io::Result<()> {
        put_into(&self.root, unit)?;
        self.reload()
    }

    /// Takes a unit away that was put there.
    ///
    /// # Errors
    /// It cannot be taken away, or systemd not told of it.
    pub fn take_away(&self, path: &str) -> io::Result<()> {
        for path in [&wanted(path), path] {
            match fs::remove_file(self.root.path(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.reload()
    }

    fn reload(&self) -> io::Result<()> {
        self.systemctl.run_well(&["daemon-reload"]).map(drop).map_err(io::Error::other)
    }
}

/// Puts a unit into a system that does not run, to be started at each boot of it.
///
/// # Errors
/// It cannot be written.
pub fn put_into(root: &Root, unit: &Setting) -> io::Result<()> {
    root.put(unit)?;
    let link = root.path(&wanted(unit.path));
    fs::create_dir_all(link.parent().unwrap_or(root.as_path()))?;
    match symlink(Path::new("/").join(unit.path), &link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    sync(&link)
}

/// The link that has a unit started at each boot.
fn wanted(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("etc/systemd/system", path));
    format!("{directory}/multi-user.target.wants/{name}")
}

fn sync(of: &Path) -> io::Result<()> {
    let Some(directory) = of.parent() else { return Ok(()) };
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tree;

    const TOLD: &str = "#!/bin/sh\ncase \"$1\" in\nshow) echo 7 ;;\nstop) exit 5 ;;\nesac\n";

    #[test]
    fn a_unit_is_put_there_twice_and_taken_away_twice() {
        let tree = tree::of(&[(SYSTEMCTL, TOLD)]);
        let program = tree.path().join(SYSTEMCTL);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        let units = Units::of(&tree.root());
        let path = "etc/systemd/system/a.service";
        let unit = Setting { path, mode: 0o644, content: "[Service]\n".into() };
        for _ in 0..2 {
            units.put(&unit).unwrap();
        }
        let link = tree.path().join("etc/systemd/system/multi-user.target.wants/a.service");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/etc/systemd/system/a.service"));
        for _ in 0..2 {
            units.take_away(path).unwrap();
        }
        assert!(!tree.root::<Root>().has_link(path) && !link.exists());
        assert_eq!(units.process("a.service").unwrap(), Some(7));
        assert!(units.stop("a.service").is_err() && units.start("a.service").is_ok());
    }
}
