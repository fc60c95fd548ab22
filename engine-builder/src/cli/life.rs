//! The commands for engines that are built: `verify`, `use`, `rollback`,
//! `remove`, `gc` and `doctor`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use engine_api::manifest::{Manifest, Quality};
use jetpack::{Root, Severity};
use serde_json::json;

use crate::catalogue::Catalogue;
use crate::cleaning::{self, Verdict};
use crate::doctor::{self, Seen};
use crate::engines::{EngineId, Engines};
use crate::error::{Class, Error, io};
use crate::foreign::idle::{self, Fate, Work};
use crate::in_use::InUse;
use crate::installed::{self, Verified, note_verified};
use crate::lock::{self, Lock};
use crate::report::{self, Report, Step};
use crate::smoke::{self, SmokeError};
use crate::staleness::{Here, Staleness};
use crate::switch::{self, Switched};
use crate::{existing, place, preflight, publish};

/// Verifies the engine `name`, or all. With `worker`, each is also loaded.
pub(super) fn verify(
    name: Option<&str>,
    worker: Option<&Path>,
    engines: &Engines,
    report: &Report,
) -> Result<(), Error> {
    let here = Here::read(Root::default());
    if let Some(name) = name {
        return verify_one(&engines.find(name)?, worker, engines, &here, report);
    }
    let mut unsound = Vec::new();
    let all = engines.list()?;
    for id in &all {
        match verify_one(id, worker, engines, &here, report) {
            Ok(()) => {}
            Err(error) if matches!(error.class(), Class::BadModel | Class::Smoke) => {
                let facts = json!({"kind": "engine", "id": id.as_str(), "fault": error.chain()});
                report.item(&error.chain(), facts);
                unsound.push(id.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if unsound.is_empty() {
        report.result(&format!("{} engines are sound", all.len()), json!({"engines": all.len()}));
        return Ok(());
    }
    Err(Error::NotAllSound(unsound.join(", ")))
}

fn verify_one(
    id: &EngineId,
    worker: Option<&Path>,
    engines: &Engines,
    here: &Here,
    report: &Report,
) -> Result<(), Error> {
    report.begin(Step::Verify, "reading every file");
    let manifest = existing::verify(engines, id, report)?;
    if let Some(worker) = worker {
        answers_as_built(id, worker, &manifest, engines, report)?;
    }
    let verified = Verified { at: now(), smoke: worker.is_some() };
    if let Err(error) = note_verified(&engines.engine(id), verified) {
        report.note(&format!("it cannot be noted: {}", error.chain()));
    }
    let staleness = Staleness::of(&manifest, here);
    let count = manifest.files.len();
    let mut text = format!("{id} is sound: {count} of {count} files as the manifest says");
    if worker.is_some() {
        text.push_str(", and it answers as when it was built");
    }
    if let Some(Quality { perplexity, bound, tokens, .. }) = &manifest.quality {
        text.push_str(&format!(
            "; when built its perplexity was {perplexity:.2} on {tokens} tokens, of at most {bound:.2}"
        ));
    }
    if staleness.is_stale() {
        text.push_str(&format!("; it is stale: {}", staleness.words(here)));
    }
    if !staleness.unknown.is_empty() {
        text.push_str(&format!("; not known: {}", staleness.unknown_words()));
    }
    let facts = json!({
        "engine": id.as_str(), "dir": engines.engine(id), "files": count,
        "smoke": worker.is_some(), "stale": staleness.reasons, "unknown": staleness.unknown,
        "quantised": manifest.quantised, "quality": manifest.quality,
    });
    report.result(&text, facts);
    Ok(())
}

/// Loads the engine in a worker and compares its answer with the build's.
fn answers_as_built(
    id: &EngineId,
    worker: &Path,
    manifest: &Manifest,
    engines: &Engines,
    report: &Report,
) -> Result<(), Error> {
    let failed = |source| Error::Smoke { model: id.to_string(), source };
    report.begin(Step::Verify, "loading the engine in a worker");
    let dir = engines.engine(id);
    let serving = &manifest.serving;
    let smoke = if manifest.is_embedder() {
        smoke::embeddings(worker, &dir, serving, None, report).map(|outcome| outcome.smoke)
    } else {
        smoke::run(worker, &dir, serving, &[], report).map(|outcome| outcome.smoke)
    };
    let smoke = smoke.map_err(failed)?;
    let built = manifest.smoke.as_ref().map(|smoke| smoke.answer_sha256.as_str());
    if built.is_some_and(|built| built != smoke.answer_sha256) {
        return Err(failed(SmokeError::OtherThanBuilt));
    }
    Ok(())
}

pub(super) fn switch_to(name: &str, engines: &Engines, report: &Report) -> Result<(), Error> {
    let id = engines.find(name)?;
    let _lock = Lock::take(engines.path())?;
    publish::recover(engines)?;
    switched(&switch::to(engines, &id)?, report);
    Ok(())
}

pub(super) fn roll_back(engines: &Engines, report: &Report) -> Result<(), Error> {
    if !engines.path().exists() {
        return Err(Error::NoPrevious { dir: engines.path().into() });
    }
    let _lock = Lock::take(engines.path())?;
    publish::recover(engines)?;
    switched(&switch::back(engines)?, report);
    Ok(())
}

fn switched(Switched { to, from }: &Switched, report: &Report) {
    let before = from.as_ref().map(|id| format!(", before it was {id}")).unwrap_or_default();
    let text = format!("{to} is the default{before}; a running server loads it when restarted");
    report.result(&text, json!({"engine": to.as_str(), "before": from}));
}

pub(super) fn remove(name: &str, engines: &Engines, report: &Report) -> Result<(), Error> {
    let id = engines.find(name)?;
    let _lock = Lock::take(engines.path())?;
    publish::recover(engines)?;
    if let Some(why) = InUse::find(engines)?.why(&id) {
        return Err(Error::InUse { id: id.to_string(), why: why.into() });
    }
    cleaning::take_away(engines, &id)?;
    let facts = json!({"engine": id.as_str(), "removed": true});
    report.result(&format!("{id} is removed"), facts);
    Ok(())
}

pub(super) fn gc(engines: &Engines, dry_run: bool, report: &Report) -> Result<(), Error> {
    if !engines.path().exists() {
        report.result("there are no engines", json!({"removed": 0, "dry_run": dry_run}));
        return Ok(());
    }
    // A dry run changes nothing, so it can be had while a builder works.
    let _lock = if dry_run { None } else { Some(Lock::take(engines.path())?) };
    let is_built = dry_run && matches!(lock::look(engines.path()), Err(Error::Busy { .. }));
    let leftovers = engines.leftovers()?;
    if !dry_run {
        publish::recover(engines)?;
        report::forget(engines.state_dir());
    }
    let all = installed::all(engines, &Here::default())?;
    let verdict = cleaning::judge(&all, &InUse::find(engines)?);
    let would = if dry_run { "would be removed" } else { "removed" };
    let Verdict { kept, removed } = &verdict;
    for name in &leftovers {
        report.item(
            &format!("{name} {would}: work that was cut short"),
            json!({
                "kind": "leftover", "name": name, "removed": !dry_run
            }),
        );
    }
    for (id, why) in kept {
        report.item(
            &format!("{id} stays: it {why}"),
            json!({
                "kind": "engine", "id": id.as_str(), "kept": true, "why": why
            }),
        );
    }
    for id in removed {
        if !dry_run {
            cleaning::take_away(engines, id)?;
        }
        report.item(
            &format!("{id} {would}"),
            json!({
                "kind": "engine", "id": id.as_str(), "kept": false, "removed": !dry_run
            }),
        );
    }
    for work in idle::all(engines, &all)? {
        let fate = match is_built {
            true => Fate::Stays { why: "a builder is at work".into() },
            false => work.fate(now()),
        };
        clear_work(&work, &fate, dry_run, report)?;
    }
    let (gone, stay) = (removed.len(), kept.len());
    let facts = json!({"removed": gone, "kept": stay, "dry_run": dry_run});
    report.result(&format!("{gone} engines {would}, {stay} stay"), facts);
    Ok(())
}

/// Removes what steps have left and no build goes on from, or says what stays.
fn clear_work(work: &Work, fate: &Fate, dry_run: bool, report: &Report) -> Result<(), Error> {
    let name = format!("work/{}", work.model);
    match fate {
        Fate::Stays { why } => report.item(
            &format!("{name} stays: {why}"),
            json!({
                "kind": "work", "name": name, "kept": true, "why": why,
                "bytes": work.bytes.get()
            }),
        ),
        Fate::Goes { paths, bytes, why } => {
            for path in paths.iter().filter(|_| !dry_run) {
                place::remove(path).map_err(io("remove", path))?;
            }
            let would = if dry_run { "would be removed" } else { "removed" };
            let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            report.item(
                &format!("{} {would}, {bytes}: {why}", shown.join(", ")),
                json!({
                    "kind": "work", "name": name, "kept": false, "paths": paths, "why": why,
                    "bytes": bytes.get(), "removed": !dry_run
                }),
            );
        }
    }
    Ok(())
}

/// Says what is wrong; the error carries the exit code.
pub(super) fn doctor(
    engines: &Engines,
    cache_dir: &Path,
    root: PathBuf,
    catalogue: &Catalogue,
    report: &Report,
) -> Result<(), Error> {
    let seen = Seen::now(engines, cache_dir, catalogue, Here::read(Root::new(root)), now())?;
    let findings = doctor::findings(&seen);
    for finding in &findings {
        let mut facts = json!(finding);
        facts["event"] = "finding".into();
        report.item(&finding.to_string(), facts);
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (serious, warnings) = (count(Severity::Serious), count(Severity::Warning));
    let counts = format!("{serious} serious findings, {warnings} warnings");
    match (serious, warnings) {
        (0, 0) => {
            report.result("nothing is wrong", json!({"findings": findings.len()}));
            Ok(())
        }
        (0, _) => Err(Error::Findings(counts, Class::Warnings)),
        _ => Err(Error::Findings(counts, Class::Serious)),
    }
}

/// The worker for `--smoke`; `None` without it.
pub(super) fn worker(smoke: bool, named: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    smoke.then(|| preflight::find_worker(named)).transpose()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
