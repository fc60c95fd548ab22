//! What is remembered across restarts: one thread that owns SQLite.
//!
//! Nobody waits for it. Rows go through a bounded channel; when the channel is
//! full, or the database cannot be written, a row is dropped and counted, and
//! answers go on. A database that fails is a [`Trouble`] for the status page
//! and is tried again; a corrupt one is set aside and a new one begun.

mod rows;
mod schema;
mod thread;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use engine_api::protocol::Usage;

use crate::snapshot::Incident;

/// Rows that may wait for the thread: some seconds of a busy appliance.
const QUEUE: usize = 1024;
/// How long the last rows may take to be written at the end.
const LAST_ROWS: Duration = Duration::from_secs(5);
/// SQLite needs little; the default of 2 MiB would only be address space.
const STACK: usize = 512 * 1024;

/// Rows that are kept, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub requests: u64,
    pub incidents: u64,
}

/// One request that was accepted, after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// Seconds since 1970 when it was accepted.
    pub at: u64,
    /// An address, or `key …` with a short digest.
    pub client: String,
    pub endpoint: &'static str,
    pub model: String,
    pub outcome: Outcome,
    pub reason: String,
    pub usage: Usage,
    pub queued_ms: Option<u64>,
    pub prefill_ms: Option<u64>,
    pub decode_ms: Option<u64>,
    pub total_ms: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    Failed,
    Cancelled,
}

impl Outcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An incident with what only its row holds.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentRow {
    pub incident: Incident,
    pub cause: String,
    pub evidence: serde_json::Value,
}

/// What the thread has to say to the main loop.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The database is there, with these newest incidents.
    Opened { incidents: Vec<Incident> },
    /// A corrupt file was renamed to `path`; a new one is begun.
    SetAside { path: PathBuf, cause: String },
    /// Nothing is written until a later `Opened`.
    Failed(Trouble),
}

/// Why nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub path: PathBuf,
    pub fault: Fault,
    pub cause: String,
}

/// What somebody has to do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Full,
    ReadOnly,
    Other,
}

enum Command {
    Request(RequestRow),
    Incident(IncidentRow),
    /// Answered by one more beat.
    Ping,
    Close,
}

#[derive(Debug, Default)]
struct Counters {
    dropped: AtomicU64,
    beats: AtomicU64,
}

/// The writing end. Clones write to the same database.
#[derive(Clone)]
pub struct Store {
    commands: SyncSender<Command>,
    counters: Arc<Counters>,
}

/// The thread. [`StoreThread::close`] waits until everything is written.
#[derive(Debug)]
pub struct StoreThread {
    commands: SyncSender<Command>,
    /// Disconnected when the thread is gone.
    gone: Receiver<()>,
}

/// Starts the thread on the database at `path`. `report` is called from the
/// thread and must not block.
///
/// # Errors
/// There are no more threads.
pub fn start(
    path: PathBuf,
    bounds: Bounds,
    report: impl Fn(Report) + Send + 'static,
) -> std::io::Result<(Store, StoreThread)> {
    let (commands, receiver) = sync_channel(QUEUE);
    let counters = Arc::<Counters>::default();
    let thread = thread::Thread {
        path,
        bounds,
        commands: receiver,
        counters: Arc::clone(&counters),
        report,
    };
    let builder = std::thread::Builder::new().name("store".into()).stack_size(STACK);
    let (alive, gone) = sync_channel(0);
    builder.spawn(move || {
        thread.run();
        drop(alive);
    })?;
    Ok((Store { commands: commands.clone(), counters }, StoreThread { commands, gone }))
}

impl Store {
    /// Remembers a request, or drops it if the thread is behind.
    pub fn request(&self, row: RequestRow) {
        self.send(Command::Request(row));
    }

    /// Remembers an incident, or drops it if the thread is behind.
    pub fn incident(&self, row: IncidentRow) {
        self.send(Command::Incident(row));
    }

    /// Rows that were not written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }

    /// Asks the thread to show that it moves.
    pub fn ping(&self) {
        // If the channel is full, the thread has enough to move for.
        let _ = self.commands.try_send(Command::Ping);
    }

    /// How often the thread has moved.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.counters.beats.load(Ordering::Relaxed)
    }

    fn send(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl StoreThread {
    /// Writes what waits and ends the thread. If the disk hangs, it is left
    /// behind after some seconds; SQLite's file survives that.
    pub fn close(self) {
        // A full channel means that the disk hangs already.
        let told = self.commands.try_send(Command::Close).is_ok();
        let ended = self.gone.recv_timeout(LAST_ROWS);
        if !told || ended == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last rows could not be written in time");
        }
    }
}
