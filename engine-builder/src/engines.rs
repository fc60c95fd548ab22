//! The directory of engines: `<state_dir>/engines`.
//!
//! ```text
//! engines/
//! ├── <id>/             an engine, complete
//! ├── .building-<id>/   an engine in the making; nobody looks at it
//! ├── .replaced-<id>/   the previous engine, only while it is being replaced
//! ├── .removed-<id>/    an engine that is being removed
//! ├── .lock             held by the builder at work
//! ├── default -> <id>   the engine that serves when none is named
//! └── .previous -> <id> the default before this one
//! ```

use std::path::{Path, PathBuf};

use engine_api::manifest::FILE_NAME;

use crate::catalogue::nearest;
use crate::error::{Error, io};

/// Name of the link to the engine that serves when none is named.
pub const DEFAULT: &str = "default";

/// Name of the link to the default before.
pub(crate) const PREVIOUS: &str = ".previous";

/// What the names of unfinished, replaced and removed engines begin with.
pub(crate) const BUILDING: &str = ".building-";
pub(crate) const REPLACED: &str = ".replaced-";
pub(crate) const REMOVED: &str = ".removed-";

/// Longest engine name, in bytes; file names end at 255.
const LONGEST: usize = 100;

/// An engine's name: also its directory's name and the model name of clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String")]
pub struct EngineId(String);

/// A name that cannot be an engine's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot be an engine's name: use letters, digits, '.', '_', '-' and ':', at most {LONGEST}, \
     beginning with a letter or digit; {DEFAULT:?} is taken"
)]
pub struct NotAnEngineId(String);

impl TryFrom<String> for EngineId {
    type Error = NotAnEngineId;

    fn try_from(text: String) -> Result<Self, NotAnEngineId> {
        let first = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte));
        if first && rest && text.len() <= LONGEST && text != DEFAULT {
            Ok(Self(text))
        } else {
            Err(NotAnEngineId(text))
        }
    }
}

impl EngineId {
    /// The nearest name that can be an engine's, `None` if nothing is left of it.
    #[must_use]
    pub fn from_title(title: &str) -> Option<Self> {
        let mut id = String::new();
        for character in title.chars().take(LONGEST) {
            match character.to_ascii_lowercase() {
                kept @ ('a'..='z' | '0'..='9' | '.' | '_') => id.push(kept),
                _ if id.is_empty() || id.ends_with('-') => {}
                _ => id.push('-'),
            }
        }
        Self::try_from(id.trim_matches(['-', '.', '_']).to_owned()).ok()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for EngineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory of engines of one state directory.
#[derive(Debug, Clone)]
pub struct Engines(PathBuf);

impl Engines {
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("engines"))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory that holds this one, and what else is kept.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.0.parent().unwrap_or(&self.0)
    }

    #[must_use]
    pub fn engine(&self, id: &EngineId) -> PathBuf {
        self.0.join(&id.0)
    }

    #[must_use]
    pub fn building(&self, id: &EngineId) -> PathBuf {
        self.0.join(format!("{BUILDING}{id}"))
    }

    #[must_use]
    pub fn replaced(&self, id: &EngineId) -> PathBuf {
        self.0.join(format!("{REPLACED}{id}"))
    }

    #[must_use]
    pub fn removed(&self, id: &EngineId) -> PathBuf {
        self.0.join(format!("{REMOVED}{id}"))
    }

    #[must_use]
    pub fn default_link(&self) -> PathBuf {
        self.0.join(DEFAULT)
    }

    /// The name of the default engine, if there is one.
    #[must_use]
    pub fn default_id(&self) -> Option<String> {
        linked_id(&self.default_link())
    }

    /// The name of the default engine before, if one is remembered.
    #[must_use]
    pub fn previous_id(&self) -> Option<String> {
        linked_id(&self.0.join(PREVIOUS))
    }

    /// Names of what builds and removals left that were cut short, sorted. None
    /// if the directory does not exist.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn leftovers(&self) -> Result<Vec<String>, Error> {
        let mut names = self.names()?;
        let of_build =
            |name: &str| [BUILDING, REPLACED, REMOVED].iter().any(|p| name.starts_with(p));
        names.retain(|name| of_build(name));
        Ok(names)
    }

    /// The engine of this name.
    ///
    /// # Errors
    /// [`Error::UnknownEngine`] with the nearest names.
    pub fn find(&self, name: &str) -> Result<EngineId, Error> {
        let known = self.list()?;
        if let Some(id) = known.iter().find(|id| id.as_str() == name) {
            return Ok(id.clone());
        }
        let known = nearest(name, known.iter().map(EngineId::as_str));
        Err(Error::UnknownEngine { name: name.into(), dir: self.0.clone(), known })
    }

    /// The names of the engines, sorted. None if the directory does not exist.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<EngineId>, Error> {
        let ids = self.names()?.into_iter().filter_map(|name| EngineId::try_from(name).ok());
        Ok(ids.filter(|id| self.engine(id).join(FILE_NAME).exists()).collect())
    }

    /// What stands in the directory, sorted; names that are no text left out.
    fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("read", &self.0)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(io("read", &self.0))?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }
}

/// The last name of what a link leads to.
fn linked_id(link: &Path) -> Option<String> {
    let target = std::fs::read_link(link).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "../a", ".lock", "default", "a b", "ä", "a\n"] {
            assert!(EngineId::try_from(name.to_owned()).is_err(), "{name:?}");
        }
        assert!(EngineId::try_from("a".repeat(LONGEST + 1)).is_err());
        for name in ["a", "smollm2:135m", "Qwen2.5-Coder_7B"] {
            assert!(EngineId::try_from(name.to_owned()).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn titles_become_names() {
        let id = |title| EngineId::from_title(title).map(|id| id.0);
        assert_eq!(id("SmolLM2 135M 8k  Lc100K").as_deref(), Some("smollm2-135m-8k-lc100k"));
        assert_eq!(id("../../etc/passwd").as_deref(), Some("etc-passwd"));
        assert_eq!(id("!!!"), None);
        assert_eq!(id("Default"), None);
    }

    #[test]
    fn only_directories_with_a_manifest_are_engines() {
        let state = tempfile::tempdir().unwrap();
        let engines = Engines::of(state.path());
        assert!(engines.list().unwrap().is_empty());
        for name in ["b", "a", ".building-c", "empty"] {
            std::fs::create_dir_all(engines.path().join(name)).unwrap();
        }
        for name in ["b", "a", ".building-c"] {
            std::fs::write(engines.path().join(name).join(FILE_NAME), "").unwrap();
        }
        let names: Vec<_> = engines.list().unwrap().into_iter().map(|id| id.0).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
