//! The index of code: repositories are gone over by the indexer, and what it
//! tells is written down and can be searched.
//!
//! ```text
//!  indexer (a process, lowest priority) ══ frames ══► index thread ──► code.db
//!     reads foreign files                              one pass at a time   │
//!                                                      ▲ add, remove        │
//!  HTTP ── add, remove, list ──────────────────────────┤                    │
//!       ── search ──► search thread, a connection that only reads ◄─────────┘
//!             └─► embedder ◄── texts, one by one ── a task, while nobody else wants anything
//! ```
//!
//! Its files lie in a directory of this machine, or were brought here ([`sources`]).
//! A repository is gone over when it is new, and again in a while; a pass tells
//! only what is different. Where the kernel tells of an edit, what was edited is looked
//! at at once. Whoever answers somebody goes first: the indexer and
//! the thread that writes have the lowest priority, and while heat, memory or
//! over-current hold the engine back, nothing of the indexer is read, so that it
//! stands still.

mod background;
mod bringing;
mod changed;
pub mod embedder;
pub mod graph;
pub mod map;
pub mod naming;
mod pass;
mod progress;
pub mod short_forms;
pub mod sources;
pub mod stem;
mod thread;
mod view;
mod watching;
pub mod words;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::snapshot;
use crate::store::code::search::map::{Mapped, Wanted, map};
pub use crate::store::code::search::{Found, Hit, Linked, Question};
use crate::store::code::search::{Meant, Search};
pub use crate::store::code::{CodeError, Maker, NewRepository};
use crate::store::code::{Embedded, Standing, Unembedded};
pub(crate) use background::SAID;
use embedder::Embedder;
pub use progress::Vectors;
use sources::Origin;
use sources::tree::{Part, Trees, Whole};
use sources::unpack;
pub use view::{Entry, State};

/// Repositories at most, so that the list of those that may be searched is short.
pub const MOST_REPOSITORIES: usize = 64;
/// Files and directories of one upload.
const MOST_ENTRIES: u64 = 200_000;
/// Orders that may wait for the thread.
const ORDERS: usize = 64;
/// Searches that may wait for their turn; a further one is refused.
const SEARCHES: usize = 64;
/// How long somebody waits for the thread: it may be in the middle of a batch.
const ANSWERING: Duration = Duration::from_secs(30);
/// How long somebody waits for the list of repositories after a start.
const OPENING: Duration = Duration::from_secs(5);
/// How long the thread may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// Without a search for so long, memory is given back.
const RESTING: Duration = Duration::from_secs(30);
/// How long a search waits for its question's vector. It is more than the text takes
/// that the embedder may be at; a person hardly notices.
const EMBEDDING: Duration = Duration::from_millis(400);
/// SQLite needs little.
const STACK: usize = 1024 * 1024;

/// What the index is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub database: PathBuf,
    /// The program.
    pub indexer: PathBuf,
    /// From the end of a pass to the next one of the same repository.
    pub period: Duration,
    pub repositories: Vec<NewRepository>,
    pub sources: SourceBounds,
}

/// What may be brought here, and how long it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceBounds {
    /// From one look at a git URL to the next.
    pub fetch_period: Duration,
    /// Of one repository by URL or upload.
    pub bytes: u64,
    /// Of all uploads.
    pub uploads_bytes: u64,
    /// From an upload until it is forgotten; zero for never.
    pub uploads_kept: Duration,
}

impl Default for SourceBounds {
    fn default() -> Self {
        Self {
            fetch_period: Duration::from_secs(300),
            bytes: 1 << 30,
            uploads_bytes: 4 << 30,
            uploads_kept: Duration::from_secs(90 * 86_400),
        }
    }
}

/// All repositories; `None` until they were read from the disk.
pub type Entries = Option<Arc<[Entry]>>;

