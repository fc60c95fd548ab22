//! Stale engines are built again with no network: llama.cpp's from their own weights,
//! those of TensorRT-LLM by its tools from the checkpoint in the cache ([`tensorrt`]).
//!
//! The new engine answers its golden prompts before it gets the name and once
//! more where it then stands. If it fails there, the engine before it, which has
//! been kept beside it, is back at once. After a power cut between the two the
//! new one stays: it has proved itself once.

use std::path::{Path, PathBuf};

use engine_api::manifest::{BackendKind, Manifest};
use jetpack::Root;
use serde_json::json;

mod tensorrt;

use crate::catalogue::{Catalogue, Entry};
use crate::engines::{EngineId, Engines};
use crate::error::{Class, Error};
use crate::fetch::{Cache, Fetched};
use crate::installed::{self, Installed, Sound};
use crate::plan::{self, Origin, Plan};
use crate::publish::Replaced;
use crate::report::{Report, Step};
use crate::server::{self, Work};
use crate::smoke::{self, SmokeError};
use crate::staleness::Here;
use crate::{build, existing, preflight, publish};

/// What the user, or the timer, asked for.
#[derive(Debug)]
pub struct Order {
    /// Without it, every engine that is stale.
    pub id: Option<String>,
    /// The server that must have nothing to do, if one is to be asked.
    pub idle_server: Option<String>,
    pub worker: Option<PathBuf>,
    pub dry_run: bool,
    pub state_dir: PathBuf,
    /// Below it are the files of the machine to build for.
    pub root: Root,
    /// Where checkpoints are kept; `None`: nobody has said it.
    pub cache_dir: Option<PathBuf>,
    /// Where the tools of the backends are.
    pub runtimes_dir: PathBuf,
}

/// Builds what is stale `here` again. One engine that cannot be built keeps none
/// of the others from it.
///
/// # Errors
/// [`Error::Later`] if the server is at work, [`Error::RolledBack`], and those of
/// a build. What was there before is then still there.
pub fn run(
    order: &Order,
    catalogue: &Catalogue,
    here: &Here,
    report: &Report,
) -> Result<(), Error> {
    let engines = Engines::of(&order.state_dir);
    let stale = wanted(&engines, order.id.as_deref(), here)?;
    if stale.is_empty() {
        report.result("no engine is stale", json!({"rebuilt": [], "dry_run": order.dry_run}));
        return Ok(());
    }
    if order.dry_run {
        return say(&stale, here, report);
    }
    if let Some(url) = &order.idle_server {
        nobody_is_disturbed(url, report)?;
    }
    let (mut rebuilt, mut first) = (Vec::new(), None);
    for (id, sound) in &stale {
        let built = match sound.manifest.backend.kind {
            BackendKind::TensorrtLlm => {
                tensorrt::again(id, &sound.manifest, order, catalogue, report)
            }
            _ => again(id, sound, catalogue, &engines, order.worker.as_deref(), report)
                .map(|()| true),
        };
        match built {
            Ok(true) => rebuilt.push(id.as_str()),
            Ok(false) => report.note(&format!("{id} is what would be built here already")),
            Err(error) if error.class() == Class::Interrupted => return Err(error),
            Err(error) if first.is_none() => first = Some(error),
            Err(error) => report.note(&error.chain()),
        }
    }
    if let Some(error) = first {
        return Err(error);
    }
    let facts = json!({"rebuilt": rebuilt, "dry_run": false});
    let text = match rebuilt.as_slice() {
        [] => "nothing had to be built again".to_owned(),
        ids => format!("built again: {}", ids.join(", ")),
    };
    report.result(&text, facts);
    Ok(())
}

/// The named engine, stale or not, or all that are stale, the default first.
fn wanted(
    engines: &Engines,
    name: Option<&str>,
    here: &Here,
) -> Result<Vec<(EngineId, Sound)>, Error> {
    let named = name.map(|name| engines.find(name)).transpose()?;
    let mut all = installed::all(engines, here)?;
    all.sort_by_key(|engine| !engine.is_default);
    let mut wanted = Vec::new();
    for Installed { id, state, .. } in all {
        match (&named, state) {
            (Some(named), state) if *named == id => wanted.push((id, state?)),
            (None, Ok(sound)) if sound.staleness.is_stale() => wanted.push((id, sound)),
            _ => {}
        }
    }
    Ok(wanted)
}

fn say(stale: &[(EngineId, Sound)], here: &Here, report: &Report) -> Result<(), Error> {
    for (id, sound) in stale {
        let why = match sound.staleness.words(here) {
            words if words.is_empty() => "it is not stale".to_owned(),
            words => words,
        };
        let facts = json!({"kind": "engine", "id": id.as_str(), "why": why});
        report.item(&format!("{id} would be built again: {why}"), facts);
    }
    Ok(())
}

fn nobody_is_disturbed(url: &str, report: &Report) -> Result<(), Error> {
    match server::look(url, report.interrupt())? {
        Work::Idle => Ok(()),
        Work::Busy(what) => Err(Error::Later(format!("not now: {what}"))),
    }
}

