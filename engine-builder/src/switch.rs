//! Which engine serves when none is named: the link `default`, and the link
//! `.previous` to the one before it.
//!
//! Both are replaced by a rename, so each names the old engine or the new one
//! whenever the power is cut. `.previous` goes first: a switch that is cut short
//! between the two has changed nothing that serves, and is simply made again.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::engines::{DEFAULT, EngineId, Engines, PREVIOUS};
use crate::error::{Error, io};
use crate::existing;
use crate::publish::sync;

/// Name of a link before it is renamed to its place.
pub(crate) const NEW_LINK: &str = ".new-link";

/// What a switch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    pub to: EngineId,
    /// The default until now, if it was another.
    pub from: Option<String>,
}

/// Makes `id` the default and remembers the one before. For the lock's holder.
///
/// # Errors
/// The engine is not sound ([`Error::Manifest`], [`Error::Damaged`]), or
/// [`Error::Io`]; the default is then what it was.
pub fn to(engines: &Engines, id: &EngineId) -> Result<Switched, Error> {
    if existing::open(engines, id)?.is_embedder() {
        return Err(Error::Usage(format!(
            "{id} makes embeddings and no answers; it serves beside the default, and needs no link"
        )));
    }
    let from = engines.default_id().filter(|old| old != id.as_str());
    if let Some(old) = from.as_deref().filter(|old| engines.path().join(old).exists()) {
        link(engines, old, PREVIOUS)?;
    }
    if engines.default_id().as_deref() != Some(id.as_str()) {
        link(engines, id.as_str(), DEFAULT)?;
    }
    Ok(Switched { to: id.clone(), from })
}

/// Makes the engine before this one the default again.
///
/// # Errors
/// [`Error::NoPrevious`], or as [`to`].
pub fn back(engines: &Engines) -> Result<Switched, Error> {
    let current = engines.default_id();
    let previous = engines.previous_id().filter(|id| Some(id) != current.as_ref());
    let previous = previous.and_then(|id| EngineId::try_from(id).ok());
    let there = previous.filter(|id| engines.engine(id).exists());
    let id = there.ok_or_else(|| Error::NoPrevious { dir: engines.path().into() })?;
    to(engines, &id)
}

/// Points the link `name` at the engine `target`, at once.
pub(crate) fn link(engines: &Engines, target: &str, name: &str) -> Result<(), Error> {
    let (new, place) = (engines.path().join(NEW_LINK), engines.path().join(name));
    remove_link(&new)?;
    symlink(target, &new).map_err(io("create", &new))?;
    fs::rename(&new, &place).map_err(io("write", &place))?;
    sync(engines.path())
}

/// Removes a link if it is there.
pub(crate) fn remove_link(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::sample::{engines, id};

    #[test]
    fn a_switch_remembers_one_back_and_rollback_is_a_switch() {
        let (_state, engines) = engines(&["a", "b", "c"]);
        let links = || (engines.default_id(), engines.previous_id());
        let named = |one: &str, other: &str| (Some(one.into()), Some(other.into()));
        assert!(matches!(back(&engines), Err(Error::NoPrevious { .. })));
        assert_eq!(to(&engines, &id("a")).unwrap().from, None);
        assert_eq!(to(&engines, &id("b")).unwrap().from.as_deref(), Some("a"));
        assert_eq!(to(&engines, &id("c")).unwrap().from.as_deref(), Some("b"));
        assert_eq!(links(), named("c", "b"));
        assert_eq!(to(&engines, &id("c")).unwrap().from, None);
        assert_eq!(links(), named("c", "b"));
        assert_eq!(back(&engines).unwrap().to, id("b"));
        assert_eq!(links(), named("b", "c"));
        fs::remove_dir_all(engines.engine(&id("c"))).unwrap();
        assert!(matches!(back(&engines), Err(Error::NoPrevious { .. })));
    }

    #[test]
    fn a_switch_cut_short_serves_the_old_engine_and_can_be_made_again() {
        let (_state, engines) = engines(&["a", "b", "c"]);
        to(&engines, &id("a")).unwrap();
        to(&engines, &id("b")).unwrap();
        // Cut after the first rename, with a link left over from yet another.
        link(&engines, "b", PREVIOUS).unwrap();
        symlink("nowhere", engines.path().join(NEW_LINK)).unwrap();
        assert_eq!(engines.default_id().as_deref(), Some("b"));
        to(&engines, &id("c")).unwrap();
        assert_eq!(engines.default_id().as_deref(), Some("c"));
        assert_eq!(engines.previous_id().as_deref(), Some("b"));
    }

    #[test]
    fn an_engine_that_is_damaged_is_not_switched_to() {
        let (_state, engines) = engines(&["a", "b"]);
        to(&engines, &id("a")).unwrap();
        fs::write(engines.engine(&id("b")).join("weights.gguf"), "longer").unwrap();
        assert!(matches!(to(&engines, &id("b")), Err(Error::Damaged { .. })));
        assert_eq!((engines.default_id().as_deref(), engines.previous_id()), (Some("a"), None));
    }
}
