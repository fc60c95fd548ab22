//! Indexed code: repositories, their files, and the chunks that these were cut
//! into. One connection writes, on the index's own thread; [`search`] reads with
//! another, and neither is ever waited for by the thread that keeps the history.
//!
//! It is a file of its own because a pass over a large repository writes for
//! minutes. What stands in it can be made again, but for the repositories that
//! somebody added: those are taken over from a damaged file.

mod blocks;
mod embedders;
mod names;
pub mod search;
mod vectors;
mod writing;

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;

use std::collections::BTreeSet;
use std::path::Path;

use engine_api::index::{FromIndexer, KnownFile};
use rusqlite::{Connection, params};

use super::database::{Damaged, Database, Tried};
use super::{schema, unix_s};
use crate::index::sources::Origin;
pub use embedders::Maker;
pub use vectors::{Coverage, Embedded, Unembedded};

/// Bits of a chunk's id below the number of its repository.
const CHUNK_BITS: u32 = 40;

/// Blocks of vectors that are emptied at one time; each takes some milliseconds.
const MOST_EMPTIED: usize = 64;
/// Pages that may stand empty, however small the file is.
const FREE_PAGES: i64 = 1000;
/// One page in so many may stand empty in a larger one.
const FREE_PART: i64 = 8;

/// A repository as somebody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRepository {
    pub name: String,
    pub origin: Origin,
    /// Who may search it, as [`crate::request::Client`] is written beside what is
    /// kept for it; `None` for everybody.
    pub owner: Option<String>,
}

/// A repository as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub id: i64,
    pub is: NewRepository,
    /// It stands in the configuration, and only leaving it out there removes it.
    pub configured: bool,
    /// Seconds since 1970 of the last whole pass.
    pub passed: Option<u64>,
}

/// What is kept of one repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub files: u64,
    /// Files that were passed over, each with its reason.
    pub skipped: u64,
    pub chunks: u64,
}

/// Where the vectors stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Of the embedder that texts are given to.
    pub coverage: Coverage,
    /// The one whose vectors are searched, which can be another.
    pub serving: Option<Maker>,
}

/// Why nothing is written or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodeError(String);

/// The writing side.
#[derive(Debug)]
pub struct Code {
    database: Database,
    replaced: bool,
}

