//! Which engine directory is served.
//!
//! The configured engine; else the one that the link `engines/default` names;
//! else the only one there is. A directory without a manifest is not an
//! engine: its build is not finished. Embedders are looked for apart, by [`embedder`].

use std::io;
use std::path::{Path, PathBuf};

use engine_api::manifest::{self, Manifest, ManifestError};
use engine_api::staleness::{Here, stand_in};

use crate::config::{EngineId, StateDir};

/// An engine that can be loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

/// Why there is nothing to load.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error("there is no engine in {}; build one with `engine-builder build MODEL`", .0.display())]
    None(PathBuf),
    #[error("there is no engine \"{id}\" in {}{}; build it with `engine-builder build {id}`", engines.display(), there_are(found))]
    Unknown { id: EngineId, engines: PathBuf, found: Vec<String> },
    #[error(
        "there are several engines in {}{}; set engine.model, or link `default` to one of them",
        engines.display(), there_are(found)
    )]
    Several { engines: PathBuf, found: Vec<String> },
    #[error(
        "no embedder is built; `engine-builder build all-minilm-l6-v2` builds a small one, and it \
         is served without a restart"
    )]
    NoEmbedder,
    #[error(
        "there is no embedder \"{id}\"{}; build it with `engine-builder build {id}`",
        there_are(found)
    )]
    UnknownEmbedder { id: EngineId, found: Vec<String> },
    #[error("there are several embedders{}; set embedding.model to one of them", there_are(found))]
    SeveralEmbedders { found: Vec<String> },
    #[error("list {}", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{} belongs to the engine \"{id}\"; a directory bears its engine's name", path.display())]
    Foreign { path: PathBuf, id: String },
}

impl LocateError {
    /// Whether building an engine is all that is missing.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::Manifest(_) | Self::Foreign { .. })
    }
}

/// Finds the engine to serve.
///
/// # Errors
/// See [`LocateError`].
pub fn locate(state_dir: &StateDir, wanted: Option<&EngineId>) -> Result<Located, LocateError> {
    let engines = state_dir.engines();
    at(choose(&engines, wanted)?)
}

/// Finds the embedder to serve beside it.
///
/// # Errors
/// See [`LocateError`].
pub fn embedder(state_dir: &StateDir, wanted: Option<&EngineId>) -> Result<Located, LocateError> {
    let engines = state_dir.engines();
    let found: Vec<_> =
        names(&engines)?.into_iter().filter(|name| is_embedder(&engines.join(name))).collect();
    match (wanted, &found[..]) {
        (Some(id), _) => match found.iter().any(|name| name == id.as_str()) {
            true => at(engines.join(id.as_str())),
            false => Err(LocateError::UnknownEmbedder { id: id.clone(), found }),
        },
        (None, []) => Err(LocateError::NoEmbedder),
        (None, [only]) => at(engines.join(only)),
        (None, _) => Err(LocateError::SeveralEmbedders { found }),
    }
}

/// Every embedder that there is, in no order to count on.
///
/// # Errors
/// The directory cannot be read.
pub fn embedders(state_dir: &StateDir) -> Result<Vec<Located>, LocateError> {
    let engines = state_dir.engines();
    let located = names(&engines)?.into_iter().filter_map(|name| at(engines.join(name)).ok());
    Ok(located.filter(|it| it.manifest.is_embedder()).collect())
}

/// A directory whose manifest cannot be read is no embedder, and somebody else's error.
fn is_embedder(dir: &Path) -> bool {
    Manifest::read(dir).is_ok_and(|manifest| manifest.is_embedder())
}

fn at(dir: PathBuf) -> Result<Located, LocateError> {
    let manifest = Manifest::read(&dir)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    if manifest.id != name {
        return Err(LocateError::Foreign { path: dir, id: manifest.id });
    }
    Ok(Located { dir, manifest })
}

/// The engine to serve `here` when `chosen` cannot be, see [`stand_in`]. `None` if
/// there is none.
#[must_use]
pub fn fallback(state_dir: &StateDir, chosen: &Manifest, here: &Here) -> Option<Located> {
    let engines = state_dir.engines();
    let read = |name: String| {
        let manifest = Manifest::read(&engines.join(&name)).ok()?;
        (manifest.id == name).then_some(manifest)
    };
    let others: Vec<_> = names(&engines).ok()?.into_iter().filter_map(read).collect();
    let manifest = stand_in(chosen, others.iter(), here)?.clone();
    Some(Located { dir: engines.join(&manifest.id), manifest })
}

fn choose(engines: &Path, wanted: Option<&EngineId>) -> Result<PathBuf, LocateError> {
    let mut found = names(engines)?;
    found.retain(|name| !is_embedder(&engines.join(name)));
    if let Some(id) = wanted {
        return match found.iter().any(|name| name == id.as_str()) {
            true => Ok(engines.join(id.as_str())),
            false => Err(LocateError::Unknown { id: id.clone(), engines: engines.into(), found }),
        };
    }
    if let Ok(target) = engines.join("default").canonicalize() {
        return Ok(target);
    }
    match &found[..] {
        [] => Err(LocateError::None(engines.into())),
        [only] => Ok(engines.join(only)),
        _ => Err(LocateError::Several { engines: engines.into(), found }),
    }
}

/// Names of the directories with a manifest, the link `default` left out.
fn names(engines: &Path) -> Result<Vec<String>, LocateError> {
    let entries = match std::fs::read_dir(engines) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LocateError::List { path: engines.into(), source }),
    };
    let is_engine = |path: &Path| !path.is_symlink() && path.join(manifest::FILE_NAME).exists();
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| is_engine(path));
    let mut names: Vec<_> =
        paths.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

fn there_are(found: &[String]) -> String {
    match found {
        [] => String::new(),
        found => format!(" (there are: {})", found.join(", ")),
    }
}
