//! The weights, quantised from a larger file by llama.cpp's own quantiser, which
//! is part of engine-worker.
//!
//! ```text
//! <state>/work/<engine>@llama-cpp/
//! ├── finished.json       whether the step is finished, see foreign/record.rs
//! ├── converted/          the source, if it is made from a checkpoint, see convert.rs
//! ├── quantise.log        what the worker said
//! └── quantised/          the step's output, removed when the engine is published
//!     ├── weights.gguf
//!     └── result.json     what became of its tensors
//! ```
//!
//! The source stays where it is and the result is linked into the engine, so the
//! disk holds both and no third. A build that is cut short goes on with a finished
//! result, and with no other: it is known by the source's hash, the type and the
//! quantiser's version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use engine_api::chore::{QUANTISE, Quantised, Target};
use engine_api::manifest;
use jetpack::Bytes;

use crate::engines::EngineId;
use crate::error::{Error, io};
use crate::fetch::Fetched;
use crate::flags::{self, Tool};
use crate::foreign::record::{self, Record};
use crate::gguf;
use crate::hash::{self, Sha256Hex};
use crate::place::remove;
use crate::plan::{LLAMA_CPP, Plan, Requantise};
use crate::preflight::make_dir;
use crate::publish::write_whole;
use crate::report::Report;
use crate::tool::{self, Limits};

/// The step's name, in the log's and in messages.
const STEP: &str = "quantise";

/// What the names of work directories end with.
const ENDING: &str = "@llama-cpp";

/// After this it is killed.
pub const LIMIT_S: u64 = 2 * 3600;

const LIMIT: Duration = Duration::from_secs(LIMIT_S);

/// Memory beside the mapped source: rows before and after, and the program.
const BESIDE_SOURCE: u64 = 1 << 30;

/// Where the steps of one engine work. The directory need not be there.
#[must_use]
pub fn work_dir(state_dir: &Path, plan: &Plan) -> PathBuf {
    work_of(state_dir, &plan.id)
}

pub(crate) fn work_of(state_dir: &Path, engine: &EngineId) -> PathBuf {
    // No engine's name has an @, so no other build works there.
    state_dir.join("work").join(format!("{engine}{ENDING}"))
}

/// Bytes of the result that an earlier build has left.
#[must_use]
pub fn begun(state_dir: &Path, plan: &Plan) -> u64 {
    record::bytes(&output(&work_dir(state_dir, plan)))
}

fn output(work: &Path) -> PathBuf {
    work.join("quantised")
}

/// Where the result of the step stands, in a work directory.
pub(crate) fn result(work: &Path) -> PathBuf {
    output(work).join("weights.gguf")
}

/// The command line that makes `to` of `from`.
pub(crate) fn argv(from: &Path, to: &Path, target: &str) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let words = ["engine-worker".into(), QUANTISE.into(), text(from), text(to), "--to".into()];
    words.into_iter().chain([target.to_owned()]).collect()
}

/// What the step made.
#[derive(Debug)]
pub struct Made {
    pub weights: Fetched,
    pub quantised: manifest::Quantised,
    /// One line on what came of it.
    pub outcome: String,
}

/// The step, with all that it needs.
#[derive(Debug)]
pub struct Step<'a> {
    pub worker: &'a Path,
    pub work: &'a Path,
    pub plan: &'a Plan,
    pub wish: &'a Requantise,
    pub report: &'a Report,
}

impl Step<'_> {
    /// Quantises `source`, unless that is already finished.
    ///
    /// # Errors
    /// [`Error::Tool`] if the worker fails; [`Error::OtherModel`] if it made
    /// something else than was asked for; [`Error::Io`].
    pub fn run(&self, source: &Fetched) -> Result<Made, Error> {
        let from = source.path.canonicalize().map_err(io("find", &source.path))?;
        let from_sha256 = match &source.sha256 {
            Some(known) => known.clone(),
            None => hash::file(&from, &mut self.report.meter(source.bytes))
                .map_err(io("read", &from))?,
        };
        let output = output(self.work);
        let to = result(self.work);
        let argv = self.argv(&from, &to)?;
        let key = key(&from_sha256, self.wish.target);
        make_dir(self.work)?;
        let mut record = Record::read(self.work);
        let is_finished = record.has(&key, &output, self.report)?;
        let outcome = output.join("result.json");
        if !is_finished {
            remove(&output).map_err(io("remove", &output))?;
            make_dir(&output)?;
            let quantised = self.quantise(&argv, source.bytes)?;
            let text = serde_json::to_string(&quantised).expect("two numbers are JSON");
            write_whole(&outcome, &text)?;
        }
        let bytes = self.check(&to)?;
        if !is_finished {
            record.add(STEP, &key, &output, self.report)?;
        }
        let text = fs::read_to_string(&outcome).map_err(io("read", &outcome))?;
        let quantised: Quantised =
            serde_json::from_str(&text).map_err(|error| io("read", &outcome)(error.into()))?;
        let mut commands = source.commands.clone();
        commands.push(argv);
        let outcome = if is_finished { "already finished" } else { "finished" };
        Ok(Made {
            outcome: format!(
                "{}, {} from {}",
                outcome,
                Bytes::new(bytes),
                Bytes::new(source.bytes)
            ),
            weights: Fetched { path: to, bytes, sha256: None, commands, outcome: "quantised" },
            quantised: manifest::Quantised {
                from: self.plan.made_from().into(),
                // Of a checkpoint not the file on the way, but what that was made from.
                from_sha256: self
                    .plan
                    .weights
                    .sha256
                    .as_ref()
                    .unwrap_or(&from_sha256)
                    .as_str()
                    .into(),
                tool: LLAMA_CPP.into(),
                tensors: quantised.tensors,
                fallbacks: quantised.fallbacks,
            },
        })
    }

    fn argv(&self, from: &Path, to: &Path) -> Result<Vec<String>, Error> {
        let mut argv = argv(from, to, self.wish.target.name);
        flags::check(Tool::EngineWorker, &argv).map_err(|fault| {
            Error::Unsupported(format!("the command line of {STEP} is wrong: {fault}"))
        })?;
        argv[0] = self.worker.display().to_string();
        Ok(argv)
    }

    fn quantise(&self, argv: &[String], source_bytes: u64) -> Result<Quantised, Error> {
        let (program, arguments) = argv.split_first().expect("the worker's path comes first");
        let mut command = Command::new(program);
        command.args(arguments);
        let memory = Bytes::new(source_bytes.saturating_add(BESIDE_SOURCE));
        let limits = Limits { time: LIMIT, memory: Some(memory) };
        let log = self.work.join(STEP).with_extension("log");
        tool::run_own(&mut command, self.work, &log, limits, self.report)
            .map_err(|source| Error::Tool { step: STEP.into(), source })
    }

    /// The size of the result, if it is the model that was asked for.
    fn check(&self, path: &Path) -> Result<u64, Error> {
        let facts =
            gguf::read(path).map_err(|source| Error::Model { path: path.into(), source })?;
        let same = facts.quantisation == self.wish.target.name
            && facts.architecture == self.plan.model.architecture
            && facts.kv_bytes_per_token == self.plan.weights.kv_bytes_per_token;
        if !same {
            let what =
                format!("it is {} {} after quantising", facts.architecture, facts.quantisation);
            return Err(Error::OtherModel { path: path.into(), what });
        }
        Ok(path.metadata().map_err(io("look at", path))?.len())
    }
}

