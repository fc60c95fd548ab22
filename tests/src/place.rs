//! A directory of files that stand for a machine's, and goes when it is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The directory.
#[derive(Debug)]
pub struct Place(TempDir);

impl Place {
    /// An empty one.
    ///
    /// # Panics
    /// There is no place for temporary files.
    #[must_use]
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("there is a place for temporary files"))
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// The file of that name below it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, with the directories above it.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let above = path.parent().expect("it lies below the directory");
        fs::create_dir_all(above).expect("a fresh directory takes another");
        fs::write(path, text).expect("a fresh directory takes a file");
    }

    /// Writes a program.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path(name), mode).expect("the file is ours");
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}
