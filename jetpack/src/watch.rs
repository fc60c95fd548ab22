//! Which file a reading thread is at, so that one that does not come back can
//! be left alone with it.
//!
//! Every look at a file goes through [`watched`]. On a thread of a
//! [`Group`](crate::group::Group) it notes the path; elsewhere it does nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::Absent;

thread_local! {
    /// The watch of this thread, if it reads for a group.
    static WATCH: RefCell<Option<Arc<Watch>>> = const { RefCell::new(None) };
}

/// Files of one group whose reads have not returned, and since when.
#[derive(Debug, Default)]
pub(crate) struct Stuck(Mutex<BTreeMap<PathBuf, Instant>>);

impl Stuck {
    /// The files and how long each has been silent at `now`, in seconds.
    pub(crate) fn list(&self, now: Instant) -> Vec<(PathBuf, u64)> {
        let silent = |(path, since): (&PathBuf, &Instant)| (path.clone(), seconds(*since, now));
        lock(&self.0).iter().map(silent).collect()
    }

    fn since(&self, path: &Path) -> Option<Instant> {
        lock(&self.0).get(path).copied()
    }
}

/// One thread's place, seen from outside.
#[derive(Debug)]
pub(crate) struct Watch {
    at: Mutex<Option<(PathBuf, Instant)>>,
    left_alone: AtomicBool,
    stuck: Arc<Stuck>,
}

impl Watch {
    pub(crate) fn new(stuck: Arc<Stuck>) -> Arc<Self> {
        Arc::new(Self { at: Mutex::new(None), left_alone: AtomicBool::new(false), stuck })
    }

    /// Makes this the watch of the calling thread.
    pub(crate) fn of_this_thread(self: Arc<Self>) {
        WATCH.set(Some(self));
    }

    /// Leaves the thread alone with the file that it reads: others skip that
    /// file until the read returns. False if it is at no file.
    pub(crate) fn leave_alone(&self) -> bool {
        let at = lock(&self.at);
        let Some((path, since)) = at.as_ref() else { return false };
        lock(&self.stuck.0).insert(path.clone(), *since);
        self.left_alone.store(true, Ordering::Relaxed);
        true
    }

    fn arrive(&self, path: &Path) -> Result<(), Absent> {
        let now = Instant::now();
        if let Some(since) = self.stuck.since(path) {
            return Err(Absent::NoAnswer { seconds: seconds(since, now) });
        }
        if self.left_alone.load(Ordering::Relaxed) {
            // Nobody waits for the rest of what this thread would read.
            return Err(Absent::NoAnswer { seconds: 0 });
        }
        *lock(&self.at) = Some((path.to_owned(), now));
        Ok(())
    }

    fn depart(&self) {
        // The same order of locks as in `leave_alone`.
        let mut at = lock(&self.at);
        if let Some((path, _)) = at.take().filter(|_| self.left_alone.load(Ordering::Relaxed)) {
            lock(&self.stuck.0).remove(&path);
        }
    }
}

/// Does something with a file that may never return.
///
/// # Errors
/// An earlier look at this file has not returned yet.
pub(crate) fn watched<T>(path: &Path, look: impl FnOnce() -> T) -> Result<T, Absent> {
    #[cfg(test)]
    seen::note(path);
    let watch = WATCH.with_borrow(Clone::clone);
    let Some(watch) = watch else { return Ok(look()) };
    watch.arrive(path)?;
    let seen = look();
    watch.depart();
    Ok(seen)
}

pub(crate) fn seconds(since: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(since).as_secs()
}

/// A thread that panicked leaves a path or none behind, both of which are fine.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every path that was looked at, so that a test can tell what is read.
#[cfg(test)]
pub(crate) mod seen {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    static SEEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

    pub(super) fn note(path: &Path) {
        super::lock(&SEEN).insert(path.to_owned());
    }

    /// What was looked at below `root`, relative to it.
    pub(crate) fn below(root: &Path) -> Vec<PathBuf> {
        let seen = super::lock(&SEEN);
        seen.iter().filter_map(|path| Some(path.strip_prefix(root).ok()?.to_owned())).collect()
    }
}
