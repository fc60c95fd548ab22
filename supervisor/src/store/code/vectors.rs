//! The statements that write vectors.
//!
//! A text has one vector of each embedder, under its own number. The upper bytes of
//! some hundred stand together in a block, which a search takes into memory as a
//! whole; each is written in place, so that one costs few pages. A deleted one leaves
//! a hole that the next fills, and blocks with many holes are emptied into others.

use rusqlite::{Connection, OptionalExtension, params};
use vector_scan::Row;

use super::blocks::{self, PLACES};
use super::embedders::{self, current};
use crate::store::unix_s;

/// How long a vector without a text is kept.
const PARKED_S: u64 = 7 * 24 * 60 * 60;
/// Vectors without a text: one to so many that have one, and some in any case.
const PARKED_PART: i64 = 12;
const PARKED: i64 = 1000;
/// Holes that are left: one to so many vectors, and a block in any case.
const HOLES_PART: i64 = 12;

/// A text that has no vector yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unembedded {
    pub text: i64,
    /// Numbers of texts are given anew.
    pub hash: [u8; 32],
    /// What it is in.
    pub place: String,
    pub body: String,
}

/// What became of a text: its vector, or none if it can have none.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    pub text: i64,
    pub hash: [u8; 32],
    pub row: Option<Row>,
}

/// How far an embedder is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    pub made: u64,
    pub left: u64,
}

pub(super) fn coverage(connection: &Connection) -> rusqlite::Result<Coverage> {
    let made = match current(connection)? {
        Some(embedder) => {
            let select = "SELECT coalesce(sum(live), 0) FROM vector_blocks WHERE embedder = ?1";
            connection.prepare_cached(select)?.query_row([embedder], |row| row.get(0))?
        }
        None => 0,
    };
    let left = connection
        .prepare_cached("SELECT count(*) FROM unembedded")?
        .query_row([], |row| row.get(0))?;
    Ok(Coverage { made, left })
}

/// Some texts that have no vector, the oldest first.
pub(super) fn unembedded(
    connection: &Connection,
    most: usize,
) -> rusqlite::Result<Vec<Unembedded>> {
    let mut select = connection.prepare_cached(
        "SELECT texts.id, hash, place, texts.text
         FROM unembedded JOIN texts ON texts.id = unembedded.text ORDER BY unembedded.text LIMIT ?1",
    )?;
    let rows = select.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        let (text, hash) = (row.get(0)?, row.get(1)?);
        Ok(Unembedded { text, hash, place: row.get(2)?, body: row.get(3)? })
    })?;
    rows.collect()
}

/// Writes what an embedder made. If texts are given to another one by now, that is
/// nothing; what is not there any more is passed over.
pub(super) fn embedded(
    connection: &Connection,
    maker: [u8; 32],
    made: &[Embedded],
) -> rusqlite::Result<()> {
    let select = "SELECT id FROM embedders WHERE identity = ?1 AND current = 1";
    let embedder: Option<i64> =
        connection.query_row(select, [maker], |row| row.get(0)).optional()?;
    let Some(embedder) = embedder else { return Ok(()) };
    let mut wait = connection.prepare_cached(
        "DELETE FROM unembedded WHERE text = ?1
         AND EXISTS (SELECT 1 FROM texts WHERE id = ?1 AND hash = ?2)",
    )?;
    for Embedded { text, hash, row } in made {
        let waited = wait.execute(params![text, hash])? == 1;
        if let Some(row) = row.as_ref().filter(|_| waited) {
            blocks::insert(connection, embedder, *text, row)?;
        }
    }
    embedders::finish(connection)
}

/// A text is new: it gets the vector that it had, or waits for one.
pub(super) fn arrived(connection: &Connection, text: i64, hash: &[u8; 32]) -> rusqlite::Result<()> {
    if let Some(embedder) = current(connection)? {
        let mut select = connection.prepare_cached(
            "DELETE FROM parked WHERE hash = ?1 AND embedder = ?2 RETURNING scale, coarse, fine",
        )?;
        let parked = select.query_row(params![hash, embedder], |row| {
            let (coarse, fine): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
            #[expect(clippy::cast_possible_truncation, reason = "it was one when it was written")]
            let scale = row.get::<_, f64>(0)? as f32;
            Ok(Row { scale, coarse: blocks::signed(&coarse), fine: blocks::signed(&fine) })
        });
        if let Some(row) = parked.optional()? {
            return blocks::insert(connection, embedder, text, &row);
        }
    }
    let mut insert = connection.prepare_cached("INSERT INTO unembedded (text) VALUES (?1)")?;
    insert.execute([text]).map(drop)
}

