//! Finds chunks by their words.
//!
//! A connection of its own reads; with SQLite's log that neither waits for the
//! writing one nor holds it up. What the asker may not see is passed over by the
//! numbers in the chunks' ids, before anything of it is looked at.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params, params_from_iter};

use super::{CHUNK_BITS, CodeError};
use crate::index::words;

/// How long one search may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Instructions of SQLite's machine between two looks at the clock.
const LOOK_STEP: i32 = 10_000;
/// Chunks that are looked at for each that is wanted: some say the same.
const SPARE: usize = 2;
/// Chunks that are weighed for one question, about. Words that are in more of them
/// than that leaves are passed over, unless there are no rarer ones: they tell
/// least, and cost most. Up to some ten thousand chunks every word counts.
const MOST_WEIGHED: i64 = 20_000;
/// Kibibytes of pages that the connection keeps while searches come.
const CACHE_KIB: i64 = 16 * 1024;
/// Around a word that was found, in SQLite's highlighting; no text has them left
/// after [`words::split`].
const MARKS: (char, char) = ('\u{2}', '\u{3}');

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
    /// BM25, larger is better; comparable within one answer alone.
    pub score: f64,
    /// Words of the question that stand in path or place.
    pub in_header: Vec<String>,
    /// Words of the question that stand in the text.
    pub in_text: Vec<String>,
    pub text: String,
}

/// The reading side.
#[derive(Debug)]
pub(crate) struct Search {
    path: PathBuf,
    /// With the file's number: a damaged one is replaced by another of that name.
    connection: Option<(u64, Connection)>,
}

impl Search {
    #[must_use]
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), connection: None }
    }

    /// The best chunks first; none if the question has no words.
    ///
    /// # Errors
    /// The database is out of order, or it took too long.
    pub(crate) fn find(&mut self, question: &Question) -> Result<Vec<Hit>, CodeError> {
        let terms = words::terms(&question.text);
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.open().and_then(|connection| {
            let until = Instant::now() + PATIENCE;
            connection.progress_handler(LOOK_STEP, Some(move || Instant::now() >= until))?;
            let found = find(connection, question, &terms);
            connection.progress_handler(0, None::<fn() -> bool>)?;
            found
        });
        found.map_err(|error| {
            self.connection = None;
            match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::OperationInterrupted) => {
                    CodeError(format!("the search took more than {} s", PATIENCE.as_secs()))
                }
                _ => CodeError(error.to_string()),
            }
        })
    }

    /// Nobody searches for now; gives back what it takes.
    pub(crate) fn rest(&mut self) {
        self.connection = None;
    }

    fn open(&mut self) -> rusqlite::Result<&mut Connection> {
        let number = std::fs::metadata(&self.path).map(|facts| facts.ino()).unwrap_or_default();
        if self.connection.as_ref().is_some_and(|(opened, _)| *opened != number) {
            self.connection = None;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match &mut self.connection {
            Some((_, connection)) => Ok(connection),
            none => {
                let connection = Connection::open_with_flags(&self.path, flags)?;
                connection.busy_timeout(PATIENCE)?;
                connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
                Ok(&mut none.insert((number, connection)).1)
            }
        }
    }
}

fn find(
    connection: &Connection,
    question: &Question,
    terms: &[String],
) -> rusqlite::Result<Vec<Hit>> {
    // One state of the index for all that follows; it ends without a change.
    let reading = connection.unchecked_transaction()?;
    let connection = &*reading;
    let visible = visible(connection, question)?;
    if visible.is_empty() {
        return Ok(Vec::new());
    }
    let matching = matching(connection, terms)?;
    let best = best(connection, question, &matching, &visible)?;
    let mut hits: Vec<Hit> = Vec::new();
    let mut texts = Vec::new();
    for (chunk, score) in best {
        if hits.len() == question.limit {
            break;
        }
        let (text, hit) = hit(connection, &matching, chunk, score)?;
        if !texts.contains(&text) {
            texts.push(text);
            hits.push(hit);
        }
    }
    Ok(hits)
}

/// Repositories that the asker may see and asks for.
fn visible(connection: &Connection, question: &Question) -> rusqlite::Result<Vec<i64>> {
    let mut select = connection
        .prepare_cached("SELECT id, name FROM repositories WHERE owner IS NULL OR owner = ?1")?;
    let mut rows = select.query([&question.asker])?;
    let mut visible = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        if question.repositories.is_empty() || question.repositories.contains(&name) {
            visible.push(row.get(0)?);
        }
    }
    Ok(visible)
}

