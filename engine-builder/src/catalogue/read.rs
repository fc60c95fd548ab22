//! A file of the catalogue, from text to an [`Entry`]. What is wrong is named
//! with its file, line and key.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::check::check;
use super::entry::Entry;
use super::nearest;
use crate::error::Error;

/// Longest file that is read; the longest of ours has 3 KiB.
pub(super) const MOST_BYTES: u64 = 64 * 1024;

/// Reads one file's text.
pub(super) fn entry(path: &Path, text: &str) -> Result<Entry, Error> {
    let at = |line, key: &str, problem| Error::Catalogue {
        path: path.into(),
        line,
        key: key.into(),
        problem,
    };
    let deserializer = toml::Deserializer::parse(text)
        .map_err(|error| at(line_of(text, &error), "", error.message().trim_end().into()))?;
    let entry: Entry = serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        let line = line_of_key(text, &key).or_else(|| line_of(text, error.inner()));
        at(line, key.trim_matches('.'), in_words(error.inner().message()))
    })?;
    check(&entry).map_err(|(key, problem)| at(line_of_key(text, key), key, problem))?;
    Ok(entry)
}

fn line_of(text: &str, error: &toml::de::Error) -> Option<usize> {
    error.span().map(|span| line_at(text, span.start))
}

/// serde's message, without its list of all known keys.
fn in_words(message: &str) -> String {
    let Some((unknown, known)) =
        message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'))
    else {
        return message.trim_end().replace('\n', " ");
    };
    let names = known.split('`').skip(1).step_by(2);
    match nearest(unknown, names).first() {
        Some(name) => format!("unknown key; did you mean {name}?"),
        None => "unknown key".into(),
    }
}

/// The line, counted from 1, on which `key` (`source.gguf.file`) stands, or
/// the nearest table around it.
pub(super) fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut line = None;
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else {
            break;
        };
        line = Some(line_at(text, name.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    line
}

/// The line, counted from 1, of a byte offset.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}
