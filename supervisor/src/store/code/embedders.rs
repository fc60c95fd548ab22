//! The statements that tell embedders apart.
//!
//! ```text
//!            settled on            no text waits
//!  (unknown) ──────────► current ───────────────► current and whole
//!                           │                            │ another one is settled on
//!                           │ another one is settled on  ▼
//!                           └────────► old ◄────────── whole
//!                                       │     the other one is whole
//!                                       ▼
//!                             its vectors go, in parts
//! ```
//!
//! *Current* is the one that texts are given to. Questions are searched among the
//! vectors of the *whole* one, or of the current one as long as there is none. Both say
//! so in one row each, so that the switch from one to the other is one statement.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blocks;

/// Blocks of an old embedder that are deleted in one transaction; some milliseconds.
const DELETED: usize = 16;

/// What makes vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// Tells it from every other whose vectors mean something else.
    pub identity: [u8; 32],
    pub model: String,
    pub dimension: u32,
}

/// The number of the embedder that texts are given to.
pub(super) fn current(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let select = "SELECT id FROM embedders WHERE current = 1";
    connection.prepare_cached(select)?.query_row([], |row| row.get(0)).optional()
}

/// The one whose vectors are searched.
pub(super) fn serving(connection: &Connection) -> rusqlite::Result<Option<Maker>> {
    let select = "SELECT identity, model, dimension FROM embedders
                  WHERE whole = 1 OR current = 1 ORDER BY whole DESC LIMIT 1";
    let maker = |row: &Row<'_>| {
        Ok(Maker { identity: row.get(0)?, model: row.get(1)?, dimension: row.get(2)? })
    };
    connection.prepare_cached(select)?.query_row([], maker).optional()
}

/// Makes this be the embedder that texts are given to. The one whose vectors are
/// searched keeps them until this one has made everything.
pub(super) fn settle(connection: &Connection, maker: &Maker) -> rusqlite::Result<()> {
    let select = "SELECT id, current FROM embedders WHERE identity = ?1";
    let known: Option<(i64, bool)> = connection
        .query_row(select, [maker.identity], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if !matches!(known, Some((_, true))) {
        begin(connection, maker, known.map(|(id, _)| id))?;
    }
    finish(connection)
}

fn begin(connection: &Connection, maker: &Maker, known: Option<i64>) -> rusqlite::Result<()> {
    connection.execute("UPDATE embedders SET current = 0", [])?;
    let id = match known {
        Some(id) => {
            connection.execute("UPDATE embedders SET current = 1 WHERE id = ?1", [id])?;
            id
        }
        None => {
            connection.execute(
                "INSERT INTO embedders (identity, model, dimension, current) VALUES (?1, ?2, ?3, 1)",
                params![maker.identity, maker.model, maker.dimension],
            )?;
            connection.last_insert_rowid()
        }
    };
    connection.execute("DELETE FROM parked WHERE embedder <> ?1", [id])?;
    connection.execute("DELETE FROM unembedded", [])?;
    let (first, _) = blocks::ids_of(id);
    let insert = "INSERT INTO unembedded SELECT id FROM texts
                  WHERE NOT EXISTS (SELECT 1 FROM vectors WHERE vectors.id = ?1 + texts.id)";
    connection.execute(insert, [first]).map(drop)
}

/// Has the current embedder's vectors searched from now on, if no text waits for one.
pub(super) fn finish(connection: &Connection) -> rusqlite::Result<()> {
    // Nothing is written where nothing changes.
    let update = "UPDATE embedders SET whole = current
                  WHERE whole <> current AND NOT EXISTS (SELECT 1 FROM unembedded)";
    connection.prepare_cached(update)?.execute([]).map(drop)
}

/// Deletes some vectors that are neither searched nor made any more; whether there
/// were any.
pub(super) fn delete_old(connection: &Connection) -> rusqlite::Result<bool> {
    let select = "SELECT id FROM embedders WHERE whole = 0 AND current = 0 LIMIT 1";
    let Some(old) = connection.query_row(select, [], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(false);
    };
    let blocks: Vec<i64> = {
        let select = "SELECT id FROM vector_blocks WHERE embedder = ?1 LIMIT ?2";
        let mut select = connection.prepare_cached(select)?;
        let blocks = select.query_map(params![old, DELETED], |row| row.get(0))?;
        blocks.collect::<rusqlite::Result<_>>()?
    };
    if blocks.is_empty() {
        connection.execute("DELETE FROM embedders WHERE id = ?1", [old])?;
    }
    for block in blocks {
        for text in blocks::texts(connection, block)?.into_iter().filter(|text| *text != 0) {
            let delete = "DELETE FROM vectors WHERE id = ?1";
            connection.prepare_cached(delete)?.execute([blocks::id_of(old, text)])?;
        }
        connection.execute("DELETE FROM vector_blocks WHERE id = ?1", [block])?;
    }
    Ok(true)
}
