//! Repositories to be indexed, with the files that a test wants in them.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A directory with these files, by path and text.
///
/// # Panics
/// The disk does not take them, here and below.
#[must_use]
pub fn repository(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().expect("there is room for a directory");
    for (path, text) in files {
        write(root.path(), path, text);
    }
    root
}

/// Writes a file below `root`, and the directories that it stands in.
pub fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    let directory = path.parent().expect("it stands below the root");
    fs::create_dir_all(directory).expect("directories can be made");
    fs::write(path, text).expect("the file can be written");
}