/// Builds one engine again.
fn again(
    id: &EngineId,
    sound: &Sound,
    catalogue: &Catalogue,
    engines: &Engines,
    worker: Option<&Path>,
    report: &Report,
) -> Result<(), Error> {
    let manifest = &sound.manifest;
    report.begin(Step::Plan, "reading what there is");
    let entry = catalogue.entries().iter().find(|entry| entry.model() == manifest.model);
    let plan = plan(id, manifest, entry, engines)?;
    report.end(&plan.summary());
    report.begin(Step::Preflight, "checking disk, memory and the worker");
    // Its own weights are all that it needs: nothing is looked for in a cache.
    let cache = Cache::at(engines.state_dir());
    let cleared = preflight::clear(&plan, engines, &cache, worker)?;
    report.end(&cleared.finding);
    report.shown(engines.state_dir(), id.as_str(), || {
        report.begin(Step::Fetch, "reading its own weights");
        let old = existing::verify(engines, id, report)?;
        let quantised = old.quantised.clone();
        let fetched = own_weights(&plan, old);
        report.end(fetched.outcome);
        let (building, mut manifest) =
            build::make(&plan, fetched, engines, &cleared.worker, report)?;
        manifest.quantised = quantised;
        report.begin(Step::Publish, "giving the new engine the name");
        let replaced = publish::put(engines, id, building, &manifest)?;
        report.end("the one before it is kept until the new one has answered");
        let expected = plan.promised.as_ref().map(|promise| promise.smoke_answer.as_slice());
        let proof = Proof {
            id,
            manifest: &manifest,
            expected: expected.unwrap_or_default(),
            worker: &cleared.worker,
        };
        proof.settle(replaced, engines, report)?;
        build::tidy(engines, &plan)
    })
}

/// How an engine is built again from what it is; only llama.cpp's can be.
fn plan(
    id: &EngineId,
    manifest: &Manifest,
    entry: Option<&Entry>,
    engines: &Engines,
) -> Result<Plan, Error> {
    if manifest.backend.kind != BackendKind::LlamaCpp {
        return Err(Error::Unsupported(format!(
            "{id} cannot be built again by itself: use `engine-builder build` with its model and \
             --backend"
        )));
    }
    plan::again(manifest, &engines.engine(id), id.clone(), entry).ok_or_else(|| Error::Damaged {
        id: id.to_string(),
        what: "its manifest names no weights".into(),
    })
}

fn own_weights(plan: &Plan, old: Manifest) -> Fetched {
    let Origin::File(path) = &plan.weights.origin else {
        unreachable!("the plan of an engine that is there has its own weights")
    };
    Fetched {
        path: path.clone(),
        bytes: plan.weights.bytes,
        sha256: plan.weights.sha256.clone(),
        commands: old.commands,
        outcome: "they are what the manifest says",
    }
}

/// The golden prompts, where the engine now stands.
#[derive(Debug)]
pub(crate) struct Proof<'a> {
    pub(crate) id: &'a EngineId,
    /// The new engine's: it says what it answered before it had the name.
    pub(crate) manifest: &'a Manifest,
    /// What the catalogue expects; empty if it expects nothing.
    pub(crate) expected: &'a [u32],
    pub(crate) worker: &'a Path,
}

impl Proof<'_> {
    /// The new engine keeps the name if it answers as before, and gives it back else.
    ///
    /// # Errors
    /// [`Error::RolledBack`], or [`Error::Interrupted`]; the engine before it is back.
    pub(crate) fn settle(
        &self,
        replaced: Replaced,
        engines: &Engines,
        report: &Report,
    ) -> Result<(), Error> {
        report.begin(Step::Verify, "loading the new engine where it serves");
        match self.holds(engines, report) {
            Ok(()) => {
                replaced.keep();
                report.end("it answers as when it was built");
                Ok(())
            }
            Err(error) => {
                replaced.undo(engines, self.id)?;
                Err(match error {
                    Error::Interrupted(_) => error,
                    error => Error::RolledBack { id: self.id.to_string(), source: Box::new(error) },
                })
            }
        }
    }

    fn holds(&self, engines: &Engines, report: &Report) -> Result<(), Error> {
        let failed = |source| Error::Smoke { model: self.manifest.model.name.clone(), source };
        existing::open(engines, self.id)?;
        let dir = engines.engine(self.id);
        let outcome = smoke::run(self.worker, &dir, &self.manifest.serving, self.expected, report);
        let outcome = match outcome {
            Err(SmokeError::Interrupted(interrupted)) => return Err(interrupted.into()),
            outcome => outcome.map_err(failed)?,
        };
        let built = self.manifest.smoke.as_ref().map(|smoke| smoke.answer_sha256.as_str());
        if built != Some(outcome.smoke.answer_sha256.as_str()) {
            return Err(failed(SmokeError::OtherThanBuilt));
        }
        Ok(())
    }
}
