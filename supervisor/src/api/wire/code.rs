//! Bodies of the routes for indexed code.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::json::parse;
use crate::api::error::Problem;
use crate::index::sources::{GitUrl, Origin};
use crate::index::{Hit, Linked, Question};
use crate::snapshot::{IndexVectors, Repository};
use crate::store::code::search::map::{Mapped, MappedFile};

/// Hits, if the client does not say how many.
const HITS: usize = 10;
/// Hits at most.
const MOST_HITS: usize = 50;
/// Characters of a question at most.
const LONGEST_QUESTION: usize = 10_000;
/// Values of one filter at most.
const MOST_VALUES: usize = 64;
/// Characters of a path at most.
const LONGEST_PATH: usize = 4096;

/// `POST /v1/search`.
#[derive(Debug, Deserialize)]
struct SearchBody {
    query: String,
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    languages: Vec<String>,
    path: Option<String>,
    limit: Option<u64>,
}

/// Reads a question that `asker` asks.
///
/// # Errors
/// A field is missing, wrong or out of bounds.
pub(crate) fn question(body: &[u8], asker: String) -> Result<Question, Problem> {
    let SearchBody { query, repositories, languages, path, limit } = parse(body)?;
    if query.trim().is_empty() {
        return Err(Problem::field("query", "is empty; say what is looked for"));
    }
    if query.len() > LONGEST_QUESTION {
        return Err(Problem::field("query", format!("is longer than {LONGEST_QUESTION} bytes")));
    }
    for (field, values) in [("repositories", &repositories), ("languages", &languages)] {
        if values.len() > MOST_VALUES {
            return Err(Problem::field(field, format!("has more than {MOST_VALUES} values")));
        }
    }
    if path.as_ref().is_some_and(|path| path.len() > LONGEST_PATH) {
        return Err(Problem::field("path", format!("is longer than {LONGEST_PATH} bytes")));
    }
    let limit = match limit.map(usize::try_from) {
        None => HITS,
        Some(Ok(limit)) if (1..=MOST_HITS).contains(&limit) => limit,
        Some(_) => return Err(Problem::field("limit", format!("must be from 1 to {MOST_HITS}"))),
    };
    Ok(Question { text: query, asker, repositories, languages, path, limit })
}

/// What was found, best first.
#[derive(Debug, Serialize)]
pub(crate) struct Found<'a> {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<FoundChunk<'a>>,
    /// Why meaning did not count; `null` if it did.
    pub(crate) words_only: Option<&'a str>,
    pub(crate) took_ms: u128,
}

#[derive(Debug, Serialize)]
pub(crate) struct FoundChunk<'a> {
    repository: &'a str,
    path: &'a str,
    language: &'a str,
    kind: &'a str,
    /// `path > what it is in`.
    header: String,
    first_line: u32,
    last_line: u32,
    score: f64,
    /// BM25 and cosine; `null` where it has none of the words, or no vector.
    words: Option<f64>,
    meaning: Option<f64>,
    why: Why<'a>,
    text: &'a str,
}

/// Words of the question, as they stand in the chunk; or what it has to do with hits
/// that have them.
#[derive(Debug, Serialize)]
struct Why<'a> {
    in_header: &'a [String],
    in_text: &'a [String],
    linked: Vec<Link<'a>>,
}

#[derive(Debug, Serialize)]
struct Link<'a> {
    /// `called by` or `calls` the hit.
    how: &'static str,
    /// What is called.
    name: &'a str,
    hit: &'a str,
}

impl<'a> FoundChunk<'a> {
    pub(crate) fn new(hit: &'a Hit) -> Self {
        let link = |linked: &'a Linked| Link {
            how: linked.way.in_words(),
            name: &linked.name,
            hit: &linked.hit,
        };
        let linked = hit.linked.iter().map(link).collect();
        Self {
            repository: &hit.repository,
            path: &hit.path,
            language: &hit.language,
            kind: &hit.kind,
            header: hit.header(),
            first_line: hit.first_line,
            last_line: hit.last_line,
            score: hit.score,
            words: hit.words,
            meaning: hit.meaning,
            why: Why { in_header: &hit.in_header, in_text: &hit.in_text, linked },
            text: &hit.text,
        }
    }
}

/// Tokens of a map, if the client does not say how many, and at most.
const MAP_TOKENS: usize = 1024;
const MOST_MAP_TOKENS: usize = 32_768;

/// `GET /api/repositories/NAME/map`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MapQuery {
    pub(crate) tokens: usize,
    pub(crate) focus: String,
}

impl MapQuery {
    /// Reads what stands behind the `?`.
    ///
    /// # Errors
    /// A field is unknown, wrong or out of bounds.
    pub(crate) fn read(query: &str) -> Result<Self, Problem> {
        let mut read = Self { tokens: MAP_TOKENS, focus: String::new() };
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            match name {
                "tokens" => {
                    let tokens = value.parse().ok();
                    let fits = tokens.filter(|tokens| (1..=MOST_MAP_TOKENS).contains(tokens));
                    let bounds = || format!("must be from 1 to {MOST_MAP_TOKENS}");
                    read.tokens = fits.ok_or_else(|| Problem::field("tokens", bounds()))?;
                }
                "focus" if value.len() <= LONGEST_PATH => {
                    read.focus = percent_decode_str(value).decode_utf8_lossy().into_owned();
                }
                "focus" => {
                    let why = format!("is longer than {LONGEST_PATH} bytes");
                    return Err(Problem::field("focus", why));
                }
                _ => return Err(Problem::bad_request("a map has `tokens` and `focus` only")),
            }
        }
        Ok(read)
    }
}

