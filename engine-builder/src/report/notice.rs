//! What others can see of a build that goes on: a small file in the state
//! directory, replaced as the build gets on, at most twice a second.
//!
//! For the holder of the builder's lock. Nothing that goes wrong here can fail a
//! build, and nothing is synced.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine_api::progress::{Build, Ended, FILE_NAME, Outcome};

use super::Step;

/// Least time between two pieces of progress. Begin and end of a step are
/// always written, and are few.
pub(super) const PERIOD: Duration = Duration::from_millis(500);

/// The steps of every build.
const STEPS: u32 = 6;

/// Longest sentence that is kept of a failure, in characters.
const LONGEST: usize = 500;

#[derive(Debug)]
pub(super) struct Notice {
    path: PathBuf,
    build: Build,
}

impl Notice {
    /// Says that the build of `engine` has come to `step`.
    pub(super) fn new(state_dir: &Path, engine: &str, step: Step) -> Self {
        let build = Build {
            engine: engine.to_owned(),
            pid: std::process::id(),
            started: now(),
            updated: now(),
            step: step.name().to_owned(),
            step_number: step.number(),
            steps: STEPS,
            share: None,
            done_bytes: None,
            total_bytes: None,
            left_s: None,
            text: String::new(),
            ended: None,
        };
        let mut notice = Self { path: state_dir.join(FILE_NAME), build };
        notice.write();
        notice
    }

    pub(super) fn begin(&mut self, step: Step, doing: &str) {
        self.build.step = step.name().to_owned();
        self.build.step_number = step.number();
        self.say(doing);
    }

    /// A sentence, and nothing is known of how far the step is.
    pub(super) fn say(&mut self, text: &str) {
        self.progress(text, None, None, None);
    }

    /// `bytes`: done and in all.
    pub(super) fn progress(
        &mut self,
        text: &str,
        share: Option<f64>,
        bytes: Option<(u64, u64)>,
        left: Option<Duration>,
    ) {
        self.build.text = text.chars().take(LONGEST).collect();
        self.build.share = share;
        (self.build.done_bytes, self.build.total_bytes) = bytes.unzip();
        self.build.left_s = left.map(|left| left.as_secs());
        self.write();
    }

    pub(super) fn end(mut self, how: Outcome, text: &str) {
        self.build.ended = Some(Ended { at: now(), how });
        self.say(text);
    }

    fn write(&mut self) {
        self.build.updated = now();
        let Ok(text) = toml::to_string(&self.build) else { return };
        let new = self.path.with_extension("toml.new");
        // The supervisor need not run as who builds.
        let written = fs::write(&new, text)
            .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(0o644)))
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
    }
}

/// Forgets a build that ended in whatever way. For the lock's holder.
pub(crate) fn forget(state_dir: &Path) {
    let _ = fs::remove_file(state_dir.join(FILE_NAME));
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use engine_api::progress::{Seen, State, read};

    use super::*;

    #[test]
    fn what_is_said_can_be_read_by_everybody_and_ends() {
        let state = tempfile::tempdir().unwrap();
        let mut notice = Notice::new(state.path(), "a", Step::Preflight);
        notice.begin(Step::Fetch, "looking into the cache");
        let left = Some(Duration::from_secs(3));
        notice.progress("25 %, 1 B of 4 B", Some(0.25), Some((1, 4)), left);
        let Seen { state: seen, build } = read(state.path()).unwrap();
        // Nobody holds the lock here.
        assert_eq!(seen, State::Cut);
        assert_eq!((build.step.as_str(), build.step_number, build.steps), ("fetch", 3, STEPS));
        assert_eq!((build.share, build.done_bytes, build.left_s), (Some(0.25), Some(1), Some(3)));
        let mode = state.path().join(FILE_NAME).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        notice.end(Outcome::Built, "a is built");
        let Seen { state: seen, build } = read(state.path()).unwrap();
        assert_eq!((seen, build.text.as_str(), build.share), (State::Built, "a is built", None));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
        forget(state.path());
        assert_eq!(read(state.path()), None);
    }

    #[test]
    fn a_place_that_cannot_be_written_fails_nothing() {
        let notice = Notice::new(Path::new("/nowhere/at/all"), "a", Step::Plan);
        notice.end(Outcome::Failed, "why");
    }
}
