//! What the index's thread does about files that were brought here: asks for newer
//! ones, takes what was fetched or sent, and forgets what is too old.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::sources::tree::Tree;
use super::sources::{Brought, Done, Fetcher, Job, Origin};
use super::thread::{Due, RETRY, Thread};
use super::view::State;
use super::{NewRepository, OrderError, Uploaded};
use crate::store::unix_s;

/// Between two looks whether something was fetched.
const LOOK: Duration = Duration::from_millis(200);

/// How far a repository's files are, beside what is shown of it.
#[derive(Debug, Default)]
pub(super) struct Bringing {
    /// The newest files are here, as far as anybody knows, and can be gone over.
    fresh: bool,
    /// The tree that the index is of.
    indexed: Option<u64>,
}

impl Thread {
    /// Where a repository's files are, if it is to be gone over now.
    pub(super) fn directory(&mut self, id: i64) -> Option<PathBuf> {
        let (is, fresh) = {
            let due = self.of(id)?;
            (due.entry.repository.is.clone(), due.bringing.fresh)
        };
        match &is.origin {
            Origin::Path(path) => return Some(path.clone()),
            Origin::Url(url) if !fresh => {
                let here = self.trees.newest(&is).map(|tree| tree.revision);
                self.fetch(Job { repository: id, url: url.clone(), here });
                return None;
            }
            Origin::Url(_) => {}
            Origin::Upload if self.is_too_old(&is) => {
                self.forget(id);
                return None;
            }
            Origin::Upload => {}
        }
        let tree = self.trees.newest(&is);
        self.trees.remove_old(&is);
        let later = Instant::now() + self.again(&is);
        let due = self.of(id)?;
        due.entry.tree = tree.clone();
        match tree {
            Some(Tree { path, number, .. }) if due.bringing.indexed != Some(number) => Some(path),
            there => {
                if there.is_none() {
                    let problem = "its files are not here any more; send them again".to_owned();
                    due.entry.state = State::Failed(problem);
                }
                (due.at, due.bringing.fresh) = (later, false);
                None
            }
        }
    }

    /// What a pass over such files means for the next one.
    pub(super) fn was_gone_over(&mut self, id: i64, directory: &Path) {
        let Some(is) = self.of(id).map(|due| due.entry.repository.is.clone()) else { return };
        if matches!(is.origin, Origin::Path(_)) {
            return;
        }
        let newest = self.trees.newest(&is);
        let again = self.again(&is);
        let Some(due) = self.of(id) else { return };
        due.bringing.fresh = false;
        let is_of = newest.filter(|tree| tree.path == directory);
        match (&due.entry.state, is_of) {
            (State::Indexed, Some(tree)) => {
                due.bringing.indexed = Some(tree.number);
                due.at = Instant::now() + again;
            }
            // Newer files came meanwhile.
            (_, None) => (due.bringing.fresh, due.at) = (true, Instant::now()),
            _ => {}
        }
    }

    fn again(&self, is: &NewRepository) -> Duration {
        match is.origin {
            Origin::Url(_) => self.settings.sources.fetch_period,
            Origin::Path(_) | Origin::Upload => self.settings.period,
        }
    }

    fn fetch(&mut self, job: Job) {
        let id = job.repository;
        if self.fetcher.is_none() {
            match Fetcher::start(self.trees.clone(), self.settings.sources.bytes) {
                Ok(fetcher) => self.fetcher = Some(fetcher),
                Err(error) => return self.not_fetched(id, format!("start a thread: {error}")),
            }
        }
        if let Some(due) = self.of(id) {
            due.entry.fetching = true;
            // It is told when it is done; a day is more than that takes.
            due.at = Instant::now() + Duration::from_secs(86_400);
        }
        if let Some(fetcher) = &mut self.fetcher {
            fetcher.begin(job);
        }
    }

    /// When to look for what was fetched.
    pub(super) fn look_for_fetched(&self) -> Option<Instant> {
        let at_work = self.fetcher.as_ref().is_some_and(Fetcher::is_at_work);
        at_work.then(|| Instant::now() + LOOK)
    }

