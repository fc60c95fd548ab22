//! How far each repository is, and how long it will take. Pure.

use std::time::Duration;

use super::sources::Origin;
use super::sources::tree::Tree;
use crate::snapshot;
use crate::store::code::{Counts, Repository};

/// A rate over less time than this says nothing yet.
const SETTLED: Duration = Duration::from_secs(2);

/// A repository as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub repository: Repository,
    pub state: State,
    /// What is kept of it; `None` until it was counted.
    pub counts: Option<Counts>,
    /// The files that were brought here, where it has no directory of its own.
    pub tree: Option<Tree>,
    /// They are being fetched.
    pub fetching: bool,
    /// Why the newest ones could not be fetched; those that are here go on serving.
    pub not_fetched: Option<String>,
    /// Why edits are found by the next whole pass and not at once.
    pub unwatched: Option<String>,
}

/// What is done with a repository.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// For its first pass.
    Waiting,
    Indexing(Progress),
    /// As of its last pass.
    Indexed,
    /// The last pass did not come to its end.
    Failed(String),
}

/// How far a pass is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub looked_at: u64,
    /// Files in all; `None` until they were listed.
    pub of: Option<u64>,
    /// Time at work, without that in which it was held.
    pub worked: Duration,
}

impl Progress {
    /// At the rate so far; `None` where that says nothing.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let of = self.of?;
        if self.worked < SETTLED || self.looked_at == 0 {
            return None;
        }
        let left = of.saturating_sub(self.looked_at);
        #[expect(clippy::cast_precision_loss, reason = "an estimate of files far below 2^52")]
        let factor = left as f64 / self.looked_at as f64;
        Duration::try_from_secs_f64(self.worked.as_secs_f64() * factor).ok()
    }
}

impl Entry {
    #[must_use]
    pub fn new(repository: Repository, state: State) -> Self {
        let (counts, tree, fetching, not_fetched, unwatched) = (None, None, false, None, None);
        Self { repository, state, counts, tree, fetching, not_fetched, unwatched }
    }

    /// The repository of this name that `asker` means: the own one, if there is a shared one
    /// of that name as well.
    pub fn named<'a>(
        entries: impl IntoIterator<Item = &'a Self>,
        asker: &str,
        name: &str,
    ) -> Option<&'a Self> {
        let is = |entry: &&Self| entry.is_visible_to(asker) && entry.repository.is.name == name;
        let named = entries.into_iter().filter(is);
        named.min_by_key(|entry| entry.repository.is.owner.is_none())
    }

    /// Whether `asker` may know of it.
    #[must_use]
    pub fn is_visible_to(&self, asker: &str) -> bool {
        self.repository.is.owner.as_deref().is_none_or(|owner| owner == asker)
    }

    /// As it stands in a document. Of a private one that is for everybody's eyes
    /// (`named` is false), name, path and reasons stay away.
    #[must_use]
    pub fn shown(&self, named: bool) -> snapshot::Repository {
        let progress = match &self.state {
            State::Indexing(progress) => Some(progress),
            State::Waiting | State::Indexed | State::Failed(_) => None,
        };
        let is = &self.repository.is;
        let show = |text: String| named.then_some(text);
        snapshot::Repository {
            name: show(is.name.clone()),
            path: show(is.origin.to_string()),
            from: is.origin.kind(),
            shared: is.owner.is_none(),
            configured: self.repository.configured,
            state: match &self.state {
                State::Waiting if self.fetching => "fetching",
                State::Waiting => "waiting",
                State::Indexing(_) => "indexing",
                State::Indexed => "indexed",
                State::Failed(_) => "failed",
            },
            reason: match &self.state {
                State::Failed(reason) => show(reason.clone()),
                _ => None,
            },
            files: self.counts.map(|counts| counts.files),
            skipped: self.counts.map(|counts| counts.skipped),
            chunks: self.counts.map(|counts| counts.chunks),
            looked_at: progress.map(|progress| progress.looked_at),
            of: progress.and_then(|progress| progress.of),
            left_s: progress.and_then(Progress::left).map(|left| left.as_secs()),
            passed_at: self.repository.passed,
            revision: match &is.origin {
                Origin::Url(_) => self.tree.as_ref().and_then(|tree| show(tree.revision.clone())),
                Origin::Path(_) | Origin::Upload => None,
            },
            brought_at: self.tree.as_ref().map(|tree| tree.made),
            brought_bytes: self.tree.as_ref().map(|tree| tree.bytes),
            not_fetched: self.not_fetched.clone().and_then(show),
            unwatched: self.unwatched.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_rate_once_there_is_one() {
        let progress = |looked_at, of, worked| {
            Progress { looked_at, of, worked: Duration::from_secs(worked) }.left()
        };
        assert_eq!(progress(100, Some(400), 10), Some(Duration::from_secs(30)));
        assert_eq!(progress(400, Some(400), 10), Some(Duration::ZERO));
        assert_eq!(progress(100, Some(400), 1), None, "too early");
        assert_eq!(progress(0, Some(400), 10), None, "nothing done yet");
        assert_eq!(progress(5, None, 10), None, "not listed yet");
    }

    #[test]
    fn of_a_private_repository_everybody_sees_numbers_only() {
        let is = crate::store::code::NewRepository {
            name: "secret".into(),
            origin: Origin::Path("/srv/secret".into()),
            owner: Some("key 0b05".into()),
        };
        let repository = Repository { id: 1, is, configured: false, passed: Some(7) };
        let state = State::Failed("/srv/secret is no directory".into());
        let counts = Some(Counts::default());
        let not_fetched = Some("https://git.lan/secret hurts".into());
        let entry = Entry { counts, not_fetched, ..Entry::new(repository, state) };
        assert!(entry.is_visible_to("key 0b05") && !entry.is_visible_to("127.0.0.1"));
        let shown = serde_json::to_string(&entry.shown(false)).unwrap();
        assert!(!shown.contains("secret"), "{shown}");
        assert!(serde_json::to_string(&entry.shown(true)).unwrap().contains("/srv/secret"));
    }
}
