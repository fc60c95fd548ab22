//! A directory that somebody brings, on a stick or from elsewhere. Nothing in it
//! is trusted: a name is followed only as long as it stays inside, and only a
//! plain file is read.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::{FetchError, at};
use crate::error::{Error, io};

/// Names of one directory that are looked at.
const MOST_NAMES: usize = 4096;

/// Why a file that was brought is not read.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("it is a link that leads out of the directory")]
    LeadsOut,
    #[error("it is {0}, not a plain file")]
    NotAFile(&'static str),
    #[error("it has {found} bytes, {says} {expected}")]
    Size { found: u64, says: &'static str, expected: u64 },
    #[error("it has {found} bytes, more than the {most} that such a file can have")]
    TooLarge { found: u64, most: u64 },
    #[error("it became another file while it was opened")]
    Replaced,
    #[error("it changed while it was copied: {copied} of its {length} bytes came")]
    Changed { copied: u64, length: u64 },
}

/// The directory, kept open.
#[derive(Debug)]
pub struct Brought {
    path: PathBuf,
    dir: File,
}

/// A plain file in it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

impl Brought {
    /// # Errors
    /// It is not there, or no directory.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let dir = File::open(path).map_err(io("open", path))?;
        if !dir.metadata().map_err(io("look at", path))?.is_dir() {
            return Err(io("open", path)(ErrorKind::NotADirectory.into()));
        }
        Ok(Self { path: path.into(), dir })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first of `names`, below the directory, that is there.
    pub(super) fn find(&self, names: &[String]) -> Result<Option<Found>, FetchError> {
        for name in names {
            if let Some(found) = self.open_file(name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Opens a file in two steps: opening a FIFO would wait, and opening a device
    /// may do something, so neither is opened before it is known what it is.
    fn open_file(&self, name: &str) -> Result<Option<Found>, FetchError> {
        let path = self.path.join(name);
        let refused = |why| FetchError::Refused { path: path.clone(), source: why };
        let Some(seen) = self.open_at(name, OFlag::O_PATH)? else { return Ok(None) };
        let seen = File::from(seen).metadata().map_err(at("look at", &path))?;
        if !seen.is_file() {
            return Err(refused(Refused::NotAFile(kind(seen.file_type()))));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let Some(file) = self.open_at(name, flags)? else { return Ok(None) };
        let file = File::from(file);
        let opened = file.metadata().map_err(at("look at", &path))?;
        if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
            return Err(refused(Refused::Replaced));
        }
        Ok(Some(Found { file, bytes: opened.len(), path }))
    }

    fn open_at(&self, name: &str, flags: OFlag) -> Result<Option<OwnedFd>, FetchError> {
        let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(inside);
        let path = self.path.join(name);
        match openat2(&self.dir, Path::new(name), how) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(Errno::EXDEV | Errno::ELOOP) => {
                Err(FetchError::Refused { path, source: Refused::LeadsOut })
            }
            Err(errno) => Err(at("open", &path)(errno.into())),
        }
    }

    /// Names in the directory `below` it; what cannot be listed has none.
    pub(super) fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path.join(below)) else { return Vec::new() };
        let names = entries.take(MOST_NAMES).flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }
}

fn kind(kind: fs::FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    fn open(dir: &Path, name: &str) -> Result<Option<Found>, String> {
        let brought = Brought::open(dir).unwrap();
        brought.find(&[name.to_owned()]).map_err(|error| match error {
            FetchError::Refused { source, .. } => source.to_string(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_link_that_stays_inside_is_followed_and_one_that_leads_out_is_not() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("blobs")).unwrap();
        fs::write(dir.path().join("blobs/x"), "abc").unwrap();
        symlink("blobs/x", dir.path().join("inside")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("absolute")).unwrap();
        symlink("../../../../../../etc/passwd", dir.path().join("up")).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("round", dir.path().join("round")).unwrap();
        assert_eq!(open(dir.path(), "inside").unwrap().unwrap().bytes, 3);
        for name in ["absolute", "up", "out/secret", "../x", "/etc/passwd", "round"] {
            let error = open(dir.path(), name).unwrap_err();
            assert_eq!(error, "it is a link that leads out of the directory", "{name}");
        }
        assert!(open(dir.path(), "nothing").unwrap().is_none());
        assert!(open(dir.path(), "inside/x").unwrap().is_none());
    }

    #[test]
    fn what_is_no_plain_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
        fs::create_dir(dir.path().join("directory")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        for (name, kind) in [("pipe", "pipe"), ("directory", "directory"), ("socket", "socket")] {
            let error = open(dir.path(), name).unwrap_err();
            assert_eq!(error, format!("it is a {kind}, not a plain file"));
        }
    }

    #[test]
    fn a_directory_that_is_none_is_named() {
        let error = Brought::open(Path::new("/etc/passwd")).unwrap_err();
        assert_eq!(error.to_string(), "open /etc/passwd");
        assert!(Brought::open(Path::new("/nowhere")).is_err());
    }
}
