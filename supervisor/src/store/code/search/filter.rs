//! What may be found: by who asks, repository, language and path.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::super::CHUNK_BITS;
use super::Question;

/// What a question asks for and its asker may see.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    /// Repositories.
    visible: Vec<i64>,
    /// Those are all that there are.
    all: bool,
    languages: Vec<String>,
    path: Option<String>,
}

impl Filter {
    pub(super) fn new(connection: &Connection, question: &Question) -> rusqlite::Result<Self> {
        let mut select = connection.prepare_cached("SELECT id, name, owner FROM repositories")?;
        let mut rows = select.query([])?;
        let (mut visible, mut all) = (Vec::new(), true);
        while let Some(row) = rows.next()? {
            let (name, owner): (String, Option<String>) = (row.get(1)?, row.get(2)?);
            let may = owner.is_none_or(|owner| owner == question.asker);
            let asked = &question.repositories;
            match may && (asked.is_empty() || asked.contains(&name)) {
                true => visible.push(row.get(0)?),
                false => all = false,
            }
        }
        let path = question.path.as_deref().map(pattern);
        Ok(Self { visible, all, languages: question.languages.clone(), path })
    }

    /// Whether it lets nothing through.
    pub(super) fn is_shut(&self) -> bool {
        self.visible.is_empty()
    }

    /// Whether it lets everything through.
    pub(super) fn is_open(&self) -> bool {
        self.all && !self.looks_at_files()
    }

    /// Whether a chunk's id alone does not tell.
    fn looks_at_files(&self) -> bool {
        self.path.is_some() || !self.languages.is_empty()
    }

    /// Whether a chunk is in one of the repositories.
    pub(super) fn is_visible(&self, chunk: i64) -> bool {
        self.visible.contains(&(chunk >> CHUNK_BITS))
    }

    /// Conditions on rows of `chunks` joined with `files`.
    pub(super) fn conditions(&self, values: &mut Vec<Value>) -> String {
        let marks = |count: usize| vec!["?"; count].join(", ");
        let visible = marks(self.visible.len());
        let mut all = format!("(chunks.id >> {CHUNK_BITS}) IN ({visible})");
        values.extend(self.visible.iter().map(|id| Value::Integer(*id)));
        if !self.languages.is_empty() {
            all.push_str(&format!(" AND files.language IN ({})", marks(self.languages.len())));
            values.extend(self.languages.iter().cloned().map(Value::Text));
        }
        if let Some(path) = &self.path {
            all.push_str(" AND files.path GLOB ?");
            values.push(Value::Text(path.clone()));
        }
        all
    }
}

/// What a filter lets through.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// In order; only where files were looked at.
    chunks: Option<Vec<i64>>,
    /// Bits by number.
    texts: Vec<u64>,
}

impl Passing {
    pub(super) fn new(connection: &Connection, filter: &Filter) -> rusqlite::Result<Self> {
        let mut values = Vec::new();
        let conditions = filter.conditions(&mut values);
        let from = match filter.looks_at_files() {
            true => "files JOIN chunks ON chunks.file = files.id",
            // All of it stands in this index.
            false => "chunks INDEXED BY chunks_text",
        };
        let select = format!("SELECT chunks.id, chunks.text FROM {from} WHERE {conditions}");
        let mut select = connection.prepare_cached(&select)?;
        let mut rows = select.query(params_from_iter(values))?;
        let (mut chunks, mut texts) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            if filter.looks_at_files() {
                chunks.push(row.get(0)?);
            }
            let (word, bit) = at(row.get(1)?);
            if texts.len() <= word {
                texts.resize(word + 1, 0);
            }
            texts[word] |= bit;
        }
        chunks.sort_unstable();
        Ok(Self { chunks: filter.looks_at_files().then_some(chunks), texts })
    }

    /// Whether one of a text's chunks passes.
    pub(super) fn has_text(&self, text: i64) -> bool {
        let (word, bit) = at(text);
        self.texts.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Whether a chunk passes, if its repository does.
    pub(super) fn has_chunk(&self, chunk: i64) -> bool {
        self.chunks.as_ref().is_none_or(|chunks| chunks.binary_search(&chunk).is_ok())
    }
}

/// The word and the bit in it that stand for a text.
fn at(text: i64) -> (usize, u64) {
    let text = text.cast_unsigned();
    (usize::try_from(text / 64).unwrap_or(usize::MAX), 1 << (text % 64))
}

/// What SQLite's `GLOB` takes. Brackets stand for themselves.
fn pattern(path: &str) -> String {
    let has_wildcard = path.contains(['*', '?']);
    let plain = path.replace('[', "[[]");
    if has_wildcard { plain } else { plain + "*" }
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
}
