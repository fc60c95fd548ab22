//! The database files: opened, checked, and brought to their newest schemas.
//!
//! There are four. History must survive damage as well as it can. Answers and memory
//! hold what people wrote, so nothing of those files may outlive its time. Code can be
//! read again from where it came.

use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::Fault;

/// What belongs in a file. Migrations are oldest first; new ones are appended,
/// and none is ever edited, because it has already run somewhere.
#[derive(Debug)]
pub(super) struct Layout {
    migrations: &'static [&'static str],
    /// Whether it holds what people wrote.
    private: bool,
    /// What is taken over from a damaged file: tables, the one that matters most
    /// first, with their columns, of which `id` is the first.
    pub(super) salvaged: &'static [(&'static str, &'static str)],
}

/// Requests and incidents.
pub(super) const HISTORY: Layout = Layout {
    migrations: &[
        include_str!("../../migrations/0001_requests_and_incidents.sql"),
        include_str!("../../migrations/0002_cached_tokens_may_be_unknown.sql"),
    ],
    private: false,
    salvaged: &[
        ("incidents", "id, at, kind, problem, cause, evidence, done, advice"),
        (
            "requests",
            "id, at, client, endpoint, model, outcome, reason, prompt_tokens, cached_tokens, \
             completion_tokens, queued_ms, prefill_ms, decode_ms, total_ms",
        ),
    ],
};

/// Answers that clients may come back for.
pub(super) const ANSWERS: Layout = Layout {
    migrations: &[include_str!("../../migrations/answers/0001_answers.sql")],
    private: true,
    salvaged: &[],
};

/// Repositories and what they were cut into.
pub(super) const CODE: Layout = Layout {
    migrations: &[
        include_str!("../../migrations/code/0001_code.sql"),
        include_str!("../../migrations/code/0002_vectors.sql"),
        include_str!("../../migrations/code/0003_names.sql"),
        include_str!("../../migrations/code/0004_serving.sql"),
    ],
    private: true,
    salvaged: &[("repositories", "id, name, path, owner, configured")],
};

/// What is remembered of chats.
pub(super) const MEMORY: Layout = Layout {
    migrations: &[
        include_str!("../../migrations/memory/0001_additions.sql"),
        include_str!("../../migrations/memory/0002_conversations.sql"),
        include_str!("../../migrations/memory/0003_summaries.sql"),
    ],
    private: true,
    salvaged: &[],
};

impl Layout {
    /// The schema that we bring a file to.
    pub(super) fn newest(&self) -> i64 {
        i64::try_from(self.migrations.len()).unwrap_or(i64::MAX)
    }
}

/// How long to wait for another process that has the database locked, for
/// example an operator's `sqlite3`.
const BUSY: Duration = Duration::from_secs(2);

/// How long the pages may be looked at before the file is used. Damage that is
/// not found in that time shows when it is read.
const CHECK: Duration = Duration::from_secs(2);

/// Instructions of SQLite's machine between two looks at the clock.
const CHECK_STEP: i32 = 10_000;

/// A version number beyond this was never written by any version of us.
const PLAUSIBLE_VERSIONS: i64 = 1000;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("the file is damaged: {0}")]
    Damaged(String),
    #[error("it was written by a newer version of this program (schema {found}, known {known})")]
    Newer { found: i64, known: usize },
}

impl OpenError {
    /// Whether the file itself is broken and has to be replaced.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite(error) => is_damage(error),
            Self::Damaged(_) => true,
            Self::Newer { .. } => false,
        }
    }

    /// What kind of failure this is of the file at `path`.
    pub(super) fn fault(&self, path: &Path) -> Fault {
        let Self::Sqlite(error) = self else { return Fault::Other };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full,
            Some(ErrorCode::ReadOnly) => Fault::ReadOnly,
            Some(ErrorCode::CannotOpen) => fault_of_opening(path),
            _ => Fault::Other,
        }
    }
}

/// SQLite does not say why it could not open a file; the system does.
fn fault_of_opening(path: &Path) -> Fault {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    match opened.map_err(|error| error.kind()) {
        Err(ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => Fault::ReadOnly,
        Err(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Fault::Full,
        Ok(_) | Err(_) => Fault::Other,
    }
}

/// Whether the error can only come from a file that is not what we wrote. Our
/// statements are right, so a table or a column that they do not find, or a
/// value of another type, counts as well.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        ),
    }
}

/// Opens the database at `path` and migrates it.
pub(super) fn open(path: &Path, layout: &Layout) -> Result<Connection, OpenError> {
    if layout.private {
        keep_private(path);
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL, NORMAL can lose the last rows at a power cut but never damages
    // the file. What must not be lost is written with `FULL`.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    if layout.private {
        connection.pragma_update(None, "secure_delete", "ON")?;
    }
    check(&mut connection)?;
    migrate(&mut connection, layout.migrations)?;
    probe(&connection)?;
    Ok(connection)
}

/// The system's other users may not read it. SQLite gives its log the same mode.
fn keep_private(path: &Path) {
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    // SQLite says why it cannot be made; an old one gets the mode as well.
    let _ = made.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)));
}

/// Looks at the pages, for a bounded time, until something is wrong.
fn check(connection: &mut Connection) -> Result<(), OpenError> {
    let until = Instant::now() + CHECK;
    connection.progress_handler(CHECK_STEP, Some(move || Instant::now() >= until))?;
    let verdict = connection.query_one("PRAGMA quick_check(1)", [], |row| row.get(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(OpenError::Damaged(verdict)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes what is there already, so that a disk that is full or read-only is
/// noticed now and not with the first row.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.pragma_update(None, "user_version", version)
}

fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), OpenError> {
    let known = migrations.len();
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if !(0..PLAUSIBLE_VERSIONS).contains(&found) {
        return Err(OpenError::Damaged(format!("it claims to have schema {found}")));
    }
    let done = usize::try_from(found).ok().filter(|done| *done <= known);
    let done = done.ok_or(OpenError::Newer { found, known })?;
    for (index, migration) in migrations.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
