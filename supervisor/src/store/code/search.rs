//! Finds chunks by their words and, with a question's vector, by their meaning.
//!
//! A connection of its own reads; with SQLite's log that neither waits for the
//! writing one nor holds it up. What the asker may not see is passed over by the
//! numbers in the chunks' ids, before anything of it is looked at.

mod filter;
mod fuse;
mod links;
pub mod map;
mod meaning;
mod remembered;
mod words;

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params_from_iter};
use vector_scan::Scan;

use super::CodeError;
use crate::index::graph::Way;
use crate::index::words::terms;
use filter::Filter;
use fuse::{Meaning, Scores, fuse};
pub use meaning::Meant;
use meaning::{Near, Vectors};
use remembered::Remembered;
use words::{Asked, Weighed};

/// How long one search may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Instructions of SQLite's machine between two looks at the clock.
const LOOK_STEP: i32 = 10_000;
/// Chunks that are looked at for each that is wanted: some say the same.
const SPARE: usize = 2;
/// The best of each kind of score that are mixed with the others.
const MIXED: usize = 50;
/// Statements that it keeps: more than a search has, so that none is read again.
const STATEMENTS: usize = 32;
/// Kibibytes of pages that the connection keeps while searches come.
const CACHE_KIB: i64 = 16 * 1024;

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    pub text: String,
    /// Who asks: sees what is shared and what is this one's.
    pub asker: String,
    /// Names; none for all.
    pub repositories: Vec<String>,
    /// Such as `rust`; none for all.
    pub languages: Vec<String>,
    /// The beginning of a path, or a pattern with `*` and `?`.
    pub path: Option<String>,
    pub limit: usize,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub repository: String,
    pub path: String,
    pub language: String,
    /// What it is in, outermost first, joined by ` > `; empty at the top of a file.
    pub place: String,
    pub kind: String,
    pub first_line: u32,
    pub last_line: u32,
    /// Larger is better; comparable within one answer alone. That of the words if the
    /// answer is by words only, else words and meaning mixed, from 0 to 1.
    pub score: f64,
    /// BM25, and more if its name is asked for; `None` if it has none of the words.
    pub words: Option<f64>,
    /// Cosine to the question, if its text has a vector.
    pub meaning: Option<f64>,
    /// Words of the question, or their short forms, that stand in path or place.
    pub in_header: Vec<String>,
    /// Words of the question that stand in the text.
    pub in_text: Vec<String>,
    /// What it has to do with better hits, if that alone brought it here.
    pub linked: Vec<Linked>,
    pub text: String,
}

/// Why a chunk was added to those that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    pub way: Way,
    /// What is used.
    pub name: String,
    /// The hit that uses it or is used: `path > what it is in`.
    pub hit: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The best first.
    pub hits: Vec<Hit>,
    /// Why only words counted, if so.
    pub words_only: Option<String>,
}

/// The reading side.
#[derive(Debug)]
pub struct Search {
    path: PathBuf,
    /// With the file's number: a damaged one is replaced by another of that name.
    connection: Option<(u64, Connection)>,
    memory: Memory,
}

/// What is in memory while searches come.
#[derive(Debug, Default)]
struct Memory {
    vectors: Vectors,
    remembered: Remembered,
}

