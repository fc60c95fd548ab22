//! Reads what a map of one repository is made of, and its lines.
//!
//! It opens the file for itself, once for each map: one of a large repository takes a
//! while, and no search waits for it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, params};

use super::super::CodeError;
use super::super::writing::ids_of;
use super::LOOK_STEP;
use crate::index::graph::family;
use crate::index::map::{self, Definition, Use};

/// How long one map may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Definitions of one name beyond which a use of it says nothing.
const COMMON: usize = 8;
/// Characters of a line that are shown.
const LONGEST_LINE: usize = 160;

/// What a map is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The repository's number.
    pub repository: i64,
    pub tokens: usize,
    /// The beginning of the paths that are worked at; empty for none.
    pub focus: String,
}

/// A file of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedFile {
    pub path: String,
    /// Numbers of lines, counted from 1, the names that are defined there, and the lines.
    pub lines: Vec<(u32, String, String)>,
}

/// The most important definitions, the file of the best one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    pub files: Vec<MappedFile>,
    /// An estimate.
    pub tokens: usize,
    /// All that there are.
    pub definitions: usize,
}

/// Draws the map.
///
/// # Errors
/// The database is out of order, or it took too long.
pub fn map(path: &Path, wanted: &Wanted) -> Result<Mapped, CodeError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let drawn = Connection::open_with_flags(path, flags).and_then(|mut connection| {
        connection.busy_timeout(PATIENCE)?;
        let until = Instant::now() + PATIENCE;
        connection.progress_handler(LOOK_STEP, Some(move || Instant::now() >= until))?;
        draw(&connection, wanted)
    });
    drawn.map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OperationInterrupted) => {
            CodeError(format!("the map took more than {} s", PATIENCE.as_secs()))
        }
        _ => CodeError(error.to_string()),
    })
}

fn draw(connection: &Connection, wanted: &Wanted) -> rusqlite::Result<Mapped> {
    // One state of the index for all that follows.
    let reading = connection.unchecked_transaction()?;
    let files = Files::read(&reading, wanted.repository)?;
    let (definitions, by_symbol) = files.definitions(&reading, wanted.repository)?;
    let uses = files.uses(&reading, wanted.repository, &definitions, &by_symbol)?;
    let focus = &wanted.focus;
    let in_focus: Vec<_> =
        files.paths.iter().map(|path| !focus.is_empty() && path.starts_with(focus)).collect();
    let ranks = map::ranks(&in_focus, &definitions, &uses);
    let mut lines = Lines { connection: &reading, problem: None };
    let (shown, tokens) = map::fitting(&files.paths, &definitions, &ranks, wanted.tokens, |at| {
        lines.of(&definitions[at])
    });
    let mapped = shown.into_iter().map(|shown| MappedFile {
        path: files.paths[shown.file].clone(),
        lines: shown
            .definitions
            .into_iter()
            .map(|at| {
                let definition = &definitions[at];
                (definition.line, definition.name.clone(), lines.of(definition))
            })
            .collect(),
    });
    let mapped = Mapped { files: mapped.collect(), tokens, definitions: definitions.len() };
    lines.problem.map_or(Ok(mapped), Err)
}

/// The definitions that there are of each name.
type BySymbol = BTreeMap<i64, Vec<usize>>;

/// The files of a repository, numbered in the order of their paths.
struct Files {
    paths: Vec<String>,
    languages: Vec<String>,
    by_id: HashMap<i64, usize>,
}

impl Files {
    fn read(connection: &Connection, repository: i64) -> rusqlite::Result<Self> {
        let mut select = connection.prepare(
            "SELECT id, path, language FROM files
             WHERE repository = ?1 AND hash IS NOT NULL ORDER BY path",
        )?;
        let mut rows = select.query([repository])?;
        let mut files = Self { paths: Vec::new(), languages: Vec::new(), by_id: HashMap::new() };
        while let Some(row) = rows.next()? {
            files.by_id.insert(row.get(0)?, files.paths.len());
            files.paths.push(row.get(1)?);
            files.languages.push(row.get(2)?);
        }
        Ok(files)
    }

    /// Every definition, and which there are of each name.
    fn definitions(
        &self,
        connection: &Connection,
        repository: i64,
    ) -> rusqlite::Result<(Vec<Definition>, BySymbol)> {
        let (first, last) = ids_of(repository);
        let mut select = connection.prepare(
            "SELECT chunks.file, first_line, definitions.text, line, name, symbol
             FROM chunks JOIN definitions ON definitions.text = chunks.text
             WHERE chunks.id BETWEEN ?1 AND ?2 ORDER BY chunks.id, line, name",
        )?;
        let mut rows = select.query([first, last])?;
        let (mut all, mut by_symbol) = (Vec::new(), BySymbol::new());
        while let Some(row) = rows.next()? {
            let Some(file) = self.by_id.get(&row.get(0)?) else { continue };
            let (first_line, within): (u32, u32) = (row.get(1)?, row.get(3)?);
            by_symbol.entry(row.get(5)?).or_default().push(all.len());
            let (text, name) = (row.get(2)?, row.get(4)?);
            let line = first_line.saturating_add(within);
            all.push(Definition { file: *file, line, name, text, within });
        }
        Ok((all, by_symbol))
    }

    /// What each file uses of that.
    fn uses(
        &self,
        connection: &Connection,
        repository: i64,
        definitions: &[Definition],
        by_symbol: &BySymbol,
    ) -> rusqlite::Result<Vec<Use>> {
        let (first, last) = ids_of(repository);
        let mut select = connection.prepare(
            "SELECT chunks.file, symbol FROM chunks JOIN uses ON uses.text = chunks.text
             WHERE chunks.id BETWEEN ?1 AND ?2 ORDER BY chunks.id, symbol",
        )?;
        let mut rows = select.query(params![first, last])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let Some(file) = self.by_id.get(&row.get(0)?) else { continue };
            let Some(meant) = by_symbol.get(&row.get(1)?) else { continue };
            let kin = |at: &&usize| {
                let other = &self.languages[definitions[**at].file];
                family(other) == family(&self.languages[*file])
            };
            let meant: Vec<_> = meant.iter().filter(kin).copied().take(COMMON + 1).collect();
            if (1..=COMMON).contains(&meant.len()) {
                all.push(Use { file: *file, definitions: meant });
            }
        }
        Ok(all)
    }
}

/// Lines of texts, as the map shows them.
struct Lines<'a> {
    connection: &'a Connection,
    problem: Option<rusqlite::Error>,
}

impl Lines<'_> {
    fn of(&mut self, definition: &Definition) -> String {
        let text = self
            .connection
            .prepare_cached("SELECT text FROM texts WHERE id = ?1")
            .and_then(|mut select| select.query_row([definition.text], |row| row.get(0)));
        let text: String = text.unwrap_or_else(|error| {
            self.problem = Some(error);
            String::new()
        });
        let within = usize::try_from(definition.within).unwrap_or(usize::MAX);
        let line = text.split('\n').nth(within).unwrap_or_default().trim();
        line.chars().take(LONGEST_LINE).collect()
    }
}
