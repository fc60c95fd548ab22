//! `stoker index` and `stoker search`: repositories and what is found in them.

use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::ask::{Ask, ask, host_of};
use super::{Format, StatusError};

/// What may not stand for itself in a path that is a value of a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'_').remove(b'-');
/// The index may be in the middle of a batch.
const PATIENCE: Duration = Duration::from_secs(40);
/// Lines of a chunk that are shown.
const LINES: usize = 8;

/// A server, and who asks it.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    pub url: &'a str,
    /// Whose repositories it is about, beside those that are shared.
    pub key: Option<&'a str>,
}

/// What is looked for; empty filters let everything through.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    pub query: &'a str,
    pub repositories: &'a [String],
    pub languages: &'a [String],
    pub path: Option<&'a str>,
    pub limit: u32,
}

/// Adds a directory of the server's machine, or a git URL.
///
/// # Errors
/// See [`StatusError`], here and below.
pub fn add(
    server: Server<'_>,
    source: &str,
    name: Option<&str>,
    shared: bool,
    out: &mut impl Write,
) -> Result<(), StatusError> {
    let mut body = json!({ "shared": shared });
    if source.contains("://") {
        body["url"] = source.into();
    } else {
        let path = std::path::absolute(source).unwrap_or_else(|_| source.into());
        body["path"] = path.to_string_lossy().into();
    }
    if let Some(name) = name {
        body["name"] = name.into();
    }
    let added = server.ask("POST", "/api/repositories", Some(&body))?;
    let whose = if added["shared"] == true { "everybody" } else { "this key alone" };
    let (name, path) = (text(&added["name"]), text(&added["path"]));
    let now = if body["url"].is_null() { "gone over" } else { "fetched" };
    writeln!(out, "{name}: {path}, for {whose}; it is {now} now, see `stoker index status`")
        .map_err(StatusError::Print)
}

/// Forgets a repository and all that was made of it.
pub fn remove(server: Server<'_>, name: &str, out: &mut impl Write) -> Result<(), StatusError> {
    let removed = server.ask("DELETE", &format!("/api/repositories/{name}"), None)?;
    writeln!(out, "{} is forgotten", text(&removed["removed"])).map_err(StatusError::Print)
}

/// Shows every repository that the key may see.
pub fn index_status(
    server: Server<'_>,
    format: Format,
    out: &mut impl Write,
) -> Result<(), StatusError> {
    let shown = server.ask("GET", "/api/repositories", None)?;
    match format {
        Format::Json => writeln!(out, "{shown}"),
        Format::Text => write!(out, "{}", repositories(&shown)),
    }
    .map_err(StatusError::Print)
}

/// Shows the most important definitions of a repository.
pub fn map(
    server: Server<'_>,
    name: &str,
    tokens: u32,
    focus: Option<&str>,
    format: Format,
    out: &mut impl Write,
) -> Result<(), StatusError> {
    let mut path = format!("/api/repositories/{name}/map?tokens={tokens}");
    if let Some(focus) = focus {
        let _ = write!(path, "&focus={}", utf8_percent_encode(focus, ESCAPED));
    }
    let shown = server.ask("GET", &path, None)?;
    match format {
        Format::Json => writeln!(out, "{shown}"),
        Format::Text => write!(out, "{}", mapped(&shown)),
    }
    .map_err(StatusError::Print)
}

/// Searches, and shows what was found and why.
pub fn search(
    server: Server<'_>,
    sought: &Sought<'_>,
    format: Format,
    out: &mut impl Write,
) -> Result<(), StatusError> {
    let mut body = json!({
        "query": sought.query,
        "repositories": sought.repositories,
        "languages": sought.languages,
        "limit": sought.limit,
    });
    if let Some(path) = sought.path {
        body["path"] = path.into();
    }
    let found = server.ask("POST", "/v1/search", Some(&body))?;
    match format {
        Format::Json => writeln!(out, "{found}"),
        Format::Text => write!(out, "{}", hits(&found)),
    }
    .map_err(StatusError::Print)
}

