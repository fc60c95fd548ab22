//! The files of one repository of a hub, or of a copy of it that was brought.
//!
//! A GGUF is one file. A checkpoint is several, and which files its weights are
//! in is only known once its index has been read.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::content;
use super::copied;
use super::expected::Expected;
use super::hub::{self, HubError, Remote};
use super::part::Part;
use super::pins::Pins;
use super::wanted::{INDEX, Need, WHOLE, Wanted, WantedFile, path_of};
use super::{FetchError, Fetched, Sources, at, looked};
use crate::hash::{self, Sha256Hex};
use crate::pickle;
use crate::report::Report;
use crate::safetensors;

/// The largest tokenisers have some tens of MiB.
const MOST_SMALL: u64 = 256 * 1024 * 1024;

/// The branch that is asked for while no commit is known.
const UNKNOWN_REVISION: &str = "main";

/// No file of weights that a board could hold is larger.
const MOST_WEIGHTS: u64 = 256 * 1024 * 1024 * 1024;

/// One form of one model, on its way into the cache.
pub(super) struct Repository<'a> {
    wanted: Wanted<'a>,
    dir: PathBuf,
    pins: Pins,
    sources: &'a Sources,
    report: &'a Report,
}

/// A file that is complete and of the right hash, and has not its name yet.
pub(super) struct Arrived {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) sha256: Sha256Hex,
    pub(super) outcome: &'static str,
}

impl<'a> Repository<'a> {
    pub(super) fn new(
        wanted: Wanted<'a>,
        dir: PathBuf,
        pins: Pins,
        sources: &'a Sources,
        report: &'a Report,
    ) -> Self {
        Self { wanted, dir, pins, sources, report }
    }

    /// Gets all files, the small ones first.
    pub(super) fn get(mut self) -> Result<Vec<Fetched>, FetchError> {
        let (mut fetched, mut no_tokeniser, mut tokenisers) = (Vec::new(), None, 0);
        let files = self.wanted.files.clone();
        for file in files.iter().filter(|file| file.need != Need::Weights) {
            match self.file(file) {
                Ok(there) => {
                    tokenisers += usize::from(file.need == Need::Tokeniser);
                    fetched.push(there);
                }
                Err(error) if !error.is_missing() => return Err(error),
                Err(missing) => match file.need {
                    Need::Optional => {}
                    Need::Tokeniser => no_tokeniser = Some(missing),
                    Need::Required | Need::Weights => return Err(missing),
                },
            }
        }
        if let Some(missing) = no_tokeniser.filter(|_| tokenisers == 0) {
            return Err(missing);
        }
        if files.iter().any(|file| file.need == Need::Weights) {
            self.weights(&mut fetched)?;
        }
        Ok(fetched)
    }