impl Search {
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), connection: None, memory: Memory::default() }
    }

    /// The best chunks first. Without a vector `meant`, words alone count.
    ///
    /// # Errors
    /// The database is out of order, or it took too long.
    pub fn find(
        &mut self,
        question: &Question,
        meant: Result<&Meant, String>,
    ) -> Result<Found, CodeError> {
        let found = self.open().and_then(|(connection, memory)| {
            let until = Instant::now() + PATIENCE;
            connection.progress_handler(LOOK_STEP, Some(move || Instant::now() >= until))?;
            let found = find(connection, memory, question, meant);
            connection.progress_handler(0, None::<fn() -> bool>)?;
            found
        });
        found.map_err(|error| {
            self.rest();
            match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::OperationInterrupted) => {
                    CodeError(format!("the search took more than {} s", PATIENCE.as_secs()))
                }
                _ => CodeError(error.to_string()),
            }
        })
    }

    /// Nobody searches for now; gives back what it takes.
    pub fn rest(&mut self) {
        self.connection = None;
        self.memory = Memory::default();
    }

    fn open(&mut self) -> rusqlite::Result<(&mut Connection, &mut Memory)> {
        let number = std::fs::metadata(&self.path).map(|facts| facts.ino()).unwrap_or_default();
        if self.connection.as_ref().is_some_and(|(opened, _)| *opened != number) {
            self.rest();
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match &mut self.connection {
            Some((_, connection)) => connection,
            none => {
                let connection = Connection::open_with_flags(&self.path, flags)?;
                connection.busy_timeout(PATIENCE)?;
                connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
                connection.set_prepared_statement_cache_capacity(STATEMENTS);
                // Else a statement is planned again for each value that it is given.
                connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
                &mut none.insert((number, connection)).1
            }
        };
        Ok((connection, &mut self.memory))
    }
}

/// A text that was found, in its best chunk.
struct Candidate {
    chunk: i64,
    text: i64,
    scores: Scores,
}

fn find(
    connection: &Connection,
    Memory { vectors, remembered }: &mut Memory,
    question: &Question,
    meant: Result<&Meant, String>,
) -> rusqlite::Result<Found> {
    // One state of the index for all that follows; it ends without a change.
    let reading = connection.unchecked_transaction()?;
    let connection = &*reading;
    let filter = Filter::new(connection, question)?;
    if filter.is_shut() {
        return Ok(Found::default());
    }
    let version = remembered.renew(connection)?;
    let passing = remembered.passing(connection, &filter)?;
    let passing = passing.as_deref();
    let most = MIXED.max(question.limit * SPARE);
    let comparable = match meant {
        Ok(meant) => vectors.ready(connection, version, meant)?,
        Err(reason) => Err(reason),
    };
    let (comparable, words_only) = match comparable {
        Ok(comparable) => (Some(comparable), None),
        Err(reason) => (None, Some(reason)),
    };
    let vectors = &*vectors;
    let may = |text: i64| passing.is_none_or(|passing| passing.has_text(text));
    let scan = comparable.as_ref().map(|question| vectors.scan(question, most, &may));
    let (texts, asked, best) = thread::scope(|scope| -> rusqlite::Result<_> {
        // Meaning takes about as long as words; neither needs the other.
        let helpers: Vec<_> = (scan.iter().flat_map(|scan| vec![scan; scan.helpers()]))
            .map(|scan| scope.spawn(|| scan.take_part()))
            .collect();
        let asked = Asked::new(connection, remembered, &terms(&question.text))?;
        let best = asked.best(connection, &filter, passing, most)?;
        let own = scan.as_ref().map(Scan::take_part);
        let others = helpers.into_iter().map(|near| near.join().expect("a scan does not panic"));
        let found = scan.as_ref().map(|scan| scan.best(others.chain(own)));
        let texts = found.map(|found| found.into_iter().map(|near| near.name).collect());
        Ok((texts, asked, best))
    })?;
    let near = comparable.as_ref().zip(texts).map(|(question, texts)| Near { question, texts });
    let near = near.as_ref().map(|near| (vectors, near));
    let found = candidates(connection, &filter, &asked, best, near)?;
    let ranked = if near.is_some() { mixed(found) } else { by_words(found) };
    let (mut hits, mut chunks) = (Vec::new(), Vec::new());
    for (score, candidate) in ranked {
        if hits.len() == question.limit {
            break;
        }
        let weighed = asked.why(connection, candidate.chunk)?;
        chunks.push((weighed.chunk, candidate.text));
        hits.push(hit(connection, weighed, score, candidate.scores)?);
    }
    links::add(connection, &filter, question.limit, &chunks, &mut hits)?;
    Ok(Found { hits, words_only })
}

