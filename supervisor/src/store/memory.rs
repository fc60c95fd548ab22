//! What is remembered of chats: one thread and one file, `memory.db`.
//!
//! It is a file of its own because people wrote what is in it: it can be read by our
//! user alone, deleted pages are overwritten, and when something was forgotten the
//! log, in which it still stands, is emptied. A damaged one is deleted.
//!
//! A chat waits a moment for what was decided for its earlier messages. If the thread
//! does not answer in that time, the chat goes on without, and its receipt says so.

mod additions;
mod conversations;
mod summaries;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

pub use additions::Addition;
pub use conversations::{Counts, Cut, Decision, Exported, Known, Said, Shown};
pub use summaries::Summed;

use super::database::{Damaged, Database};
use super::{schema, unix_s};
use crate::memory::chain::Link;
use crate::memory::recall::Found;

/// Orders that may wait for the thread; a further one is refused.
const ORDERS: usize = 64;
/// How long somebody waits for the thread.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the thread may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// Between two looks for what is too old.
const LOOK_PERIOD: Duration = Duration::from_secs(600);
/// How soon it is looked for where much came at once.
const EARLY: Duration = Duration::from_secs(10);
/// SQLite needs little.
const STACK: usize = 1024 * 1024;

/// How long and how much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub database: PathBuf,
    /// Since it was last used.
    pub kept: Duration,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// Why nothing is remembered now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("memory cannot be used now: {0}")]
pub struct MemoryError(String);

/// Asks the thread. Clones ask the same one.
#[derive(Clone)]
pub struct Memory {
    orders: SyncSender<Order>,
    settings: Settings,
}

/// The thread. [`MemoryThread::close`] ends it.
#[derive(Debug)]
pub struct MemoryThread {
    orders: SyncSender<Order>,
    /// Disconnected when the thread is gone.
    gone: Receiver<()>,
}

enum Order {
    Work(Box<dyn FnOnce(&mut Desk) + Send>),
    Close,
}

/// Starts the thread.
///
/// # Errors
/// There are no more threads.
pub fn start(settings: Settings) -> std::io::Result<(Memory, MemoryThread)> {
    let (orders, ordered) = sync_channel(ORDERS);
    let (alive, gone) = sync_channel(0);
    let kept = settings.clone();
    std::thread::Builder::new().name("memory".into()).stack_size(STACK).spawn(move || {
        Desk::new(settings).run(&ordered);
        drop(alive);
    })?;
    Ok((Memory { orders: orders.clone(), settings: kept }, MemoryThread { orders, gone }))
}

impl Memory {
    /// What was put before those of the messages that end these links.
    ///
    /// # Errors
    /// The database is out of order or busy, here and below.
    pub async fn additions(
        &self,
        owner: &str,
        links: &[Link],
    ) -> Result<Vec<(Link, Addition)>, MemoryError> {
        let (owner, links) = (owner.to_owned(), links.to_vec());
        self.ask(move |connection| additions::find(connection, &owner, &links, unix_s())).await
    }

    /// Keeps what is put before a message, in the place of what was put there before.
    /// It is on the disk when this returns.
    pub async fn add(
        &self,
        owner: &str,
        link: Link,
        addition: Addition,
        conversation: Option<i64>,
    ) -> Result<(), MemoryError> {
        let owner = owner.to_owned();
        self.ask(move |connection| {
            additions::add(connection, &owner, link, &addition, conversation, unix_s())
        })
        .await
    }

    /// Puts nothing before these messages any more.
    pub async fn take_back(&self, owner: &str, links: Vec<Link>) -> Result<(), MemoryError> {
        let owner = owner.to_owned();
        self.ask(move |connection| {
            let transaction = connection.transaction()?;
            for link in &links {
                additions::delete(&transaction, &owner, *link)?;
            }
            transaction.commit()?;
            forget(connection)
        })
        .await
    }

    /// Forgets all code of a repository: of this owner's chats, or of everybody's.
    pub async fn forget_repository(
        &self,
        name: &str,
        owner: Option<String>,
    ) -> Result<(), MemoryError> {
        let name = name.to_owned();
        self.ask(move |connection| {
            additions::delete_of(connection, &name, owner.as_deref())?;
            forget(connection)
        })
        .await
    }

    /// Finds the conversation that these messages are of, or begins one, and keeps
    /// those that are new.
    pub async fn open(
        &self,
        owner: &str,
        name: Option<String>,
        said: Vec<Said>,
    ) -> Result<Known, MemoryError> {
        let owner = owner.to_owned();
        self.ask(move |connection| {
            conversations::open(connection, &owner, name.as_deref(), &said, unix_s())
        })
        .await
    }

    /// What is known of a conversation with these messages; `None` if it was forgotten.
    pub async fn again(
        &self,
        conversation: i64,
        said: Vec<Said>,
    ) -> Result<Option<Known>, MemoryError> {
        self.ask(move |connection| conversations::again(connection, conversation, &said)).await
    }

    /// Notes how a conversation was made shorter: all of it or, if the process ends,
    /// nothing. It is on the disk when this returns.
    pub async fn shorten(
        &self,
        conversation: i64,
        decisions: Vec<Decision>,
    ) -> Result<(), MemoryError> {
        self.ask(move |connection| conversations::shorten(connection, conversation, &decisions))
            .await
    }

