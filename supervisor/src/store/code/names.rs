//! The statements that write what a text defines and uses.
//!
//! They are written once for each text, with it and in its transaction, and go with
//! it by themselves. So a rename, a copy or another branch writes none of them again.

use engine_api::index::Chunk;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

/// The number of a name: two of one number are not to be expected in a lifetime.
pub(super) fn symbol(name: &str) -> i64 {
    let hash: [u8; 32] = Sha256::digest(name).into();
    let (first, _) = hash.split_first_chunk().expect("it is longer");
    i64::from_le_bytes(*first)
}

/// Writes the names of a text.
pub(super) fn write(connection: &Connection, text: i64, chunk: &Chunk) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO definitions (symbol, text, line, name) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for defined in &chunk.defines {
        insert.execute(params![symbol(&defined.name), text, defined.line, defined.name])?;
    }
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO uses (text, symbol) VALUES (?1, ?2)")?;
    for used in &chunk.uses {
        insert.execute(params![text, symbol(used)])?;
    }
    Ok(())
}

/// The same of a text that an earlier version wrote.
pub(super) fn write_late(
    connection: &Connection,
    text: i64,
    chunk: &Chunk,
) -> rusqlite::Result<()> {
    write(connection, text, chunk)?;
    let update = "UPDATE texts SET named = 1 WHERE id = ?1";
    connection.prepare_cached(update)?.execute([text]).map(drop)
}

/// What is wrong with the names.
#[cfg(test)]
pub(super) fn problems(connection: &Connection) -> Vec<String> {
    let count = |from: &str| -> i64 {
        let select = format!("SELECT count(*) FROM {from}");
        connection.query_row(&select, [], |row| row.get(0)).unwrap()
    };
    let mut problems = Vec::new();
    for table in ["definitions", "uses"] {
        if count(&format!("{table} WHERE text NOT IN (SELECT id FROM texts)")) > 0 {
            problems.push(format!("there are {table} of a text that is gone"));
        }
    }
    if count("texts WHERE NOT named") > 0 {
        problems.push("a text has no names yet".to_owned());
    }
    problems
}
