//! What is built: every engine with its default, its size, its age and whether
//! it still belongs to this machine.

use std::fs;
use std::path::Path;

use engine_api::manifest::Manifest;
use serde::{Deserialize, Serialize};

use crate::engines::{EngineId, Engines};
use crate::error::{Error, io};
use crate::existing;
use crate::publish;
use crate::staleness::{Here, Staleness};

/// In an engine's directory: when it was last read in whole and found sound.
const VERIFIED: &str = ".verified";

/// One engine below `engines/`.
#[derive(Debug)]
pub struct Installed {
    pub id: EngineId,
    pub is_default: bool,
    /// Whether `rollback` would go back to it.
    pub is_previous: bool,
    /// The manifest, if it can be believed and all files are there in size.
    pub state: Result<Sound, Error>,
}

/// What is known of an engine whose manifest is sound.
#[derive(Debug)]
pub struct Sound {
    pub manifest: Manifest,
    pub verified: Verified,
    pub staleness: Staleness,
}

/// The last time that every file was read and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Seconds since 1970. A build verifies what it publishes.
    pub at: u64,
    /// Whether a worker loaded it then and answered the known prompt.
    pub smoke: bool,
}

impl Sound {
    /// What its files take on the disk, shared or not.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.bytes).sum()
    }
}

/// All engines, sorted by name.
///
/// # Errors
/// The directory cannot be read.
pub fn all(engines: &Engines, here: &Here) -> Result<Vec<Installed>, Error> {
    let (default, previous) = (engines.default_id(), engines.previous_id());
    let look = |id: EngineId| Installed {
        is_default: default.as_deref() == Some(id.as_str()),
        is_previous: previous.as_deref() == Some(id.as_str()),
        state: existing::open(engines, &id).map(|manifest| Sound {
            verified: verified(&engines.engine(&id), &manifest),
            staleness: Staleness::of(&manifest, here),
            manifest,
        }),
        id,
    };
    Ok(engines.list()?.into_iter().map(look).collect())
}

/// Notes in the engine's directory that it was verified.
///
/// # Errors
/// [`Error::Io`]: the engine is sound all the same.
pub fn note_verified(dir: &Path, verified: Verified) -> Result<(), Error> {
    let text = toml::to_string(&verified).expect("two plain values are a TOML table");
    publish::write_whole(&dir.join(VERIFIED), &text)
}

/// The note, if it can be read, or the build's own verification.
fn verified(dir: &Path, manifest: &Manifest) -> Verified {
    let built = Verified { at: manifest.built_at, smoke: true };
    let path = dir.join(VERIFIED);
    let noted = fs::read_to_string(&path).map_err(io("read", &path));
    let noted = noted.ok().and_then(|text| toml::from_str::<Verified>(&text).ok());
    noted.filter(|noted| noted.at >= built.at).unwrap_or(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_verified_when_built_and_whenever_it_was_read_since() {
        let state = tempfile::tempdir().unwrap();
        let engines = Engines::of(state.path());
        let id = EngineId::try_from("a".to_owned()).unwrap();
        let dir = engines.engine(&id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("weights.gguf"), "abc").unwrap();
        let manifest = existing::sample::manifest("a", b"abc");
        publish::write_manifest(&dir, &manifest).unwrap();
        let look = || {
            let found = all(&engines, &Here::default()).unwrap().remove(0);
            assert!(!found.is_default && !found.is_previous);
            found.state.unwrap().verified
        };
        assert_eq!(look(), Verified { at: 1, smoke: true });
        let later = Verified { at: 7, smoke: false };
        note_verified(&dir, later).unwrap();
        assert_eq!(look(), later);
        fs::write(dir.join(VERIFIED), "at = -3").unwrap();
        assert_eq!(look(), Verified { at: 1, smoke: true });
    }
}
