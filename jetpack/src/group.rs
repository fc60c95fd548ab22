//! A group of sensors behind one driver, read on a thread of its own.
//!
//! ```text
//!            ask          answer
//!  (idle) ────────► read ────────► (idle)
//!                    │ not within the patience
//!                    ▼
//!        the thread is left alone with that file, and a second one
//!        reads all others ── not within the patience ──► silent
//! ```
//!
//! A read that never returns cannot be ended from outside, so the thread that
//! is in it is lost until the driver answers. There is at most one such thread
//! beside the one that reads. When its read returns it ends, and the file is
//! read again like any other.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::watch::{Stuck, Watch, seconds};
use crate::{Absent, Root};

/// How long all groups together may take for one sample. The slowest board
/// needs some milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
/// How long a second thread may take for the rest of its group.
const SECOND_PATIENCE: Duration = Duration::from_millis(200);
/// How often sensors are looked for again. Drivers may be loaded after this
/// program has started, and a reloaded one gets another number.
pub(crate) const SEARCH_PERIOD: Duration = Duration::from_secs(60);
/// Enough for small files; NVML's calls were seen to need more than 64 KiB.
const STACK: usize = 512 * 1024;

/// Sensors that are found now and then and read each period.
pub(crate) trait Sensors: Send + Sized + 'static {
    type Reading: Send + Clone + Default;

    fn find(&mut self);

    fn read(&mut self, now: Instant) -> Self::Reading;

    /// Replaces what a reading says by why it cannot be known any more.
    fn silence(reading: &mut Self::Reading, absent: &Absent);
}

/// Something that was asked and has not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// A file, or what a driver measures.
    pub what: String,
    pub for_s: u64,
}

/// The sensors, the thread that reads them, and what it said last.
#[derive(Debug)]
pub(crate) struct Group<S: Sensors> {
    name: &'static str,
    /// As they were before anything was found; each thread finds its own.
    sensors: S,
    thread: Option<Thread<S::Reading>>,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
    last: S::Reading,
    /// Whether `last` is more than the beginning.
    answered: bool,
    stuck: Arc<Stuck>,
    /// Of the thread that was left alone; gone when that thread has ended.
    left_alone: Weak<Watch>,
}

#[derive(Debug)]
struct Thread<T> {
    requests: SyncSender<Instant>,
    answers: Receiver<T>,
    watch: Arc<Watch>,
}

impl<S: Sensors + Clone> Group<S> {
    pub(crate) fn new(name: &'static str, sensors: S) -> Self {
        let stuck = Arc::default();
        let thread = spawn(name, sensors.clone(), &stuck).ok();
        let (asked, last, left_alone) = (None, S::Reading::default(), Weak::new());
        Self { name, sensors, thread, asked, last, answered: false, stuck, left_alone }
    }

    /// Begins a reading, unless an earlier one is still going on.
    pub(crate) fn ask(&mut self, now: Instant) {
        if self.thread.is_none() {
            self.thread = spawn(self.name, self.sensors.clone(), &self.stuck).ok();
        }
        let Some(thread) = &self.thread else { return };
        if self.asked.is_some() && thread.answers.try_recv().is_ok() {
            // It was read long ago.
            self.asked = None;
        }
        if self.asked.is_none() && thread.requests.try_send(now).is_ok() {
            self.asked = Some(now);
        }
    }

    /// The reading that was asked for at `asked`, or the last one without its
    /// values. Waits until `deadline` and, once, a little longer.
    pub(crate) fn collect(&mut self, asked: Instant, deadline: Instant) -> S::Reading {
        if self.asked.is_some_and(|since| since >= asked) && !self.answered_by(deadline) {
            self.second_thread(asked);
        }
        let mut reading = self.last.clone();
        if let Some(silent) = self.silent_for(Instant::now()) {
            S::silence(&mut reading, &Absent::NoAnswer { seconds: silent });
        }
        reading
    }

    /// What does not answer, by its file or as a whole.
    pub(crate) fn silent(&self, root: &Root, now: Instant, list: &mut Vec<Silent>) {
        let own = self.silent_for(now).map(|for_s| Silent { what: self.name.into(), for_s });
        let files = self.stuck.list(now).into_iter().map(|(path, for_s)| Silent {
            what: path.strip_prefix(root.as_path()).unwrap_or(&path).display().to_string(),
            for_s,
        });
        list.extend(own.into_iter().chain(files));
    }

    /// Why nothing is known at all, if nothing ever was.
    pub(crate) fn never_answered(&self) -> Option<Absent> {
        if self.answered {
            return None;
        }
        Some(Absent::NoAnswer { seconds: self.silent_for(Instant::now()).unwrap_or(0) })
    }

    fn silent_for(&self, now: Instant) -> Option<u64> {
        match (&self.thread, self.asked) {
            (Some(_), None) => None,
            (_, since) => Some(since.map_or(0, |since| seconds(since, now))),
        }
    }

    fn answered_by(&mut self, deadline: Instant) -> bool {
        let Some(thread) = &self.thread else { return false };
        let patience = deadline.saturating_duration_since(Instant::now());
        let Ok(reading) = thread.answers.recv_timeout(patience) else { return false };
        (self.last, self.answered) = (reading, true);
        self.asked = None;
        true
    }

    /// Reads all but the file that the first thread does not come back from.
    fn second_thread(&mut self, now: Instant) {
        let one_is_lost = self.left_alone.strong_count() > 0;
        let Some(first) = self.thread.take_if(|first| !one_is_lost && first.watch.leave_alone())
        else {
            return;
        };
        self.left_alone = Arc::downgrade(&first.watch);
        self.asked = None;
        self.ask(now);
        self.answered_by(Instant::now() + SECOND_PATIENCE);
    }
}

/// A thread that reads when it is asked and ends when nobody can ask any more.
fn spawn<S: Sensors>(
    name: &'static str,
    mut sensors: S,
    stuck: &Arc<Stuck>,
) -> io::Result<Thread<S::Reading>> {
    let (requests, asked) = sync_channel::<Instant>(1);
    let (sender, answers) = sync_channel(1);
    let watch = Watch::new(Arc::clone(stuck));
    let own = Arc::clone(&watch);
    let read = move || {
        own.of_this_thread();
        let mut found: Option<Instant> = None;
        for now in asked {
            if found.is_none_or(|found| now.saturating_duration_since(found) >= SEARCH_PERIOD) {
                sensors.find();
                found = Some(now);
            }
            if sender.send(sensors.read(now)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(read)?;
    Ok(Thread { requests, answers, watch })
}

#[cfg(test)]
mod tests;
