//! From a finished build to an engine that serves: its directory and manifest, the
//! proof in a worker, its name.
//!
//! What the proof needs is asked for before the tools run for hours: a worker that
//! has the backend, and a checkpoint that says how its model speaks. The tools'
//! output is linked into the engine's directory, so it never takes the disk twice,
//! and stays where it is until the engine has its name.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use engine_api::manifest::{
    Artefact, ArtefactRole, Backend, BackendKind, Capabilities, MANIFEST_VERSION, Manifest, Model,
    Serving, TensorrtLlm,
};
use jetpack::Sample;

use super::speech::{self, Speech};
use super::{Order, record};
use crate::build;
use crate::engines::Engines;
use crate::error::{Error, io};
use crate::existing;
use crate::hash::Sha256Hex;
use crate::place::{self, Building};
use crate::plan::Promise;
use crate::planning::BoardPlan;
use crate::preflight::find_worker;
use crate::publish;
use crate::rebuild::Proof;
use crate::report::{Report, Step};
use crate::smoke;
use crate::staleness::Here;

/// What `trtllm-build` calls the engine of the only GPU there is.
const WEIGHTS: &str = "rank0.engine";

/// How many tokens the KV cache holds follows from the plan. This only keeps the
/// runtime from taking the last of the memory that is free, as its default does.
const KV_FREE_PERCENT: u8 = 90;

/// Modes of files that everyone may read.
const READABLE: u32 = 0o444;

/// An engine that is to be proved.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    plan: &'a BoardPlan,
    worker: PathBuf,
    /// Where the checkpoint lies.
    input: &'a Path,
    speech: Speech,
    promise: Promise,
    /// As far as it is known before anything was measured.
    manifest: Manifest,
    /// Whether it takes the place of an engine that comes back if it fails there.
    again: bool,
}

impl<'a> Candidate<'a> {
    /// Everything that publishing will need, but for the engine itself.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if no worker is there that can run such engines, or
    /// the checkpoint does not tell how its model speaks.
    pub(super) fn new(
        order: &Order<'a>,
        input: &'a Path,
        sample: &Sample,
        report: &Report,
    ) -> Result<Self, Error> {
        let Order { plan, entry, .. } = *order;
        let (worker, kind) = able_worker(order, report)?;
        let speech = Speech::read(input, entry.fim.as_ref())?;
        let settings = TensorrtLlm {
            kv_free_percent: KV_FREE_PERCENT,
            // The plan builds with what both of them need.
            chunked_prompts: true,
            mmap: true,
            tokens: speech.tokens.clone(),
        };
        let mut aliases = vec![plan.model.clone()];
        aliases.extend(entry.aliases.iter().cloned());
        let tools = plan.steps.iter().filter(|step| step.tool.is_some());
        let manifest = Manifest {
            manifest_version: MANIFEST_VERSION,
            id: plan.engine.to_string(),
            built_at: 0,
            model: Model { quantisation: plan.quantisation.clone(), aliases, ..entry.model() },
            backend: Backend {
                kind,
                version: plan.version.into(),
                echo: None,
                tensorrt_llm: Some(settings),
            },
            bound_to: Here::of(sample, order.root.is_this_machine()).bound(),
            serving: Serving {
                context: plan.sizes.context,
                max_sequences: plan.sizes.users,
                cached_sequences: plan.sizes.spare,
                kv_bytes: plan.sizes.kv_bytes.get(),
            },
            capabilities: Capabilities::default(),
            embedding: None,
            files: Vec::new(),
            commands: tools.map(|step| step.argv.clone()).collect(),
            smoke: None,
            quantised: None,
            quality: None,
        };
        let promise =
            Promise { capabilities: entry.capabilities, smoke_answer: entry.smoke_answer.clone() };
        Ok(Self { plan, worker, input, speech, promise, manifest, again: order.again })
    }

    pub(super) fn is_again(&self) -> bool {
        self.again
    }

    /// Whether this engine is published already, by the same commands for the same
    /// machine and from files that have not been written since.
    pub(super) fn is_published(&self, engines: &Engines) -> bool {
        let Ok(there) = existing::open(engines, &self.plan.engine) else { return false };
        let written = record::written(self.input).unwrap_or(u64::MAX);
        let same = Manifest {
            built_at: there.built_at,
            capabilities: there.capabilities,
            files: there.files.clone(),
            smoke: there.smoke.clone(),
            ..self.manifest.clone()
        };
        same == there && written < there.built_at
    }

    /// Proves the engine that the tools left in `output`, and gives it its name.
    ///
    /// # Errors
    /// [`Error::Smoke`] if it does not prove itself, [`Error::Io`]; what was there
    /// before is then still there.
    pub(super) fn publish(
        mut self,
        output: &Path,
        engines: &Engines,
        report: &Report,
    ) -> Result<(), Error> {
        report.begin(Step::Verify, "loading the engine in a worker");
        let building = Building::new(engines, &self.plan.engine)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.manifest.built_at = now.as_secs();
        self.manifest.files = gather(output, self.input, &self.speech, &building, report)?;
        let Self { worker, promise, manifest, .. } = &mut self;
        build::prove(worker, building.path(), manifest, Some(&*promise), report)?;
        let id = &self.plan.engine;
        report.begin(Step::Publish, "writing to the disk");
        if self.again {
            let replaced = publish::put(engines, id, building, &self.manifest)?;
            report.end("the one before it is kept until the new one has answered");
            let proof = Proof {
                id,
                manifest: &self.manifest,
                expected: &self.promise.smoke_answer,
                worker: &self.worker,
            };
            return proof.settle(replaced, engines, report);
        }
        publish::publish(engines, id, building, &self.manifest)?;
        report.end(&engines.engine(id).display().to_string());
        Ok(())
    }
}

