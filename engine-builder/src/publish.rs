//! The last step: the engine gets its manifest and its name, at once.
//!
//! A reader sees the old engine or the new one, whole, whenever the power is
//! cut: files first, manifest last, then one rename.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use engine_api::manifest::{FILE_NAME, Manifest};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::engines::{BUILDING, DEFAULT, EngineId, Engines, REMOVED, REPLACED};
use crate::error::{Error, io};
use crate::place::{Building, remove};
use crate::switch;

/// Writes the manifest into `dir`, to the disk.
///
/// # Errors
/// [`Error::Io`].
///
/// # Panics
/// Never: every manifest can be written as TOML.
pub fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let text = toml::to_string(manifest).expect("a manifest is a TOML table");
    write_whole(&dir.join(FILE_NAME), &text)
}

/// Writes a small file, to the disk. A reader sees what was there before or all
/// of the text.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    replace_whole(path, text).map_err(io("write", path))
}

/// As [`write_whole`], for those who say themselves what went wrong.
pub(crate) fn replace_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Gives the engine in `building` the name `id`, in the place of an engine
/// that has it. If no engine is the default, it is; an embedder never is.
///
/// # Errors
/// [`Error::Io`]; the engine that was there is then still there.
pub fn publish(
    engines: &Engines,
    id: &EngineId,
    building: Building,
    manifest: &Manifest,
) -> Result<(), Error> {
    put(engines, id, building, manifest)?.keep();
    match manifest.is_embedder() {
        true => Ok(()),
        false => set_default(engines, id),
    }
}

/// As [`publish`], and the engine that was there can come back.
///
/// # Errors
/// [`Error::Io`]; the engine that was there is then still there.
pub fn put(
    engines: &Engines,
    id: &EngineId,
    building: Building,
    manifest: &Manifest,
) -> Result<Replaced, Error> {
    let dir = building.path();
    for artefact in &manifest.files {
        sync(&dir.join(&artefact.path))?;
    }
    write_manifest(dir, manifest)?;
    sync(dir)?;
    let old = rename(engines, id, dir)?;
    sync(engines.path())?;
    Ok(Replaced { building, old })
}

/// The engine that had the name before, until it is known which of the two stays.
#[derive(Debug)]
#[must_use = "dropped, it may keep the disk twice"]
pub struct Replaced {
    /// Of the new engine; the old one stands there if the two were exchanged.
    building: Building,
    old: Option<PathBuf>,
}

impl Replaced {
    /// The new engine stays.
    pub fn keep(self) {
        if let Some(old) = &self.old {
            // What cannot be removed now goes with the next build.
            let _ = remove(old);
        }
    }

    /// The old engine gets its name back, and the new one goes. Without an old
    /// one there is none of that name.
    ///
    /// # Errors
    /// [`Error::Io`]; the new engine then still has the name.
    pub fn undo(self, engines: &Engines, id: &EngineId) -> Result<(), Error> {
        let (dir, free) = (engines.engine(id), self.building.path());
        match &self.old {
            Some(old) if old == free => drop(rename(engines, id, free)?),
            Some(old) => replace(old, &dir, free).map_err(io("restore", &dir))?,
            None => fs::rename(&dir, free).map_err(io("remove", &dir))?,
        }
        sync(engines.path())
    }
}

/// Tidies up after builds that were cut short: half engines go, and an engine
/// that had moved aside for its successor comes back. For the lock's holder.
///
/// # Errors
/// [`Error::Io`].
pub fn recover(engines: &Engines) -> Result<(), Error> {
    let root = engines.path();
    for entry in fs::read_dir(root).map_err(io("read", root))? {
        let entry = entry.map_err(io("read", root))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if let Some(id) = name.strip_prefix(REPLACED)
            && !root.join(id).exists()
        {
            fs::rename(&path, root.join(id)).map_err(io("restore", &path))?;
        } else if [BUILDING, REPLACED, REMOVED].iter().any(|prefix| name.starts_with(prefix)) {
            remove(&path).map_err(io("remove", &path))?;
        }
    }
    Ok(())
}

/// Where the engine is now that had the name.
fn rename(engines: &Engines, id: &EngineId, from: &Path) -> Result<Option<PathBuf>, Error> {
    let to = engines.engine(id);
    if to.symlink_metadata().is_err() {
        fs::rename(from, &to).map_err(io("publish", &to))?;
        return Ok(None);
    }
    match renameat2(AT_FDCWD, from, AT_FDCWD, &to, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(Some(from.to_owned())),
        // Not every file system can exchange two names.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            let aside = engines.replaced(id);
            replace(from, &to, &aside).map_err(io("publish", &to))?;
            Ok(Some(aside))
        }
        Err(errno) => Err(io("publish", &to)(errno.into())),
    }
}

