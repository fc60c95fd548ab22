//! Which steps of a build are finished, so that the next run goes on from there.
//! [`crate::quantise`] keeps its own step in the same way.
//!
//! A step is finished when its output is on the disk and a line here says so,
//! written in that order. The line has a key of what the step was made from: its
//! command line, the step before it and the input's files by size and time. It
//! also has what was made: an output that lost a file or changed since is made again.
//! A file whose size and time are the recorded ones is believed. Times do not outlive
//! everything, as a power cut, a repaired file system or a copy; another time alone
//! does not cost hours of work, for then the file's hash decides.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::{Error, io};
use crate::hash::{self, Sha256Hex};
use crate::interrupt::Interrupted;
use crate::publish::{sync, write_whole};
use crate::report::Report;

/// Deepest directory below an input or output, and most files in all: models
/// have few files in few directories.
const DEEPEST: usize = 8;
const MOST_FILES: usize = 100_000;

/// One finished step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finished {
    step: String,
    key: String,
    made: Vec<Made>,
}

/// One file of its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    name: PathBuf,
    bytes: u64,
    /// In nanoseconds since 1970.
    written: u128,
    sha256: Sha256Hex,
}

/// The steps that are finished, in one work directory.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    finished: Vec<Finished>,
}

impl Record {
    /// What an earlier run has left in `work`; nothing, if it cannot be read.
    pub(crate) fn read(work: &Path) -> Self {
        let path = work.join("finished.json");
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { path, finished: serde_json::from_str(&text).unwrap_or_default() }
    }

    /// Whether this step is finished and `output` still is what it made.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: nobody knows yet.
    pub(crate) fn has(&self, key: &str, output: &Path, report: &Report) -> Result<bool, Error> {
        let Some(step) = self.finished.iter().find(|step| step.key == key) else {
            return Ok(false);
        };
        is_whole(output, &step.made, report)
    }

    /// The finished step that made `output` as it is now.
    pub(super) fn made(&self, output: &Path) -> Option<String> {
        let report = Report::silent();
        let is_of = |step: &&Finished| is_whole(output, &step.made, &report).unwrap_or(false);
        self.finished.iter().find(is_of).map(|step| step.step.clone())
    }

    /// Writes `output` to the disk, then that the step is finished. Steps before
    /// it stay recorded: their key decides.
    pub(crate) fn add(
        &mut self,
        step: &str,
        key: &str,
        output: &Path,
        report: &Report,
    ) -> Result<(), Error> {
        let mut dirs = BTreeSet::from([output.to_owned()]);
        for (_, file) in files(output).map_err(io("read", output))? {
            sync(&file)?;
            let inside = file.ancestors().skip(1).take_while(|dir| *dir != output);
            dirs.extend(inside.map(Path::to_owned));
        }
        dirs.iter().try_for_each(|dir| sync(dir))?;
        let made = take_down(output, report)?;
        self.finished.retain(|known| known.step != step);
        let (step, key) = (step.to_owned(), key.to_owned());
        self.finished.push(Finished { step, key, made });
        let text = serde_json::to_string_pretty(&self.finished).expect("strings are JSON");
        write_whole(&self.path, &text)?;
        sync(self.path.parent().unwrap_or(Path::new("/")))
    }
}

/// What the files below `output` are.
fn take_down(output: &Path, report: &Report) -> Result<Vec<Made>, Error> {
    let mut meter = report.meter(bytes(output));
    let mut made = Vec::new();
    for (name, file) in files(output).map_err(io("read", output))? {
        let (bytes, written) = stamp(&file).map_err(io("look at", &file))?;
        let sha256 = hash::file(&file, &mut meter).map_err(io("read", &file))?;
        made.push(Made { name, bytes, written, sha256 });
    }
    Ok(made)
}

/// Whether the files below `output` are those that were `made`. What cannot be read is
/// not.
fn is_whole(output: &Path, made: &[Made], report: &Report) -> Result<bool, Error> {
    let Ok(files) = files(output) else { return Ok(false) };
    let same_names = files.iter().map(|(name, _)| name).eq(made.iter().map(|file| &file.name));
    if !same_names {
        return Ok(false);
    }
    // Sizes first: they cost nothing.
    let mut in_doubt = Vec::new();
    for (file, (_, path)) in made.iter().zip(&files) {
        match stamp(path) {
            Ok((bytes, _)) if bytes != file.bytes => return Ok(false),
            Ok((_, written)) if written == file.written => {}
            Ok(_) => in_doubt.push((file, path)),
            Err(_) => return Ok(false),
        }
    }
    let mut meter = report.meter(in_doubt.iter().map(|(file, _)| file.bytes).sum());
    for (file, path) in in_doubt {
        match hash::file(path, &mut meter) {
            Ok(found) if found == file.sha256 => {}
            Ok(_) => return Ok(false),
            Err(error) => match Interrupted::inside(&error) {
                Some(interrupted) => return Err(interrupted.into()),
                None => return Ok(false),
            },
        }
    }
    Ok(true)
}

/// A file's size, and when it was last written.
fn stamp(file: &Path) -> io::Result<(u64, u128)> {
    let metadata = file.metadata()?;
    let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((metadata.len(), written.as_nanos()))
}