/// Removes the result of a step whose engine is not published.
///
/// # Errors
/// [`Error::Io`].
pub fn discard(work: &Path) -> Result<(), Error> {
    let output = output(work);
    remove(&output).map_err(io("remove", &output))
}

fn key(from: &Sha256Hex, target: Target) -> String {
    record::key(from.as_str(), &[target.name.into(), LLAMA_CPP.into()], &[])
}

/// What quantising cannot do well, said before it is done.
#[must_use]
pub fn cautions(from: &str, target: Target) -> Vec<String> {
    let mut said = Vec::new();
    let (Some(had), Some(gets)) = (bits(from), bits(target.name)) else { return said };
    if had < 16 {
        said.push(format!(
            "{from} is already quantised: what it lost stays lost, and rounding it again loses \
             more; from a file of 16 bits {target} would be better"
        ));
    }
    if had < 16 && gets >= had {
        said.push(format!(
            "{target} has no fewer bits than {from}: the engine gets no better by it, and hardly \
             smaller or even larger"
        ));
    }
    said
}

/// What could be seen only afterwards.
#[must_use]
pub fn findings(made: &Made, source_bytes: u64) -> Vec<String> {
    let mut said = Vec::new();
    let manifest::Quantised { tensors, fallbacks, .. } = made.quantised;
    if fallbacks > 0 {
        said.push(format!(
            "{fallbacks} of {tensors} tensors have rows that do not divide into blocks of 256 \
             weights and took a larger type"
        ));
    }
    if made.weights.bytes > source_bytes {
        said.push(format!(
            "the result takes {}, more than its source with {}",
            Bytes::new(made.weights.bytes),
            Bytes::new(source_bytes)
        ));
    }
    said
}

/// Bits of most weights, by a quantisation's name.
fn bits(name: &str) -> Option<u32> {
    name.trim_start_matches(['I', 'B', 'T', 'F', 'Q']).split('_').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target::named(name).unwrap()
    }

    #[test]
    fn bits_are_read_from_the_name() {
        let names = ["F32", "BF16", "Q8_0", "Q4_K_M", "IQ3_XXS", "TQ1_0", "unknown"];
        let bits = names.map(bits);
        assert_eq!(bits, [Some(32), Some(16), Some(8), Some(4), Some(3), Some(1), None]);
    }

    #[test]
    fn what_is_lost_is_said_before_it_is_lost() {
        assert!(cautions("F16", target("Q4_K_M")).is_empty());
        assert!(cautions("unknown", target("Q4_K_M")).is_empty());
        let [twice] = &cautions("Q8_0", target("Q4_K_M"))[..] else { panic!("one sentence") };
        assert!(twice.starts_with("Q8_0 is already quantised: "), "{twice}");
        let [_, larger] = &cautions("Q4_1", target("Q4_K_M"))[..] else { panic!("two sentences") };
        assert!(larger.starts_with("Q4_K_M has no fewer bits than Q4_1: "), "{larger}");
    }

    #[test]
    fn another_source_or_type_is_another_step() {
        let (one, two) = (Sha256Hex::of(b"one"), Sha256Hex::of(b"two"));
        let (q4, q8) = (target("Q4_K_M"), target("Q8_0"));
        assert_eq!(key(&one, q4), key(&one, q4));
        assert_ne!(key(&one, q4), key(&two, q4));
        assert_ne!(key(&one, q4), key(&one, q8));
    }
}