/// The answer to that: the most important definitions, the file of the best one first.
#[derive(Debug, Serialize)]
pub(crate) struct Map<'a> {
    repository: &'a str,
    files: Vec<MapFile<'a>>,
    /// Definitions in all; the map has as many as fit.
    definitions: usize,
    /// An estimate: no model was asked.
    tokens_about: usize,
}

#[derive(Debug, Serialize)]
struct MapFile<'a> {
    path: &'a str,
    definitions: Vec<MapLine<'a>>,
}

#[derive(Debug, Serialize)]
struct MapLine<'a> {
    line: u32,
    name: &'a str,
    text: &'a str,
}

impl<'a> Map<'a> {
    pub(crate) fn new(repository: &'a str, mapped: &'a Mapped) -> Self {
        let file = |file: &'a MappedFile| MapFile {
            path: &file.path,
            definitions: file
                .lines
                .iter()
                .map(|(line, name, text)| MapLine { line: *line, name, text })
                .collect(),
        };
        Self {
            repository,
            files: mapped.files.iter().map(file).collect(),
            definitions: mapped.definitions,
            tokens_about: mapped.tokens,
        }
    }
}

/// `POST /api/repositories`.
#[derive(Debug, Deserialize)]
struct NewRepositoryBody {
    path: Option<String>,
    url: Option<String>,
    name: Option<String>,
    #[serde(default)]
    shared: bool,
}

/// What is to be added.
#[derive(Debug)]
pub(crate) struct ToAdd {
    pub(crate) origin: Origin,
    pub(crate) name: Option<String>,
    pub(crate) shared: bool,
}

/// Reads what is to be added.
///
/// # Errors
/// A field is missing or wrong.
pub(crate) fn new_repository(body: &[u8]) -> Result<ToAdd, Problem> {
    let NewRepositoryBody { path, url, name, shared } = parse(body)?;
    let origin = match (path, url) {
        (Some(path), None) => Origin::Path(path.into()),
        (None, Some(url)) => {
            let url = GitUrl::parse(&url).map_err(|why| Problem::field("url", why.to_string()))?;
            Origin::Url(url)
        }
        (Some(_), Some(_)) => return Err(Problem::field("url", "stands beside a `path`")),
        (None, None) => return Err(Problem::field("path", "is missing; so is `url`")),
    };
    Ok(ToAdd { origin, name, shared })
}

/// The answer to `PUT /api/repositories/NAME/contents`.
#[derive(Debug, Serialize)]
pub(crate) struct Sent<'a> {
    pub(crate) name: &'a str,
    pub(crate) shared: bool,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Links, which are never followed.
    pub(crate) left_out: u64,
}

/// The answer to that.
#[derive(Debug, Serialize)]
pub(crate) struct Added<'a> {
    pub(crate) name: &'a str,
    pub(crate) path: String,
    pub(crate) shared: bool,
}

/// The answer to `DELETE /api/repositories/NAME`.
#[derive(Debug, Serialize)]
pub(crate) struct Removed<'a> {
    pub(crate) removed: &'a str,
}

/// `GET /api/repositories`.
#[derive(Debug, Serialize)]
pub(crate) struct Repositories {
    pub(crate) held: bool,
    pub(crate) held_because: Option<String>,
    pub(crate) repositories: Vec<Repository>,
    pub(crate) vectors: Option<IndexVectors>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_budget_and_a_focus() {
        let read = |query: &str| MapQuery::read(query).map(|read| (read.tokens, read.focus));
        assert_eq!(read("").unwrap(), (1024, String::new()));
        assert_eq!(read("focus=src%2Fa%20b%&tokens=7").unwrap(), (7, "src/a b%".to_owned()));
        for (query, field) in [("tokens=0", "tokens"), ("tokens=x", "tokens"), ("token=7", "focus")]
        {
            let problem = read(query).unwrap_err();
            assert!(problem.message.contains(field), "{query}: {}", problem.message);
        }
    }

    #[test]
    fn a_question_has_bounds() {
        let read = |body: &str| question(body.as_bytes(), "me".to_owned());
        let asked = read(r#"{"query":"fan speed","languages":["rust"],"unknown":1}"#).unwrap();
        assert_eq!((asked.limit, asked.languages.len(), asked.asker.as_str()), (10, 1, "me"));
        for (body, field) in [
            ("{}", "query"),
            (r#"{"query":"  "}"#, "query"),
            (r#"{"query":"a","limit":0}"#, "limit"),
            (r#"{"query":"a","limit":51}"#, "limit"),
            (r#"{"query":"a","repositories":"x"}"#, "repositories"),
        ] {
            let problem = read(body).unwrap_err();
            assert!(problem.message.contains(field), "{body}: {}", problem.message);
        }
    }

    #[test]
    fn a_repository_has_a_path_or_a_url_and_no_secret_is_said_back() {
        let read = |body: &str| new_repository(body.as_bytes());
        let url = read(r#"{"url":"https://git.lan/fans","shared":true}"#).unwrap();
        assert!(matches!(url.origin, Origin::Url(_)) && url.shared && url.name.is_none());
        assert!(matches!(read(r#"{"path":"/srv"}"#).unwrap().origin, Origin::Path(_)));
        for body in [
            "{}",
            r#"{"path":"/a","url":"https://a/b"}"#,
            r#"{"url":"https://alice:hunter2@git.lan/fans"}"#,
            r#"{"url":"file:///srv/hunter2"}"#,
        ] {
            let problem = read(body).unwrap_err();
            assert!(!problem.message.contains("hunter2"), "{}", problem.message);
        }
    }
}
