//! Files below a directory that change without ever being half written.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::OWN;

/// A directory and what was last written below it.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Contents are written here and then moved to their place.
    fresh: PathBuf,
    written: HashMap<String, Vec<u8>>,
}

impl Files {
    pub(super) fn below(dir: &Path) -> io::Result<Self> {
        let own = dir.join(OWN);
        fs::create_dir_all(&own).map_err(|error| naming(&own, &error))?;
        Ok(Self { dir: dir.to_owned(), fresh: own.join("fresh"), written: HashMap::new() })
    }

    /// Writes `content` unless it was the last that was written there.
    pub(super) fn put(&mut self, path: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
        let content = content.as_ref();
        if self.written.get(path).is_some_and(|last| last == content) {
            return Ok(());
        }
        let place = self.dir.join(path);
        self.replace(&place, content).map_err(|error| naming(&place, &error))?;
        self.written.insert(path.to_owned(), content.to_vec());
        Ok(())
    }

    /// Writes everything again, also what was changed from outside.
    pub(super) fn forget(&mut self) {
        self.written.clear();
    }

    /// A value on a line of its own, as the kernel writes most of them.
    pub(super) fn line(&mut self, path: &str, value: impl std::fmt::Display) -> io::Result<()> {
        self.put(path, format!("{value}\n"))
    }

    /// Makes `path` a link. `to` is relative to the link.
    pub(super) fn link(&self, path: &str, to: &str) -> io::Result<()> {
        let place = self.dir.join(path);
        let made = parent(&place).and_then(|()| match fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => symlink(to, &place),
        });
        made.map_err(|error| naming(&place, &error))
    }

    /// Takes the file away, as if its driver were gone.
    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        self.written.remove(path);
        let place = self.dir.join(path);
        match fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(naming(&place, &error)),
            _ => Ok(()),
        }
    }

    /// Makes opening the file last for ever, by a pipe that nobody writes to.
    pub(super) fn hang(&mut self, path: &str) -> io::Result<()> {
        /// What a pipe is remembered as; no sensor says it.
        const PIPE: &[u8] = b"\0";
        if self.written.get(path).is_some_and(|last| last == PIPE) {
            return Ok(());
        }
        self.remove(path)?;
        let place = self.dir.join(path);
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&place, mode).map_err(|error| naming(&place, &error.into()))?;
        self.written.insert(path.to_owned(), PIPE.to_vec());
        Ok(())
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.dir.join(path)).ok()
    }

    /// Exchanges a fresh file with the old one and deletes that. Moving it over
    /// the old one would be as good, but makes ext4 write it to the disk at
    /// once, sixty times the cost.
    fn replace(&self, place: &Path, content: &[u8]) -> io::Result<()> {
        fs::write(&self.fresh, content)?;
        let exchange = RenameFlags::RENAME_EXCHANGE;
        match renameat2(AT_FDCWD, &self.fresh, AT_FDCWD, place, exchange) {
            Ok(()) => fs::remove_file(&self.fresh),
            // Nothing to exchange with, or a file system that cannot do it.
            Err(_) => fs::rename(&self.fresh, place).or_else(|_| {
                parent(place)?;
                fs::rename(&self.fresh, place)
            }),
        }
    }
}

fn parent(place: &Path) -> io::Result<()> {
    let parent = place.parent().unwrap_or(Path::new(OsStr::from_bytes(b".")));
    fs::create_dir_all(parent)
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("write {}: {error}", path.display()))
}
