//! The lock by which builders keep out of each other's way, as others see it.
//!
//! It is the kernel's (`flock`) on a file in the directory of engines, so it ends
//! with its process, and everybody sees it, whatever user or process namespace
//! they are in. What stands in the file, the holder's process id, is there to be
//! shown.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The file's name.
pub const FILE_NAME: &str = ".lock";

/// Longest process id, with room for the newline.
const PID_BYTES: u64 = 16;

/// Who has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// This process; `None` if it has not said its id yet.
    Somebody(Option<u32>),
}

/// Finds out who holds the lock of `dir`, and changes nothing. For the moment
/// that this takes, a builder that begins is kept out; it tries again.
///
/// # Errors
/// It cannot be told.
pub fn holder(dir: &Path) -> io::Result<Holder> {
    let file = match open(&dir.join(FILE_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Holder::Nobody),
        Err(TryLockError::WouldBlock) => Ok(Holder::Somebody(process(file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The process id in the file of a lock that is held.
#[must_use]
pub fn process(file: File) -> Option<u32> {
    let mut pid = String::new();
    file.take(PID_BYTES).read_to_string(&mut pid).ok()?;
    pid.trim().parse().ok()
}

/// Opens a file for reading without waiting for anybody, as a pipe would.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_seen_and_its_end_too() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()).unwrap(), Holder::Nobody);
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, "812\n").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(holder(dir.path()).unwrap(), Holder::Nobody);
        file.lock().unwrap();
        assert_eq!(holder(dir.path()).unwrap(), Holder::Somebody(Some(812)));
        std::fs::write(&path, "").unwrap();
        assert_eq!(holder(dir.path()).unwrap(), Holder::Somebody(None));
        drop(file);
        assert_eq!(holder(dir.path()).unwrap(), Holder::Nobody);
    }
}
