//! What the steps of builds have left below `work/`, and what of it no build can
//! go on from.
//!
//! Deciding is pure. A directory in which a tool still runs is left alone, even if
//! its builder is gone; that nobody builds is for the caller to know, by the lock.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jetpack::Bytes;

use super::record::{self, Record};
use crate::engines::{EngineId, Engines};
use crate::error::{Error, io};
use crate::installed::Installed;
use crate::tool;

/// Work that nobody has touched for so long is not gone on with: the release,
/// the model or the mind has changed since.
const OLD_S: u64 = 30 * 24 * 3600;

/// Earlier times are those of a board whose clock was not set yet. They say
/// nothing about age.
const CLOCK_WAS_SET: u64 = 1_735_689_600; // 2025-01-01

/// What is left of one model's builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub model: String,
    pub dir: PathBuf,
    pub bytes: Bytes,
    /// Last change, in seconds since 1970.
    changed: u64,
    /// Processes of its tools that run without a builder.
    tools: Vec<u32>,
    outputs: Vec<Output>,
    /// The engine that has all files of the last step's output.
    published: Option<EngineId>,
}

/// A directory that a step has written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Output {
    path: PathBuf,
    bytes: Bytes,
    /// The finished step that it is the output of; `None`: half written.
    of: Option<String>,
}

/// What is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Stays { why: String },
    Goes { paths: Vec<PathBuf>, bytes: Bytes, why: String },
}

/// What there is, sorted by model.
///
/// # Errors
/// [`Error::Io`].
pub fn all(engines: &Engines, installed: &[Installed]) -> Result<Vec<Work>, Error> {
    let place = engines.state_dir().join("work");
    let entries = match fs::read_dir(&place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("read", &place)(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io("read", &place))?;
        // What a link leads to is not ours to clear.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (true, Ok(model)) = (is_dir, entry.file_name().into_string()) {
            let dir = entry.path();
            all.push(Work::read(model, &dir, installed).map_err(io("read", &dir))?);
        }
    }
    all.sort_by(|one, other| one.model.cmp(&other.model));
    Ok(all)
}

impl Work {
    fn read(model: String, dir: &Path, installed: &[Installed]) -> io::Result<Self> {
        let record = Record::read(dir);
        let (mut outputs, mut changed) = (Vec::new(), seconds(&dir.metadata()?));
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            changed = changed.max(seconds(&metadata));
            if metadata.is_dir() {
                let bytes = Bytes::new(record::bytes(&path));
                outputs.push(Output { of: record.made(&path), path, bytes });
            }
        }
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        let published = outputs.iter().find_map(|output| published(&output.path, installed));
        Ok(Self {
            tools: tool::left_in(&dir.canonicalize()?),
            bytes: Bytes::new(record::bytes(dir)),
            dir: dir.to_owned(),
            model,
            changed,
            outputs,
            published,
        })
    }

    /// What is to become of it at `now`, in seconds since 1970.
    #[must_use]
    pub fn fate(&self, now: u64) -> Fate {
        let whole = |why| Fate::Goes { paths: vec![self.dir.clone()], bytes: self.bytes, why };
        if let [pid, ..] = self.tools[..] {
            return Fate::Stays { why: format!("a tool still works in it (process {pid})") };
        }
        if let Some(id) = &self.published {
            return whole(format!("its engine is published as {id}"));
        }
        let age = now.saturating_sub(self.changed);
        if self.changed >= CLOCK_WAS_SET && age >= OLD_S {
            return whole(format!("nobody has gone on with it for {} days", age / (24 * 3600)));
        }
        let (finished, half): (Vec<_>, Vec<_>) =
            self.outputs.iter().partition(|output| output.of.is_some());
        if !half.is_empty() {
            let paths = half.iter().map(|output| output.path.clone()).collect();
            let bytes = half.iter().fold(Bytes::new(0), |sum, output| sum + output.bytes);
            let why = "its step was cut short or failed, and begins anew".into();
            return Fate::Goes { paths, bytes, why };
        }
        let steps: Vec<&str> = finished.iter().filter_map(|output| output.of.as_deref()).collect();
        match steps.as_slice() {
            [] => Fate::Stays { why: "only logs are in it".into() },
            steps => Fate::Stays {
                why: format!("the next build goes on after what is finished: {}", steps.join(", ")),
            },
        }
    }
}

