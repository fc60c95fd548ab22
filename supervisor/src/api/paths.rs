//! What a path says before anything is routed: how it is spelled, whose dialect
//! it belongs to, and what was probably meant if nothing is there.

use std::borrow::Cow;

use hyper::header::{ALLOW, HeaderValue};
use hyper::{Response, StatusCode};

use crate::api::error::{Dialect, Problem};
use crate::api::reply::{self, Reply};

/// Before a model's name.
pub(crate) const MODEL: &str = "/v1/models/";

/// Before and after the id of an answer that is to be streamed again.
const STREAM_AGAIN: (&str, &str) = ("/v1/requests/", "/stream");

/// The list of repositories; below it is each one.
pub(crate) const REPOSITORIES: &str = "/api/repositories";

/// As it stands in what is said of it.
const REPOSITORY: &str = "/api/repositories/NAME";
const CONTENTS: &str = "/api/repositories/NAME/contents";
/// The same of its map.
const MAP: &str = "/api/repositories/NAME/map";

/// What is remembered of chats; below it is each conversation.
pub(crate) const MEMORY: &str = "/api/memory";
/// All of it.
pub(crate) const MEMORY_EXPORT: &str = "/api/memory/export";
/// As it stands in what is said of it.
const CONVERSATION: &str = "/api/memory/ID";

/// Where a machine is claimed that nobody has a key of.
pub(crate) const CLAIM: &str = "/api/claim";

/// The list of keys, for whoever claimed the machine; below it is each one.
pub(crate) const KEYS: &str = "/api/keys";
/// As it stands in what is said of it.
const KEY: &str = "/api/keys/NAME";

