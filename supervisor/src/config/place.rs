//! Where a key was set, so that an error can name file and line.

use std::fmt;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    File { path: PathBuf, line: Option<usize> },
    Variable(String),
    Flag(String),
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The line, counted from 1, on which `key` (`server.listen`) stands in `text`.
pub(super) fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut line = None;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
        line = Some(line_at(text, name.span().start));
        match value.get_ref() {
            DeValue::Table(inner) if parts.peek().is_some() => table = inner,
            _ => break,
        }
    }
    line
}

/// The line, counted from 1, of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "state_dir = \"/x\"\n\n[server]\nlisten = \"a\"\n# note\n[engine]\nmodel = \"m\"\n";

    #[test]
    fn a_key_is_found_on_its_line() {
        for (key, line) in [
            ("state_dir", Some(1)),
            ("server", Some(3)),
            ("server.listen", Some(4)),
            ("engine.model", Some(7)),
            ("engine.missing", None),
        ] {
            assert_eq!(line_of_key(TEXT, key), line, "{key}");
        }
    }

    #[test]
    fn a_dotted_key_is_found_too() {
        assert_eq!(line_of_key("\nserver.listen = 1\n", "server.listen"), Some(2));
    }
}
