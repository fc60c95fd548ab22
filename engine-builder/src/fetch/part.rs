//! A file in the making, beside where it will stand.
//!
//! Whatever has the final name is complete, checked and on the disk; what is
//! being written is called `<name>.part`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{FetchError, at, hub};

/// The paths of one file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) part: PathBuf,
}

impl Part {
    pub(super) fn of(path: &Path) -> Self {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        Self { path: path.into(), part: part.into() }
    }

    /// An empty file. What an earlier fetch left in its place is gone with it,
    /// so that the disk never holds both.
    pub(super) fn create(&self) -> Result<File, FetchError> {
        hub::remove_journal(&self.part);
        File::create(&self.part).map_err(at("create", &self.part))
    }

    /// Puts the file to the disk and gives it its name.
    pub(super) fn finish(&self, file: &File) -> Result<(), FetchError> {
        let everyone_reads = fs::Permissions::from_mode(0o644);
        file.set_permissions(everyone_reads).map_err(at("set permissions of", &self.part))?;
        file.sync_all().map_err(at("write", &self.part))?;
        fs::rename(&self.part, &self.path).map_err(at("write", &self.path))?;
        hub::remove_journal(&self.part);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at("write", dir))
    }

    /// Removes what was written so far, if anything was.
    pub(super) fn remove(&self) {
        // The next fetch writes over what cannot be removed.
        let _ = fs::remove_file(&self.part);
        hub::remove_journal(&self.part);
    }
}