/// Each text once, with both scores: those that words found, best first, and those
/// that are near in meaning.
fn candidates(
    connection: &Connection,
    filter: &Filter,
    asked: &Asked,
    best: Vec<(i64, f64)>,
    near: Option<(&Vectors, &Near<'_>)>,
) -> rusqlite::Result<Vec<Candidate>> {
    let meaning = |text| -> rusqlite::Result<Meaning> {
        let cosine = match near {
            Some((vectors, near)) => vectors.cosine(connection, near, text)?,
            None => None,
        };
        Ok(cosine.map_or(Meaning::Unknown, Meaning::Near))
    };
    let (mut candidates, mut known) = (Vec::new(), HashSet::new());
    let mut select = connection.prepare_cached("SELECT text FROM chunks WHERE id = ?1")?;
    for (chunk, score) in best {
        let text: i64 = select.query_row([chunk], |row| row.get(0))?;
        // The same text may stand in a better place.
        if known.insert(text) {
            let scores = Scores { words: Some(score), meaning: meaning(text)? };
            candidates.push(Candidate { chunk, text, scores });
        }
    }
    for &text in near.map_or(&[][..], |(_, near)| &near.texts) {
        if known.insert(text)
            && let Some(chunk) = first_chunk(connection, filter, text)?
        {
            let words = asked.score(connection, chunk)?;
            let scores = Scores { words, meaning: meaning(text)? };
            candidates.push(Candidate { chunk, text, scores });
        }
    }
    Ok(candidates)
}

/// Best first, by both scores. Of equal ones the earlier stays before the later.
fn mixed(candidates: Vec<Candidate>) -> Vec<(f64, Candidate)> {
    let scores: Vec<_> = candidates.iter().map(|candidate| candidate.scores).collect();
    let mut ranked: Vec<_> = fuse(&scores).into_iter().zip(candidates).collect();
    ranked.sort_by(|one, other| other.0.total_cmp(&one.0));
    ranked
}

/// As they are: the best by words come first.
fn by_words(candidates: Vec<Candidate>) -> Vec<(f64, Candidate)> {
    let score = |candidate: &Candidate| candidate.scores.words.unwrap_or_default();
    candidates.into_iter().map(|candidate| (score(&candidate), candidate)).collect()
}

/// The first chunk of a text that passes the filter.
fn first_chunk(
    connection: &Connection,
    filter: &Filter,
    text: i64,
) -> rusqlite::Result<Option<i64>> {
    let mut values = vec![Value::Integer(text)];
    let conditions = filter.conditions(&mut values);
    let select = format!(
        "SELECT chunks.id FROM chunks JOIN files ON files.id = chunks.file
         WHERE chunks.text = ? AND {conditions} ORDER BY chunks.id LIMIT 1"
    );
    let mut select = connection.prepare_cached(&select)?;
    select.query_row(params_from_iter(values), |row| row.get(0)).optional()
}

impl Hit {
    /// Where it is, as a chunk begins: `path > what it is in`.
    #[must_use]
    pub fn header(&self) -> String {
        match self.place.as_str() {
            "" => self.path.clone(),
            place => format!("{} > {place}", self.path),
        }
    }
}

fn hit(
    connection: &Connection,
    Weighed { chunk, in_header, in_text }: Weighed,
    score: f64,
    scores: Scores,
) -> rusqlite::Result<Hit> {
    let mut select = connection.prepare_cached(
        "SELECT name, files.path, language, place, kind, first_line, last_line, texts.text
         FROM chunks JOIN texts ON texts.id = chunks.text JOIN files ON files.id = chunks.file
              JOIN repositories ON repositories.id = files.repository
         WHERE chunks.id = ?1",
    )?;
    select.query_row([chunk], |row| {
        Ok(Hit {
            repository: row.get(0)?,
            path: row.get(1)?,
            language: row.get(2)?,
            place: row.get(3)?,
            kind: row.get(4)?,
            first_line: row.get(5)?,
            last_line: row.get(6)?,
            score,
            words: scores.words,
            meaning: scores.meaning.cosine(),
            in_header,
            in_text,
            linked: Vec::new(),
            text: row.get(7)?,
        })
    })
}
