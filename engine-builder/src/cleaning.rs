//! Taking engines away: one by name, or all that nobody needs.
//!
//! An engine first loses its name, by a rename, and then its files, so that a
//! removal that is cut short leaves no half engine; the next one completes it.

use std::fs;

use crate::engines::{EngineId, Engines};
use crate::error::{Error, io};
use crate::in_use::InUse;
use crate::installed::Installed;
use crate::place::remove;
use crate::publish::sync;

/// What `gc` would do with the engines, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub kept: Vec<(EngineId, &'static str)>,
    pub removed: Vec<EngineId>,
}

/// Keeps what is in use and one back: the engine that `rollback` would go to,
/// else the newest of the others. Where several engines could serve and nothing
/// says which, all are kept.
#[must_use]
pub fn judge(engines: &[Installed], in_use: &InUse) -> Verdict {
    let built_at = |engine: &Installed| engine.state.as_ref().map_or(0, |it| it.manifest.built_at);
    let answers = |engine: &&Installed| {
        engine.state.as_ref().map_or(true, |sound| !sound.manifest.is_embedder())
    };
    let engines_that_answer: Vec<&Installed> = engines.iter().filter(answers).collect();
    let idle: Vec<&Installed> = engines_that_answer
        .iter()
        .copied()
        .filter(|engine| in_use.why(&engine.id).is_none())
        .collect();
    let previous = idle.iter().find(|engine| engine.is_previous);
    let sound = idle.iter().filter(|engine| engine.state.is_ok());
    let back = previous.or(sound.max_by_key(|engine| built_at(engine)));
    let undecided = idle.len() == engines_that_answer.len();
    let mut verdict = Verdict::default();
    for Installed { id, .. } in engines {
        let why = match in_use.why(id) {
            Some(why) => Some(why),
            None if undecided => Some("could serve: nothing says which engine does"),
            None if back.is_some_and(|back| back.id == *id) => Some("is the one to go back to"),
            None => None,
        };
        match why {
            Some(why) => verdict.kept.push((id.clone(), why)),
            None => verdict.removed.push(id.clone()),
        }
    }
    verdict
}

/// Removes an engine. For the lock's holder, who knows that nobody uses it.
///
/// # Errors
/// [`Error::Io`].
pub fn take_away(engines: &Engines, id: &EngineId) -> Result<(), Error> {
    let (dir, aside) = (engines.engine(id), engines.removed(id));
    remove(&aside).map_err(io("remove", &aside))?;
    fs::rename(&dir, &aside).map_err(io("remove", &dir))?;
    sync(engines.path())?;
    remove(&aside).map_err(io("remove", &aside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::sample::{engines, id};
    use crate::publish::recover;
    use crate::staleness::Here;
    use crate::{installed, switch};

    fn removed(engines: &Engines) -> Vec<String> {
        let all = installed::all(engines, &Here::default()).unwrap();
        let verdict = judge(&all, &InUse::linked(engines).unwrap());
        assert_eq!(verdict.kept.len() + verdict.removed.len(), all.len());
        verdict.removed.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_default_and_one_back_are_kept() {
        let (_state, engines) = engines(&["a", "b", "c", "d"]);
        switch::to(&engines, &id("a")).unwrap();
        // Nothing to roll back to: the newest stays.
        assert_eq!(removed(&engines), ["b", "c"]);
        switch::to(&engines, &id("c")).unwrap();
        assert_eq!(removed(&engines), ["b", "d"]);
    }

    #[test]
    fn what_could_serve_is_kept_where_nothing_says_what_does() {
        let (_state, several) = engines(&["a", "b", "c"]);
        assert!(removed(&several).is_empty());
        let (_state, only) = engines(&["a"]);
        assert!(removed(&only).is_empty());
    }

    #[test]
    fn an_engine_that_a_process_has_loaded_is_kept() {
        let (_state, engines) = engines(&["a", "b", "c"]);
        switch::to(&engines, &id("c")).unwrap();
        assert_eq!(removed(&engines), ["a"]);
        let weights = engines.engine(&id("a")).join("weights.gguf").canonicalize().unwrap();
        let mut found = InUse::linked(&engines).unwrap();
        found.add_loaded(&engines, &weights);
        let all = installed::all(&engines, &Here::default()).unwrap();
        assert!(judge(&all, &found).removed.is_empty());
    }

    #[test]
    fn a_removal_cut_short_is_completed_and_never_undone() {
        let (_state, engines) = engines(&["a", "b"]);
        take_away(&engines, &id("a")).unwrap();
        fs::rename(engines.engine(&id("b")), engines.removed(&id("b"))).unwrap();
        assert_eq!(engines.leftovers().unwrap(), [".removed-b"]);
        recover(&engines).unwrap();
        assert!(engines.list().unwrap().is_empty() && engines.leftovers().unwrap().is_empty());
    }
}