/// A worker that can run what is built.
fn able_worker(order: &Order<'_>, report: &Report) -> Result<(PathBuf, BackendKind), Error> {
    let plan = order.plan;
    let unable = |whom: &str| {
        Error::Unsupported(format!(
            "{} would not be published: {whom} cannot run {} engines, so none can be proved; \
             --unproved runs the tools nevertheless",
            plan.engine, plan.backend
        ))
    };
    let Some(kind) = plan.backend.kind() else {
        return Err(unable("this version's engine-worker"));
    };
    let worker = find_worker(order.worker)?;
    match smoke::backends(&worker, report) {
        Ok(built_in) if built_in.contains(&kind) => Ok((worker, kind)),
        Ok(_) => Err(unable(&format!("the engine-worker at {}", worker.display()))),
        Err(source) => Err(Error::Worker { worker, source }),
    }
}

/// Puts all that the engine consists of into its directory: what the tools left in
/// `output`, the checkpoint's tokeniser, and how a chat is written.
fn gather(
    output: &Path,
    input: &Path,
    speech: &Speech,
    building: &Building,
    report: &Report,
) -> Result<Vec<Artefact>, Error> {
    let all = record::files(output).map_err(io("read", output))?;
    // The tools make no directories; what else would be in one is not the engine's.
    let own = all.iter().filter(|(name, _)| name.components().count() == 1);
    let mut sources: Vec<(&Path, PathBuf, ArtefactRole)> = Vec::new();
    for (name, path) in own {
        let is_weights = name.as_os_str() == WEIGHTS;
        let mode = path.metadata().map_err(io("look at", path))?.permissions().mode();
        let everyone_reads = Permissions::from_mode(mode | READABLE);
        fs::set_permissions(path, everyone_reads).map_err(io("set permissions of", path))?;
        let role = if is_weights { ArtefactRole::Weights } else { ArtefactRole::Other };
        sources.push((name, path.clone(), role));
    }
    if !sources.iter().any(|(.., role)| *role == ArtefactRole::Weights) {
        let what = format!("the tools left no {WEIGHTS} in {}", output.display());
        return Err(Error::Unsupported(what));
    }
    let tokeniser = Path::new(speech::TOKENISER);
    sources.push((tokeniser, input.join(tokeniser), ArtefactRole::Tokenizer));
    let bytes = sources.iter().filter_map(|(_, path, _)| Some(path.metadata().ok()?.len()));
    let mut meter = report.meter(bytes.sum());
    let mut files = Vec::new();
    for (name, path, role) in sources {
        // A link to a symbolic link would be one too.
        let path = path.canonicalize().map_err(io("find", &path))?;
        files.push(place::file(&path, None, name, role, building, &mut meter)?.0);
    }
    if let Some(text) = &speech.template {
        let path = building.path().join(speech::TEMPLATE);
        fs::write(&path, text).map_err(io("write", &path))?;
        files.push(Artefact {
            path: speech::TEMPLATE.into(),
            bytes: text.len() as u64,
            sha256: Sha256Hex::of(text.as_bytes()).as_str().into(),
            role: ArtefactRole::ChatTemplate,
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use engine_api::manifest::SpecialTokens;

    use super::*;

    /// What comes of these files of the tools, as names and roles.
    fn gathered(left: &[&str]) -> Result<Vec<(PathBuf, ArtefactRole)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let [output, input] = ["output", "input"].map(|name| dir.path().join(name));
        fs::create_dir_all(output.join("deep")).unwrap();
        fs::create_dir(&input).unwrap();
        for name in left {
            fs::write(output.join(name), name).unwrap();
            let private = Permissions::from_mode(0o600);
            fs::set_permissions(output.join(name), private).unwrap();
        }
        fs::write(input.join(speech::TOKENISER), "{}").unwrap();
        let speech =
            Speech { tokens: SpecialTokens::default(), template: Some("{{ messages }}".into()) };
        let engines = Engines::of(dir.path());
        let building = Building::new(&engines, &"a".to_owned().try_into().unwrap()).unwrap();
        let files = gather(&output, &input, &speech, &building, &Report::silent())
            .map_err(|error| error.to_string())?;
        for file in &files {
            let placed = building.path().join(&file.path);
            let bytes = fs::read(&placed).unwrap();
            assert_eq!(file.bytes, bytes.len() as u64);
            assert_eq!(file.sha256, Sha256Hex::of(&bytes).as_str());
            assert_eq!(placed.metadata().unwrap().mode() & READABLE, READABLE);
            if left.iter().any(|name| file.path == Path::new(name)) {
                let made = output.join(&file.path).metadata().unwrap();
                assert_eq!(made.ino(), placed.metadata().unwrap().ino(), "it takes no more disk");
            }
        }
        Ok(files.into_iter().map(|file| (file.path, file.role)).collect())
    }

    #[test]
    fn an_engine_is_what_the_tools_left_and_what_its_model_speaks_with() {
        let files = gathered(&["rank0.engine", "config.json", "deep/more"]).unwrap();
        let expected = [
            ("config.json", ArtefactRole::Other),
            ("rank0.engine", ArtefactRole::Weights),
            ("tokenizer.json", ArtefactRole::Tokenizer),
            ("chat_template.jinja", ArtefactRole::ChatTemplate),
        ];
        assert_eq!(files, expected.map(|(path, role)| (PathBuf::from(path), role)));
    }

    #[test]
    fn tools_that_left_no_engine_are_not_believed() {
        let said = gathered(&["config.json"]).unwrap_err();
        assert!(said.starts_with("the tools left no rank0.engine in "), "{said}");
    }
}