/// A text is gone; with `park`, it may come back.
pub(super) fn left(
    connection: &Connection,
    text: i64,
    hash: &[u8; 32],
    park: bool,
) -> rusqlite::Result<()> {
    let embedders = {
        let mut select = connection.prepare_cached("SELECT id, current FROM embedders")?;
        let embedders = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        embedders.collect::<rusqlite::Result<Vec<(i64, bool)>>>()?
    };
    for (embedder, is_current) in embedders {
        let Some(row) = blocks::remove(connection, embedder, text)? else { continue };
        if park && is_current {
            let mut insert = connection.prepare_cached(
                "INSERT OR REPLACE INTO parked (hash, embedder, parked, scale, coarse, fine)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            let (coarse, fine) = (blocks::unsigned(&row.coarse), blocks::unsigned(&row.fine));
            let scale = f64::from(row.scale);
            insert.execute(params![hash, embedder, unix_s(), scale, coarse, fine])?;
        }
    }
    Ok(())
}

/// Nothing of what somebody had forgotten may come back.
pub(super) fn forget_parked(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM parked", []).map(drop)
}

/// Forgets vectors that have been parked for long, or are too many.
pub(super) fn forget_old(connection: &Connection) -> rusqlite::Result<()> {
    let before = unix_s().saturating_sub(PARKED_S);
    connection.execute("DELETE FROM parked WHERE parked < ?1", [before])?;
    let made = i64::try_from(coverage(connection)?.made).unwrap_or(i64::MAX);
    connection.execute(
        "DELETE FROM parked WHERE hash IN
         (SELECT hash FROM parked ORDER BY parked DESC LIMIT -1 OFFSET ?1)",
        [PARKED.max(made / PARKED_PART)],
    )?;
    Ok(())
}

/// Empties the block with the most holes into others, if there are many holes;
/// whether there was one.
pub(super) fn compact(connection: &Connection) -> rusqlite::Result<bool> {
    let Some(embedder) = current(connection)? else { return Ok(false) };
    let (blocks, live): (i64, i64) = connection.query_row(
        "SELECT count(*), coalesce(sum(live), 0) FROM vector_blocks WHERE embedder = ?1",
        [embedder],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let places = i64::try_from(PLACES).unwrap_or(i64::MAX);
    let holes = blocks * places - live;
    if holes <= places.max(live / HOLES_PART) {
        return Ok(false);
    }
    let emptiest: i64 = connection.query_row(
        "SELECT id FROM vector_blocks WHERE embedder = ?1 ORDER BY live LIMIT 1",
        [embedder],
        |row| row.get(0),
    )?;
    let texts = blocks::texts(connection, emptiest)?;
    // There is room in the fuller ones, which are filled first.
    for text in texts.into_iter().filter(|text| *text != 0) {
        if let Some(row) = blocks::remove(connection, embedder, text)? {
            blocks::insert(connection, embedder, text, &row)?;
        }
    }
    Ok(true)
}

/// Whether each vector stands where it says, and nowhere else; for tests.
#[cfg(test)]
pub(super) fn problems(connection: &Connection) -> Vec<String> {
    let mut problems = Vec::new();
    let mut standing = Vec::new();
    let mut select =
        connection.prepare("SELECT id, embedder, live FROM vector_blocks ORDER BY id").unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (block, embedder, live): (i64, i64, usize) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let texts = blocks::texts(connection, block).unwrap();
        let places = texts.iter().enumerate().filter(|(_, text)| **text != 0);
        let before = standing.len();
        standing.extend(places.map(|(place, text)| (blocks::id_of(embedder, *text), block, place)));
        if standing.len() - before != live || live == 0 {
            problems.push(format!("block {block} has {}, not {live}", standing.len() - before));
        }
    }
    let mut select = connection.prepare("SELECT id, block, place FROM vectors").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let mut said: Vec<(i64, i64, usize)> = rows.map(Result::unwrap).collect();
    said.sort_unstable();
    standing.sort_unstable();
    if said != standing {
        problems.push(format!("{said:?} is not {standing:?}"));
    }
    // Of the current embedder, each text has a vector or waits for one, never both.
    let wrong: i64 = connection
        .query_row(
            "SELECT count(*) FROM texts, (SELECT id AS e FROM embedders WHERE current = 1)
             WHERE (EXISTS (SELECT 1 FROM unembedded WHERE text = texts.id))
                 + (EXISTS (SELECT 1 FROM vectors WHERE id = (e << 40) + texts.id)) > 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let lost: i64 = connection
        .query_row(
            "SELECT count(*) FROM vectors
             WHERE (id & ((1 << 40) - 1)) NOT IN (SELECT id FROM texts)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    if wrong + lost > 0 {
        problems.push(format!("{wrong} texts wait and have one, {lost} vectors have no text"));
    }
    problems
}