    pub(super) fn take_fetched(&mut self) {
        while let Some(done) = self.fetcher.as_mut().and_then(Fetcher::done) {
            let Done { repository: id, url, brought } = done;
            let is = self.of(id).map(|due| due.entry.repository.is.clone());
            // It may have been removed meanwhile.
            let Some(is) = is.filter(|is| is.origin == Origin::Url(url)) else { continue };
            let done = match brought {
                Ok(Brought::Same) => Ok(()),
                Ok(Brought::New { whole, bytes, revision }) => self
                    .trees
                    .publish(&is, &whole, bytes, &revision, unix_s())
                    .map(|tree| tracing::info!(name = is.name, tree.revision, "fetched"))
                    .map_err(|error| format!("its files cannot be written: {error}")),
                Err(problem) => Err(problem),
            };
            match done {
                Ok(()) => {
                    if let Some(due) = self.of(id) {
                        (due.bringing.fresh, due.at) = (true, Instant::now());
                        (due.entry.fetching, due.entry.not_fetched) = (false, None);
                    }
                }
                Err(problem) => self.not_fetched(id, problem),
            }
            self.show();
        }
    }

    /// What is here goes on serving.
    fn not_fetched(&mut self, id: i64, problem: String) {
        let Some(is) = self.of(id).map(|due| due.entry.repository.is.clone()) else { return };
        let (tree, again) = (self.trees.newest(&is), self.again(&is));
        let Some(due) = self.of(id) else { return };
        if due.entry.not_fetched.as_ref() != Some(&problem) {
            tracing::warn!(name = is.name, problem, "repository not fetched");
        }
        (due.at, due.entry.fetching) = (Instant::now() + again, false);
        match tree {
            None => due.entry.state = State::Failed(problem.clone()),
            Some(tree) if due.bringing.indexed != Some(tree.number) => {
                (due.bringing.fresh, due.at) = (true, Instant::now());
            }
            Some(_) => {}
        }
        due.entry.not_fetched = Some(problem);
    }

    /// Takes files that were sent in the place of those that were.
    pub(super) fn upload(&mut self, uploaded: Uploaded) -> Result<(), OrderError> {
        let Uploaded { name, owner, whole, bytes } = uploaded;
        let new = NewRepository { name, origin: Origin::Upload, owner };
        let there = |due: &Due| due.entry.repository.is == new;
        let is_there = self.entries.iter().any(there);
        if !is_there {
            self.has_room_for(&new)?;
        }
        let others = self.entries.iter().filter(|due| !there(due)).map(|due| &due.entry);
        let others = others.filter(|entry| entry.repository.is.origin == Origin::Upload);
        let taken: u64 =
            others.filter_map(|entry| entry.tree.as_ref()).map(|tree| tree.bytes).sum();
        let most = self.settings.sources.uploads_bytes;
        if taken.saturating_add(bytes) > most {
            return Err(OrderError::Full(most));
        }
        let tree = self.trees.publish(&new, &whole, bytes, "upload", unix_s());
        let tree = tree.map_err(OrderError::Disk)?;
        if !is_there {
            match self.code.add(&new) {
                Ok(added) => self.entries.push(Due::new(added)),
                Err(error) => {
                    self.trees.remove(&new);
                    return Err(error.into());
                }
            }
        }
        tracing::info!(name = new.name, shared = new.owner.is_none(), bytes, "files were sent");
        let there = self.entries.iter_mut().find(|due| due.entry.repository.is == new);
        if let Some(due) = there {
            (due.entry.tree, due.at) = (Some(tree), Instant::now());
        }
        Ok(())
    }

    fn is_too_old(&self, is: &NewRepository) -> bool {
        let kept = self.settings.sources.uploads_kept;
        let made = self.trees.newest(is).map(|tree| tree.made);
        !kept.is_zero() && made.is_some_and(|made| unix_s() > made.saturating_add(kept.as_secs()))
    }

    /// Forgets an upload whose time is over.
    fn forget(&mut self, id: i64) {
        let Some(at) = self.entries.iter().position(|due| due.entry.repository.id == id) else {
            return;
        };
        match self.code.remove(id) {
            Ok(()) => {
                let gone = self.entries.remove(at).entry.repository.is;
                self.trees.remove(&gone);
                tracing::info!(name = gone.name, "upload forgotten, because its time is over");
            }
            Err(error) => {
                let due = &mut self.entries[at];
                due.entry.state = State::Failed(error.to_string());
                due.at = Instant::now() + RETRY;
            }
        }
    }
}
