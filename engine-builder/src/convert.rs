//! A GGUF file out of a checkpoint, by llama.cpp's own converter.
//!
//! ```text
//! <state>/work/<engine>@llama-cpp/   see quantise.rs
//! ├── convert.log                    what the converter said
//! └── converted/weights.gguf         16 bits, removed when the engine is published
//! ```
//!
//! The file is only a step on the way: [`crate::quantise`] makes the engine's weights
//! of it. The converter is a foreign program ([`converter`]) that is looked at before
//! anything is fetched for it. It gets files whose hashes are known and no network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jetpack::Bytes;

pub mod converter;

use converter::Converter;

use crate::build;
use crate::catalogue::{Entry, Form};
use crate::error::{Error, io};
use crate::fetch::Fetched;
use crate::fetch::pins::Pins;
use crate::flags::{self, Tool};
use crate::foreign::record::{self, Record};
use crate::hash::Sha256Hex;
use crate::place::remove;
use crate::plan::Plan;
use crate::preflight::make_dir;
use crate::quantise;
use crate::report::Report;
use crate::tool::{self, Limits};

/// The step's name, in the log's and in messages.
const STEP: &str = "convert";

/// What the checkpoint becomes. Every number of 16 bits that makers publish is one of
/// these, but for some that are next to zero.
pub const OUTTYPE: &str = "f16";

/// After this it is killed. It reads and writes each byte once.
pub const LIMIT_S: u64 = 2 * 3600;

/// PyTorch and what the converter holds of the model at a time. The files are mapped
/// and count as far as they are in memory.
const BESIDE_FILES: u64 = 3_000_000_000;

/// What the converter is told beside its arguments: to ask no hub, and to take no
/// module of a user's and leave none compiled.
pub const ENV: [(&str, &str); 4] = [
    ("HF_HUB_OFFLINE", "1"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("PYTHONNOUSERSITE", "1"),
    ("TRANSFORMERS_OFFLINE", "1"),
];

/// The command line that makes `to` of `checkpoint`.
pub(crate) fn argv(runtime: &Path, checkpoint: &Path, to: &Path) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let mut argv = vec![
        text(&runtime.join(converter::PYTHON)),
        text(&runtime.join(converter::SCRIPT)),
        text(checkpoint),
    ];
    argv.extend(["--outfile".into(), text(to), "--outtype".into(), OUTTYPE.into()]);
    argv
}

/// Where the result of the step stands, in a work directory.
pub(crate) fn result(work: &Path) -> PathBuf {
    output(work).join("weights.gguf")
}

fn output(work: &Path) -> PathBuf {
    work.join("converted")
}

/// Bytes of the result that an earlier build has left.
pub(crate) fn begun(state_dir: &Path, plan: &Plan) -> u64 {
    record::bytes(&output(&quantise::work_dir(state_dir, plan)))
}

/// What a checkpoint is known by: its files' names and hashes, and the release that
/// converts it. Another of them makes another model file.
pub(crate) fn made_of<'a>(
    files: impl Iterator<Item = (&'a str, &'a Sha256Hex)>,
    converter: &Sha256Hex,
) -> Sha256Hex {
    let mut lines: Vec<String> = files.map(|(name, sha256)| format!("{sha256} {name}\n")).collect();
    lines.sort();
    lines.dedup();
    Sha256Hex::of(format!("{}{converter}\n", lines.concat()).as_bytes())
}

/// What the checkpoint of `entry` is known by, if any of it was fetched before.
pub(crate) fn known(entry: &Entry, pins: &Pins, converter: &Converter) -> Option<Sha256Hex> {
    let checkpoint = entry.source.checkpoint.as_ref()?;
    let form = Form::Checkpoint;
    let told = checkpoint.revision.as_ref().map(|revision| revision.as_str().to_owned());
    let revision = told.or_else(|| pins.revision(form, &checkpoint.repository));
    let learnt = pins.all(form, &checkpoint.repository, revision.as_deref());
    let catalogues = checkpoint.sha256.iter().map(|(name, sha256)| (name.as_str(), sha256));
    let all: Vec<_> = learnt.chain(catalogues).collect();
    (!all.is_empty()).then(|| made_of(all.into_iter(), &converter.sha256))
}