/// The key of a step: what it does, after what.
pub(crate) fn key(before: &str, argv: &[String], env: &[(&str, String)]) -> String {
    let text = serde_json::to_string(&(before, argv, env)).expect("strings are JSON");
    Sha256Hex::of(text.as_bytes()).as_str().to_owned()
}

/// A hash of the names, sizes and times of the files below `dir`.
pub(crate) fn listing(dir: &Path) -> io::Result<String> {
    let mut text = String::new();
    for (name, file) in files(dir)? {
        let (bytes, written) = stamp(&file)?;
        text.push_str(&format!("{name:?} {bytes} {written}\n"));
    }
    Ok(Sha256Hex::of(text.as_bytes()).as_str().to_owned())
}

/// Bytes of the files below `dir`; 0 if there are none.
pub(crate) fn bytes(dir: &Path) -> u64 {
    let files = files(dir).unwrap_or_default();
    files.iter().filter_map(|(_, file)| Some(file.metadata().ok()?.len())).sum()
}

/// The files below `dir`, by their names from there, and their sizes.
pub(super) fn sizes(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let sized = |(name, file): (PathBuf, PathBuf)| Ok((name, file.metadata()?.len()));
    files(dir)?.into_iter().map(sized).collect()
}

/// When a file below `dir` was last written, in seconds since 1970; 0 if there is none.
pub(super) fn written(dir: &Path) -> io::Result<u64> {
    let mut last = 0;
    for (_, file) in files(dir)? {
        let written = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        last = last.max(written.as_secs());
    }
    Ok(last)
}

/// The files below `dir` and their names from there, sorted.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    let mut dirs = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = dirs.pop() {
        for entry in fs::read_dir(dir.join(&below))? {
            let name = below.join(entry?.file_name());
            let path = dir.join(&name);
            if !path.metadata()?.is_dir() {
                found.push((name, path));
            } else if depth < DEEPEST {
                dirs.push((name, depth + 1));
            } else {
                return Err(io::Error::other("directories lie too deep"));
            }
            if found.len() > MOST_FILES {
                return Err(io::Error::other("there are too many files"));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("engine");
        fs::create_dir_all(output.join("deep")).unwrap();
        fs::write(output.join("deep/rank0.engine"), "abc").unwrap();
        (dir, output)
    }

    #[test]
    fn a_finished_step_is_known_to_the_next_run() {
        let (work, output) = place();
        assert!(!has(&work, "key", &output));
        add(&work, &output);
        assert!(has(&work, "key", &output));
        assert!(!has(&work, "other", &output));
        assert_eq!(Record::read(work.path()).made(&output).as_deref(), Some("build"));
    }

    /// The clock of a board without a battery, or a copy.
    #[test]
    fn another_time_alone_does_not_cost_the_work() {
        let (work, output) = place();
        add(&work, &output);
        let file = File::options().append(true).open(output.join("deep/rank0.engine")).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        assert!(has(&work, "key", &output));
        assert_eq!(Record::read(work.path()).made(&output).as_deref(), Some("build"));
        fs::write(output.join("deep/rank0.engine"), "abd").unwrap();
        assert!(!has(&work, "key", &output), "its size is the same");
    }

    #[test]
    fn who_calls_the_look_off_is_not_told_that_the_work_is_lost() {
        let (work, output) = place();
        add(&work, &output);
        fs::write(output.join("deep/rank0.engine"), "abc").unwrap();
        let interrupt = crate::interrupt::Interrupt::default();
        interrupt.raise();
        let report = Report::new(crate::report::Format::Json, interrupt);
        let asked = Record::read(work.path()).has("key", &output, &report);
        assert!(matches!(asked, Err(Error::Interrupted(_))), "{asked:?}");
    }

    fn add(work: &tempfile::TempDir, output: &Path) {
        Record::read(work.path()).add("build", "key", output, &Report::silent()).unwrap();
    }

    fn has(work: &tempfile::TempDir, key: &str, output: &Path) -> bool {
        Record::read(work.path()).has(key, output, &Report::silent()).unwrap()
    }

    #[test]
    fn output_that_was_cut_short_is_not_believed() {
        let (work, output) = place();
        add(&work, &output);
        fs::write(output.join("more"), "").unwrap();
        assert!(!has(&work, "key", &output));
        fs::remove_file(output.join("more")).unwrap();
        fs::write(output.join("deep/rank0.engine"), "ab").unwrap();
        assert!(!has(&work, "key", &output));
        fs::remove_dir_all(&output).unwrap();
        assert!(!has(&work, "key", &output));
    }

    #[test]
    fn a_record_that_makes_no_sense_records_nothing() {
        let (work, output) = place();
        fs::write(work.path().join("finished.json"), "[{\"step\":").unwrap();
        assert!(!has(&work, "key", &output));
    }

    #[test]
    fn another_command_or_another_input_is_another_step() {
        let argv = |word: &str| vec![word.to_owned()];
        let first = key("input", &argv("a"), &[]);
        assert_ne!(first, key("input", &argv("b"), &[]));
        assert_ne!(first, key("other", &argv("a"), &[]));
        assert_ne!(first, key("input", &argv("a"), &[("X", "1".into())]));
        assert_eq!(first, key("input", &argv("a"), &[]));
    }
}
