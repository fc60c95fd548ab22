//! Reads the ways that lead from the best hits along the graph of names, and adds what
//! [`graph::added`] chooses of them.
//!
//! A name means a definition of that name in the same repository and in a language that
//! can call it; whoever asks may see both ends. Names that are defined in many places
//! are passed over inside SQLite, before anything of them is read.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::super::CHUNK_BITS;
use super::super::writing::ids_of;
use super::filter::Filter;
use super::fuse::{Meaning, Scores};
use super::words::Weighed;
use super::{Hit, Linked, hit};
use crate::index::graph::{self, Link, MOST_CALLERS, MOST_DEFINITIONS, Way};

/// Hits that are looked at: the next ones say less of what was meant.
const LOOKED_AT: usize = 3;
/// Definitions of a name in all repositories beyond which it is not looked at.
const COMMON: usize = 24;

/// Adds to `hits`, which are these chunks with these texts, what belongs to the best.
pub(super) fn add(
    connection: &Connection,
    filter: &Filter,
    limit: usize,
    chunks: &[(i64, i64)],
    hits: &mut Vec<Hit>,
) -> rusqlite::Result<()> {
    let mut links = Vec::new();
    for (number, ((chunk, text), hit)) in chunks.iter().zip(&*hits).enumerate().take(LOOKED_AT) {
        let from = From { connection, filter, number, chunk: *chunk, language: &hit.language };
        from.called(*text, &mut links)?;
        from.callers(*text, &mut links)?;
    }
    let scores: Vec<_> = hits.iter().map(|hit| hit.score).collect();
    let texts: Vec<_> = chunks.iter().map(|(_, text)| *text).collect();
    let added = graph::added(&scores, &texts, limit, &links);
    let headers: Vec<_> = hits.iter().take(LOOKED_AT).map(Hit::header).collect();
    hits.truncate(limit - added.len());
    for added in added {
        let weighed = Weighed { chunk: added.chunk, ..Weighed::default() };
        let scores = Scores { words: None, meaning: Meaning::Unknown };
        let mut hit = hit(connection, weighed, added.score, scores)?;
        let linked =
            |(at, way, name): (usize, Way, String)| Linked { way, name, hit: headers[at].clone() };
        hit.linked = added.reasons.into_iter().map(linked).collect();
        hits.push(hit);
    }
    Ok(())
}

/// A hit from which ways lead.
struct From<'a> {
    connection: &'a Connection,
    filter: &'a Filter,
    number: usize,
    chunk: i64,
    language: &'a str,
}

/// A chunk at the other end.
struct End {
    chunk: i64,
    text: i64,
    name: String,
}

impl From<'_> {
    /// Definitions of what a text uses.
    fn called(&self, text: i64, links: &mut Vec<Link>) -> rusqlite::Result<()> {
        for symbol in self.symbols("uses", text)? {
            let ends = self.definitions(symbol)?;
            let definitions = ends.len();
            links.extend(ends.into_iter().map(|end| self.link(end, Way::CalledBy, definitions, 1)));
        }
        Ok(())
    }

    /// Those that use what a text defines.
    fn callers(&self, text: i64, links: &mut Vec<Link>) -> rusqlite::Result<()> {
        for symbol in self.symbols("definitions", text)? {
            let definitions = self.definitions(symbol)?;
            let Some(name) = definitions.first().map(|end| end.name.clone()) else { continue };
            let ends = self.ends("uses", "''", symbol, MOST_CALLERS + 1)?;
            let callers = ends.len();
            links.extend(ends.into_iter().map(|end| {
                let end = End { name: name.clone(), ..end };
                self.link(end, Way::Calls, definitions.len(), callers)
            }));
        }
        Ok(())
    }

    fn link(&self, end: End, way: Way, definitions: usize, callers: usize) -> Link {
        let End { chunk, text, name } = end;
        Link { hit: self.number, chunk, text, way, name, definitions, callers }
    }

    /// Names of a text that are defined in some places, and not in many.
    fn symbols(&self, table: &str, text: i64) -> rusqlite::Result<Vec<i64>> {
        let select = format!(
            "SELECT DISTINCT symbol FROM {table} WHERE text = ?1 AND (
                 SELECT count(*) FROM (
                     SELECT 1 FROM definitions WHERE definitions.symbol = {table}.symbol LIMIT ?2
                 )
             ) BETWEEN 1 AND ?2 - 1"
        );
        let mut select = self.connection.prepare_cached(&select)?;
        let most = i64::try_from(COMMON + 1).unwrap_or(i64::MAX);
        select.query_map([text, most], |row| row.get(0))?.collect()
    }

    fn definitions(&self, symbol: i64) -> rusqlite::Result<Vec<End>> {
        self.ends("definitions", "definitions.name", symbol, MOST_DEFINITIONS + 1)
    }

    /// Chunks of the same repository whose texts have a name in `table`, one of each text.
    fn ends(
        &self,
        table: &str,
        name: &str,
        symbol: i64,
        most: usize,
    ) -> rusqlite::Result<Vec<End>> {
        let (first, last) = ids_of(self.chunk >> CHUNK_BITS);
        let mut values = vec![Value::Integer(symbol), Value::Integer(first), Value::Integer(last)];
        let conditions = self.filter.conditions(&mut values);
        let select = format!(
            "SELECT min(chunks.id), chunks.text, {name}, files.language
             FROM {table} JOIN chunks ON chunks.text = {table}.text
                  JOIN files ON files.id = chunks.file
             WHERE {table}.symbol = ? AND chunks.id BETWEEN ? AND ? AND {conditions}
             GROUP BY chunks.text LIMIT {MOST_READ}"
        );
        let mut select = self.connection.prepare_cached(&select)?;
        let mut rows = select.query(params_from_iter(values))?;
        let mut ends = Vec::new();
        while let Some(row) = rows.next()? {
            let language: String = row.get(3)?;
            if graph::family(&language) == graph::family(self.language) {
                ends.push(End { chunk: row.get(0)?, text: row.get(1)?, name: row.get(2)? });
            }
            if ends.len() == most {
                break;
            }
        }
        Ok(ends)
    }
}

/// Chunks with one name that are read at most, those of other languages among them.
const MOST_READ: usize = 64;