/// Why a repository was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("there is a repository `{0}` already")]
    NameTaken(String),
    #[error("{} {problem}", path.display())]
    Path { path: PathBuf, problem: String },
    #[error("{0}")]
    Name(String),
    #[error("there are {MOST_REPOSITORIES} repositories, which is the limit")]
    TooMany,
    #[error("there is no repository `{0}`")]
    Unknown(String),
    #[error("`{0}` stands in the configuration; take it out there")]
    Configured(String),
    #[error("the index cannot be written: {0}")]
    Code(#[from] CodeError),
    #[error(
        "all uploads together may have {} MiB; remove one, or raise `index.uploads_bytes`",
        .0 / (1024 * 1024)
    )]
    Full(u64),
    #[error("the files cannot be written: {0}")]
    Disk(#[source] std::io::Error),
    #[error("the index is busy; try again")]
    Busy,
}

/// A repository as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub origin: Origin,
    /// The directory's or the URL's own, if it is left out.
    pub name: Option<String>,
    /// `None` for everybody.
    pub owner: Option<String>,
}

/// Files that somebody sent.
#[derive(Debug)]
pub struct Uploaded {
    pub name: String,
    /// `None` for everybody.
    pub owner: Option<String>,
    pub whole: Whole,
    pub bytes: u64,
}

#[derive(Debug)]
enum Order {
    Add(Wish, oneshot::Sender<Result<NewRepository, OrderError>>),
    Upload(Uploaded, oneshot::Sender<Result<(), OrderError>>),
    /// Whose it is, and its name.
    Remove {
        owner: String,
        name: String,
        reply: oneshot::Sender<Result<(), OrderError>>,
    },
    /// What makes vectors from now on.
    MadeBy(Maker, oneshot::Sender<Result<Standing, OrderError>>),
    /// How far the vectors are, where nothing makes any.
    Standing(oneshot::Sender<Result<Standing, OrderError>>),
    /// Deletes some that nobody needs any more; whether there were any.
    DeleteOldVectors(oneshot::Sender<Result<bool, OrderError>>),
    /// Some texts that have no vector.
    Unembedded(usize, oneshot::Sender<Result<Vec<Unembedded>, OrderError>>),
    /// Vectors of that embedder.
    Embedded {
        identity: [u8; 32],
        made: Vec<Embedded>,
        reply: oneshot::Sender<Result<Standing, OrderError>>,
    },
    /// What the kernel told of files.
    Seen(Vec<watching::Seen>),
    Close,
}

#[derive(Debug)]
struct Searching {
    question: Question,
    /// Its vector, or why there is none.
    meant: Result<Meant, String>,
    reply: oneshot::Sender<Result<Found, CodeError>>,
}

/// Asks the index. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Index {
    orders: SyncSender<Order>,
    searches: SyncSender<Searching>,
    entries: watch::Receiver<Entries>,
    /// What holds it back, if anything does.
    held: watch::Sender<Option<String>>,
    meaning: Arc<OnceLock<Meaning>>,
    trees: Trees,
    bounds: SourceBounds,
    database: Arc<Path>,
    /// One map is drawn at a time.
    mapping: Arc<Semaphore>,
}

/// What there is once there may be vectors.
#[derive(Debug)]
struct Meaning {
    embedder: Arc<dyn Embedder>,
    vectors: watch::Receiver<Vectors>,
}

/// The thread. [`IndexThread::close`] ends it and the indexer.
#[derive(Debug)]
pub struct IndexThread {
    orders: SyncSender<Order>,
    /// Disconnected when the thread is gone.
    gone: Receiver<()>,
}

/// Starts both threads.
///
/// # Errors
/// There are no more threads.
pub fn start(settings: Settings) -> std::io::Result<(Index, IndexThread)> {
    let (orders, ordered) = sync_channel(ORDERS);
    let (searches, searching) = sync_channel(SEARCHES);
    let (showing, entries) = watch::channel(None);
    let (held, holding) = watch::channel(None);
    let database: Arc<Path> = Arc::from(settings.database.as_path());
    let index = Index {
        orders: orders.clone(),
        searches,
        entries,
        held,
        meaning: Arc::default(),
        trees: Trees::below(database.parent().unwrap_or(Path::new("/"))),
        bounds: settings.sources,
        database: Arc::clone(&database),
        mapping: Arc::new(Semaphore::new(1)),
    };
    let watching = watching::Watching::start(orders.clone());
    let trees = index.trees.clone();
    let thread = thread::Thread::new(settings, ordered, showing, holding, trees, watching);
    let (alive, gone) = sync_channel(0);
    std::thread::Builder::new().name("index".into()).stack_size(STACK).spawn(move || {
        thread.run();
        drop(alive);
    })?;
    std::thread::Builder::new()
        .name("search".into())
        .stack_size(STACK)
        .spawn(move || answer_searches(&database, &searching))?;
    Ok((index, IndexThread { orders, gone }))
}