impl Server<'_> {
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, StatusError> {
        let host = host_of(self.url).ok_or_else(|| StatusError::Url(self.url.to_owned()))?;
        let (key, patience) = (self.key, PATIENCE);
        let answer = ask(&Ask { method, host: &host, path, key, body, patience })?;
        serde_json::from_str(&answer)
            .map_err(|error| StatusError::Answer { host, problem: error.to_string() })
    }
}

fn repositories(shown: &Value) -> String {
    let all = shown["repositories"].as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return "no repositories; add one with `stoker index add PATH` or `URL`\n".to_owned();
    }
    let mut lines = String::new();
    for one in all {
        let whose = if one["shared"] == true { "shared" } else { "private" };
        let _ = writeln!(lines, "{}: {}, {whose}", text(&one["name"]), text(&one["path"]));
        let _ = writeln!(lines, "    {}", in_words(one));
        lines.push_str(&brought(one));
        let count = |field: &str, noun: &str| match one[field].as_u64() {
            Some(count) => format!("{count} {noun}"),
            None => format!("{noun} unknown"),
        };
        let counts =
            [count("files", "files"), count("chunks", "chunks"), count("skipped", "passed over")];
        let _ = writeln!(lines, "    {}", counts.join(", "));
        if let Some(reason) = one["unwatched"].as_str() {
            let _ = writeln!(lines, "    edits are found by the next whole pass: {reason}");
        }
    }
    lines.push_str(&vectors(&shown["vectors"]));
    if shown["held"] == true {
        let why = shown["held_because"].as_str();
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let _ = writeln!(lines, "indexing stands still while the board is held back{why}");
    }
    lines
}

/// Which files are here, where they came from elsewhere.
fn brought(one: &Value) -> String {
    let mut line = String::new();
    if let Some(at) = one["brought_at"].as_u64() {
        let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at));
        let what = match one["revision"].as_str() {
            Some(commit) => format!("commit {} fetched", commit.get(..12).unwrap_or(commit)),
            None => "sent".to_owned(),
        };
        let _ = writeln!(line, "    {what} {at}");
    }
    if let Some(problem) = one["not_fetched"].as_str()
        && one["state"] != "failed"
    {
        let _ = writeln!(line, "    the newest commit was not fetched: {problem}");
    }
    line
}

fn mapped(shown: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = String::new();
    let mut count = 0;
    for file in list(&shown["files"]) {
        let _ = writeln!(lines, "{}", text(&file["path"]));
        for one in list(&file["definitions"]) {
            count += 1;
            let line = one["line"].as_u64().unwrap_or_default();
            let _ = writeln!(lines, "{line:>6}  {}", text(&one["text"]));
        }
    }
    let _ = writeln!(
        lines,
        "{count} of {} definitions, about {} tokens",
        shown["definitions"], shown["tokens_about"]
    );
    lines
}

/// How far the vectors are.
pub(super) fn vectors(vectors: &Value) -> String {
    if vectors.is_null() {
        return "no embedder is installed, so search goes by words alone\n".to_owned();
    }
    let count = |field: &str| vectors[field].as_u64().unwrap_or_default();
    let (made, left) = (count("made"), count("left"));
    let mut line =
        format!("vectors by {}: {made} of {} texts", text(&vectors["model"]), made + left);
    let _ = match text(&vectors["state"]) {
        "made" => Ok(()),
        "yielding" => write!(line, ", answers and other vectors go first"),
        "held" => write!(line, ", waits until the board is not held back any more"),
        "resting" => write!(line, ", stopped: {}", text(&vectors["reason"])),
        _ => match vectors["left_s"].as_u64() {
            Some(left) => write!(line, ", about {left} s left"),
            None => write!(line, ", time left unknown"),
        },
    };
    line.push('\n');
    if let (Some(searched), true) = (vectors["searched"].as_str(), vectors["former"] == true) {
        let _ = writeln!(line, "questions go to the vectors by {searched} until these are made");
    }
    line
}

