//! Room on the file system that holds a path.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::Bytes;

/// Size of a file system and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub total_bytes: Bytes,
    /// What a process that is not root may still write.
    pub available_bytes: Bytes,
}

impl Disk {
    /// Asks the kernel about the file system that holds `path`. The path is one
    /// of the caller's own, so it is not looked up below a root.
    ///
    /// # Errors
    /// When there is no such path, or the kernel does not answer for it.
    pub fn holding(path: &Path) -> io::Result<Self> {
        let facts = nix::sys::statvfs::statvfs(path)?;
        let blocks = |count: u64| Bytes::new(count.saturating_mul(facts.fragment_size()));
        Ok(Self {
            total_bytes: blocks(facts.blocks()),
            available_bytes: blocks(facts.blocks_available()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_available_than_there_is() {
        let disk = Disk::holding(Path::new("/")).unwrap();
        assert!(disk.available_bytes <= disk.total_bytes && disk.total_bytes > Bytes::new(0));
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        let error = Disk::holding(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
