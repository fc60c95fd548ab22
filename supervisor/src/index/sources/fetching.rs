//! The thread that fetches from git URLs, one after the other. It makes trees and
//! publishes none: that is the index's thread, which knows what is read now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::git::{self, Bounds};
use super::tree::{Trees, Whole};
use super::url::GitUrl;

/// SQLite is not here, and git is another process.
const STACK: usize = 512 * 1024;

/// A repository that is to be looked at.
#[derive(Debug)]
pub(in crate::index) struct Job {
    pub(in crate::index) repository: i64,
    pub(in crate::index) url: GitUrl,
    /// The commit that is here.
    pub(in crate::index) here: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(in crate::index) enum Brought {
    /// The newest commit is here already.
    Same,
    New {
        whole: Whole,
        bytes: u64,
        revision: String,
    },
}

/// A job that is done. Numbers of repositories are given again, so it is known by both.
#[derive(Debug)]
pub(in crate::index) struct Done {
    pub(in crate::index) repository: i64,
    pub(in crate::index) url: GitUrl,
    pub(in crate::index) brought: Result<Brought, String>,
}

/// Does one job at a time. Dropped, it ends the one that is under way.
#[derive(Debug)]
pub(in crate::index) struct Fetcher {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    cancelled: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Jobs that are not done.
    open: usize,
}

impl Fetcher {
    /// # Errors
    /// There are no more threads.
    pub(in crate::index) fn start(trees: Trees, most_bytes: u64) -> std::io::Result<Self> {
        let (jobs, ordered) = channel::<Job>();
        let (finished, done) = channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let thread = std::thread::Builder::new().name("fetch".into()).stack_size(STACK);
        let thread = thread.spawn(move || {
            // Whoever answers somebody goes first; git inherits it.
            let _ = rustix::process::nice(19);
            let bounds = Bounds { bytes: most_bytes, cancelled: &flag };
            while let Ok(job) = ordered.recv() {
                let brought = fetch(&trees, &job, bounds);
                let Job { repository, url, .. } = job;
                if finished.send(Done { repository, url, brought }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), done, cancelled, thread: Some(thread), open: 0 })
    }

    pub(in crate::index) fn begin(&mut self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_ok()
        {
            self.open += 1;
        }
    }

    pub(in crate::index) fn is_at_work(&self) -> bool {
        self.open > 0
    }

    /// A job that is done.
    pub(in crate::index) fn done(&mut self) -> Option<Done> {
        match self.done.try_recv() {
            Ok(done) => {
                self.open = self.open.saturating_sub(1);
                Some(done)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It looks at the flag all the time.
            let _ = thread.join();
        }
    }
}

fn fetch(trees: &Trees, job: &Job, bounds: Bounds<'_>) -> Result<Brought, String> {
    let newest = git::newest(&job.url, bounds)?;
    if job.here.as_ref() == Some(&newest) {
        return Ok(Brought::Same);
    }
    let not_written = |error: std::io::Error| format!("its files cannot be written: {error}");
    let part = trees.begin().map_err(not_written)?;
    let revision = git::bring(&job.url, &part, bounds)?;
    let bytes = part.bytes();
    Ok(Brought::New { whole: part.whole().map_err(not_written)?, bytes, revision })
}
