//! A build from beginning to end.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use engine_api::manifest::{BoundTo, Capabilities, MANIFEST_VERSION, Manifest, Quality};
use jetpack::Bytes;
use serde_json::json;

use crate::catalogue::{Catalogue, Entry, Form};
use crate::convert::{self, converter::Converter};
use crate::embedder;
use crate::engines::Engines;
use crate::error::{Error, io};
use crate::existing;
use crate::fetch::pins::Pins;
use crate::fetch::{Cache, Fetched, Sources, wanted};
use crate::gguf;
use crate::lock::Lock;
use crate::pickle;
use crate::place::{self, Building, Way};
use crate::plan::{self, Origin, Plan, Promise, Requantise, Wishes};
use crate::preflight;
use crate::publish;
use crate::quality::{self, Gauge};
use crate::quantise::{self, Made};
use crate::report::{Report, Step};
use crate::smoke::{self, SmokeError};
use crate::tool;

/// What the user asked for.
#[derive(Debug)]
pub struct Order {
    pub model: Choice,
    pub wishes: Wishes,
    pub sources: Sources,
    pub state_dir: PathBuf,
    pub cache_dir: PathBuf,
    /// Where the user's own catalogue files are.
    pub models_dir: PathBuf,
    /// The worker for the smoke run; else the one beside this program.
    pub worker: Option<PathBuf>,
    /// What makes a GGUF of a checkpoint.
    pub converter: Converter,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Which model.
#[derive(Debug)]
pub enum Choice {
    Catalogue(String),
    File(PathBuf),
}

/// Builds the engine that `order` asks for, unless it is already there.
///
/// # Errors
/// See [`Error`]. What was there before is then still there.
pub fn run(order: &Order, report: &Report) -> Result<(), Error> {
    report.begin(Step::Plan, "reading what there is");
    if let Choice::Catalogue(name) = &order.model
        && let Some(entry) = embedder::find(name)
    {
        return embedder::build(entry, order, report);
    }
    let plan = plan(order)?;
    let engines = Engines::of(&order.state_dir);
    let dir = engines.engine(&plan.id);
    if let Some(manifest) = existing::same(&engines, &plan, report)? {
        if !order.dry_run {
            complete(&engines, &plan)?;
        }
        let facts = json!({"engine": plan.id.as_str(), "dir": dir, "built": false});
        report.result(&format!("{} is already built: {}", manifest.id, dir.display()), facts);
        return Ok(());
    }
    report.end(&plan.summary());
    if order.dry_run {
        let facts = json!({"engine": plan.id.as_str(), "dir": dir, "built": false});
        report.result(&format!("{} would be built in {}", plan.id, dir.display()), facts);
        return Ok(());
    }
    build(plan, order, &engines, report)
}

/// A build that was cut short after its engine had its name may have left the
/// engine before it, what was made on the way, or no default.
fn complete(engines: &Engines, plan: &Plan) -> Result<(), Error> {
    let work = quantise::work_dir(engines.state_dir(), plan);
    let nothing_left = engines.leftovers()?.is_empty() && !work.exists();
    let serves = plan.embedding.is_some() || publish::serves_by_default(engines);
    if nothing_left && serves {
        return Ok(());
    }
    let _lock = Lock::take(engines.path())?;
    publish::recover(engines)?;
    tidy(engines, plan)?;
    match plan.embedding {
        Some(_) => Ok(()),
        None => publish::set_default(engines, &plan.id),
    }
}

fn plan(order: &Order) -> Result<Plan, Error> {
    match &order.model {
        Choice::Catalogue(name) => {
            let catalogue = Catalogue::with_dir(&order.models_dir)?;
            let entry = catalogue.find(name)?;
            let only_checkpoint = order.wishes.form.is_none()
                && Cache::at(&order.cache_dir).has_only_checkpoint(entry, &order.sources);
            let form = only_checkpoint.then_some(Form::Checkpoint).or(order.wishes.form);
            let wishes = Wishes { form, ..order.wishes.clone() };
            let mut plan = plan::from_catalogue(entry, &wishes)?;
            recall(&mut plan, order)?;
            Ok(plan)
        }
        Choice::File(path) if pickle::is_named(path) => Err(Error::Pickle { path: path.clone() }),
        Choice::File(path) => {
            let path = path.canonicalize().map_err(io("read", path))?;
            let facts = read(&path)?;
            let bytes = path.metadata().map_err(io("look at", &path))?.len();
            plan::from_file(path, bytes, &facts, &order.wishes)
        }
    }
}

/// Completes the plan with what was learnt when the model was first fetched.
fn recall(plan: &mut Plan, order: &Order) -> Result<(), Error> {
    let (entry, is_checkpoint) = match &plan.weights.origin {
        Origin::Hub { entry, .. } => (entry, false),
        Origin::Checkpoint { entry } => (entry, true),
        Origin::Package { .. } | Origin::File(_) => return Ok(()),
    };
    let pins = Pins::read(&order.state_dir, &entry.id)?;
    if is_checkpoint {
        plan.weights.sha256 = convert::known(entry, &pins, &order.converter);
        return Ok(());
    }
    let wanted = wanted::wanted(entry, Form::Gguf, &pins);
    let Some(file) = wanted.and_then(|wanted| wanted.files.into_iter().next()) else {
        return Ok(());
    };
    if let Some(bytes) = file.bytes {
        (plan.weights.bytes, plan.weights.estimated) = (bytes, false);
    }
    plan.weights.sha256 = file.sha256;
    Ok(())
}

fn build(plan: Plan, order: &Order, engines: &Engines, report: &Report) -> Result<(), Error> {
    report.begin(Step::Preflight, "checking disk, memory and the worker");
    let cache = Cache::at(&order.cache_dir);
    if matches!(plan.weights.origin, Origin::Checkpoint { .. }) {
        order.converter.check()?;
    }
    let cleared = preflight::clear(&plan, engines, &cache, order.worker.as_deref())?;
    report.end(&cleared.finding);
    let id = plan.id.clone();
    report.shown(&order.state_dir, id.as_str(), || {
        go_on(plan, order, engines, &cache, &cleared.worker, report)
    })
}

/// The rest of a build, once nothing is in its way.
fn go_on(
    mut plan: Plan,
    order: &Order,
    engines: &Engines,
    cache: &Cache,
    worker: &Path,
    report: &Report,
) -> Result<(), Error> {
    report.begin(Step::Fetch, "looking into the cache");
    let fetched = match plan.weights.origin.clone() {
        Origin::Checkpoint { entry } => {
            converted(&mut plan, &entry, order, engines, cache, report)?
        }
        _ => cache.fetch(&plan, &order.sources, &order.state_dir, report)?,
    };
    (plan.weights.bytes, plan.weights.estimated) = (fetched.bytes, false);
    let plan = &plan;
    check_header(plan, &fetched.path)?;
    report.end(fetched.outcome);

    let (building, manifest) = make(plan, fetched, engines, worker, report)?;

    report.begin(Step::Publish, "writing to the disk");
    publish::publish(engines, &plan.id, building, &manifest)?;
    tidy(engines, plan)?;
    let dir = engines.engine(&plan.id);
    report.end(&dir.display().to_string());
    let facts = json!({
        "engine": plan.id.as_str(), "dir": dir, "built": true, "smoke": manifest.smoke,
        "quantised": manifest.quantised, "quality": manifest.quality
    });
    report.result(&format!("{} is built: {}", plan.id, dir.display()), facts);
    Ok(())
}

/// The model file that is made of a checkpoint. Both are fetched or made unless they
/// are there.
fn converted(
    plan: &mut Plan,
    entry: &Entry,
    order: &Order,
    engines: &Engines,
    cache: &Cache,
    report: &Report,
) -> Result<Fetched, Error> {
    let form = Form::Checkpoint;
    let files = cache.fetch_form(entry, form, &order.sources, &order.state_dir, report)?;
    let bytes = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    report.end(&format!("{} files of the checkpoint, {}", files.len(), Bytes::new(bytes)));
    // By now all of its files are known.
    recall(plan, order)?;
    report.begin(Step::Convert, "the checkpoint to a GGUF of 16 bits");
    let work = work(engines, plan)?;
    let checkpoint = cache.dir_of(&entry.id, form);
    let step = convert::Step {
        converter: &order.converter,
        checkpoint: &checkpoint,
        work: &work,
        plan,
        report,
    };
    step.run(&files)
}

/// Removes what was made on the way: it is in the engine now.
pub(crate) fn tidy(engines: &Engines, plan: &Plan) -> Result<(), Error> {
    let work = quantise::work_dir(engines.state_dir(), plan);
    place::remove(&work).map_err(io("remove", &work))
}

/// Puts the fetched weights where nobody looks yet, and proves them in `worker`.
pub(crate) fn make(
    plan: &Plan,
    fetched: Fetched,
    engines: &Engines,
    worker: &Path,
    report: &Report,
) -> Result<(Building, Manifest), Error> {
    let work = work(engines, plan)?;
    let source = fetched.path.clone();
    let (fetched, quantised) = match &plan.quantise {
        Some(wish) => {
            let made = quantised(plan, wish, &fetched, worker, &work, report)?;
            (made.weights, Some(made.quantised))
        }
        None => (fetched, None),
    };

    report.begin(Step::Build, "placing the weights");
    let building = Building::new(engines, &plan.id)?;
    let (weights, way) = place::weights(&fetched, fetched.bytes, &building, report)?;
    report.end(match way {
        Way::Linked => "weights linked, they take no more disk",
        Way::Copied => "weights copied",
    });

    report.begin(Step::Verify, "loading the engine in a worker");
    let mut manifest = manifest(plan, fetched);
    let placed = building.path().join(&weights.path);
    manifest.files.push(weights);
    manifest.quantised = quantised;
    prove(worker, building.path(), &mut manifest, plan.promised.as_ref(), report)?;
    manifest.quality = match measured_before(plan, engines, &manifest) {
        Some(quality) => {
            report.begin(Step::Verify, "looking how well it predicts the fixed text");
            report.end(&format!("perplexity {:.2}, as these weights had it", quality.perplexity));
            Some(quality)
        }
        None => measure(plan, &placed, &source, &Gauge { worker, work: &work, report })?,
    };
    Ok((building, manifest))
}

/// What the engine measured that this one takes the place of, if its weights and
/// what computes them are the same.
fn measured_before(plan: &Plan, engines: &Engines, manifest: &Manifest) -> Option<Quality> {
    let before = Manifest::read(&engines.engine(&plan.id)).ok()?;
    let same = before.files == manifest.files
        && before.backend == manifest.backend
        && before.bound_to == manifest.bound_to;
    before.quality.filter(|_| same).and_then(|quality| quality::held_again(&quality, plan))
}

/// The directory for what is made on the way, with nobody else at work in it.
fn work(engines: &Engines, plan: &Plan) -> Result<PathBuf, Error> {
    // One spelling, by which the tools of a build that was killed are found.
    let path = engines.path().canonicalize().map_err(io("find", engines.path()))?;
    let work = quantise::work_dir(path.parent().unwrap_or(&path), plan);
    let failed = |source| Error::Tool { step: "preflight".into(), source };
    tool::end_orphans(&work).map_err(failed)?;
    Ok(work)
}

fn quantised(
    plan: &Plan,
    wish: &Requantise,
    source: &Fetched,
    worker: &Path,
    work: &Path,
    report: &Report,
) -> Result<Made, Error> {
    let target = wish.target;
    report.begin(Step::Quantise, &format!("{} to {target}", wish.from));
    for caution in quantise::cautions(&wish.from, target) {
        report.note(&caution);
    }
    let made = quantise::Step { worker, work, plan, wish, report }.run(source)?;
    for finding in quantise::findings(&made, source.bytes) {
        report.note(&finding);
    }
    report.end(&made.outcome);
    Ok(made)
}

/// Holds the engine to its bound, if there is one. A result that does not keep it
/// is not quantised from again.
fn measure(
    plan: &Plan,
    weights: &Path,
    source: &Path,
    gauge: &Gauge<'_>,
) -> Result<Option<Quality>, Error> {
    if !quality::is_due(plan) {
        return Ok(None);
    }
    let Gauge { work, report, .. } = gauge;
    report.begin(Step::Verify, "measuring how well it predicts the fixed text");
    let weights = weights.canonicalize().map_err(io("find", weights))?;
    let source = source.canonicalize().map_err(io("find", source))?;
    let source = plan.quantise.is_some().then_some(source.as_path());
    let quality = match quality::gate(plan, &weights, source, gauge) {
        Err(error @ (Error::Quality { .. } | Error::BadSource { .. })) => {
            quantise::discard(work)?;
            return Err(error);
        }
        other => other?,
    };
    if let Some(Quality { perplexity, tokens, bound, .. }) = &quality {
        report.end(&format!(
            "perplexity {perplexity:.2} on {tokens} tokens, at most {bound:.2} is allowed"
        ));
    }
    Ok(quality)
}

/// The catalogue was right about the model, down to what decides its memory. A
/// hub's file may count its parameters otherwise: some converters store a tied
/// output matrix once more, and factors of RoPE as a tensor.
pub(crate) fn check_header(plan: &Plan, path: &Path) -> Result<(), Error> {
    let facts = read(path)?;
    let same = facts.architecture == plan.model.architecture
        && (facts.parameters == plan.model.parameters
            || matches!(plan.weights.origin, Origin::Hub { .. } | Origin::Checkpoint { .. }))
        && facts.quantisation == plan.source_quantisation()
        && facts.kv_bytes_per_token == plan.weights.kv_bytes_per_token;
    if same {
        return Ok(());
    }
    let what = format!(
        "it is {} {} with {} parameters and {:?} bytes of KV cache a token",
        facts.architecture, facts.quantisation, facts.parameters, facts.kv_bytes_per_token
    );
    Err(Error::OtherModel { path: path.into(), what })
}

fn read(path: &Path) -> Result<gguf::Facts, Error> {
    gguf::read(path).map_err(|source| Error::Model { path: path.into(), source })
}

/// The manifest before anything has been measured.
fn manifest(plan: &Plan, fetched: Fetched) -> Manifest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Manifest {
        manifest_version: MANIFEST_VERSION,
        id: plan.id.to_string(),
        built_at: now.as_secs(),
        model: plan.model.clone(),
        backend: plan.backend.clone(),
        // A GGUF runs wherever llama.cpp does.
        bound_to: BoundTo::default(),
        serving: plan.serving.clone(),
        capabilities: Capabilities::default(),
        embedding: plan.embedding.clone(),
        files: Vec::new(),
        commands: fetched.commands,
        smoke: None,
        quantised: None,
        quality: None,
    }
}

