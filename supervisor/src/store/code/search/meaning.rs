//! Texts by their meaning: all vectors, in memory, as they are on the disk.
//!
//! A search looks whether a block is another than it was and reads that one alone, in
//! the same transaction in which it reads everything else. So nobody has to be told
//! of a change, and whatever ends a process leaves nothing to repair.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use vector_scan::{Block, Scan};

use super::super::blocks::{PLACES, id_of, numbers, signed};

/// Bytes of vectors at most, so that they never take an engine's memory.
const MOST_BYTES: usize = 512 * 1024 * 1024;

/// A question's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Meant {
    /// Of what made it.
    pub identity: [u8; 32],
    pub values: Vec<f32>,
}

/// A question that the vectors can be compared with; or why it cannot.
pub(super) type Comparable = Result<vector_scan::Question, String>;

/// The texts that are nearest to a question.
#[derive(Debug)]
pub(super) struct Near<'a> {
    pub(super) question: &'a vector_scan::Question,
    /// In no order to count on.
    pub(super) texts: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Vectors {
    embedder: i64,
    /// The version of the data that they are as of.
    version: Option<i64>,
    /// With the change that they are as of.
    blocks: BTreeMap<i64, (i64, Block)>,
}

impl Vectors {
    /// Reads what has changed on the disk, which is at this version.
    pub(super) fn ready(
        &mut self,
        connection: &Connection,
        version: i64,
        meant: &Meant,
    ) -> rusqlite::Result<Comparable> {
        let select = "SELECT id, dimension FROM embedders WHERE identity = ?1";
        let mut select = connection.prepare_cached(select)?;
        let embedder: Option<(i64, usize)> =
            select.query_row([meant.identity], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let question = vector_scan::Question::new(&meant.values);
        let (Some((embedder, dimension)), Some(question)) = (embedder, question) else {
            return Ok(Err("no text has a vector of this embedder yet".to_owned()));
        };
        if question.dimension() != dimension {
            return Ok(Err("the embedder made a vector of another length".to_owned()));
        }
        if self.version != Some(version) || self.embedder != embedder {
            self.version = None;
            if let Some(problem) = self.refresh(connection, embedder, dimension)? {
                return Ok(Err(problem));
            }
            self.version = Some(version);
        }
        if self.blocks.is_empty() {
            return Ok(Err("no text has a vector of this embedder yet".to_owned()));
        }
        Ok(Ok(question))
    }

    /// A look for the `count` texts that are nearest of those that `may` be found.
    pub(super) fn scan<'a>(
        &'a self,
        question: &'a vector_scan::Question,
        count: usize,
        may: &'a (dyn Fn(i64) -> bool + Sync),
    ) -> Scan<'a> {
        let blocks = self.blocks.values().map(|(_, block)| block).collect();
        Scan::new(blocks, question, count, may)
    }

    /// The cosine of a text to the question; `None` if it has no vector.
    pub(super) fn cosine(
        &self,
        connection: &Connection,
        near: &Near<'_>,
        text: i64,
    ) -> rusqlite::Result<Option<f64>> {
        let select = "SELECT block, place, fine FROM vectors WHERE id = ?1";
        let mut select = connection.prepare_cached(select)?;
        let cosine = select.query_row([id_of(self.embedder, text)], |row| {
            let (block, place, fine): (i64, usize, Vec<u8>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let (_, block) = self.blocks.get(&block).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            let coarse = &block.coarse[place * fine.len()..][..fine.len()];
            Ok(near.question.cosine(block.scales[place], coarse, &signed(&fine)))
        });
        Ok(cosine.optional()?.map(f64::from))
    }

    /// Reads the blocks that have changed; what is wrong if they are too many.
    fn refresh(
        &mut self,
        connection: &Connection,
        embedder: i64,
        dimension: usize,
    ) -> rusqlite::Result<Option<String>> {
        if self.embedder != embedder {
            *self = Self { embedder, ..Self::default() };
        }
        let now: BTreeMap<i64, i64> = {
            let mut select = connection
                .prepare_cached("SELECT id, changed FROM vector_blocks WHERE embedder = ?1")?;
            let rows = select.query_map([embedder], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let bytes = now.len() * PLACES * dimension;
        if bytes > MOST_BYTES {
            self.blocks.clear();
            return Ok(Some(format!("the vectors take more than {MOST_BYTES} bytes of memory")));
        }
        self.blocks.retain(|id, _| now.contains_key(id));
        for (id, changed) in now {
            if self.blocks.get(&id).is_none_or(|(known, _)| *known != changed) {
                self.blocks.insert(id, (changed, read(connection, id)?));
            }
        }
        Ok(None)
    }
}

fn read(connection: &Connection, block: i64) -> rusqlite::Result<Block> {
    let select = "SELECT texts, scales, coarse FROM vector_rows WHERE block = ?1";
    let mut select = connection.prepare_cached(select)?;
    select.query_row([block], |row| {
        let blob =
            |column: usize| -> rusqlite::Result<&[u8]> { Ok(row.get_ref(column)?.as_blob()?) };
        let (scales, _) = blob(1)?.as_chunks();
        Ok(Block {
            names: numbers(blob(0)?),
            scales: scales.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            coarse: signed(blob(2)?),
        })
    })
}
