//! The database file: opened, checked, and brought to the newest schema.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::Fault;

/// All migrations, oldest first. New ones are appended; none is ever edited,
/// because it has already run somewhere.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/0001_requests_and_incidents.sql")];

/// How long to wait for another process that has the database locked, for
/// example an operator's `sqlite3`.
const BUSY: Duration = Duration::from_secs(2);

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
    /// Whether the file itself is broken and has to be set aside.
    pub(super) fn is_corruption(&self) -> bool {
        match self {
            Self::Sqlite(error) => is_corruption(error),
            Self::Damaged(_) => true,
            Self::Newer { .. } => false,
        }
    }
}

impl OpenError {
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

/// Whether the database file itself is broken.
pub(super) fn is_corruption(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Opens the database at `path` and migrates it.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL, NORMAL can lose the last rows at a power cut but never damages the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if verdict != "ok" {
        return Err(OpenError::Damaged(verdict));
    }
    migrate(&mut connection)?;
    probe(&connection)?;
    Ok(connection)
}

/// Writes what is there already, so that a disk that is full or read-only is
/// noticed now and not with the first row.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.pragma_update(None, "user_version", version)
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let known = MIGRATIONS.len();
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(found).ok().filter(|done| *done <= known);
    let done = done.ok_or(OpenError::Newer { found, known })?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