/// The installed engine that has every file of `output`, by name and size.
fn published(output: &Path, installed: &[Installed]) -> Option<EngineId> {
    let files = record::sizes(output).ok().filter(|files| !files.is_empty())?;
    let has_all = |engine: &&Installed| {
        engine.state.as_ref().is_ok_and(|sound| {
            let has = |(name, bytes): &(PathBuf, u64)| {
                let named = |path: &Path| path == name || path.ends_with(name);
                let of_engine = &sound.manifest.files;
                of_engine.iter().any(|file| named(&file.path) && file.bytes == *bytes)
            };
            files.iter().all(has)
        })
    };
    installed.iter().find(has_all).map(|engine| engine.id.clone())
}

fn seconds(metadata: &fs::Metadata) -> u64 {
    let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    changed.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::sample;

    const DAY: u64 = 24 * 3600;
    const CHANGED: u64 = CLOCK_WAS_SET + 500 * DAY;

    fn work(outputs: &[(&str, Option<&str>)]) -> Work {
        let output = |(name, of): &(&str, Option<&str>)| Output {
            path: Path::new("/w/m").join(name),
            bytes: Bytes::new(10),
            of: of.map(str::to_owned),
        };
        Work {
            model: "m".into(),
            dir: "/w/m".into(),
            bytes: Bytes::new(100),
            changed: CHANGED,
            tools: Vec::new(),
            outputs: outputs.iter().map(output).collect(),
            published: None,
        }
    }

    fn goes(work: &Work, now: u64) -> Option<(Vec<&str>, u64)> {
        match work.fate(now) {
            Fate::Stays { .. } => None,
            Fate::Goes { paths, bytes, .. } => {
                let known = ["/w/m", "/w/m/checkpoint", "/w/m/engine"];
                let named =
                    |path: &PathBuf| *known.iter().find(|it| path == Path::new(it)).unwrap();
                Some((paths.iter().map(named).collect(), bytes.get()))
            }
        }
    }

    #[test]
    fn what_the_next_build_goes_on_from_stays_and_half_of_an_output_goes() {
        let both = work(&[("checkpoint", Some("convert")), ("engine", None)]);
        assert_eq!(goes(&both, CHANGED), Some((vec!["/w/m/engine"], 10)));
        assert_eq!(goes(&work(&[("checkpoint", Some("convert"))]), CHANGED + DAY), None);
        assert_eq!(goes(&work(&[]), CHANGED + DAY), None);
    }

    #[test]
    fn what_is_old_or_published_goes_whole() {
        let finished = work(&[("engine", Some("build"))]);
        assert_eq!(goes(&finished, CHANGED + 29 * DAY), None);
        assert_eq!(goes(&finished, CHANGED + 30 * DAY), Some((vec!["/w/m"], 100)));
        let published = Work { published: Some(sample::id("m")), ..finished };
        assert_eq!(goes(&published, CHANGED), Some((vec!["/w/m"], 100)));
    }

    #[test]
    fn nothing_goes_where_a_tool_still_works() {
        let old = Work { tools: vec![812], ..work(&[("engine", None)]) };
        assert_eq!(goes(&old, CHANGED + 300 * DAY), None);
    }

    #[test]
    fn a_clock_that_was_not_set_makes_nothing_old() {
        let early = Work { changed: 7, ..work(&[("engine", Some("build"))]) };
        assert_eq!(goes(&early, CHANGED), None);
        // A clock that went back does not either.
        assert_eq!(goes(&work(&[("engine", Some("build"))]), 7), None);
    }

    #[test]
    fn an_engine_with_the_same_files_is_the_published_one() {
        let (state, engines) = sample::engines(&["a", "b"]);
        let output = state.path().join("work/b/engine");
        fs::create_dir_all(&output).unwrap();
        let here = crate::staleness::Here::default();
        let found = || {
            let installed = crate::installed::all(&engines, &here).unwrap();
            all(&engines, &installed).unwrap()[0].published.clone()
        };
        assert_eq!(found(), None, "nothing is no engine");
        fs::write(output.join("rank0.engine"), "b").unwrap();
        assert_eq!(found(), None);
        fs::rename(output.join("rank0.engine"), output.join("weights.gguf")).unwrap();
        assert_eq!(found().unwrap().as_str(), "a", "one byte is in both");
        fs::write(output.join("weights.gguf"), "bb").unwrap();
        assert_eq!(found(), None);
    }
}
