//! The store's thread: collects commands into batches, and keeps going when
//! the disk does not.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::{Bounds, Command, Counters, Report, Trouble, rows, schema};

/// How long a row may wait for others to be written together with it.
const GATHER: Duration = Duration::from_millis(200);
/// Rows in one transaction at most.
const BATCH: usize = 256;
/// Rows written between two deletions of old ones.
const RETAIN_EVERY: usize = 1000;
/// Wait before a database that failed is tried again.
const RETRY: Duration = Duration::from_secs(30);

pub(super) struct Thread<R> {
    pub(super) path: PathBuf,
    pub(super) bounds: Bounds,
    pub(super) commands: Receiver<Command>,
    pub(super) counters: std::sync::Arc<Counters>,
    pub(super) report: R,
}

enum Database {
    Open { connection: Connection, written: usize },
    Broken { since: Instant },
}

impl<R: Fn(Report)> Thread<R> {
    /// Runs until the store is dropped.
    pub(super) fn run(self) {
        let mut database = self.open();
        let mut batch = Vec::new();
        loop {
            let goes_on = self.gather(&database, &mut batch);
            self.counters.beats.fetch_add(1, Ordering::Relaxed);
            database = self.write(database, &mut batch);
            if !goes_on {
                return;
            }
        }
    }

    /// Collects a batch; false when there will be no more commands.
    fn gather(&self, database: &Database, batch: &mut Vec<Command>) -> bool {
        let first = match database {
            Database::Open { .. } => {
                self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            }
            Database::Broken { since } => {
                self.commands.recv_timeout(RETRY.saturating_sub(since.elapsed()))
            }
        };
        let mut next = match first {
            Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Command::Ping) => return true,
            Ok(row) => row,
        };
        let until = Instant::now() + GATHER;
        loop {
            batch.push(next);
            if batch.len() >= BATCH {
                return true;
            }
            next = match self.commands.recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Command::Ping) | Err(RecvTimeoutError::Timeout) => return true,
                Ok(row) => row,
            };
        }
    }

    /// Writes the batch and empties it, whether that works or not.
    fn write(&self, database: Database, batch: &mut Vec<Command>) -> Database {
        let rows = batch.len();
        let database = match database {
            Database::Broken { since } if since.elapsed() >= RETRY => self.open(),
            other => other,
        };
        let database = match database {
            Database::Open { mut connection, written } if rows > 0 => {
                match self.write_rows(&mut connection, batch, written) {
                    Ok(written) => {
                        batch.clear();
                        Database::Open { connection, written }
                    }
                    Err(error) => {
                        drop(connection);
                        self.failed(schema::OpenError::Sqlite(error))
                    }
                }
            }
            other => other,
        };
        // The rows of a batch that failed are given up, not kept without bound.
        self.counters.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        batch.clear();
        database
    }

    fn write_rows(
        &self,
        connection: &mut Connection,
        batch: &[Command],
        written: usize,
    ) -> rusqlite::Result<usize> {
        let transaction = connection.transaction()?;
        for command in batch {
            rows::write(&transaction, command)?;
        }
        let mut written = written + batch.len();
        if written >= RETAIN_EVERY {
            rows::retain(&transaction, self.bounds.requests, self.bounds.incidents)?;
            written = 0;
        }
        transaction.commit()?;
        Ok(written)
    }

    fn open(&self) -> Database {
        let opened = schema::open(&self.path).and_then(|connection| {
            rows::retain(&connection, self.bounds.requests, self.bounds.incidents)?;
            let incidents = rows::recent_incidents(&connection)?;
            Ok((connection, incidents))
        });
        match opened {
            Ok((connection, incidents)) => {
                (self.report)(Report::Opened { incidents });
                Database::Open { connection, written: 0 }
            }
            Err(error) => self.failed(error),
        }
    }

    /// Says what is wrong. A corrupt file is set aside and a new one begun.
    fn failed(&self, error: schema::OpenError) -> Database {
        if error.is_corruption()
            && let Some(aside) = set_aside(&self.path)
        {
            (self.report)(Report::SetAside { path: aside, cause: error.to_string() });
            return self.open();
        }
        (self.report)(Report::Failed(Trouble {
            path: self.path.clone(),
            fault: error.fault(&self.path),
            cause: error.to_string(),
        }));
        Database::Broken { since: Instant::now() }
    }
}

/// Renames the database; its write-ahead log goes with it.
fn set_aside(path: &Path) -> Option<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let named = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = named(path, &format!(".corrupt-{now}"));
    if aside.exists() || std::fs::rename(path, &aside).is_err() {
        return None;
    }
    for suffix in ["-wal", "-shm"] {
        // They need not exist.
        let _ = std::fs::rename(named(path, suffix), named(&aside, suffix));
    }
    Some(aside)
}