fn answer_searches(database: &Path, searching: &Receiver<Searching>) {
    let mut search = Search::new(database);
    let mut next = searching.recv().map_err(|_| RecvTimeoutError::Disconnected);
    loop {
        match next {
            Ok(Searching { question, meant, reply }) => {
                if !reply.is_closed() {
                    // Who asked may have gone.
                    let _ =
                        reply.send(search.find(&question, meant.as_ref().map_err(Clone::clone)));
                }
                next = searching.recv_timeout(RESTING);
            }
            Err(RecvTimeoutError::Timeout) => {
                search.rest();
                next = searching.recv().map_err(|_| RecvTimeoutError::Disconnected);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Index {
    /// Keeps one more repository and goes over it soon.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn add(&self, wish: Wish) -> Result<NewRepository, OrderError> {
        self.order(|reply| Order::Add(wish, reply)).await
    }

    /// A place for files that somebody sends, and what they may be.
    ///
    /// # Errors
    /// The disk does not take them.
    pub fn begin_upload(&self) -> std::io::Result<(Part, unpack::Bounds)> {
        let bounds = unpack::Bounds { bytes: self.bounds.bytes, entries: MOST_ENTRIES };
        Ok((self.trees.begin()?, bounds))
    }

    /// Makes what was sent be the files of a repository, in the place of what was sent
    /// under that name before.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn upload(&self, uploaded: Uploaded) -> Result<(), OrderError> {
        self.order(|reply| Order::Upload(uploaded, reply)).await
    }

    /// Forgets a repository of this owner, or a shared one, with all that was made of it.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn remove(&self, owner: String, name: String) -> Result<(), OrderError> {
        self.order(|reply| Order::Remove { owner, name, reply }).await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, OrderError>>) -> Order,
    ) -> Result<T, OrderError> {
        let (reply, done) = oneshot::channel();
        self.orders.try_send(order(reply)).map_err(|_| OrderError::Busy)?;
        match tokio::time::timeout(ANSWERING, done).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(OrderError::Busy),
        }
    }

    /// From now on texts get vectors from this one, and searches go by meaning as
    /// well. Belongs inside a tokio runtime, and is done once.
    pub fn embed_with(&self, embedder: Arc<dyn Embedder>) {
        let (showing, vectors) = watch::channel(Vectors::default());
        let meaning = Meaning { embedder: Arc::clone(&embedder), vectors };
        if self.meaning.set(meaning).is_ok() {
            tokio::spawn(background::run(self.clone(), embedder, showing));
        }
    }

    /// The best chunks; `None` if too many search at once. See [`Self::find`].
    ///
    /// # Errors
    /// The index is out of order, or the search took too long.
    pub async fn search(&self, question: Question) -> Option<Result<Vec<Hit>, CodeError>> {
        self.find(question).await.map(|found| found.map(|found| found.hits))
    }

    /// The best chunks by words and meaning, or why by words alone; `None` if too many
    /// search at once.
    ///
    /// # Errors
    /// The index is out of order, or the search took too long.
    pub async fn find(&self, question: Question) -> Option<Result<Found, CodeError>> {
        let (by, found) = self.find_once(question.clone()).await?;
        // Vectors that are not searched any more are deleted, perhaps meanwhile.
        match by.is_none() || by == self.vectors().serving {
            true => Some(found),
            false => self.find_once(question).await.map(|(_, found)| found),
        }
    }

    /// What was found, and whose vectors were searched.
    async fn find_once(
        &self,
        question: Question,
    ) -> Option<(Option<Maker>, Result<Found, CodeError>)> {
        let (by, meant) = match self.meant(&question.text).await {
            Ok((by, values)) => (Some(by.clone()), Ok(Meant { identity: by.identity, values })),
            Err(reason) => (None, Err(reason)),
        };
        let (reply, found) = oneshot::channel();
        self.searches.try_send(Searching { question, meant, reply }).ok()?;
        Some((by, found.await.ok()?))
    }

    /// The map of a repository; `None` while another one is drawn.
    ///
    /// # Errors
    /// The index is out of order, or the map took too long.
    pub async fn map(&self, wanted: Wanted) -> Option<Result<Mapped, CodeError>> {
        let turn = Arc::clone(&self.mapping).try_acquire_owned().ok()?;
        let database = Arc::clone(&self.database);
        let drawing = tokio::task::spawn_blocking(move || {
            let drawn = map(&database, &wanted);
            drop(turn);
            drawn
        });
        drawing.await.ok()
    }

    /// A question's vector and what made it, or why there is none.
    async fn meant(&self, text: &str) -> Result<(Maker, Vec<f32>), String> {
        let none = || "no embedder is installed".to_owned();
        let Meaning { embedder, vectors } = self.meaning.get().ok_or_else(none)?;
        let serving = {
            let vectors = vectors.borrow();
            vectors.serving.clone().filter(|_| vectors.can_be_searched())
        };
        let Some(serving) = serving else {
            // It need not be started for this.
            embedder.maker().map_err(|_| none())?;
            return Err("no text has a vector yet".to_owned());
        };
        let making = embedder.of_question(text.to_owned(), serving.clone());
        match tokio::time::timeout(EMBEDDING, making).await {
            Ok(Ok(values)) => Ok((serving, values)),
            Ok(Err(not_made)) => Err(not_made.to_string()),
            Err(_) => Err(format!("the embedder took more than {} ms", EMBEDDING.as_millis())),
        }
    }

    /// How far the vectors are.
    #[must_use]
    pub fn vectors(&self) -> Vectors {
        self.meaning.get().map(|meaning| meaning.vectors.borrow().clone()).unwrap_or_default()
    }

    /// Whether nobody answers any more.
    fn is_over(&self) -> bool {
        self.entries.has_changed().is_err()
    }

    /// All repositories as they are now, once they were read from the disk.
    pub async fn entries(&self) -> Arc<[Entry]> {
        let mut entries = self.entries.clone();
        let read = tokio::time::timeout(OPENING, entries.wait_for(Option::is_some)).await;
        match read {
            Ok(Ok(entries)) => entries.clone().unwrap_or_default(),
            Ok(Err(_)) | Err(_) => Arc::default(),
        }
    }

    /// The same, each time that they change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Entries> {
        self.entries.clone()
    }

    /// All of it as everybody may see it.
    #[must_use]
    pub fn shown(&self) -> snapshot::Index {
        let shown = |entry: &Entry| entry.shown(entry.repository.is.owner.is_none());
        let entries = self.entries.borrow().clone().unwrap_or_default();
        let repositories = entries.iter().map(shown).collect();
        let held_because = self.held();
        let (held, vectors) = (held_because.is_some(), self.vectors().shown());
        snapshot::Index { held, held_because, repositories, vectors }
    }

    /// Lets the indexer stand still for a reason, or go on.
    pub fn hold(&self, reason: Option<String>) {
        self.held.send_replace(reason);
    }

    /// Why it stands still; `None` if it does not.
    #[must_use]
    pub fn held(&self) -> Option<String> {
        self.held.borrow().clone()
    }
}

impl IndexThread {
    /// Ends the indexer, too. What was not written down is found by the next pass.
    pub fn close(self) {
        let told = self.orders.try_send(Order::Close).is_ok();
        let ended = self.gone.recv_timeout(ENDING);
        if !told || ended == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the index did not end in time and was left");
        }
    }
}