    /// All files that the index names, or the one file of a model that has none.
    fn weights(&mut self, fetched: &mut Vec<Fetched>) -> Result<(), FetchError> {
        let one = |this: &mut Self, name: &str| {
            let file = this.wanted.file(&this.pins, name, Need::Weights, None);
            this.file(&file)
        };
        let index = match one(self, INDEX) {
            Ok(index) => index,
            Err(error) if error.is_missing() => {
                fetched.push(one(self, WHOLE)?);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let shards = safetensors::shards(&index.path)
            .map_err(|source| FetchError::Index { path: index.path.clone(), source })?;
        fetched.push(index);
        for name in shards {
            fetched.push(one(self, &name)?);
        }
        Ok(())
    }

    /// One file: from the cache, or else from where it is to come from.
    fn file(&mut self, wanted: &WantedFile) -> Result<Fetched, FetchError> {
        let path = self.dir.join(&wanted.name);
        let expected = Expected::of(wanted, most_bytes(&wanted.name));
        if let Some(cached) = self.cached(wanted, &path, &expected)? {
            return Ok(cached);
        }
        let part = Part::of(&path);
        let Arrived { file, bytes, sha256, outcome } = self.arrive(wanted, &part, &expected)?;
        if let Err(source) = content::check(&part.part, &wanted.name) {
            part.remove();
            return Err(FetchError::Content { path, source });
        }
        self.learn(wanted, bytes, &sha256)?;
        part.finish(&file)?;
        Ok(Fetched { path, bytes, sha256: Some(sha256), commands: Vec::new(), outcome })
    }

    fn cached(
        &mut self,
        wanted: &WantedFile,
        path: &Path,
        expected: &Expected,
    ) -> Result<Option<Fetched>, FetchError> {
        let Ok(metadata) = path.metadata() else { return Ok(None) };
        let bytes = metadata.len();
        if metadata.is_file() && expected.allows(path, bytes).is_ok() {
            let found =
                hash::file(path, &mut self.report.meter(bytes)).map_err(at("read", path))?;
            if expected.is(path, &found).is_ok() {
                self.learn(wanted, bytes, &found)?;
                return Ok(Some(Fetched {
                    path: path.into(),
                    bytes,
                    sha256: Some(found),
                    commands: Vec::new(),
                    outcome: "already in the cache",
                }));
            }
        }
        self.report.note(&format!("{} in the cache is damaged and is fetched again", wanted.name));
        Ok(None)
    }

    fn arrive(
        &mut self,
        wanted: &WantedFile,
        part: &Part,
        expected: &Expected,
    ) -> Result<Arrived, FetchError> {
        let Some(brought) = &self.sources.from else {
            return self.ask_hub(wanted, part, expected);
        };
        let Wanted { entry, form, .. } = &self.wanted;
        let name = &wanted.name;
        let places =
            [path_of(&entry.id, *form, name), format!("{}/{name}", entry.id), name.clone()];
        match brought.find(&places)? {
            Some(found) => copied::copy(found, part, expected, self.report),
            None => {
                let dirs = [format!("{}/{form}", entry.id), entry.id.to_string(), String::new()];
                let names = dirs.iter().flat_map(|dir| brought.names(dir));
                let instead = names.filter(|name| pickle::is_named(Path::new(name))).collect();
                let looked = looked(brought, &places);
                Err(FetchError::Missing { file: name.clone(), looked, instead })
            }
        }
    }

    /// From a hub. The first answer tells the commit, if nobody knew it; the other
    /// files are then asked for at the same one.
    fn ask_hub(
        &mut self,
        file: &WantedFile,
        part: &Part,
        expected: &Expected,
    ) -> Result<Arrived, FetchError> {
        let bring = self.bring(file);
        let Some(hub) = &self.sources.hub else {
            return Err(FetchError::Offline { file: file.name.clone(), bring });
        };
        let Wanted { repository, revision, .. } = &self.wanted;
        let revision = revision.as_deref().unwrap_or(UNKNOWN_REVISION);
        let remote = Remote { repository, revision, file: &file.name };
        self.report.note(&format!("fetching {} of {repository} at {revision}", file.name));
        let (arrived, commit) = hub::download(hub, &remote, part, expected, self.report).map_err(
            |source| match source {
                HubError::Interrupted(interrupted) => interrupted.into(),
                source => {
                    let file = file.name.clone();
                    FetchError::Hub { file, bring, source: Box::new(source) }
                }
            },
        )?;
        if self.wanted.revision.is_none() {
            self.wanted.revision = commit;
        }
        Ok(arrived)
    }

    /// Where a person has to put a file that cannot be fetched.
    fn bring(&self, file: &WantedFile) -> String {
        let Wanted { entry, form, .. } = &self.wanted;
        format!(
            "bring {} ({}) and use --from DIR; `engine-builder fetch --list {} --form {form}` has \
             all files",
            path_of(&entry.id, *form, &file.name),
            file.known(),
            entry.id
        )
    }

    /// Pins what nobody knew.
    fn learn(
        &mut self,
        file: &WantedFile,
        bytes: u64,
        sha256: &Sha256Hex,
    ) -> Result<(), FetchError> {
        if file.sha256.is_some() {
            return Ok(());
        }
        let Wanted { form, repository, revision, .. } = &self.wanted;
        let of = (*form, *repository, revision.as_deref());
        self.pins
            .learn(of, &file.name, (bytes, sha256))
            .map_err(|error| FetchError::Pins(Box::new(error)))?;
        self.report.note(&format!("{}: learnt its sha256, {sha256}", file.name));
        Ok(())
    }
}

fn most_bytes(name: &str) -> u64 {
    let is_weights = name.ends_with(".gguf") || name.ends_with(".safetensors");
    if is_weights { MOST_WEIGHTS } else { MOST_SMALL }
}
