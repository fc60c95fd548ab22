//! The statements that write indexed code.
//!
//! A file's chunks are taken away and written whole; a text that several chunks
//! have stands there once, and goes with the last of them.

use engine_api::index::{Chunk, ChunkKind, FromIndexer, IndexedFile, KnownFile, Stamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

use super::{CHUNK_BITS, Counts, NewRepository, Repository, vectors};
use crate::index::sources::Origin;
use crate::index::words;

pub(super) fn repositories(connection: &Connection) -> rusqlite::Result<Vec<Repository>> {
    let mut select = connection.prepare_cached(
        "SELECT id, name, path, owner, configured, passed FROM repositories ORDER BY name, id",
    )?;
    let rows = select.query_map([], |row| {
        let origin = Origin::of_text(row.get(2)?);
        let is = NewRepository { name: row.get(1)?, origin, owner: row.get(3)? };
        Ok(Repository { id: row.get(0)?, is, configured: row.get(4)?, passed: row.get(5)? })
    })?;
    rows.collect()
}

pub(super) fn add(
    connection: &Connection,
    new: &NewRepository,
    configured: bool,
) -> rusqlite::Result<i64> {
    // Beside absolute paths, and told from them by its form.
    let path = new.origin.to_string();
    connection.execute(
        "INSERT INTO repositories (name, path, owner, configured) VALUES (?1, ?2, ?3, ?4)",
        params![new.name, path, new.owner, configured],
    )?;
    Ok(connection.last_insert_rowid())
}

/// With all that was made of it.
pub(super) fn remove(connection: &Connection, repository: i64) -> rusqlite::Result<()> {
    let (first, last) = ids_of(repository);
    connection.execute("DELETE FROM words WHERE rowid BETWEEN ?1 AND ?2", [first, last])?;
    let texts = {
        let mut select =
            connection.prepare("SELECT DISTINCT text FROM chunks WHERE id BETWEEN ?1 AND ?2")?;
        let texts = select.query_map([first, last], |row| row.get(0))?;
        texts.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    // Files and chunks go with it.
    connection.execute("DELETE FROM repositories WHERE id = ?1", [repository])?;
    texts.into_iter().try_for_each(|text| drop_text(connection, text, false))?;
    vectors::forget_parked(connection)
}

pub(super) fn known(
    connection: &Connection,
    repository: i64,
    each: &mut dyn FnMut(KnownFile) -> bool,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT path, changed_ns, size, inode, hash FROM files WHERE repository = ?1",
    )?;
    let mut rows = select.query([repository])?;
    while let Some(row) = rows.next()? {
        let file = KnownFile { path: row.get(0)?, stamp: stamp(row)?, hash: row.get(4)? };
        if !each(file) {
            break;
        }
    }
    Ok(())
}

fn stamp(row: &Row<'_>) -> rusqlite::Result<Option<Stamp>> {
    let (changed_ns, size, inode): (Option<i64>, Option<i64>, Option<i64>) =
        (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(changed_ns.zip(size).zip(inode).map(|((changed_ns, size), inode)| Stamp {
        changed_ns: changed_ns.into(),
        size: size.cast_unsigned(),
        inode: inode.cast_unsigned(),
    }))
}

/// A stamp's columns. Nanoseconds of a time beyond the year 2262 are unknown ones.
fn columns(stamp: Option<Stamp>) -> (Option<i64>, Option<i64>, Option<i64>) {
    let known = stamp.and_then(|stamp| {
        let changed_ns = i64::try_from(stamp.changed_ns).ok()?;
        Some((changed_ns, stamp.size.cast_signed(), stamp.inode.cast_signed()))
    });
    known.map_or((None, None, None), |(changed_ns, size, inode)| {
        (Some(changed_ns), Some(size), Some(inode))
    })
}

pub(super) fn apply(
    connection: &Connection,
    repository: i64,
    said: &[FromIndexer],
) -> rusqlite::Result<()> {
    let (first, last) = ids_of(repository);
    let select = "SELECT max(id) FROM chunks WHERE id BETWEEN ?1 AND ?2";
    let newest: Option<i64> = connection.query_row(select, [first, last], |row| row.get(0))?;
    let mut into = Into { connection, repository, next: newest.map_or(first, |newest| newest + 1) };
    said.iter().try_for_each(|said| into.take(said))
}

/// Where a pass is written to.
struct Into<'a> {
    connection: &'a Connection,
    repository: i64,
    /// The next chunk's id.
    next: i64,
}

/// A chunk of one file that is to be one of another's as well.
struct Copied {
    /// Its text's number.
    text: i64,
    kind: String,
    lines: (u32, u32),
    place: String,
    body: String,
}

impl Into<'_> {
    fn take(&mut self, said: &FromIndexer) -> rusqlite::Result<()> {
        match said {
            FromIndexer::Progress { .. } | FromIndexer::Done(_) => Ok(()),
            FromIndexer::Indexed(file) => self.indexed(file),
            FromIndexer::Same { path, stamp, hash, known_as } => {
                self.same(path, *stamp, hash, known_as)
            }
            FromIndexer::Touched { path, stamp } => self.touched(path, Some(*stamp)),
            FromIndexer::Gone { path } => self.clear(path),
            FromIndexer::Skipped { path, stamp, reason } => {
                self.clear(path)?;
                let (changed_ns, size, inode) = columns(*stamp);
                let mut insert = self.connection.prepare_cached(
                    "INSERT INTO files (repository, path, changed_ns, size, inode, skipped)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?;
                let row = params![self.repository, path, changed_ns, size, inode, reason];
                insert.execute(row).map(drop)
            }
        }
    }

    fn touched(&self, path: &str, stamp: Option<Stamp>) -> rusqlite::Result<()> {
        let (changed_ns, size, inode) = columns(stamp);
        let mut update = self.connection.prepare_cached(
            "UPDATE files SET changed_ns = ?3, size = ?4, inode = ?5
             WHERE repository = ?1 AND path = ?2",
        )?;
        update.execute(params![self.repository, path, changed_ns, size, inode]).map(drop)
    }

    fn indexed(&mut self, file: &IndexedFile) -> rusqlite::Result<()> {
        self.clear(&file.path)?;
        let (language, note) = (&file.language, file.note.as_deref());
        let id = self.file(&file.path, file.stamp, &file.hash, language, note)?;
        for chunk in &file.chunks {
            let place = place(chunk, &file.path);
            let text = self.text(place, &chunk.text)?;
            let lines = (chunk.first_line, chunk.last_line);
            self.chunk(id, text, kind(chunk.kind), lines, &file.path, place, &chunk.text)?;
        }
        Ok(())
    }

    /// The same content under another name: nothing is cut again.
    fn same(
        &mut self,
        path: &str,
        stamp: Stamp,
        hash: &[u8; 32],
        known_as: &str,
    ) -> rusqlite::Result<()> {
        self.clear(path)?;
        let mut select = self.connection.prepare_cached(
            "SELECT id, language, note FROM files
             WHERE repository = ?1 AND path = ?2 AND hash = ?3",
        )?;
        let like = select.query_row(params![self.repository, known_as, hash], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
        });
        // If that is not there any more, the next pass finds this one unknown.
        let Some((like, language, note)) = like.optional()? else { return Ok(()) };
        let id = self.file(path, stamp, hash, &language, note.as_deref())?;
        let mut select = self.connection.prepare_cached(
            "SELECT chunks.text, kind, first_line, last_line, place, texts.text
             FROM chunks JOIN texts ON texts.id = chunks.text WHERE file = ?1 ORDER BY chunks.id",
        )?;
        let rows = select.query_map([like], |row| {
            let lines = (row.get(2)?, row.get(3)?);
            let (text, kind, place, body) = (row.get(0)?, row.get(1)?, row.get(4)?, row.get(5)?);
            Ok(Copied { text, kind, lines, place, body })
        })?;
        let chunks: Vec<Copied> = rows.collect::<rusqlite::Result<_>>()?;
        for Copied { text, kind, lines, place, body } in chunks {
            self.chunk(id, text, &kind, lines, path, &place, &body)?;
        }
        Ok(())
    }

    fn file(
        &self,
        path: &str,
        stamp: Stamp,
        hash: &[u8; 32],
        language: &str,
        note: Option<&str>,
    ) -> rusqlite::Result<i64> {
        let (changed_ns, size, inode) = columns(Some(stamp));
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO files (repository, path, changed_ns, size, inode, hash, language, note)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let row = params![self.repository, path, changed_ns, size, inode, hash, language, note];
        insert.insert(row)
    }

    /// The id of a text, which may be there already.
    fn text(&self, place: &str, text: &str) -> rusqlite::Result<i64> {
        let hash = Sha256::new().chain_update(place).chain_update([0]).chain_update(text);
        let hash: [u8; 32] = hash.finalize().into();
        let mut select = self.connection.prepare_cached("SELECT id FROM texts WHERE hash = ?1")?;
        if let Some(id) = select.query_row([hash], |row| row.get(0)).optional()? {
            return Ok(id);
        }
        let insert = "INSERT INTO texts (hash, place, text) VALUES (?1, ?2, ?3)";
        let id = self.connection.prepare_cached(insert)?.insert(params![hash, place, text])?;
        vectors::arrived(self.connection, id, &hash)?;
        Ok(id)
    }

    #[expect(clippy::too_many_arguments, reason = "they are a row's columns, and its words")]
    fn chunk(
        &mut self,
        file: i64,
        text: i64,
        kind: &str,
        (first_line, last_line): (u32, u32),
        path: &str,
        place: &str,
        body: &str,
    ) -> rusqlite::Result<()> {
        let id = self.next;
        self.next += 1;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO chunks (id, file, text, kind, first_line, last_line)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        insert.execute(params![id, file, text, kind, first_line, last_line])?;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO words (rowid, header, body) VALUES (?1, ?2, ?3)")?;
        let header = words::split(&format!("{path} {place}"));
        insert.execute(params![id, header, words::split(body)]).map(drop)
    }

    /// Takes away a file with its chunks.
    fn clear(&self, path: &str) -> rusqlite::Result<()> {
        let select = "SELECT id FROM files WHERE repository = ?1 AND path = ?2";
        let mut select = self.connection.prepare_cached(select)?;
        let file = select.query_row(params![self.repository, path], |row| row.get(0)).optional()?;
        let Some(file): Option<i64> = file else { return Ok(()) };
        let mut select =
            self.connection.prepare_cached("SELECT id, text FROM chunks WHERE file = ?1")?;
        let chunks = select.query_map([file], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let chunks: Vec<(i64, i64)> = chunks.collect::<rusqlite::Result<_>>()?;
        let mut delete = self.connection.prepare_cached("DELETE FROM words WHERE rowid = ?1")?;
        for (id, _) in &chunks {
            delete.execute([id])?;
        }
        self.connection.prepare_cached("DELETE FROM files WHERE id = ?1")?.execute([file])?;
        chunks.into_iter().try_for_each(|(_, text)| drop_text(self.connection, text, true))
    }
}

/// Takes away a text that no chunk has any more. With `park`, its vector is kept for
/// a while.
fn drop_text(connection: &Connection, text: i64, park: bool) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM texts WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM chunks WHERE text = ?1)
         RETURNING hash",
    )?;
    let gone: Option<[u8; 32]> = delete.query_row([text], |row| row.get(0)).optional()?;
    gone.map_or(Ok(()), |hash| vectors::left(connection, text, &hash, park))
}

