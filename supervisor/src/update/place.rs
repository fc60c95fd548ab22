//! Where an update lies while it is under way: root's own directory, on the disk that has
//! the state.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jetpack::Root;
use jetpack::setting::Setting;

use super::UpdateError;
use super::record::Record;

/// Below the root.
const DIRECTORY: &str = "var/lib/stoker-update";

/// The unit that starts the keeper, now and at each boot. It is no file of our packages,
/// so that it is there whatever a new version of them brings.
pub(super) const UNIT: &str = "etc/systemd/system/stoker-update.service";
pub(super) const UNIT_NAME: &str = "stoker-update.service";

pub(super) const SERVICE: &str = "stoker.service";

/// The directory, and what is in it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
}

impl Place {
    pub(super) fn below(root: &Root) -> Self {
        Self { directory: root.as_path().join(DIRECTORY) }
    }

    /// The packages of the new version.
    pub(super) fn incoming(&self) -> PathBuf {
        self.directory.join("new")
    }

    /// The packages of the version to go back to.
    pub(super) fn old(&self) -> PathBuf {
        self.directory.join("old")
    }

    pub(super) fn databases(&self) -> PathBuf {
        self.directory.join("databases")
    }

    /// The program that looks after the update.
    pub(super) fn keeper(&self) -> PathBuf {
        self.directory.join("keeper")
    }

    /// Makes the directory where it is not there yet. The server reads how far an update
    /// is; everything else is nobody's.
    pub(super) fn make(&self) -> Result<(), UpdateError> {
        fs::create_dir_all(&self.directory)
            .and_then(|()| fs::set_permissions(&self.directory, Permissions::from_mode(0o755)))
            .map_err(|source| self.failed(source))
    }

    /// Held by whoever changes anything in it; `None` if somebody else does.
    pub(super) fn try_lock(&self) -> Result<Option<File>, UpdateError> {
        let directory = File::open(&self.directory).map_err(|source| self.failed(source))?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(directory)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(self.failed(source)),
        }
    }

    /// The same, once nobody else does.
    pub(super) fn lock(&self) -> Result<File, UpdateError> {
        let directory = File::open(&self.directory).map_err(|source| self.failed(source))?;
        directory.lock().map_err(|source| self.failed(source))?;
        Ok(directory)
    }

    pub(super) fn record(&self) -> Result<Option<Record>, UpdateError> {
        Record::read(&self.directory).map_err(UpdateError::Record)
    }

    /// An empty directory that only root reads.
    pub(super) fn empty(&self, directory: &Path) -> Result<(), UpdateError> {
        remove(directory)
            .and_then(|()| fs::create_dir(directory))
            .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o700)))
            .map_err(|source| self.failed(source))
    }

    /// Takes away everything but the record.
    pub(super) fn clear(&self) -> Result<(), UpdateError> {
        [self.incoming(), self.old(), self.databases()]
            .iter()
            .try_for_each(|directory| remove(directory))
            .and_then(|()| absent_is_well(fs::remove_file(self.keeper())))
            .map_err(|source| self.failed(source))
    }

    pub(super) fn failed(&self, source: io::Error) -> UpdateError {
        UpdateError::Place { path: self.directory.clone(), source }
    }
}

/// The unit, as it is put there.
pub(super) fn unit() -> Setting {
    let content = include_str!("stoker-update.service").to_owned();
    Setting { path: UNIT, mode: 0o644, content }
}

fn remove(directory: &Path) -> io::Result<()> {
    absent_is_well(fs::remove_dir_all(directory))
}

fn absent_is_well(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
