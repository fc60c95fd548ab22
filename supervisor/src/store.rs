//! What is remembered across restarts: one thread that owns SQLite.
//!
//! No request waits for it. Rows go through a bounded channel; when the channel
//! is full, or a database cannot be written, a row is dropped and counted, and
//! answers go on. A database that fails is a [`Trouble`] for the status page
//! and is tried again.
//!
//! | file | what it holds | when it is damaged |
//! |---|---|---|
//! | `stoker.db` | requests and incidents | set aside; what can be read goes into a new one |
//! | `answers.db` | streamed answers, for minutes | deleted, because people wrote what is in it |
//! | `code.db` | indexed repositories | deleted and made again; repositories that were added are kept |
//! | `memory.db` | what is remembered of chats | deleted, because people wrote what is in it |
//!
//! The last two have threads of their own: that of [`crate::index`], through [`code`],
//! and that of [`memory`].

mod answers;
pub mod code;
mod database;
pub mod kept;
pub mod memory;
mod rows;
mod salvage;
mod schema;
mod thread;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine_api::protocol::Usage;
use tokio::sync::oneshot;

pub use answers::{AnswerChange, Head, KeptAnswer, Piece};

use crate::snapshot::Incident;

/// Rows that may wait for the thread: some seconds of a busy appliance.
const QUEUE: usize = 1024;
/// Bytes of kept answers that may wait for the thread.
const WAITING_BYTES: usize = 8 * 1024 * 1024;
/// What each piece counts for at least, so that pieces never take more than
/// half of [`QUEUE`] and leave room for rows.
const LEAST_PIECE: usize = 2 * WAITING_BYTES / QUEUE;
/// How long somebody who wants a kept answer waits for the thread.
const FINDING: Duration = Duration::from_secs(5);
/// Longest that an answer waits for its record to begin; its prompt is computed
/// meanwhile.
const BEGINNING: Duration = Duration::from_secs(1);
/// How long the last rows may take to be written at the end.
const LAST_ROWS: Duration = Duration::from_secs(5);
/// SQLite needs little; the default of 2 MiB would only be address space.
const STACK: usize = 512 * 1024;

/// The two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub history: PathBuf,
    pub answers: PathBuf,
}

/// How much is kept. Of rows, the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub requests: u64,
    pub incidents: u64,
    /// How long a streamed answer is kept after it last grew; zero for not at all.
    pub answers_kept: Duration,
    /// Bytes of all kept answers.
    pub answers_bytes: u64,
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
    /// A damaged file was renamed to `path`, and a new one begun; `rescued`
    /// says what came across and what is lost.
    SetAside { path: PathBuf, cause: String, rescued: String },
    /// Nothing is written until a later `Opened`.
    Failed(Trouble),
    /// Answers are kept.
    AnswersOpened,
    /// The kept answers were damaged and are gone.
    AnswersLost { cause: String },
    /// No answers are kept until a later `AnswersOpened`.
    AnswersFailed(Trouble),
}

/// Kept answers cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("kept answers cannot be read now")]
pub struct Unreadable;

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
    Answer(AnswerChange),
    Begin(AnswerChange, oneshot::Sender<()>),
    Wanted(answers::Wanted),
    /// Answered by one more beat.
    Ping,
    Close,
}

#[derive(Debug, Default)]
struct Counters {
    dropped: AtomicU64,
    pieces_dropped: AtomicU64,
    /// Bytes of pieces in the channel.
    waiting: AtomicUsize,
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

/// Starts the thread on the databases at `paths`. `report` is called from the
/// thread and must not block.
///
/// # Errors
/// There are no more threads.
pub fn start(
    paths: Paths,
    bounds: Bounds,
    report: impl Fn(Report) + Send + 'static,
) -> std::io::Result<(Store, StoreThread)> {
    let (commands, receiver) = sync_channel(QUEUE);
    let counters = Arc::<Counters>::default();
    let thread = thread::Thread::new(paths, bounds, receiver, Arc::clone(&counters), report);
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

    /// Keeps what an answer said. False if the thread is behind; the answer then
    /// has a gap, and what comes later is of no use.
    #[must_use]
    pub fn answer(&self, change: AnswerChange) -> bool {
        self.give(change.bytes(), Command::Answer(change))
    }

    /// Gives the thread a part of an answer, if not too much of them waits for it.
    fn give(&self, bytes: usize, command: Command) -> bool {
        let bytes = bytes + LEAST_PIECE;
        let waiting = self.counters.waiting.fetch_add(bytes, Ordering::Relaxed);
        let given = waiting + bytes <= WAITING_BYTES && self.commands.try_send(command).is_ok();
        if !given {
            self.counters.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.counters.pieces_dropped.fetch_add(1, Ordering::Relaxed);
        }
        given
    }

    /// Begins to keep an answer. Resolves when its first piece stands in the file,
    /// where no end of this process can take it away; false if it does not within
    /// a moment, and then the answer is not kept.
    pub async fn begin_answer(&self, first: answers::Piece) -> bool {
        let (reply, written) = oneshot::channel();
        let id = Arc::clone(&first.id);
        let change = AnswerChange::Grew(first);
        if !self.give(change.bytes(), Command::Begin(change, reply)) {
            return false;
        }
        let kept = matches!(tokio::time::timeout(BEGINNING, written).await, Ok(Ok(())));
        if !kept {
            // It may come to stand there later, and nobody will ask for it.
            let _ = self.answer(AnswerChange::Forget(id));
        }
        kept
    }

    /// Forgets all kept answers of an owner; false if that is not done within a moment.
    pub async fn forget_answers(&self, owner: &str) -> bool {
        let (reply, written) = oneshot::channel();
        let change = AnswerChange::ForgetAllOf(owner.to_owned());
        self.give(change.bytes(), Command::Begin(change, reply))
            && matches!(tokio::time::timeout(FINDING, written).await, Ok(Ok(())))
    }

    /// The kept answer with this id, if it belongs to `owner`. What was given
    /// to [`Store::answer`] before is in it.
    ///
    /// # Errors
    /// The thread is behind, or the database is out of order.
    pub async fn find(&self, id: &str, owner: &str) -> Result<Option<KeptAnswer>, Unreadable> {
        let (reply, found) = oneshot::channel();
        let wanted = answers::Wanted { id: id.to_owned(), owner: owner.to_owned(), reply };
        self.commands.try_send(Command::Wanted(wanted)).map_err(|_| Unreadable)?;
        match tokio::time::timeout(FINDING, found).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(_)) | Err(_) => Err(Unreadable),
        }
    }

    /// Rows that were not written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }

    /// Pieces of answers that were not written.
    #[must_use]
    pub fn pieces_dropped(&self) -> u64 {
        self.counters.pieces_dropped.load(Ordering::Relaxed)
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

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
