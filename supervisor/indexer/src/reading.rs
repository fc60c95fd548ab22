//! Reads one file that somebody else may write at the same time, or that may be
//! no file at all.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use engine_api::index::Stamp;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

/// Bytes of a file at most. Longer ones were written by a program.
pub const LONGEST_FILE: u64 = 1_000_000;
/// How files are cut now. To be raised when the same file would be cut otherwise, or
/// has other names, beside a migration that has every file looked at again.
const CUTTING: u8 = 2;
/// Bytes that are looked at for a NUL, as git does.
const LOOKED_AT: usize = 8000;
/// Mean bytes of a line above which nobody wrote it by hand.
const LONG_LINES: usize = 300;

/// Why a file is not indexed.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("it cannot be opened: {0}")]
    Open(std::io::Error),
    #[error("it cannot be read: {0}")]
    Read(std::io::Error),
    #[error("it is no ordinary file")]
    Special,
    #[error("it is empty")]
    Empty,
    #[error("it has {size} bytes, and {LONGEST_FILE} is the limit")]
    TooLong { size: u64 },
    #[error("it is binary")]
    Binary,
    #[error("its lines are {mean} bytes long on average, so it is minified or generated")]
    LongLines { mean: usize },
    #[error("it says that it was generated")]
    Generated,
}

/// An open file.
#[derive(Debug)]
pub struct Opened {
    file: File,
    pub stamp: Stamp,
}

/// Opens a file without following a link and without waiting for a pipe's
/// other end.
///
/// # Errors
/// It is no ordinary file, or cannot be opened.
pub fn open(path: &Path) -> Result<Opened, Unfit> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Unfit::Open)?;
    let facts = file.metadata().map_err(Unfit::Open)?;
    if !facts.is_file() {
        return Err(Unfit::Special);
    }
    let changed_ns = i128::from(facts.ctime()) * 1_000_000_000 + i128::from(facts.ctime_nsec());
    let stamp = Stamp { changed_ns, size: facts.size(), inode: facts.ino() };
    Ok(Opened { file, stamp })
}

impl Opened {
    /// What it holds, and the hash of that. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// It is nothing that somebody wrote by hand, or cannot be read.
    pub fn read(self) -> Result<(String, [u8; 32]), Unfit> {
        let size = self.stamp.size;
        if size > LONGEST_FILE {
            return Err(Unfit::TooLong { size });
        }
        let mut bytes = Vec::new();
        // It may have grown since.
        self.file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(Unfit::Read)?;
        if bytes.len() as u64 > LONGEST_FILE {
            return Err(Unfit::TooLong { size: bytes.len() as u64 });
        }
        if bytes.is_empty() {
            return Err(Unfit::Empty);
        }
        if bytes[..bytes.len().min(LOOKED_AT)].contains(&0) {
            return Err(Unfit::Binary);
        }
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        let mean = bytes.len() / lines;
        if mean > LONG_LINES {
            return Err(Unfit::LongLines { mean });
        }
        let hash = Sha256::new().chain_update([CUTTING]).chain_update(&bytes).finalize().into();
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        match is_generated(&text) {
            true => Err(Unfit::Generated),
            false => Ok((text, hash)),
        }
    }
}

/// What generators write at the top of a file.
fn is_generated(text: &str) -> bool {
    let top = text.lines().take(12).map(str::to_ascii_lowercase);
    top.into_iter().any(|line| {
        line.contains("@generated")
            || (line.contains("generated")
                && (line.contains("do not edit") || line.contains("don't edit")))
    })
}
