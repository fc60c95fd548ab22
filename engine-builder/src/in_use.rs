//! Which engines may not go: what serves, what would serve next, and what a
//! process has loaded, even if nothing says that it should.
//!
//! The supervisor serves the engine that its configuration names, else the link
//! `default`, else the only engine there is. A worker that was started with an
//! older configuration is found by the files that it has mapped.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use engine_api::manifest::Manifest;
use jetpack::Root;
use jetpack::process::Mapped;

use crate::engines::{EngineId, Engines};
use crate::error::{Error, io};

/// What the program that loads engines is called.
const WORKER: &str = "engine-worker";

/// Where the supervisor's configuration is, weakest first.
const CONFIGURATION: [&str; 3] =
    ["/usr/lib/stoker/stoker.toml", "/etc/stoker/stoker.toml", "/etc/stoker/conf.d"];

/// The variable that sets the engine in the supervisor's environment.
const VARIABLE: &str = "STOKER_ENGINE__MODEL";

/// Engines and why each has to stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse(BTreeMap<String, &'static str>);

impl InUse {
    /// Looks at links, configuration and processes.
    ///
    /// # Errors
    /// [`Error::Hidden`] if a worker does not let us see what it has loaded,
    /// [`Error::Usage`] if a configuration file is none, [`Error::Io`].
    pub fn find(engines: &Engines) -> Result<Self, Error> {
        let mut found = Self::linked(engines)?;
        for path in files(&CONFIGURATION.map(PathBuf::from))? {
            found.named(configured(&path)?);
        }
        found.named(std::env::var(VARIABLE).ok());
        // Maps name files by their real paths.
        if let Ok(dir) = engines.path().canonicalize() {
            let mapped = Mapped::below(&Root::default(), &dir, WORKER)
                .map_err(io("list", Path::new("/proc")))?;
            found.loaded(&dir, &mapped)?;
        }
        Ok(found)
    }

    /// What serves by its link, or because there is no other.
    pub(crate) fn linked(engines: &Engines) -> Result<Self, Error> {
        let mut found = Self::default();
        if let Some(id) = engines.default_id() {
            found.0.insert(id, "is the default");
        }
        let (embedders, others): (Vec<_>, Vec<_>) =
            engines.list()?.into_iter().partition(|id| is_embedder(engines, id));
        if let ([only], true) = (others.as_slice(), found.0.is_empty()) {
            found.0.insert(only.to_string(), "is the only one, so it serves");
        }
        for id in embedders {
            found.0.insert(id.to_string(), "makes embeddings beside the engine that answers");
        }
        Ok(found)
    }

    fn named(&mut self, id: Option<String>) {
        if let Some(id) = id {
            self.0.entry(id).or_insert("is named by the configuration");
        }
    }

    fn loaded(&mut self, dir: &Path, mapped: &Mapped) -> Result<(), Error> {
        if let [pid, ..] = mapped.hidden[..] {
            return Err(Error::Hidden { pid });
        }
        let names =
            mapped.files.iter().filter_map(|file| file.strip_prefix(dir).ok()?.iter().next());
        for name in names {
            self.0.insert(name.to_string_lossy().into_owned(), "is loaded by a running worker");
        }
        Ok(())
    }

    /// Why this engine has to stay; `None` if it need not.
    #[must_use]
    pub fn why(&self, id: &EngineId) -> Option<&'static str> {
        self.0.get(id.as_str()).copied()
    }
}

/// Whether an engine serves beside the one that answers. One that cannot be read does
/// neither.
fn is_embedder(engines: &Engines, id: &EngineId) -> bool {
    Manifest::read(&engines.engine(id)).is_ok_and(|manifest| manifest.is_embedder())
}

/// The files among `paths`, and those in the directories among them.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        match fs::read_dir(path) {
            Ok(entries) => {
                let inside = entries.flatten().map(|entry| entry.path());
                files.extend(inside.filter(|path| path.extension().is_some_and(|e| e == "toml")));
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => files.push(path.clone()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io("read", path)(error)),
        }
    }
    Ok(files)
}

/// `engine.model` in a configuration file. Every file that names one counts, so
/// nothing hangs on which of them wins.
fn configured(path: &Path) -> Result<Option<String>, Error> {
    let text = fs::read_to_string(path).map_err(io("read", path))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        Error::Usage(format!("{} is no configuration: {}", path.display(), error.message()))
    })?;
    Ok(table.get("engine").and_then(|engine| engine.get("model")?.as_str()).map(str::to_owned))
}

#[cfg(test)]
impl InUse {
    /// As if a worker had `file` mapped.
    pub(crate) fn add_loaded(&mut self, engines: &Engines, file: &Path) {
        let mapped = Mapped { files: [file.to_owned()].into(), hidden: Vec::new() };
        self.loaded(&engines.path().canonicalize().unwrap(), &mapped).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn id(name: &str) -> EngineId {
        name.to_owned().try_into().unwrap()
    }

    #[test]
    fn what_a_worker_has_mapped_is_in_use() {
        let mut found = InUse::default();
        let files = ["/s/engines/a/weights.gguf", "/s/engines/a/b"].map(PathBuf::from);
        let mapped = Mapped { files: BTreeSet::from(files), hidden: Vec::new() };
        found.loaded(Path::new("/s/engines"), &mapped).unwrap();
        assert_eq!(found.why(&id("a")), Some("is loaded by a running worker"));
        assert_eq!(found.why(&id("b")), None);
    }

    #[test]
    fn a_worker_that_cannot_be_looked_into_stops_everything() {
        let mapped = Mapped { hidden: vec![77], ..Mapped::default() };
        let error = InUse::default().loaded(Path::new("/"), &mapped).unwrap_err();
        assert!(error.to_string().contains("process 77"), "{error}");
    }

    #[test]
    fn every_configuration_file_that_names_an_engine_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (one, more) = (dir.path().join("stoker.toml"), dir.path().join("conf.d"));
        fs::write(&one, "[engine]\nmodel = \"a\"\n").unwrap();
        fs::create_dir(&more).unwrap();
        fs::write(more.join("x.toml"), "[engine]\nthreads = 2\n").unwrap();
        fs::write(more.join("notes.txt"), "no toml").unwrap();
        let paths = files(&[one, more.clone(), dir.path().join("nothing")]).unwrap();
        let names: Vec<_> = paths.iter().map(|path| configured(path).unwrap()).collect();
        assert_eq!(names, [Some("a".to_owned()), None]);
        fs::write(more.join("y.toml"), "[engine").unwrap();
        assert!(matches!(configured(&more.join("y.toml")), Err(Error::Usage(_))));
    }
}
