//! One database file over its life: usable, out of order for a while, or
//! replaced because it was damaged.
//!
//! ```text
//! Open ──(disk full, read-only, …)──► Broken ──(after a while)──► opened again
//!  ▲ └──(damaged)──► put out of the way ──► a new file, once in a while ──┐
//!  └──────────────────────────────────────────────────────────────────────┘
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::Trouble;
use super::salvage::salvage;
use super::schema::{self, Layout, OpenError};

/// Wait before a database that failed is tried again. Damage that comes back
/// sooner has a cause that a new file does not cure.
const RETRY: Duration = Duration::from_secs(30);

/// Damaged files that are kept, so that a bad disk does not fill up with them.
const KEPT_ASIDE: usize = 3;

/// One file and the connection to it.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    layout: &'static Layout,
    damaged: Damaged,
    state: State,
    replaced: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Unopened,
    Open(Connection),
    Broken { since: Instant },
}

/// What becomes of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damaged {
    SetAside,
    Deleted,
    /// Deleted once what can be read of some tables was taken over.
    Rescued,
}

/// What happened to the file.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    Opened,
    /// It was damaged. `aside` is where it is now, if it is still somewhere;
    /// `rescued` says what of it is in the new one.
    Replaced {
        aside: Option<PathBuf>,
        cause: String,
        rescued: String,
    },
    Failed(Trouble),
}

/// What came of some work.
#[derive(Debug)]
pub(super) struct Tried<T> {
    /// The error is why the file is out of order.
    pub(super) done: Result<T, String>,
    /// Why the file was begun anew meanwhile, if it was.
    pub(super) replaced: Option<String>,
}

impl Database {
    pub(super) fn new(path: PathBuf, layout: &'static Layout, damaged: Damaged) -> Self {
        Self { path, layout, damaged, state: State::Unopened, replaced: None }
    }

    /// Does `work` on it, once more if it had to be replaced for that. `None`
    /// if it is out of order.
    pub(super) fn work<T>(
        &mut self,
        news: &mut Vec<News>,
        mut work: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Option<T> {
        for _ in 0..2 {
            match work(self.connection(news)?) {
                Ok(done) => return Some(done),
                Err(error) => self.failed(error.into(), news),
            }
        }
        None
    }

    /// The same for one who waits for what comes of it: the journal hears what became of
    /// the file, by the name of what is in it.
    pub(super) fn try_work<T>(
        &mut self,
        named: &'static str,
        work: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Tried<T> {
        let mut news = Vec::new();
        let done = self.work(&mut news, work);
        let mut why = "it failed a moment ago and is tried again".to_owned();
        let mut replaced = None;
        for event in news {
            match event {
                News::Opened => {}
                News::Replaced { cause, rescued, .. } => {
                    tracing::warn!(cause, rescued, "{named} damaged and begun anew");
                    replaced = Some(cause);
                }
                News::Failed(trouble) => {
                    tracing::warn!(cause = trouble.cause, "{named} not usable");
                    why = trouble.cause;
                }
            }
        }
        Tried { done: done.ok_or(why), replaced }
    }

    /// When it is to be tried again, if it is out of order.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.state {
            State::Unopened => Some(Duration::ZERO),
            State::Open(_) => None,
            State::Broken { since } => Some(RETRY.saturating_sub(since.elapsed())),
        }
    }

    /// Deletes the file, which is not opened any more.
    pub(super) fn discard(&self) {
        delete(&self.path);
    }

    fn connection(&mut self, news: &mut Vec<News>) -> Option<&mut Connection> {
        if self.due().is_some_and(|wait| wait.is_zero()) {
            match schema::open(&self.path, self.layout) {
                Ok(connection) => self.opened(connection, news),
                Err(error) => self.failed(error, news),
            }
        }
        match &mut self.state {
            State::Open(connection) => Some(connection),
            State::Unopened | State::Broken { .. } => None,
        }
    }

    fn opened(&mut self, connection: Connection, news: &mut Vec<News>) {
        self.state = State::Open(connection);
        news.push(News::Opened);
    }

    /// Says what is wrong, and puts a new file in the place of a damaged one.
    fn failed(&mut self, error: OpenError, news: &mut Vec<News>) {
        // The connection is closed before the file is touched.
        self.state = State::Broken { since: Instant::now() };
        let again = self.replaced.is_some_and(|replaced| replaced.elapsed() < RETRY);
        if !error.is_damage() || again {
            return news.push(self.trouble(&error));
        }
        let Ok(aside) = self.remove() else { return news.push(self.trouble(&error)) };
        self.replaced = Some(Instant::now());
        let cause = error.to_string();
        match schema::open(&self.path, self.layout) {
            Ok(mut connection) => {
                let rescued = match &aside {
                    Some(damaged) => salvage(damaged, &mut connection, self.layout.salvaged)
                        .unwrap_or_else(|error| format!("nothing could be taken over: {error}")),
                    None => String::new(),
                };
                let aside = aside.filter(|aside| {
                    let kept = self.damaged == Damaged::SetAside;
                    if !kept {
                        delete(aside);
                    }
                    kept
                });
                news.push(News::Replaced { aside, cause, rescued });
                self.opened(connection, news);
            }
            Err(error) => {
                let rescued = "nothing could be taken over".to_owned();
                news.extend([News::Replaced { aside, cause, rescued }, self.trouble(&error)]);
            }
        }
    }

    fn trouble(&self, error: &OpenError) -> News {
        News::Failed(Trouble {
            path: self.path.clone(),
            fault: error.fault(&self.path),
            cause: error.to_string(),
        })
    }

    fn remove(&self) -> std::io::Result<Option<PathBuf>> {
        match self.damaged {
            Damaged::SetAside | Damaged::Rescued => set_aside(&self.path).map(Some),
            Damaged::Deleted => {
                delete(&self.path);
                match self.path.exists() {
                    true => Err(std::io::ErrorKind::PermissionDenied.into()),
                    false => Ok(None),
                }
            }
        }
    }
}

/// Files beside a database that belong to it.
const LOGS: [&str; 2] = ["-wal", "-shm"];

/// Between a database's name and the time when it was found to be damaged.
const ASIDE: &str = ".corrupt-";

fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Deletes the database and its log. What cannot be deleted stays.
fn delete(path: &Path) {
    for suffix in ["", LOGS[0], LOGS[1]] {
        // None of them need exist.
        let _ = std::fs::remove_file(named(path, suffix));
    }
}

/// Renames the database; its write-ahead log goes with it.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let aside = named(path, &format!("{ASIDE}{now}"));
    std::fs::rename(path, &aside)?;
    for suffix in LOGS {
        // It need not exist.
        let _ = std::fs::rename(named(path, suffix), named(&aside, suffix));
    }
    forget_old(path);
    Ok(aside)
}

/// Deletes the oldest of the files that were set aside.
fn forget_old(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return };
    let begin = format!("{}{ASIDE}", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_time = |time: &str| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
    let mut aside: Vec<String> =
        names.filter(|name| name.strip_prefix(&begin).is_some_and(is_time)).collect();
    // Times of the same length sort like numbers.
    aside.sort();
    aside.reverse();
    for old in aside.iter().skip(KEPT_ASIDE) {
        delete(&dir.join(old));
    }
}