/// What SQLite's `MATCH` takes: any of the words, the rarest first, as far as
/// [`MOST_WEIGHED`] reaches.
fn matching(connection: &Connection, terms: &[String]) -> rusqlite::Result<String> {
    let mut count = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT rowid FROM words WHERE words MATCH ?1 LIMIT ?2)",
    )?;
    let quoted: Vec<_> = terms.iter().map(|term| format!("\"{term}\"")).collect();
    let mut found = Vec::new();
    for term in quoted {
        let in_chunks: i64 = count.query_row(params![term, MOST_WEIGHED], |row| row.get(0))?;
        found.push((in_chunks, term));
    }
    found.sort();
    let mut weighed = 0;
    let few = found.iter().take_while(|(in_chunks, _)| {
        let first = weighed == 0;
        weighed += in_chunks;
        first || weighed <= MOST_WEIGHED
    });
    let few: Vec<_> = few.map(|(_, term)| term.as_str()).collect();
    Ok(few.join(" OR "))
}

/// Ids and scores of the best chunks.
fn best(
    connection: &Connection,
    question: &Question,
    matching: &str,
    visible: &[i64],
) -> rusqlite::Result<Vec<(i64, f64)>> {
    let marks = |count: usize| vec!["?"; count].join(", ");
    let mut values = vec![Value::Text(matching.to_owned())];
    let mut select = "SELECT words.rowid, words.rank FROM words".to_owned();
    if question.path.is_some() || !question.languages.is_empty() {
        select.push_str(
            " JOIN chunks ON chunks.id = words.rowid JOIN files ON files.id = chunks.file",
        );
    }
    let visible_ids = marks(visible.len());
    select.push_str(&format!(
        " WHERE words MATCH ? AND (words.rowid >> {CHUNK_BITS}) IN ({visible_ids})"
    ));
    values.extend(visible.iter().map(|id| Value::Integer(*id)));
    if !question.languages.is_empty() {
        select.push_str(&format!(" AND files.language IN ({})", marks(question.languages.len())));
        values.extend(question.languages.iter().cloned().map(Value::Text));
    }
    if let Some(path) = &question.path {
        select.push_str(" AND files.path GLOB ?");
        values.push(Value::Text(pattern(path)));
    }
    select.push_str(" ORDER BY words.rank LIMIT ?");
    values.push(Value::Integer(i64::try_from(question.limit * SPARE).unwrap_or(i64::MAX)));
    let mut select = connection.prepare_cached(&select)?;
    let rows = select.query_map(params_from_iter(values), |row| {
        // SQLite's is the smaller the better.
        Ok((row.get(0)?, -row.get::<_, f64>(1)?))
    })?;
    rows.collect()
}

/// What SQLite's `GLOB` takes. Brackets stand for themselves.
fn pattern(path: &str) -> String {
    let has_wildcard = path.contains(['*', '?']);
    let plain = path.replace('[', "[[]");
    if has_wildcard { plain } else { plain + "*" }
}

/// The number of its text, and the chunk.
fn hit(
    connection: &Connection,
    matching: &str,
    chunk: i64,
    score: f64,
) -> rusqlite::Result<(i64, Hit)> {
    let (begin, end) = MARKS;
    let mut select = connection.prepare_cached(
        "SELECT highlight(words, 0, ?3, ?4), highlight(words, 1, ?3, ?4)
         FROM words WHERE words MATCH ?1 AND rowid = ?2",
    )?;
    let values = params![matching, chunk, begin.to_string(), end.to_string()];
    let (header, body): (String, String) =
        select.query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut select = connection.prepare_cached(
        "SELECT name, files.path, language, place, kind, first_line, last_line, texts.text, texts.id
         FROM chunks JOIN texts ON texts.id = chunks.text JOIN files ON files.id = chunks.file
              JOIN repositories ON repositories.id = files.repository
         WHERE chunks.id = ?1",
    )?;
    select.query_row([chunk], |row| {
        let hit = Hit {
            repository: row.get(0)?,
            path: row.get(1)?,
            language: row.get(2)?,
            place: row.get(3)?,
            kind: row.get(4)?,
            first_line: row.get(5)?,
            last_line: row.get(6)?,
            score,
            in_header: marked(&header),
            in_text: marked(&body),
            text: row.get(7)?,
        };
        Ok((row.get(8)?, hit))
    })
}

/// The words between the marks, each once, in lower case.
fn marked(text: &str) -> Vec<String> {
    let (begin, end) = MARKS;
    let mut words: Vec<String> = Vec::new();
    for part in text.split(begin).skip(1) {
        let part = part.split(end).next().unwrap_or_default().to_lowercase();
        for word in part.split([' ', '_']).filter(|word| !word.is_empty()) {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_beginnings_unless_they_have_wildcards() {
        for (path, expected) in
            [("src/", "src/*"), ("*.rs", "*.rs"), ("a[1]", "a[[]1]*"), ("a/?.c", "a/?.c")]
        {
            assert_eq!(pattern(path), expected);
        }
    }

    #[test]
    fn what_was_found_is_named_once() {
        assert_eq!(marked("a \u{2}Fan\u{3} b \u{2}fan speed\u{3}"), ["fan", "speed"]);
        assert_eq!(marked("nothing"), [""; 0]);
    }
}
