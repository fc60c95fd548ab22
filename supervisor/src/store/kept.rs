//! Copies of the databases, kept while a new version of us is on trial: it may bring a
//! file to a schema that the version before cannot read.
//!
//! Only such a file is exchanged when that version comes back, for what was written
//! meanwhile is lost with it. Answers, which are kept for minutes, have no copy.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::schema::{ANSWERS, CODE, HISTORY, Layout, MEMORY};
use crate::config::StateDir;

/// How long to wait for the server's own writes.
const BUSY: Duration = Duration::from_secs(60);

/// Why the databases could not be kept, or brought back.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("copy {}", path.display())]
    Copy { path: PathBuf, source: rusqlite::Error },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What there is, and whether it has a copy.
fn databases(state_dir: &StateDir) -> [(PathBuf, &'static Layout, bool); 4] {
    [
        (state_dir.database(), &HISTORY, true),
        (state_dir.answers(), &ANSWERS, false),
        (state_dir.code(), &CODE, true),
        (state_dir.memory(), &MEMORY, true),
    ]
}

/// Bytes that copies take, at most.
#[must_use]
pub fn bytes(state_dir: &StateDir) -> u64 {
    let size = |path: &Path| path.metadata().map_or(0, |file| file.len());
    let log = |path: &Path| size(&with_ending(path, "-wal"));
    let copied = databases(state_dir).into_iter().filter(|(_, _, is_copied)| *is_copied);
    copied.map(|(path, ..)| size(&path) + log(&path)).sum()
}

/// Copies them into the directory `to`, which is empty, beside a server that goes on.
///
/// # Errors
/// One cannot be read, or the disk is full.
pub fn keep(state_dir: &StateDir, to: &Path) -> Result<(), KeepError> {
    for (path, _, is_copied) in databases(state_dir) {
        if !is_copied || !path.exists() {
            continue;
        }
        let copy = to.join(path.file_name().unwrap_or_default());
        let failed = |source| KeepError::Copy { path: path.clone(), source };
        let connection = open(&path).map_err(failed)?;
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(failed)?;
        File::open(&copy)
            .and_then(|file| file.sync_all())
            .map_err(|source| KeepError::Write { path: copy, source })?;
    }
    File::open(to)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| KeepError::Write { path: to.to_owned(), source })
}

/// Puts the copy in `from` in the place of each file that is newer than we can read, or
/// takes it away where there is none. No server may run. Which files those were.
///
/// # Errors
/// A file cannot be exchanged; doing it again goes on.
pub fn bring_back(state_dir: &StateDir, from: &Path) -> Result<Vec<PathBuf>, KeepError> {
    let mut exchanged = Vec::new();
    for (path, layout, _) in databases(state_dir) {
        // What is damaged is seen to by the server.
        if !path.exists() || !is_newer(&path, layout).unwrap_or(false) {
            continue;
        }
        let failed = |source| KeepError::Write { path: path.clone(), source };
        exchange(&path, &from.join(path.file_name().unwrap_or_default())).map_err(failed)?;
        exchanged.push(path);
    }
    Ok(exchanged)
}

/// Whether its schema is one that we do not know. Of such a file the log is brought into
/// it, because one that outlives its file would be taken for that of the next one.
fn is_newer(path: &Path, layout: &Layout) -> rusqlite::Result<bool> {
    let connection = open(path)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found <= layout.newest() {
        return Ok(false);
    }
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(true)
}

fn exchange(path: &Path, copy: &Path) -> io::Result<()> {
    let directory = File::open(path.parent().unwrap_or(path))?;
    if copy.exists() {
        let part = with_ending(path, ".back-part");
        fs::copy(copy, &part)?;
        let (file, of) = (File::open(&part)?, path.metadata()?);
        fs::set_permissions(&part, Permissions::from_mode(of.mode() & 0o777))?;
        let own = file.metadata()?;
        if (of.uid(), of.gid()) != (own.uid(), own.gid()) {
            fchown(&file, Some(of.uid()), Some(of.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&part, path)?;
    } else {
        fs::remove_file(path)?;
    }
    directory.sync_all()
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    fn rows(path: &Path) -> i64 {
        let connection = open(path).unwrap();
        connection.query_one("SELECT count(*) FROM incidents", [], |row| row.get(0)).unwrap()
    }

    fn add_row(connection: &Connection) {
        let row = "INSERT INTO incidents (at, kind, problem, cause, evidence, done, advice) \
                   VALUES (1, 'k', 'p', 'c', 'null', 'd', 'a')";
        connection.execute(row, []).unwrap();
    }

    #[test]
    fn only_what_a_newer_version_wrote_comes_back_as_it_was() {
        let (place, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state_dir = StateDir::new(place.path().to_owned());
        let path = state_dir.database();
        let history = schema::open(&path, &HISTORY).unwrap();
        add_row(&history);
        drop(schema::open(&state_dir.memory(), &MEMORY).unwrap());
        assert!(bytes(&state_dir) > 0);
        keep(&state_dir, kept.path()).unwrap();
        assert_eq!(rows(&kept.path().join("stoker.db")), 1);

        // The same version goes on, and loses nothing.
        add_row(&history);
        assert_eq!(bring_back(&state_dir, kept.path()).unwrap(), [] as [PathBuf; 0]);
        assert_eq!(rows(&path), 2);

        history.pragma_update(None, "user_version", HISTORY.newest() + 1).unwrap();
        add_row(&history);
        drop(history);
        let answers = schema::open(&state_dir.answers(), &ANSWERS).unwrap();
        answers.pragma_update(None, "user_version", 99).unwrap();
        drop(answers);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let exchanged = bring_back(&state_dir, kept.path()).unwrap();
        assert_eq!(exchanged, [path.clone(), state_dir.answers()]);
        assert_eq!(rows(&path), 1);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        assert!(!state_dir.answers().exists());
        assert_eq!(bring_back(&state_dir, kept.path()).unwrap(), [] as [PathBuf; 0]);
        drop(schema::open(&path, &HISTORY).unwrap());
    }

    #[test]
    fn a_file_that_is_damaged_is_left_to_the_server() {
        let (place, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state_dir = StateDir::new(place.path().to_owned());
        fs::write(state_dir.database(), "this is no database, and long enough to be seen as none")
            .unwrap();
        assert!(keep(&state_dir, kept.path()).is_err());
        assert_eq!(bring_back(&state_dir, kept.path()).unwrap(), [] as [PathBuf; 0]);
    }
}
