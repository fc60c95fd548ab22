//! The rows of kept answers: pieces in, whole answers out, old ones gone.
//!
//! What stands in a recipe and in a piece is the HTTP side's business.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

/// A change of a kept answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerChange {
    Grew(Piece),
    /// It is not to be taken up again.
    Forget(Arc<str>),
    /// None of this owner is.
    ForgetAllOf(String),
}

/// What an answer said since its piece before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The answer's public id.
    pub id: Arc<str>,
    /// 0, 1, 2, … What follows a gap cannot be used.
    pub number: u32,
    /// With the first piece.
    pub head: Option<Head>,
    pub said: Vec<u8>,
    /// All of it was said.
    pub finished: bool,
}

/// What does not change while an answer grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Who may have it again.
    pub owner: String,
    pub recipe: Vec<u8>,
}

/// An answer as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    pub recipe: Vec<u8>,
    /// From the first on, without a gap.
    pub pieces: Vec<Vec<u8>>,
}

/// Somebody who waits for an answer that was kept.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) reply: oneshot::Sender<Option<KeptAnswer>>,
}

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keep {
    pub(super) time: Duration,
    pub(super) bytes: u64,
}

impl AnswerChange {
    /// Bytes that it takes while it waits to be written.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Grew(piece) => {
                piece.said.len() + piece.head.as_ref().map_or(0, |head| head.recipe.len())
            }
            Self::Forget(_) | Self::ForgetAllOf(_) => 0,
        }
    }
}

/// `now` is in seconds since 1970, here and below.
pub(super) fn write(
    connection: &Connection,
    change: &AnswerChange,
    now: u64,
) -> rusqlite::Result<()> {
    let piece = match change {
        AnswerChange::Grew(piece) => piece,
        AnswerChange::Forget(id) => {
            let mut delete = connection.prepare_cached("DELETE FROM answers WHERE id = ?1")?;
            return delete.execute([id]).map(drop);
        }
        AnswerChange::ForgetAllOf(owner) => {
            let mut delete = connection.prepare_cached("DELETE FROM answers WHERE owner = ?1")?;
            return delete.execute([owner]).map(drop);
        }
    };
    if let Some(Head { owner, recipe }) = &piece.head {
        let mut insert = connection.prepare_cached(
            "INSERT OR IGNORE INTO answers (id, owner, touched, finished, bytes, recipe)
             VALUES (?1, ?2, ?3, 0, ?4, ?5)",
        )?;
        insert.execute(params![piece.id, owner, now, recipe.len(), recipe])?;
    }
    // Of an answer that was deleted meanwhile nothing is kept any more.
    let mut update = connection.prepare_cached(
        "UPDATE answers SET touched = ?2, finished = ?3, bytes = bytes + ?4
         WHERE id = ?1 RETURNING number",
    )?;
    let values = params![piece.id, now, piece.finished, piece.said.len()];
    let number: Option<i64> = update.query_row(values, |row| row.get(0)).optional()?;
    let Some(number) = number else { return Ok(()) };
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO pieces (answer, piece, said) VALUES (?1, ?2, ?3)",
    )?;
    insert.execute(params![number, piece.number, piece.said])?;
    Ok(())
}

/// The answer, if it is kept for this owner. Pieces behind a gap are deleted,
/// because it is about to grow there again.
pub(super) fn read(
    connection: &Connection,
    id: &str,
    owner: &str,
    keep: Keep,
    now: u64,
) -> rusqlite::Result<Option<KeptAnswer>> {
    let mut select = connection.prepare_cached(
        "SELECT number, recipe FROM answers WHERE id = ?1 AND owner = ?2 AND touched >= ?3",
    )?;
    let values = params![id, owner, now.saturating_sub(keep.time.as_secs())];
    let found = select.query_row(values, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((number, recipe)) = found else { return Ok(None) };
    let number: i64 = number;
    let mut select = connection
        .prepare_cached("SELECT piece, said FROM pieces WHERE answer = ?1 ORDER BY piece")?;
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut rows = select.query([number])?;
    while let Some(row) = rows.next()? {
        let piece: usize = row.get(0)?;
        if piece != pieces.len() {
            break;
        }
        pieces.push(row.get(1)?);
    }
    drop(rows);
    let mut delete =
        connection.prepare_cached("DELETE FROM pieces WHERE answer = ?1 AND piece >= ?2")?;
    delete.execute(params![number, pieces.len()])?;
    Ok(Some(KeptAnswer { recipe, pieces }))
}

/// Deletes what is too old, or from another time because the clock was set,
/// then the oldest of what is too much; finished ones go first.
pub(super) fn retain(connection: &Connection, keep: Keep, now: u64) -> rusqlite::Result<()> {
    let seconds = keep.time.as_secs();
    let mut deleted = connection.execute(
        "DELETE FROM answers WHERE touched NOT BETWEEN ?1 AND ?2",
        params![(now + 1).saturating_sub(seconds), now + seconds],
    )?;
    deleted += connection.execute(
        "DELETE FROM answers WHERE number IN (
             SELECT number FROM (
                 SELECT number, sum(bytes) OVER (ORDER BY finished, touched DESC, number DESC)
                     AS with_newer FROM answers)
             WHERE with_newer > ?1)",
        [keep.bytes],
    )?;
    if deleted > 0 { empty_log(connection) } else { Ok(()) }
}

/// The log still has what was deleted. A reader elsewhere can prevent that until the
/// next time.
pub(super) fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Whether there is any answer.
pub(super) fn any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM answers)", [], |row| row.get(0))
}
