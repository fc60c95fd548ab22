//! The build for llama.cpp: the model file is the engine's weights.
//!
//! It is linked into the engine's directory where the file system allows it,
//! so that it does not take the disk twice, and copied else. Both leave what
//! was fetched as it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use engine_api::manifest::{Artefact, ArtefactRole};

use crate::engines::{EngineId, Engines};
use crate::error::{Error, io};
use crate::fetch::Fetched;
use crate::hash::{self, Sha256Hex};
use crate::preflight::make_dir;
use crate::report::Report;

/// The weights' name in an engine directory.
const WEIGHTS: &str = "weights.gguf";

/// Everyone may read the weights: the worker need not run as who built.
const READABLE: u32 = 0o444;

/// An engine directory in the making; removed when dropped, unless published.
#[derive(Debug)]
pub struct Building {
    pub(crate) path: PathBuf,
}

impl Building {
    /// An empty directory for the engine `id`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(engines: &Engines, id: &EngineId) -> Result<Self, Error> {
        let path = engines.building(id);
        remove(&path).map_err(io("remove", &path))?;
        make_dir(&path)?;
        Ok(Self { path })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // What stays is removed by the next build.
        let _ = remove(&self.path);
    }
}

/// Removes a directory if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// How the weights came to their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Linked,
    Copied,
}

/// Puts the fetched file into the engine's directory.
///
/// # Errors
/// [`Error::Io`]; [`Error::OtherModel`] if a copy is not what was fetched.
pub fn weights(
    fetched: &Fetched,
    bytes: u64,
    building: &Building,
    report: &Report,
) -> Result<(Artefact, Way), Error> {
    // A link to a symbolic link would be one too.
    let source = fetched.path.canonicalize().map_err(io("find", &fetched.path))?;
    let target = building.path().join(WEIGHTS);
    let mut meter = report.meter(bytes);
    let (sha256, way) = if link(&source, &target) {
        let sha256 = match &fetched.sha256 {
            Some(known) => known.clone(),
            None => hash::file(&target, &mut meter).map_err(io("read", &target))?,
        };
        (sha256, Way::Linked)
    } else {
        let mut from = File::open(&source).map_err(io("read", &source))?;
        let mut to = File::create(&target).map_err(io("create", &target))?;
        let (sha256, _) =
            hash::copy(&mut from, &mut to, &mut meter).map_err(io("write", &target))?;
        let everyone_reads = fs::Permissions::from_mode(0o644);
        to.set_permissions(everyone_reads).map_err(io("set permissions of", &target))?;
        (sha256, Way::Copied)
    };
    check(&source, fetched.sha256.as_ref(), &sha256)?;
    let found = target.metadata().map_err(io("look at", &target))?.len();
    if found != bytes {
        let what = format!("it changed from {bytes} to {found} bytes during the build");
        return Err(Error::OtherModel { path: source, what });
    }
    let path = WEIGHTS.into();
    let sha256 = sha256.as_str().to_owned();
    Ok((Artefact { path, bytes, sha256, role: ArtefactRole::Weights }, way))
}

/// Whether `target` is now a link to `source`. A file that not everyone may
/// read is not linked, because its mode belongs to its owner.
fn link(source: &Path, target: &Path) -> bool {
    let mode = source.metadata().map_or(0, |metadata| metadata.permissions().mode());
    mode & READABLE == READABLE && fs::hard_link(source, target).is_ok()
}

fn check(path: &Path, expected: Option<&Sha256Hex>, found: &Sha256Hex) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != found => Err(Error::OtherModel {
            path: path.into(),
            what: format!("its sha256 is {found}, not {expected}"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn place(mode: u32) -> (Artefact, Way, PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        fs::write(&path, "abc").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let engines = Engines::of(dir.path());
        let building = Building::new(&engines, &"a".to_owned().try_into().unwrap()).unwrap();
        let fetched = Fetched { path, bytes: 3, sha256: None, commands: Vec::new(), outcome: "" };
        let (artefact, way) = weights(&fetched, 3, &building, &Report::silent()).unwrap();
        assert_eq!(artefact.sha256, Sha256Hex::of(b"abc").as_str());
        let placed = building.path().join(&artefact.path);
        assert_eq!(fs::read(&placed).unwrap(), b"abc");
        let same = placed.metadata().unwrap().ino() == fetched.path.metadata().unwrap().ino();
        assert_eq!(same, way == Way::Linked);
        assert_eq!(placed.metadata().unwrap().mode() & READABLE, READABLE);
        (artefact, way, building.path().to_owned(), dir)
    }

    #[test]
    fn a_readable_file_is_linked_and_a_private_one_copied() {
        assert_eq!(place(0o644).1, Way::Linked);
        assert_eq!(place(0o600).1, Way::Copied);
    }

    #[test]
    fn a_build_that_ends_early_leaves_nothing() {
        let (_, _, building, _dir) = place(0o644);
        assert!(!building.exists());
    }
}