/// What is served, for those who ask for something else. [`super::route`] serves it.
pub(crate) const SERVED: [(&str, &str); 45] = [
    ("GET", "/"),
    ("GET", "/assets/page.css"),
    ("GET", "/assets/page.js"),
    ("GET", "/assets/build.js"),
    ("GET", "/assets/code.js"),
    ("GET", "/assets/chats.js"),
    ("GET", "/assets/claim.js"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/embeddings"),
    ("GET", "/v1/requests/ID/stream"),
    ("GET", "/v1/models"),
    ("GET", "/models"),
    ("GET", "/api/version"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("POST", "/api/show"),
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
    ("POST", "/v1/search"),
    ("GET", "/api/repositories"),
    ("POST", "/api/repositories"),
    ("DELETE", REPOSITORY),
    ("PUT", CONTENTS),
    ("GET", MAP),
    ("GET", MEMORY),
    ("DELETE", MEMORY),
    ("GET", MEMORY_EXPORT),
    ("GET", CONVERSATION),
    ("DELETE", CONVERSATION),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/props"),
    ("GET", "/metrics"),
    ("GET", "/api/status"),
    ("GET", "/api/history"),
    ("POST", CLAIM),
    ("GET", KEYS),
    ("POST", KEYS),
    ("DELETE", KEY),
];

/// Paths that only our own page reads.
const PRIVATE: [&str; 7] =
    ["/api/status", "/api/history", "/metrics", REPOSITORIES, MEMORY, CLAIM, KEYS];

/// What everybody may have, where API keys are asked for: the status page and what it
/// reads, probes, the claim, which asks for its own token, and the catalogue, without
/// which editors offer no model to choose. All else needs a key, also what nobody has
/// thought of here.
const OPEN: [&str; 14] = [
    "/",
    "/health",
    "/v1/health",
    "/ready",
    "/metrics",
    "/api/status",
    "/api/history",
    CLAIM,
    "/v1/models",
    "/models",
    "/api/version",
    "/api/tags",
    "/api/ps",
    "/api/show",
];

/// The page's own parts.
const ASSETS: &str = "/assets/";

/// The path as it is routed: base URLs with a slash at their end lead to `//`,
/// and some clients put one at the end of everything.
pub(crate) fn plain(path: &str) -> Cow<'_, str> {
    let mut path = Cow::Borrowed(path);
    while path.contains("//") {
        path = Cow::Owned(path.replace("//", "/"));
    }
    match path.len() {
        0 | 1 => path,
        _ => match path.strip_suffix('/') {
            Some(shorter) => Cow::Owned(shorter.to_owned()),
            None => path,
        },
    }
}

/// The path as it is said back and written to the journal.
pub(crate) fn shown(path: &str) -> &str {
    const MAX_CHARS: usize = 200;
    path.char_indices().nth(MAX_CHARS).map_or(path, |(end, _)| &path[..end])
}

/// The id in `/v1/requests/{id}/stream`.
pub(crate) fn streamed_again(path: &str) -> Option<&str> {
    let (before, after) = STREAM_AGAIN;
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

/// The name in `/api/repositories/{name}`.
pub(crate) fn repository(path: &str) -> Option<&str> {
    let name = path.strip_prefix(REPOSITORIES)?.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// The name in `/api/repositories/{name}/contents`.
pub(crate) fn contents(path: &str) -> Option<&str> {
    repository(path.strip_suffix("/contents")?)
}

/// The name in `/api/repositories/{name}/map`.
pub(crate) fn map(path: &str) -> Option<&str> {
    repository(path.strip_suffix("/map")?)
}

/// The id in `/api/memory/{id}`.
pub(crate) fn conversation(path: &str) -> Option<&str> {
    let id = path.strip_prefix(MEMORY)?.strip_prefix('/')?;
    (!id.is_empty() && !id.contains('/') && path != MEMORY_EXPORT).then_some(id)
}

/// The name in `/api/keys/{name}`.
pub(crate) fn key(path: &str) -> Option<&str> {
    let name = path.strip_prefix(KEYS)?.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// The path of [`SERVED`] that this one is, where a name or a number stands in it.
fn with_a_name(path: &str) -> Option<&'static str> {
    [
        (REPOSITORY, repository(path)),
        (CONTENTS, contents(path)),
        (MAP, map(path)),
        (CONVERSATION, conversation(path)),
        (KEY, key(path)),
    ]
    .into_iter()
    .find_map(|(served, name)| name.map(|_| served))
}

/// Whose shape the errors on this path have.
pub(crate) fn dialect(path: &str) -> Dialect {
    if path.starts_with("/api/") && is_public(path) { Dialect::Ollama } else { Dialect::OpenAi }
}

/// Whether web pages of other, allowed origins may read the answers.
pub(crate) fn is_public(path: &str) -> bool {
    !PRIVATE.contains(&path) && path != MEMORY_EXPORT && with_a_name(path).is_none()
}

/// Whether strangers may have it where API keys are asked for.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with(ASSETS) || path.starts_with(MODEL)
}

/// 405 for a known path with another method, else 404 with the nearest one.
pub(crate) fn not_served(path: &str) -> Response<Reply> {
    let shown = shown(path);
    let is_this = |served: &str| served == path || with_a_name(path) == Some(served);
    let methods: Vec<_> =
        SERVED.iter().filter(|(_, served)| is_this(served)).map(|(method, _)| *method).collect();
    if !methods.is_empty() {
        let message = format!("use {} for {shown}", methods.join(" or "));
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let problem = Problem::new(status, "invalid_request_error", message);
        let mut response = reply::problem(&problem, dialect(path));
        response.headers_mut().insert(ALLOW, allow(&methods));
        return response;
    }
    let message = match nearest(path) {
        Some((method, near)) => {
            format!("nothing is served at {shown}; did you mean {method} {near}?")
        }
        None => format!("nothing is served at {shown}; see GET /api/status and the README"),
    };
    let problem = Problem {
        code: Some("unknown_route"),
        ..Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    };
    reply::problem(&problem, dialect(path))
}

fn allow(methods: &[&str]) -> HeaderValue {
    // A HEAD is a GET without a body.
    let head = methods.contains(&"GET").then_some("HEAD");
    let all: Vec<_> = methods.iter().copied().chain(head).chain(["OPTIONS"]).collect();
    HeaderValue::from_str(&all.join(", ")).expect("methods are plain words")
}

/// Longest path for which a nearest one is looked for.
const MAX_COMPARED: usize = 100;

/// How alike two paths must be, from 0 to 1, for one to be meant by the other.
const ALIKE: f64 = 0.6;

fn nearest(path: &str) -> Option<(&'static str, &'static str)> {
    if path.len() > MAX_COMPARED {
        return None;
    }
    let scored = SERVED.iter().map(|(method, served)| {
        (strsim::normalized_damerau_levenshtein(path, served), (*method, *served))
    });
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(score, _)| *score >= ALIKE).map(|(_, route)| route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_too_many() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/v1//chat/completions", "/v1/chat/completions"),
            ("/v1/models/", "/v1/models"),
            ("", ""),
        ] {
            assert_eq!(plain(path), expected);
        }
    }

    #[test]
    fn the_id_of_an_answer_stands_in_its_path() {
        assert_eq!(streamed_again("/v1/requests/cmpl-1/stream"), Some("cmpl-1"));
        for path in ["/v1/requests//stream", "/v1/requests/a/b/stream", "/v1/requests/stream"] {
            assert_eq!(streamed_again(path), None, "{path}");
        }
    }

    #[test]
    fn errors_under_api_are_in_ollamas_shape_but_not_ours() {
        assert_eq!(dialect("/api/chat"), Dialect::Ollama);
        assert_eq!(dialect("/api/unknown"), Dialect::Ollama);
        assert_eq!(dialect("/api/status"), Dialect::OpenAi);
        assert_eq!(dialect("/v1/models"), Dialect::OpenAi);
    }

    #[test]
    fn the_nearest_route_is_named() {
        assert_eq!(nearest("/v1/chat/completion"), Some(("POST", "/v1/chat/completions")));
        assert_eq!(nearest("/api/generat"), Some(("POST", "/api/generate")));
        assert_eq!(nearest("/v1/model"), Some(("GET", "/v1/models")));
        assert_eq!(nearest("/wp-login.php?x=aaaaaaaaaaaaaaaa"), None);
        assert_eq!(not_served("/nothing").status(), StatusCode::NOT_FOUND);
        assert_eq!(not_served("/api/chat").status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
