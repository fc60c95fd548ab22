//! The rows of what the model made of blocks of messages.
//!
//! Each is one statement: there is the whole text or none, whenever the process ends.

use rusqlite::{Connection, OptionalExtension, params};

use crate::memory::chain::Link;

/// How far the summary of one block is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summed {
    /// How often it was begun.
    pub attempts: u32,
    /// `None` until it is made; empty if nothing of it could be believed.
    pub text: Option<String>,
}

/// The summaries of the blocks that end with these links.
pub(super) fn find(
    connection: &Connection,
    conversation: i64,
    links: &[Link],
) -> rusqlite::Result<Vec<Summed>> {
    let mut select = connection.prepare_cached(
        "SELECT attempts, text FROM summaries WHERE conversation = ?1 AND link = ?2",
    )?;
    let mut found = Vec::with_capacity(links.len());
    for link in links {
        let row = select.query_row(params![conversation, link.0], |row| {
            Ok(Summed { attempts: row.get(0)?, text: row.get(1)? })
        });
        found.push(row.optional()?.unwrap_or_default());
    }
    Ok(found)
}

/// Counts an attempt. False if the conversation was forgotten.
pub(super) fn begin(
    connection: &Connection,
    conversation: i64,
    link: Link,
) -> rusqlite::Result<bool> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO summaries (conversation, link, attempts)
         SELECT id, ?2, 1 FROM conversations WHERE id = ?1
         ON CONFLICT DO UPDATE SET attempts = attempts + 1",
    )?;
    Ok(insert.execute(params![conversation, link.0])? > 0)
}

/// Keeps what was made. Of a conversation that was forgotten meanwhile there is no row.
pub(super) fn keep(
    connection: &Connection,
    conversation: i64,
    link: Link,
    text: &str,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE summaries SET text = ?3 WHERE conversation = ?1 AND link = ?2 AND text IS NULL",
    )?;
    update.execute(params![conversation, link.0, text]).map(drop)
}