/// Two renames in the place of one; [`recover`] completes them.
fn replace(from: &Path, to: &Path, aside: &Path) -> io::Result<()> {
    fs::rename(to, aside)?;
    if let Err(error) = fs::rename(from, to) {
        fs::rename(aside, to)?;
        return Err(error);
    }
    Ok(())
}

/// Makes `id` the default if no engine is.
pub(crate) fn set_default(engines: &Engines, id: &EngineId) -> Result<(), Error> {
    if serves_by_default(engines) {
        return Ok(());
    }
    switch::link(engines, id.as_str(), DEFAULT)
}

/// Whether the link leads to an engine.
pub(crate) fn serves_by_default(engines: &Engines) -> bool {
    engines.default_link().join(FILE_NAME).exists()
}

pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::sample;

    struct Place {
        _dir: tempfile::TempDir,
        engines: Engines,
        id: EngineId,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let engines = Engines::of(dir.path());
        Place { engines, id: "a".to_owned().try_into().unwrap(), _dir: dir }
    }

    impl Place {
        fn publish(&self, content: &str) -> PathBuf {
            let building = Building::new(&self.engines, &self.id).unwrap();
            let manifest = sample::manifest("a", content.as_bytes());
            fs::write(building.path().join(&manifest.files[0].path), content).unwrap();
            publish(&self.engines, &self.id, building, &manifest).unwrap();
            self.engines.engine(&self.id)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.engines.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_published_engine_is_there_whole_and_is_the_default() {
        let place = place();
        let dir = place.publish("one");
        assert_eq!(Manifest::read(&dir).unwrap(), sample::manifest("a", b"one"));
        assert_eq!(place.names(), ["a", "default"]);
        assert_eq!(place.engines.default_id().as_deref(), Some("a"));
    }

    #[test]
    fn a_new_engine_takes_the_place_of_the_old() {
        let place = place();
        place.publish("one");
        let dir = place.publish("two");
        assert_eq!(fs::read(dir.join("weights.gguf")).unwrap(), b"two");
        assert_eq!(place.names(), ["a", "default"]);
    }

    #[test]
    fn without_an_exchange_the_old_engine_moves_aside_first() {
        let place = place();
        let dir = place.publish("one");
        let (new, aside) = (place.engines.building(&place.id), place.engines.replaced(&place.id));
        fs::create_dir(&new).unwrap();
        replace(&new, &dir, &aside).unwrap();
        assert_eq!(place.names(), [".replaced-a", "a", "default"]);
        assert!(!dir.join(FILE_NAME).exists());
        // And back, as when the new one fails.
        let building = Building { path: new };
        Replaced { building, old: Some(aside) }.undo(&place.engines, &place.id).unwrap();
        assert_eq!(place.names(), ["a", "default"]);
        assert_eq!(fs::read(dir.join("weights.gguf")).unwrap(), b"one");
    }

    #[test]
    fn a_new_engine_that_fails_gives_the_name_back() {
        let place = place();
        let dir = place.publish("one");
        let building = Building::new(&place.engines, &place.id).unwrap();
        let manifest = sample::manifest("a", b"two");
        fs::write(building.path().join("weights.gguf"), "two").unwrap();
        let replaced = put(&place.engines, &place.id, building, &manifest).unwrap();
        assert_eq!(fs::read(dir.join("weights.gguf")).unwrap(), b"two");
        replaced.undo(&place.engines, &place.id).unwrap();
        assert_eq!(fs::read(dir.join("weights.gguf")).unwrap(), b"one");
        assert_eq!(place.names(), ["a", "default"]);
    }

    #[test]
    fn a_replacement_cut_short_is_undone() {
        let place = place();
        let dir = place.publish("one");
        fs::rename(&dir, place.engines.replaced(&place.id)).unwrap();
        recover(&place.engines).unwrap();
        assert_eq!(fs::read(dir.join("weights.gguf")).unwrap(), b"one");
        fs::create_dir(place.engines.replaced(&place.id)).unwrap();
        fs::create_dir(place.engines.path().join(".building-other")).unwrap();
        recover(&place.engines).unwrap();
        assert_eq!(place.names(), ["a", "default"]);
    }

    #[test]
    fn the_default_is_left_alone_unless_its_engine_is_gone() {
        let place = place();
        place.publish("one");
        let link = place.engines.default_link();
        let other = Place {
            engines: place.engines.clone(),
            id: "b".to_owned().try_into().unwrap(),
            _dir: tempfile::tempdir().unwrap(),
        };
        other.publish("two");
        assert_eq!(place.engines.default_id().as_deref(), Some("a"));
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("gone", &link).unwrap();
        other.publish("three");
        assert_eq!(place.engines.default_id().as_deref(), Some("b"));
    }
}
