//! What searches look up again and again, as of one version of the data.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::filter::{Filter, Passing};
use super::words::{Chunks, MOST_WITH_ONE, with};

/// Filters whose chunks are remembered.
const MOST_FILTERS: usize = 16;
/// Words whose chunks were counted.
const MOST_WORDS: usize = 4096;
/// Chunks in the lists of those that have a word, all lists together: 8 MiB.
const MOST_LISTED: usize = 512 * 1024;

#[derive(Debug, Default)]
pub(super) struct Remembered {
    version: i64,
    chunks: Option<usize>,
    words: HashMap<String, usize>,
    lists: HashMap<String, Chunks>,
    /// Chunks in all lists.
    listed: usize,
    filters: Vec<(Filter, Arc<Passing>)>,
}

impl Remembered {
    /// Forgets what was of another version than the data's, which it gives.
    pub(super) fn renew(&mut self, connection: &Connection) -> rusqlite::Result<i64> {
        let version = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
        Ok(version)
    }

    /// All chunks that there are.
    pub(super) fn chunks(&mut self, connection: &Connection) -> rusqlite::Result<usize> {
        if let Some(chunks) = self.chunks {
            return Ok(chunks);
        }
        let mut select = connection.prepare_cached("SELECT count(*) FROM chunks")?;
        let chunks = select.query_row([], |row| row.get(0))?;
        self.chunks = Some(chunks);
        Ok(chunks)
    }

    /// Chunks that have a form of a word, [`MOST_WITH_ONE`] at most.
    pub(super) fn chunks_with(
        &mut self,
        connection: &Connection,
        word: &str,
    ) -> rusqlite::Result<usize> {
        if let Some(chunks) = self.words.get(word) {
            return Ok(*chunks);
        }
        let mut select = connection.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ?1 LIMIT ?2)",
        )?;
        let query = format!("\"{word}\"");
        let chunks = select.query_row(params![query, MOST_WITH_ONE], |row| row.get(0))?;
        if self.words.len() == MOST_WORDS {
            self.words.clear();
        }
        self.words.insert(word.to_owned(), chunks);
        Ok(chunks)
    }

    /// The chunks that have a form of a word. Most questions share their frequent words
    /// with others, and those are what takes long to read.
    pub(super) fn list(&mut self, connection: &Connection, word: &str) -> rusqlite::Result<Chunks> {
        if let Some(list) = self.lists.get(word) {
            return Ok(Chunks::clone(list));
        }
        let list: Chunks = with(connection, word)?.into();
        if self.listed + list.len() > MOST_LISTED {
            self.lists.clear();
            self.listed = 0;
        }
        self.listed += list.len();
        self.lists.insert(word.to_owned(), Chunks::clone(&list));
        Ok(list)
    }

    /// What a filter lets through; `None` if that is everything.
    pub(super) fn passing(
        &mut self,
        connection: &Connection,
        filter: &Filter,
    ) -> rusqlite::Result<Option<Arc<Passing>>> {
        if filter.is_open() {
            return Ok(None);
        }
        if let Some((_, passing)) = self.filters.iter().find(|(known, _)| known == filter) {
            return Ok(Some(Arc::clone(passing)));
        }
        let passing = Arc::new(Passing::new(connection, filter)?);
        if self.filters.len() == MOST_FILTERS {
            self.filters.remove(0);
        }
        self.filters.push((filter.clone(), Arc::clone(&passing)));
        Ok(Some(passing))
    }
}
