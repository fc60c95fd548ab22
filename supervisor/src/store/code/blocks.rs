//! Where vectors stand: blocks of places, each taken or a hole.

use rusqlite::blob::Blob;
use rusqlite::{Connection, MAIN_DB, OptionalExtension, params};
use vector_scan::Row;

/// Places in a block.
pub(super) const PLACES: usize = 256;
/// Bits of a vector's id below the number of its embedder.
const TEXT_BITS: u32 = 40;

/// The id of a text's vector.
pub(super) fn id_of(embedder: i64, text: i64) -> i64 {
    (embedder << TEXT_BITS) | text
}

/// The ids that an embedder's vectors can have.
pub(super) fn ids_of(embedder: i64) -> (i64, i64) {
    let first = embedder << TEXT_BITS;
    (first, first | ((1 << TEXT_BITS) - 1))
}

/// Puts a vector into the fullest block that has a hole, or into a new one.
pub(super) fn insert(
    connection: &Connection,
    embedder: i64,
    text: i64,
    row: &Row,
) -> rusqlite::Result<()> {
    let select = "SELECT id FROM vector_blocks WHERE embedder = ?1 AND live < ?2
                  ORDER BY live DESC LIMIT 1";
    let mut select = connection.prepare_cached(select)?;
    let with_hole = select.query_row(params![embedder, PLACES], |row| row.get(0)).optional()?;
    let block = match with_hole {
        Some(block) => block,
        None => new_block(connection, embedder, row.coarse.len())?,
    };
    let hole = texts(connection, block)?.into_iter().position(|text| text == 0);
    // One that says it has a hole and has none is not what we wrote.
    let place = hole.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, block))?;
    open(connection, "texts", block)?.write_at(&text.to_le_bytes(), place * 8)?;
    open(connection, "scales", block)?.write_at(&row.scale.to_le_bytes(), place * 4)?;
    let coarse = unsigned(&row.coarse);
    open(connection, "coarse", block)?.write_at(&coarse, place * coarse.len())?;
    changed(connection, block, 1)?;
    let mut insert = connection
        .prepare_cached("INSERT INTO vectors (id, block, place, fine) VALUES (?1, ?2, ?3, ?4)")?;
    let values = params![id_of(embedder, text), block, place, unsigned(&row.fine)];
    insert.execute(values).map(drop)
}

/// Takes a text's vector away, if it has one; nothing is left of it in its place.
pub(super) fn remove(
    connection: &Connection,
    embedder: i64,
    text: i64,
) -> rusqlite::Result<Option<Row>> {
    let mut delete = connection
        .prepare_cached("DELETE FROM vectors WHERE id = ?1 RETURNING block, place, fine")?;
    let stood = delete.query_row([id_of(embedder, text)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, usize>(1)?, row.get::<_, Vec<u8>>(2)?))
    });
    let Some((block, place, fine)) = stood.optional()? else { return Ok(None) };
    let mut scale = [0; 4];
    open(connection, "scales", block)?.read_at_exact(&mut scale, place * 4)?;
    let mut coarse = vec![0; fine.len()];
    let mut blob = open(connection, "coarse", block)?;
    blob.read_at_exact(&mut coarse, place * fine.len())?;
    blob.write_at(&vec![0; fine.len()], place * fine.len())?;
    drop(blob);
    open(connection, "texts", block)?.write_at(&[0; 8], place * 8)?;
    changed(connection, block, -1)?;
    let delete = "DELETE FROM vector_blocks WHERE id = ?1 AND live = 0";
    connection.prepare_cached(delete)?.execute([block])?;
    let scale = f32::from_le_bytes(scale);
    Ok(Some(Row { scale, coarse: signed(&coarse), fine: signed(&fine) }))
}

/// The texts of a block, place by place; 0 is a hole.
pub(super) fn texts(connection: &Connection, block: i64) -> rusqlite::Result<Vec<i64>> {
    let mut bytes = vec![0; PLACES * 8];
    open(connection, "texts", block)?.read_at_exact(&mut bytes, 0)?;
    Ok(numbers(&bytes))
}

fn new_block(connection: &Connection, embedder: i64, dimension: usize) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO vector_blocks (embedder, changed, live) VALUES (?1, 0, 0)",
        [embedder],
    )?;
    let block = connection.last_insert_rowid();
    connection.execute(
        "INSERT INTO vector_rows (block, texts, scales, coarse)
         VALUES (?1, zeroblob(?2), zeroblob(?3), zeroblob(?4))",
        params![block, PLACES * 8, PLACES * 4, PLACES * dimension],
    )?;
    Ok(block)
}

/// Notes that a block is another than it was, with so many more in it.
fn changed(connection: &Connection, block: i64, more: i64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE vector_blocks SET live = live + ?2,
             changed = (SELECT max(changed) + 1 FROM vector_blocks) WHERE id = ?1",
    )?;
    update.execute([block, more]).map(drop)
}

fn open<'a>(connection: &'a Connection, column: &str, block: i64) -> rusqlite::Result<Blob<'a>> {
    connection.blob_open(MAIN_DB, "vector_rows", column, block, false)
}

/// The numbers that stand in these bytes.
pub(super) fn numbers(bytes: &[u8]) -> Vec<i64> {
    let (each, _) = bytes.as_chunks();
    each.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

pub(super) fn signed(bytes: &[u8]) -> Vec<i8> {
    bytes.iter().map(|byte| byte.cast_signed()).collect()
}

pub(super) fn unsigned(bytes: &[i8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte.cast_unsigned()).collect()
}
