//! The rows of what was put before messages.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::memory::chain::Link;

/// A row that was used so many seconds ago is not marked as used again.
const TOUCH_AGAIN_S: u64 = 3600;

/// What was put before one message. What stands in `asked` and `items` is the HTTP
/// side's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// JSON: what was wished for.
    pub asked: String,
    /// As it stands in the prompt.
    pub block: String,
    /// JSON: an object whose field `code` is a list of objects with the field `repository`.
    pub items: String,
}

/// Those of an owner that end with these links; `now` is in seconds since 1970, here
/// and below.
pub(super) fn find(
    connection: &mut Connection,
    owner: &str,
    links: &[Link],
    now: u64,
) -> rusqlite::Result<Vec<(Link, Addition)>> {
    let transaction = connection.transaction()?;
    let mut found = Vec::new();
    let mut select = transaction.prepare_cached(
        "SELECT id, touched, asked, block, items FROM additions WHERE owner = ?1 AND link = ?2",
    )?;
    let mut touch =
        transaction.prepare_cached("UPDATE additions SET touched = ?2 WHERE id = ?1")?;
    for link in links {
        let row = select.query_row(params![owner, link.0], |row| {
            let addition = Addition { asked: row.get(2)?, block: row.get(3)?, items: row.get(4)? };
            Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?, addition))
        });
        let Some((id, touched, addition)) = row.optional()? else { continue };
        if touched.abs_diff(now) > TOUCH_AGAIN_S {
            touch.execute(params![id, now])?;
        }
        found.push((*link, addition));
    }
    drop((select, touch));
    transaction.commit()?;
    Ok(found)
}

pub(super) fn add(
    connection: &Connection,
    owner: &str,
    link: Link,
    addition: &Addition,
    conversation: Option<i64>,
    now: u64,
) -> rusqlite::Result<()> {
    let Addition { asked, block, items } = addition;
    // The conversation may have been forgotten since it was asked for.
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO additions (owner, link, touched, asked, block, items, conversation)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
         WHERE ?7 IS NULL OR EXISTS (SELECT 1 FROM conversations WHERE id = ?7)",
    )?;
    insert.execute(params![owner, link.0, now, asked, block, items, conversation]).map(drop)
}

pub(super) fn delete(connection: &Connection, owner: &str, link: Link) -> rusqlite::Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM additions WHERE owner = ?1 AND link = ?2")?;
    delete.execute(params![owner, link.0]).map(drop)
}

/// Deletes those with code of a repository, of one owner or of all.
pub(super) fn delete_of(
    connection: &Connection,
    repository: &str,
    owner: Option<&str>,
) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM additions WHERE (?2 IS NULL OR owner = ?2) AND EXISTS (
             SELECT 1 FROM json_each(items, '$.code') WHERE json_extract(value, '$.repository') = ?1)",
    )?;
    delete.execute(params![repository, owner]).map(drop)
}

/// Deletes what is too old, or from another time because the clock was set, then the
/// oldest of what is too much. Says how many.
pub(super) fn retain(
    connection: &Connection,
    kept: Duration,
    bytes: u64,
    now: u64,
) -> rusqlite::Result<usize> {
    let seconds = kept.as_secs();
    let old = connection.execute(
        "DELETE FROM additions WHERE touched NOT BETWEEN ?1 AND ?2",
        params![(now + 1).saturating_sub(seconds), now + seconds],
    )?;
    let large = connection.execute(
        "DELETE FROM additions WHERE id IN (
             SELECT id FROM (
                 SELECT id, sum(length(CAST(block AS BLOB)) + length(items))
                     OVER (ORDER BY touched DESC, id DESC) AS with_newer FROM additions)
             WHERE with_newer > ?1)",
        [bytes],
    )?;
    Ok(old + large)
}