/// Runs the engine once and completes its manifest with what was seen.
pub(crate) fn prove(
    worker: &Path,
    dir: &Path,
    manifest: &mut Manifest,
    promised: Option<&Promise>,
    report: &Report,
) -> Result<(), Error> {
    publish::write_manifest(dir, manifest)?;
    let model = manifest.model.name.clone();
    let failed = |source| Error::Smoke { model, source };
    let dir = dir.canonicalize().map_err(io("find", dir))?;
    if manifest.is_embedder() {
        let outcome = smoke::embeddings(worker, &dir, &manifest.serving, None, report);
        let outcome = outcome.map_err(failed)?;
        report.end(&outcome.in_words());
        manifest.capabilities = Capabilities { embedding: true, ..Capabilities::default() };
        manifest.smoke = Some(outcome.smoke);
        return Ok(());
    }
    let expected = promised.map_or(&[][..], |promise| promise.smoke_answer.as_slice());
    let outcome = match smoke::run(worker, &dir, &manifest.serving, expected, report) {
        Ok(outcome) => outcome,
        Err(source) => return Err(failed(source)),
    };
    if let Some(promise) = promised {
        let broken = broken(promise.capabilities, outcome.capabilities);
        if let Some(what) = broken {
            let reason = outcome.no_chat;
            return Err(failed(SmokeError::BrokenPromise { what, reason }));
        }
    } else if let Some(reason) = &outcome.no_chat {
        report.note(&format!("no chat: {reason}"));
    }
    let smoke = &outcome.smoke;
    report.end(&format!(
        "loaded in {:.1} s on {}, prefill {:.0} and decode {:.0} tokens/s",
        std::time::Duration::from_millis(smoke.load_ms).as_secs_f64(),
        outcome.device,
        smoke.prefill_tokens_per_s,
        smoke.decode_tokens_per_s
    ));
    manifest.capabilities = outcome.capabilities;
    manifest.smoke = Some(outcome.smoke);
    Ok(())
}

/// A capability that was promised and is not there.
fn broken(promised: Capabilities, seen: Capabilities) -> Option<&'static str> {
    let missing = |promised: bool, seen: bool| promised && !seen;
    if missing(promised.chat, seen.chat) {
        return Some("chat");
    }
    missing(promised.fim, seen.fim).then_some("filling in the middle")
}