/// What is done with a repository.
pub(super) fn in_words(repository: &Value) -> String {
    let state = text(&repository["state"]);
    match state {
        "indexing" => {
            let looked_at = repository["looked_at"].as_u64().unwrap_or_default();
            let of = match repository["of"].as_u64() {
                Some(of) => format!("{looked_at} of {of} files"),
                None => "listing files".to_owned(),
            };
            let left = match repository["left_s"].as_u64() {
                Some(left) => format!("about {left} s left"),
                None => "time left unknown".to_owned(),
            };
            format!("indexing, {of}, {left}")
        }
        "failed" => format!("failed: {}", repository["reason"].as_str().unwrap_or("see the log")),
        state => state.to_owned(),
    }
}

fn hits(found: &Value) -> String {
    let all = found["data"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines = String::new();
    if let Some(reason) = found["words_only"].as_str() {
        let _ = writeln!(lines, "by words alone: {reason}");
    }
    if all.is_empty() {
        return lines + "nothing found\n";
    }
    for hit in all {
        let _ = write!(
            lines,
            "{}: {}:{}-{}  score {:.2}",
            text(&hit["repository"]),
            text(&hit["header"]),
            hit["first_line"],
            hit["last_line"],
            hit["score"].as_f64().unwrap_or_default(),
        );
        let parts = [("words", "words"), ("meaning", "meaning")];
        let part = |(field, name): (&str, &str)| {
            hit[field].as_f64().map(|score| format!("{name} {score:.2}"))
        };
        let parts: Vec<_> = parts.into_iter().filter_map(part).collect();
        if found["words_only"].is_null() && !parts.is_empty() {
            let _ = write!(lines, " ({})", parts.join(", "));
        }
        lines.push('\n');
        let words = |place: &str| {
            let words = hit["why"][place].as_array().map_or(&[][..], Vec::as_slice);
            words.iter().map(text).collect::<Vec<_>>().join(", ")
        };
        for (place, name) in [("in_header", "name"), ("in_text", "text")] {
            let words = words(place);
            if !words.is_empty() {
                let _ = writeln!(lines, "    in its {name}: {words}");
            }
        }
        for linked in hit["why"]["linked"].as_array().map_or(&[][..], Vec::as_slice) {
            let [how, name, hit] = ["how", "name", "hit"].map(|field| text(&linked[field]));
            let _ = match how {
                "calls" => writeln!(lines, "    calls {name} of {hit}"),
                how => writeln!(lines, "    {how} {hit} as {name}"),
            };
        }
        let body = text(&hit["text"]);
        for line in body.lines().take(LINES) {
            let _ = writeln!(lines, "    | {line}");
        }
        if body.lines().count() > LINES {
            lines.push_str("    | …\n");
        }
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn repositories_say_how_far_they_are() {
        let hot = "tj is at 91.0 °C";
        let shown = json!({"held": true, "held_because": hot, "repositories": [
            {"name": "fans", "path": "/srv/fans", "shared": true, "state": "indexing",
             "looked_at": 10, "of": 40, "left_s": 6, "files": 9, "chunks": 80, "skipped": 1},
            {"name": "mine", "path": "/srv/mine", "shared": false, "state": "failed",
             "reason": "/srv/mine is no directory", "unwatched": "a limit is reached"},
            {"name": "lan", "path": "https://git.lan/lan", "shared": true, "state": "indexed",
             "files": 1, "chunks": 2, "skipped": 0, "brought_at": 1_700_000_000,
             "revision": "0b05a15e39a26ebc0b05a15e39a26ebc0b05a15e",
             "not_fetched": "its host does not answer"},
        ]});
        expect![[r#"
            fans: /srv/fans, shared
                indexing, 10 of 40 files, about 6 s left
                9 files, 80 chunks, 1 passed over
            mine: /srv/mine, private
                failed: /srv/mine is no directory
                files unknown, chunks unknown, passed over unknown
                edits are found by the next whole pass: a limit is reached
            lan: https://git.lan/lan, shared
                indexed
                commit 0b05a15e39a2 fetched 2023-11-14T22:13:20Z
                the newest commit was not fetched: its host does not answer
                1 files, 2 chunks, 0 passed over
            no embedder is installed, so search goes by words alone
            indexing stands still while the board is held back: tj is at 91.0 °C
        "#]]
        .assert_eq(&repositories(&shown));
    }

    #[test]
    fn a_map_is_definitions_by_file_and_what_they_take() {
        let shown = json!({"repository": "fans", "definitions": 9, "tokens_about": 21, "files": [
            {"path": "src/bus.rs", "definitions": [
                {"line": 3, "name": "Bus", "text": "pub struct Bus {"},
                {"line": 12, "name": "write_duty", "text": "pub fn write_duty(value: u8) {"}]},
        ]});
        expect![[r#"
            src/bus.rs
                 3  pub struct Bus {
                12  pub fn write_duty(value: u8) {
            2 of 9 definitions, about 21 tokens
        "#]]
        .assert_eq(&mapped(&shown));
    }

    #[test]
    fn hits_say_where_and_why() {
        let mut found = json!({"words_only": "no embedder is installed", "data": [{
            "repository": "fans", "header": "src/fan.rs > Fan > set_speed", "first_line": 3,
            "last_line": 5, "score": 4.125, "words": 4.125, "meaning": null,
            "why": {"in_header": ["speed"], "in_text": []}, "text": "fn set_speed() {\n}"
        }]});
        expect![[r#"
            by words alone: no embedder is installed
            fans: src/fan.rs > Fan > set_speed:3-5  score 4.12
                in its name: speed
                | fn set_speed() {
                | }
        "#]]
        .assert_eq(&hits(&found));
        found["words_only"] = Value::Null;
        found["data"][0]["meaning"] = 0.5.into();
        let hits_of_both = hits(&found);
        let first = hits_of_both.lines().next().unwrap();
        assert!(first.ends_with("score 4.12 (words 4.12, meaning 0.50)"), "{first}");
        assert_eq!(hits(&json!({"data": []})), "nothing found\n");
        let (fan, pwm) = ("src/fan.rs > Fan", "write_duty");
        found["data"][0]["why"] = json!({"in_header": [], "in_text": [], "linked": [
            {"how": "called by", "name": pwm, "hit": fan}, {"how": "calls", "name": "Fan", "hit": fan},
        ]});
        let linked = hits(&found);
        let linked: Vec<_> = linked.lines().skip(1).take(2).collect();
        assert_eq!(
            linked,
            ["    called by src/fan.rs > Fan as write_duty", "    calls Fan of src/fan.rs > Fan"]
        );
    }

    #[test]
    fn vectors_say_how_far_they_are_and_why_not() {
        let shown = |state: &str, left: u64, more: Value| {
            let mut shown = json!({"model": "mini", "made": 3, "left": left, "state": state});
            shown.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            vectors(&shown)
        };
        assert_eq!(shown("made", 0, json!({})), "vectors by mini: 3 of 3 texts\n");
        assert!(
            shown("embedding", 5, json!({"left_s": 9})).ends_with("3 of 8 texts, about 9 s left\n")
        );
        assert!(shown("embedding", 5, json!({})).contains("unknown"));
        assert!(shown("resting", 5, json!({"reason": "it hurts"})).contains("stopped: it hurts"));
        assert!(vectors(&Value::Null).contains("words alone"));
        let former = shown("embedding", 5, json!({"searched": "old", "former": true}));
        let former = former.lines().nth(1);
        assert_eq!(former, Some("questions go to the vectors by old until these are made"));
    }
}