/// The step, with all that it needs.
#[derive(Debug)]
pub struct Step<'a> {
    pub converter: &'a Converter,
    /// The directory of the checkpoint.
    pub checkpoint: &'a Path,
    pub work: &'a Path,
    pub plan: &'a Plan,
    pub report: &'a Report,
}

impl Step<'_> {
    /// Converts what was fetched, unless that is already finished.
    ///
    /// # Errors
    /// [`Error::Tool`] if the converter fails; [`Error::Model`] and
    /// [`Error::OtherModel`] if it left something else than the model; [`Error::Io`].
    pub fn run(&self, files: &[Fetched]) -> Result<Fetched, Error> {
        let from = self.checkpoint.canonicalize().map_err(io("find", self.checkpoint))?;
        let (output, to) = (output(self.work), result(self.work));
        let argv = argv(&self.converter.runtime, &from, &to);
        flags::check(Tool::ConvertHfToGguf, &argv).map_err(|fault| {
            Error::Unsupported(format!("the command line of {STEP} is wrong: {fault}"))
        })?;
        let key = self.key(files, &argv);
        make_dir(self.work)?;
        let mut record = Record::read(self.work);
        let is_finished = record.has(&key, &output, self.report)?;
        if !is_finished {
            remove(&output).map_err(io("remove", &output))?;
            make_dir(&output)?;
            self.convert(&argv, files)?;
        }
        build::check_header(self.plan, &to)?;
        if !is_finished {
            record.add(STEP, &key, &output, self.report)?;
        }
        Ok(Fetched {
            bytes: to.metadata().map_err(io("look at", &to))?.len(),
            path: to,
            sha256: None,
            commands: vec![argv],
            outcome: if is_finished { "already converted" } else { "converted" },
        })
    }

    fn key(&self, files: &[Fetched], argv: &[String]) -> String {
        let named = files
            .iter()
            .filter_map(|file| Some((file.path.file_name()?.to_str()?, file.sha256.as_ref()?)));
        let made_of = made_of(named, &self.converter.sha256);
        record::key(made_of.as_str(), argv, &[])
    }

    fn convert(&self, argv: &[String], files: &[Fetched]) -> Result<(), Error> {
        let (program, arguments) = argv.split_first().expect("the Python's path comes first");
        let mut command = Command::new(program);
        command.args(arguments).envs(ENV).env_remove("NO_LOCAL_GGUF").current_dir(self.work);
        let mapped =
            files.iter().map(|file| file.bytes).fold(self.plan.weights.bytes, u64::saturating_add);
        let memory = Bytes::new(mapped.saturating_add(BESIDE_FILES));
        let limits = Limits { time: Duration::from_secs(LIMIT_S), memory: Some(memory) };
        let log = self.work.join(STEP).with_extension("log");
        tool::run(&mut command, self.work, &log, limits, self.report)
            .map_err(|source| Error::Tool { step: STEP.into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_one_that_the_converter_takes() {
        let argv = argv(Path::new("/opt/x"), Path::new("/cache/m"), Path::new("/work/w.gguf"));
        flags::check(Tool::ConvertHfToGguf, &argv).unwrap();
    }

    #[test]
    fn a_checkpoint_is_known_by_its_files_and_their_converter() {
        let (one, two) = (Sha256Hex::of(b"one"), Sha256Hex::of(b"two"));
        let of = |files: &[(&'static str, &Sha256Hex)], converter| {
            made_of(files.iter().map(|(name, sha256)| (*name, *sha256)), converter)
        };
        let known = of(&[("a", &one), ("b", &two)], &one);
        assert_eq!(known, of(&[("b", &two), ("a", &one), ("a", &one)], &one));
        assert_ne!(known, of(&[("a", &two), ("b", &one)], &one));
        assert_ne!(known, of(&[("a", &one)], &one));
        assert_ne!(known, of(&[("a", &one), ("b", &two)], &two));
    }
}
