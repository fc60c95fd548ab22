//! One builder at a time in one directory.
//!
//! The lock is the kernel's (`flock`), so it ends with its process. The file's
//! content, the holder's process id, is only there to be shown.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use engine_api::lock::{self, FILE_NAME, Holder};

use crate::error::{Error, io};

/// How long a lock may be held by somebody who only looks whether it is, as the
/// supervisor and `doctor` do. They let go at once.
const LOOKERS: Duration = Duration::from_millis(300);
const AGAIN: Duration = Duration::from_millis(10);

/// Held until dropped. The file stays: removing it would let two processes
/// hold a lock of the same name.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `dir`, which must exist.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process holds it; [`Error::Io`] if the
    /// directory cannot be written to.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("write", &path))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < LOOKERS => {
                    std::thread::sleep(AGAIN);
                }
                Err(TryLockError::WouldBlock) => return Err(busy(dir, lock::process(file))),
                Err(TryLockError::Error(source)) => return Err(io("lock", &path)(source)),
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(io("write", &path))?;
        Ok(Self { _file: file })
    }
}

/// Who holds the lock of `dir`, found out without taking it or writing anything.
///
/// # Errors
/// [`Error::Busy`] names the holder; [`Error::Io`] if it cannot be told.
pub fn look(dir: &Path) -> Result<(), Error> {
    match lock::holder(dir).map_err(io("read", &dir.join(FILE_NAME)))? {
        Holder::Nobody => Ok(()),
        Holder::Somebody(pid) => Err(busy(dir, pid)),
    }
}

/// The holder's process id is only for the message; one that has not written it
/// yet is "another".
fn busy(dir: &Path, holder: Option<u32>) -> Error {
    Error::Busy { dir: dir.into(), holder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_builder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err();
        assert!(
            matches!(refused, Error::Busy { holder: Some(pid), .. } if pid == std::process::id())
        );
        assert!(matches!(look(dir.path()), Err(Error::Busy { holder: Some(_), .. })));
        drop(first);
        look(dir.path()).unwrap();
        Lock::take(dir.path()).unwrap();
    }
}
