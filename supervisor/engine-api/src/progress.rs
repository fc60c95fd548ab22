//! How far a build is: what engine-builder leaves in the state directory while it
//! works, for the supervisor to show.
//!
//! The file is replaced by a rename, so a reader never meets half of it. It is
//! not synced, because after a power cut nobody needs it. Whether its builder
//! still lives is told by the builder's [`lock`]: a process id would mean
//! nothing to a supervisor that may not see other users' processes.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::lock::{self, Holder};

/// The file's name in the state directory.
pub const FILE_NAME: &str = "build.toml";

/// Longest file that is read; a builder writes far less than a kilobyte.
const MOST_BYTES: u64 = 16 * 1024;

/// Longest text that is shown, in characters.
const LONGEST_TEXT: usize = 600;

/// Most steps that a build has.
const MOST_STEPS: u32 = 100;

/// One build, as its builder last said it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// The engine that is being built.
    pub engine: String,
    pub pid: u32,
    /// Seconds since 1970.
    pub started: u64,
    /// When this was written, in seconds since 1970.
    pub updated: u64,
    /// The running step's name.
    pub step: String,
    /// Which of `steps` it is, from 1.
    pub step_number: u32,
    pub steps: u32,
    /// How much of the step is done, from 0 to 1; `None` is unknown.
    pub share: Option<f64>,
    /// Bytes of the step that are done and in all, where it counts bytes.
    pub done_bytes: Option<u64>,
    pub total_bytes: Option<u64>,
    /// Seconds until the step ends, if it goes on as fast as so far.
    pub left_s: Option<u64>,
    /// The last sentence that was said.
    pub text: String,
    /// `None` while it goes on.
    pub ended: Option<Ended>,
}

/// The end of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Seconds since 1970.
    pub at: u64,
    pub how: Outcome,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Built,
    Failed,
    /// Somebody called it off.
    Interrupted,
}

/// What a build is doing, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    /// Its builder is gone and has not said how it ended.
    Cut,
    Built,
    Failed,
    Interrupted,
}

/// A build and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    pub state: State,
    #[serde(flatten)]
    pub build: Build,
}

/// The build that runs in `state_dir`, or the last one that did. A file that
/// makes no sense, is too long, or is none, tells of no build.
#[must_use]
pub fn read(state_dir: &Path) -> Option<Seen> {
    let text = text(&state_dir.join(FILE_NAME)).ok()?;
    let build = toml::from_str::<Build>(&text).ok()?.checked()?;
    let state = match build.ended {
        Some(Ended { how: Outcome::Built, .. }) => State::Built,
        Some(Ended { how: Outcome::Failed, .. }) => State::Failed,
        Some(Ended { how: Outcome::Interrupted, .. }) => State::Interrupted,
        None => of_unended(&build, lock::holder(&state_dir.join("engines"))),
    };
    Some(Seen { state, build })
}

/// A builder writes only while it holds the lock, and says its end before it
/// gives the lock up. If nobody can tell who holds it, what was written counts.
fn of_unended(build: &Build, holder: io::Result<Holder>) -> State {
    match holder {
        Ok(Holder::Nobody) => State::Cut,
        Ok(Holder::Somebody(Some(pid))) if pid != build.pid => State::Cut,
        Ok(Holder::Somebody(_)) | Err(_) => State::Running,
    }
}

fn text(path: &Path) -> io::Result<String> {
    let file = lock::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

impl Build {
    /// Only what can be meant: whoever can write the file may have written
    /// anything.
    fn checked(mut self) -> Option<Self> {
        if self.step_number > self.steps || self.steps > MOST_STEPS {
            return None;
        }
        for text in [&mut self.engine, &mut self.step, &mut self.text] {
            *text = text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect();
        }
        self.share = self.share.filter(|share| (0.0..=1.0).contains(share));
        let within = self.done_bytes.zip(self.total_bytes).is_some_and(|(done, all)| done <= all);
        if !within {
            (self.done_bytes, self.total_bytes) = (None, None);
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use proptest::prelude::*;

    use super::*;

    fn build() -> Build {
        Build {
            engine: "a".into(),
            pid: 812,
            started: 1,
            updated: 2,
            step: "fetch".into(),
            step_number: 3,
            steps: 6,
            share: Some(0.25),
            done_bytes: Some(1),
            total_bytes: Some(4),
            left_s: Some(9),
            text: "25 %".into(),
            ended: None,
        }
    }

    fn place(build: &Build) -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("engines")).unwrap();
        fs::write(state.path().join(FILE_NAME), toml::to_string(build).unwrap()).unwrap();
        state
    }

    #[test]
    fn a_build_runs_while_its_builder_has_the_lock() {
        let state = place(&build());
        assert_eq!(read(state.path()), Some(Seen { state: State::Cut, build: build() }));
        let path = state.path().join("engines").join(lock::FILE_NAME);
        let now = |pid: &str| {
            fs::write(&path, pid).unwrap();
            read(state.path()).unwrap().state
        };
        fs::write(&path, "").unwrap();
        let lock = File::open(&path).unwrap();
        lock.lock().unwrap();
        assert_eq!(now("812\n"), State::Running);
        assert_eq!(now(""), State::Running);
        assert_eq!(now("813\n"), State::Cut);
        drop(lock);
        assert_eq!(now("812\n"), State::Cut);
    }

    #[test]
    fn an_end_is_told_whoever_works_meanwhile() {
        let ended = Some(Ended { at: 5, how: Outcome::Failed });
        let state = place(&Build { ended, ..build() });
        assert_eq!(read(state.path()).unwrap().state, State::Failed);
    }

    #[test]
    fn what_makes_no_sense_tells_of_no_build() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path()), None);
        for text in ["", "engine = 1", "\0", &"# long\n".repeat(10_000)] {
            fs::write(state.path().join(FILE_NAME), text).unwrap();
            assert_eq!(read(state.path()), None, "{text:.20}");
        }
        let wrong = place(&Build { step_number: 7, ..build() });
        assert_eq!(read(wrong.path()), None);
    }

    #[test]
    fn a_pipe_in_the_place_of_the_file_holds_nobody_up() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FILE_NAME);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(read(state.path()), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_within_bounds(
            text in ".{0,2000}",
            share in any::<f64>(),
            done in 0..=i64::MAX.cast_unsigned(),
            total in 0..=i64::MAX.cast_unsigned(),
        ) {
            let (done_bytes, total_bytes) = (Some(done), Some(total));
            let told = Build { text, share: Some(share), done_bytes, total_bytes, ..build() };
            let state = place(&told);
            if let Some(Seen { build, .. }) = read(state.path()) {
                prop_assert!(build.text.chars().count() <= LONGEST_TEXT);
                prop_assert!(!build.text.chars().any(char::is_control));
                prop_assert!(build.share.is_none_or(|share| (0.0..=1.0).contains(&share)));
                prop_assert!(build.done_bytes <= build.total_bytes);
            }
        }

        #[test]
        fn any_file_is_a_build_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let state = tempfile::tempdir().unwrap();
            fs::write(state.path().join(FILE_NAME), bytes).unwrap();
            let _ = read(state.path());
        }
    }
}
