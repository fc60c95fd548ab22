//! Which steps of a build are finished, so that the next run goes on from there.
//!
//! A step is finished when its output is on the disk and a line here says so,
//! written in that order. The line has a key of what the step was made from: its
//! command line, the step before it and the input's files by size and time. It
//! also has what was made, in the same way, so that an output which has changed
//! or lost a file since is made again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::{Error, io};
use crate::hash::Sha256Hex;
use crate::publish::{sync, write_whole};

/// Deepest directory below an input or output, and most files in all: models
/// have few files in few directories.
const DEEPEST: usize = 8;
const MOST_FILES: usize = 100_000;

/// One finished step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finished {
    step: String,
    key: String,
    output: String,
}

/// The steps that are finished, in one work directory.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    finished: Vec<Finished>,
}

impl Record {
    /// What an earlier run has left in `work`; nothing, if it cannot be read.
    pub(super) fn read(work: &Path) -> Self {
        let path = work.join("finished.json");
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { path, finished: serde_json::from_str(&text).unwrap_or_default() }
    }

    /// Whether this step is finished and `output` still is what it made.
    pub(super) fn has(&self, key: &str, output: &Path) -> bool {
        let Ok(now) = listing(output) else { return false };
        self.finished.iter().any(|step| step.key == key && step.output == now)
    }

    /// The finished step that made `output` as it is now.
    pub(super) fn made(&self, output: &Path) -> Option<String> {
        let now = listing(output).ok()?;
        let of = self.finished.iter().find(|step| step.output == now);
        of.map(|step| step.step.clone())
    }

    /// Writes `output` to the disk, then that the step is finished. Steps before
    /// it stay recorded: their key decides.
    pub(super) fn add(&mut self, step: &str, key: &str, output: &Path) -> Result<(), Error> {
        let mut dirs = BTreeSet::from([output.to_owned()]);
        for (_, file) in files(output).map_err(io("read", output))? {
            sync(&file)?;
            let inside = file.ancestors().skip(1).take_while(|dir| *dir != output);
            dirs.extend(inside.map(Path::to_owned));
        }
        dirs.iter().try_for_each(|dir| sync(dir))?;
        let made = listing(output).map_err(io("read", output))?;
        self.finished.retain(|known| known.step != step);
        let (step, key) = (step.to_owned(), key.to_owned());
        self.finished.push(Finished { step, key, output: made });
        let text = serde_json::to_string_pretty(&self.finished).expect("strings are JSON");
        write_whole(&self.path, &text)?;
        sync(self.path.parent().unwrap_or(Path::new("/")))
    }
}

/// The key of a step: what it does, after what.
pub(super) fn key(before: &str, argv: &[String], env: &[(&str, String)]) -> String {
    let text = serde_json::to_string(&(before, argv, env)).expect("strings are JSON");
    Sha256Hex::of(text.as_bytes()).as_str().to_owned()
}

/// A hash of the names, sizes and times of the files below `dir`.
pub(super) fn listing(dir: &Path) -> io::Result<String> {
    let mut text = String::new();
    for (name, file) in files(dir)? {
        let metadata = file.metadata()?;
        let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        text.push_str(&format!("{:?} {} {}\n", name, metadata.len(), written.as_nanos()));
    }
    Ok(Sha256Hex::of(text.as_bytes()).as_str().to_owned())
}

/// Bytes of the files below `dir`; 0 if there are none.
pub(super) fn bytes(dir: &Path) -> u64 {
    let files = files(dir).unwrap_or_default();
    files.iter().filter_map(|(_, file)| Some(file.metadata().ok()?.len())).sum()
}

/// The files below `dir`, by their names from there, and their sizes.
pub(super) fn sizes(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let sized = |(name, file): (PathBuf, PathBuf)| Ok((name, file.metadata()?.len()));
    files(dir)?.into_iter().map(sized).collect()
}

/// The files below `dir` and their names from there, sorted.
fn files(dir: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
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
        let mut record = Record::read(work.path());
        assert!(!record.has("key", &output));
        record.add("build", "key", &output).unwrap();
        let again = Record::read(work.path());
        assert!(again.has("key", &output));
        assert!(!again.has("other", &output));
    }

    #[test]
    fn output_that_was_cut_short_is_not_believed() {
        let (work, output) = place();
        Record::read(work.path()).add("build", "key", &output).unwrap();
        fs::write(output.join("deep/rank0.engine"), "ab").unwrap();
        assert!(!Record::read(work.path()).has("key", &output));
        fs::remove_dir_all(&output).unwrap();
        assert!(!Record::read(work.path()).has("key", &output));
    }

    #[test]
    fn a_record_that_makes_no_sense_records_nothing() {
        let (work, output) = place();
        fs::write(work.path().join("finished.json"), "[{\"step\":").unwrap();
        assert!(!Record::read(work.path()).has("key", &output));
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