    /// How far the summaries of the blocks are that end with these links.
    pub async fn summaries(
        &self,
        conversation: i64,
        links: Vec<Link>,
    ) -> Result<Vec<Summed>, MemoryError> {
        self.ask(move |connection| summaries::find(connection, conversation, &links)).await
    }

    /// Counts that a summary is begun. False if the conversation was forgotten.
    pub async fn begin_summary(&self, conversation: i64, link: Link) -> Result<bool, MemoryError> {
        self.ask(move |connection| summaries::begin(connection, conversation, link)).await
    }

    /// Keeps a summary, for the next reset.
    pub async fn keep_summary(
        &self,
        conversation: i64,
        link: Link,
        text: String,
    ) -> Result<(), MemoryError> {
        self.ask(move |connection| summaries::keep(connection, conversation, link, &text)).await
    }

    /// What was said of these words in a conversation, best first: of all of it or, where
    /// `among` is given, in those messages, and those that are `there` apart; never the
    /// `question` itself.
    pub async fn recall(
        &self,
        conversation: i64,
        terms: Vec<String>,
        among: Option<Vec<Link>>,
        there: Vec<Link>,
        question: Link,
    ) -> Result<Found, MemoryError> {
        self.ask(move |connection| {
            let among = among.as_deref();
            conversations::recall(connection, conversation, &terms, among, &there, question)
        })
        .await
    }

    /// How long and how much is kept.
    #[must_use]
    pub fn bounds(&self) -> &Settings {
        &self.settings
    }

    /// How much is kept of everybody's.
    pub async fn counts(&self) -> Result<Counts, MemoryError> {
        if !self.settings.database.exists() {
            // Nobody has made it yet, and it is not made for this.
            return Ok(Counts::default());
        }
        self.ask(|connection| conversations::counts(connection)).await
    }

    /// All conversations of an owner, the newest first.
    pub async fn list(&self, owner: &str) -> Result<Vec<Shown>, MemoryError> {
        let owner = owner.to_owned();
        self.ask(move |connection| conversations::list(connection, &owner)).await
    }

    /// All messages of an owner that are kept, or of one conversation.
    pub async fn export(
        &self,
        owner: &str,
        conversation: Option<i64>,
    ) -> Result<Vec<Exported>, MemoryError> {
        let owner = owner.to_owned();
        self.ask(move |connection| conversations::export(connection, &owner, conversation)).await
    }

    /// Forgets a conversation of an owner, or everything of this owner's chats. Says how
    /// many conversations.
    pub async fn forget(
        &self,
        owner: &str,
        conversation: Option<i64>,
    ) -> Result<usize, MemoryError> {
        let owner = owner.to_owned();
        self.ask(move |connection| {
            let forgotten = conversations::forget(connection, &owner, conversation)?;
            forget(connection)?;
            Ok(forgotten)
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MemoryError> {
        let (reply, done) = oneshot::channel();
        let order = Order::Work(Box::new(move |desk: &mut Desk| {
            // Who asked may have gone.
            let _ = reply.send(desk.work(&mut work));
        }));
        let busy = || MemoryError("it is busy".to_owned());
        self.orders.try_send(order).map_err(|_| busy())?;
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Work(_) => "Work",
            Self::Close => "Close",
        })
    }
}

impl MemoryThread {
    /// What was ordered before is done.
    pub fn close(self) {
        let told = self.orders.try_send(Order::Close).is_ok();
        let ended = self.gone.recv_timeout(ENDING);
        if !told || ended == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the memory of chats did not end in time and was left");
        }
    }
}

/// The thread's side.
struct Desk {
    settings: Settings,
    database: Database,
    look_at: Instant,
}

impl Desk {
    fn new(settings: Settings) -> Self {
        let database = database(&settings.database);
        Self { settings, database, look_at: Instant::now() }
    }

    fn run(mut self, ordered: &Receiver<Order>) {
        loop {
            if self.look_at <= Instant::now() {
                self.look_at = Instant::now() + LOOK_PERIOD;
                self.look();
            }
            let wait = self.look_at.saturating_duration_since(Instant::now());
            match ordered.recv_timeout(wait) {
                Ok(Order::Work(work)) => {
                    work(&mut self);
                    self.look_early();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks sooner where much came at once: with its words a file is about four times as
    /// large as what was said.
    fn look_early(&mut self) {
        let soon = Instant::now() + EARLY;
        if self.look_at <= soon {
            return;
        }
        let size = std::fs::metadata(&self.settings.database).map_or(0, |facts| facts.len());
        if size / 4 > self.settings.bytes {
            self.look_at = soon;
        }
    }

    /// Deletes what is too old or too much. A file that nobody has made yet is not
    /// made for that.
    fn look(&mut self) {
        if !self.settings.database.exists() {
            return;
        }
        let Settings { kept, bytes, .. } = self.settings.clone();
        // What is wrong is said to the next one who asks.
        let _ = self.work(&mut |connection| {
            let deleted = additions::retain(connection, kept, bytes, unix_s())?
                + conversations::retain(connection, kept, bytes, unix_s())?;
            if deleted > 0 { forget(connection) } else { Ok(()) }
        });
    }

    fn work<T>(
        &mut self,
        work: &mut impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, MemoryError> {
        self.database.try_work("memory of chats", work).done.map_err(MemoryError)
    }
}

fn database(path: &Path) -> Database {
    Database::new(path.to_owned(), &schema::MEMORY, Damaged::Deleted)
}

/// Empties the log, in which what was forgotten still stands.
fn forget(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