impl Code {
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let database = Database::new(path.to_owned(), &schema::CODE, Damaged::Rescued);
        Self { database, replaced: false }
    }

    /// Makes the repositories of the configuration be those that are `configured`,
    /// and tells all that there are.
    ///
    /// # Errors
    /// The database is out of order, here and below.
    pub fn settle(&mut self, configured: &[NewRepository]) -> Result<Vec<Repository>, CodeError> {
        self.work(|connection| {
            let transaction = connection.transaction()?;
            for old in writing::repositories(&transaction)? {
                if old.configured && !configured.contains(&old.is) {
                    writing::remove(&transaction, old.id)?;
                }
            }
            let kept = writing::repositories(&transaction)?;
            for new in configured {
                if !kept.iter().any(|kept| kept.configured && kept.is == *new) {
                    writing::add(&transaction, new, true)?;
                }
            }
            transaction.commit()?;
            forget(connection)?;
            writing::repositories(connection)
        })
    }

    /// Keeps one more repository.
    pub fn add(&mut self, new: &NewRepository) -> Result<Repository, CodeError> {
        // Somebody was told that it is there, so it is on the disk.
        let id = self.work(|connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let id = writing::add(connection, new, false);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            id
        })?;
        Ok(Repository { id, is: new.clone(), configured: false, passed: None })
    }

    /// Forgets a repository with all that was made of it.
    pub fn remove(&mut self, id: i64) -> Result<(), CodeError> {
        self.work(|connection| {
            let transaction = connection.transaction()?;
            writing::remove(&transaction, id)?;
            transaction.commit()?;
            tidy(connection)?;
            forget(connection)
        })
    }

    /// Gives every file that is known of a repository to `each`, until that says no.
    pub fn known(
        &mut self,
        repository: i64,
        each: &mut dyn FnMut(KnownFile) -> bool,
    ) -> Result<(), CodeError> {
        self.work(|connection| writing::known(connection, repository, each))
    }

    /// The same of what stands at these paths or below them; each file once.
    pub fn known_at(
        &mut self,
        repository: i64,
        paths: &BTreeSet<String>,
        each: &mut dyn FnMut(KnownFile) -> bool,
    ) -> Result<(), CodeError> {
        let is_below = |path: &String| {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            above.into_iter().any(|above| paths.contains(above))
        };
        let tops: Vec<_> = paths.iter().filter(|path| !is_below(path)).collect();
        self.work(|connection| {
            tops.iter().try_for_each(|path| writing::known_at(connection, repository, path, each))
        })
    }

    /// Writes what a pass found, all of it or nothing.
    pub fn apply(&mut self, repository: i64, said: &[FromIndexer]) -> Result<(), CodeError> {
        self.work(|connection| {
            let transaction = connection.transaction()?;
            writing::apply(&transaction, repository, said)?;
            transaction.commit()
        })
    }

    /// Empties the log, where what a pass over some files replaced still stands.
    pub fn refreshed(&mut self) -> Result<(), CodeError> {
        self.work(|connection| forget(connection))
    }

    /// Notes that a whole pass came to its end; seconds since 1970.
    pub fn passed(&mut self, repository: i64) -> Result<u64, CodeError> {
        let now = unix_s();
        self.work(|connection| {
            let update = "UPDATE repositories SET passed = ?2 WHERE id = ?1";
            connection.execute(update, params![repository, now])?;
            tidy(connection)?;
            // What was deleted still stands in the log.
            forget(connection)
        })?;
        Ok(now)
    }

    pub fn counts(&mut self, repository: i64) -> Result<Counts, CodeError> {
        self.work(|connection| writing::counts(connection, repository))
    }

    /// Makes this be what makes vectors of texts from now on, and tells how far that is.
    pub fn made_by(&mut self, maker: &Maker) -> Result<Standing, CodeError> {
        self.work(|connection| {
            let transaction = connection.transaction()?;
            embedders::settle(&transaction, maker)?;
            transaction.commit()?;
            standing(connection)
        })
    }

    /// Deletes some of the vectors that nobody needs any more; whether there were any.
    pub fn delete_old_vectors(&mut self) -> Result<bool, CodeError> {
        self.work(|connection| {
            let transaction = connection.transaction()?;
            let were = embedders::delete_old(&transaction)?;
            transaction.commit()?;
            Ok(were)
        })
    }

    /// Some texts that have no vector.
    pub fn unembedded(&mut self, most: usize) -> Result<Vec<Unembedded>, CodeError> {
        self.work(|connection| vectors::unembedded(connection, most))
    }

    /// Writes the vectors that the one with this identity made, all or nothing, and
    /// tells how far it is.
    pub fn embedded(
        &mut self,
        identity: [u8; 32],
        made: &[Embedded],
    ) -> Result<Standing, CodeError> {
        self.work(|connection| {
            let transaction = connection.transaction()?;
            vectors::embedded(&transaction, identity, made)?;
            transaction.commit()?;
            standing(connection)
        })
    }

    /// Where the vectors stand.
    pub fn standing(&mut self) -> Result<Standing, CodeError> {
        self.work(|connection| standing(connection))
    }

    /// Whether the file was damaged and begun anew since this was asked last. What
    /// was known of it is then to be read again.
    pub fn was_replaced(&mut self) -> bool {
        std::mem::take(&mut self.replaced)
    }

    fn work<T>(
        &mut self,
        work: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CodeError> {
        let Tried { done, replaced } = self.database.try_work("index of code", work);
        if let Some(cause) = replaced {
            self.replaced = true;
            return Err(CodeError(format!("it was damaged and is made again: {cause}")));
        }
        done.map_err(CodeError)
    }
}

fn standing(connection: &Connection) -> rusqlite::Result<Standing> {
    let (coverage, serving) = (vectors::coverage(connection)?, embedders::serving(connection)?);
    Ok(Standing { coverage, serving })
}

/// Gives back what deleted vectors took.
fn tidy(connection: &mut Connection) -> rusqlite::Result<()> {
    vectors::forget_old(connection)?;
    for _ in 0..MOST_EMPTIED {
        let transaction = connection.transaction()?;
        let emptied = vectors::compact(&transaction)?;
        transaction.commit()?;
        if !emptied {
            break;
        }
    }
    let pages = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let (free, all): (i64, i64) = (pages("freelist_count")?, pages("page_count")?);
    if free > FREE_PAGES && free > all / FREE_PART {
        // A disk without room for it keeps the file as it is.
        if let Err(error) = connection.execute_batch("VACUUM") {
            tracing::debug!(cause = %error, "index of code not made smaller");
        }
    }
    Ok(())
}

/// Empties the log, in which deleted code still stands. A reader can prevent that
/// until the next time.
fn forget(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
