//! The models that are known by name: where they come from, what shape they
//! have and how they serve.
//!
//! One file a model, in `models/`, compiled in. A directory of the user's own
//! files adds models and, by the same `id`, replaces them. A model that is in
//! neither is built from its own file with `--gguf`.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

mod architecture;
mod check;
mod entry;
mod form;
mod quantisation;
mod read;

pub use architecture::{Architecture, Family, Rope, RopeKind};
pub(crate) use check::is_file_name;
pub use entry::{
    Awq, Backends, ChatTemplate, Defaults, Entry, FimTokens, Gptq, HubFile, Index, Package,
    Repository, Revision, Runs, Sources, Support, Weights,
};
pub use form::{Form, Published};
pub use quantisation::Quantisation;

use crate::error::{Error, io};

/// Where users keep files of their own.
pub const MODELS_DIR: &str = "/etc/stoker/models.d";

macro_rules! models {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../models/", $name, ".toml")))),*]
    };
}

/// The files that are compiled in, smallest model first within a family.
const FILES: &[(&str, &str)] = models![
    "smollm2-135m-instruct",
    "qwen2.5-coder-0.5b-instruct",
    "qwen2.5-coder-1.5b-instruct",
    "qwen2.5-coder-3b-instruct",
    "qwen2.5-coder-7b-instruct",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "qwen3-4b",
    "qwen3-8b",
    "llama-3.2-1b-instruct",
    "llama-3.2-3b-instruct",
    "phi-3-mini-4k-instruct",
    "deepseek-coder-6.7b-instruct",
    "mistral-7b-instruct-v0.3",
    "meta-llama-3-8b-instruct",
    "qwen3-embedding-0.6b",
];

/// How many nearest names an error offers.
const NEAREST: usize = 3;

/// Names less alike than this are not offered.
const LEAST_LIKENESS: f64 = 0.6;

/// All models that are known.
#[derive(Debug, Clone)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

impl Catalogue {
    /// The models that are compiled in.
    ///
    /// # Panics
    /// Never: a test reads every file.
    #[must_use]
    pub fn built_in() -> Self {
        let read = |(name, text): &(&str, &str)| {
            read::entry(Path::new(name), text).expect("the catalogue is well formed")
        };
        Self { entries: FILES.iter().map(read).collect() }
    }

    /// The models that are compiled in and those in `dir`, which need not exist.
    ///
    /// # Errors
    /// [`Error::Catalogue`] with the file, line and key that is wrong, or
    /// [`Error::Io`] if the directory or a file in it cannot be read.
    pub fn with_dir(dir: &Path) -> Result<Self, Error> {
        let mut catalogue = Self::built_in();
        for path in toml_files(dir)? {
            let text = text_of(&path)?;
            let entry = read::entry(&path, &text)?;
            catalogue.add(entry).map_err(|(key, problem)| Error::Catalogue {
                line: read::line_of_key(&text, key),
                path,
                key: key.into(),
                problem,
            })?;
        }
        Ok(catalogue)
    }

    /// Adds a model, in place of the one that has its id.
    fn add(&mut self, entry: Entry) -> Result<(), (&'static str, String)> {
        let others = || self.entries.iter().filter(|other| other.id != entry.id);
        let is_taken = |name: &str| {
            others().find(|other| other.names().any(|taken| taken.eq_ignore_ascii_case(name)))
        };
        for (key, name) in std::iter::once(("id", entry.id.as_str()))
            .chain(entry.aliases.iter().map(|alias| ("aliases", alias.as_str())))
        {
            if let Some(other) = is_taken(name) {
                return Err((key, format!("{name:?} already names {}", other.id)));
            }
        }
        match self.entries.iter_mut().find(|other| other.id == entry.id) {
            Some(same) => *same = entry,
            None => self.entries.push(entry),
        }
        Ok(())
    }

    /// Every model, in the order in which a person would look for one.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The model called `name`, or one of whose aliases is `name`.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] with the nearest names.
    pub fn find(&self, name: &str) -> Result<&Entry, Error> {
        let same = |known: &str| known.eq_ignore_ascii_case(name);
        let found = self.entries.iter().find(|entry| entry.names().any(same));
        found.ok_or_else(|| {
            let embedders =
                crate::embedder::entries().iter().flat_map(crate::embedder::Entry::names);
            let known = nearest(name, self.entries.iter().flat_map(Entry::names).chain(embedders));
            Error::UnknownModel { name: name.into(), known }
        })
    }
}

/// The `*.toml` files of `dir` by name; none if there is no such directory.
fn toml_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let list = match dir.read_dir() {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", dir)(error)),
    };
    let mut paths = Vec::new();
    for file in list {
        let path = file.map_err(io("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn text_of(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(read::MOST_BYTES + 1).read_to_string(&mut text))
        .map_err(io("read", path))?;
    if text.len() as u64 > read::MOST_BYTES {
        let problem = format!("is longer than {} bytes", read::MOST_BYTES);
        return Err(Error::Catalogue {
            path: path.into(),
            line: None,
            key: String::new(),
            problem,
        });
    }
    Ok(text)
}

/// Up to three of `known` that `name` may have been meant to be.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let mut alike: Vec<_> = known
        .map(|known| (strsim::jaro_winkler(&name, &known.to_ascii_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike.into_iter().take(NEAREST).map(|(_, known)| known.to_owned()).collect()
}

#[cfg(test)]
mod tests;