/// A header without the path that it begins with.
fn place<'a>(chunk: &'a Chunk, path: &str) -> &'a str {
    let place = chunk.header.strip_prefix(path).unwrap_or(&chunk.header);
    place.strip_prefix(" > ").unwrap_or(place)
}

fn kind(kind: ChunkKind) -> &'static str {
    match kind {
        ChunkKind::Function => "function",
        ChunkKind::Type => "type",
        ChunkKind::Section => "section",
        ChunkKind::Rest => "rest",
    }
}

/// The ids that a repository's chunks can have.
fn ids_of(repository: i64) -> (i64, i64) {
    let first = repository << CHUNK_BITS;
    (first, first | ((1 << CHUNK_BITS) - 1))
}

pub(super) fn counts(connection: &Connection, repository: i64) -> rusqlite::Result<Counts> {
    let (first, last) = ids_of(repository);
    let select = "SELECT count(*) FILTER (WHERE skipped IS NULL),
                         count(*) FILTER (WHERE skipped IS NOT NULL)
                  FROM files WHERE repository = ?1";
    let (files, skipped) =
        connection.query_row(select, [repository], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let select = "SELECT count(*) FROM chunks WHERE id BETWEEN ?1 AND ?2";
    let chunks = connection.query_row(select, [first, last], |row| row.get(0))?;
    Ok(Counts { files, skipped, chunks })
}
