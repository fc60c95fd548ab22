//! The file on the boot partition or a stick: found, read within bounds, and made
//! unreadable when it was taken.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What a person calls it.
const NAME: &str = "stoker.toml";
/// What is told to them, in the place of the file.
const RESULT: &str = "stoker-result.txt";

/// Longest file that is read, in bytes. Thirty-two long keys of each kind fit.
const LONGEST: u64 = 256 * 1024;

/// A file that was found, and what it says.
#[derive(Debug)]
pub(super) struct Medium {
    path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Medium {
    /// The first of these directories that has one. What is no plain file is none.
    ///
    /// # Errors
    /// It cannot be read, or is longer than any such file.
    pub(super) fn find(directories: &[PathBuf]) -> io::Result<Option<Self>> {
        let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|it| it.is_file());
        let mut paths = directories.iter().map(|directory| directory.join(NAME));
        let Some(path) = paths.find(is_file) else { return Ok(None) };
        let mut bytes = Vec::new();
        File::open(&path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LONGEST {
            return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
        }
        Ok(Some(Self { path, bytes }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was taken before, and the power failed while it was made unreadable.
    pub(super) fn is_shredded(&self) -> bool {
        !self.bytes.is_empty() && self.bytes.iter().all(|&byte| byte == 0)
    }

    /// Writes over the file before it goes. On flash the old pages may stay in the
    /// chip until it erases them; no file system can reach those.
    ///
    /// # Errors
    /// The medium cannot be written.
    pub(super) fn shred(&self) -> io::Result<()> {
        let mut file = File::options().write(true).open(&self.path)?;
        let mut left = file.metadata()?.len();
        let zeros = [0; 4096];
        while left > 0 {
            let written = file.write(&zeros[..left.min(4096) as usize])?;
            left = left.saturating_sub(written as u64);
        }
        file.sync_all()?;
        fs::remove_file(&self.path)?;
        sync_directory(&self.path);
        Ok(())
    }

    /// Tells the person who brings the medium back to another machine.
    ///
    /// # Errors
    /// The medium cannot be written.
    pub(super) fn tell(&self, said: &str) -> io::Result<()> {
        let path = self.path.with_file_name(RESULT);
        let _ = fs::remove_file(&path);
        let mut file = File::create_new(&path)?;
        file.write_all(said.replace('\n', "\r\n").as_bytes())?;
        file.sync_all()?;
        sync_directory(&path);
        Ok(())
    }
}

/// Not every file system can; then the next write does it.
fn sync_directory(of: &Path) {
    if let Some(directory) = of.parent() {
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_plain_file_counts() {
        let place = tempfile::tempdir().unwrap();
        let directories = ["none", "link", "directory", "file", "second"].map(|name| {
            let directory = place.path().join(name);
            fs::create_dir(&directory).unwrap();
            directory
        });
        assert!(Medium::find(&directories).unwrap().is_none());
        for (directory, text) in [(&directories[3], "first"), (&directories[4], "second")] {
            fs::write(directory.join(NAME), text).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", directories[1].join(NAME)).unwrap();
        fs::create_dir(directories[2].join(NAME)).unwrap();
        assert_eq!(Medium::find(&directories).unwrap().unwrap().bytes, b"first");
    }

    #[test]
    fn what_was_taken_cannot_be_read_any_more() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        fs::write(&path, "secret ".repeat(2000)).unwrap();
        // A second name of the same file shows what was written over it.
        fs::hard_link(&path, place.path().join("other")).unwrap();
        let directories = [place.path().to_owned()];
        let medium = Medium::find(&directories).unwrap().unwrap();
        assert!(!medium.is_shredded());
        medium.shred().unwrap();
        assert!(!path.exists());
        fs::rename(place.path().join("other"), &path).unwrap();
        let left = Medium::find(&directories).unwrap().unwrap();
        assert!(left.is_shredded() && left.bytes.len() == 14_000);
        medium.tell("done\n").unwrap();
        assert_eq!(fs::read(place.path().join(RESULT)).unwrap(), b"done\r\n");
    }

    #[test]
    fn an_endless_file_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let file = File::create(place.path().join(NAME)).unwrap();
        file.set_len(LONGEST + 1).unwrap();
        let error = Medium::find(&[place.path().to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 262144 bytes");
    }
}
