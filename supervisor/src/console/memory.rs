//! `stoker memory`: what is remembered of one's chats.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::Value;

use super::code::Server;
use super::{Format, StatusError};

/// Shows the conversations that are kept.
///
/// # Errors
/// See [`StatusError`], here and below.
pub fn show(server: Server<'_>, format: Format, out: &mut impl Write) -> Result<(), StatusError> {
    let shown = server.ask("GET", "/api/memory", None)?;
    match format {
        Format::Json => writeln!(out, "{shown}"),
        Format::Text => write!(out, "{}", conversations(&shown)),
    }
    .map_err(StatusError::Print)
}

/// Forgets a conversation, or all of them.
pub fn forget(
    server: Server<'_>,
    conversation: Option<i64>,
    out: &mut impl Write,
) -> Result<(), StatusError> {
    let path = conversation.map_or("/api/memory".to_owned(), |id| format!("/api/memory/{id}"));
    let forgotten = server.ask("DELETE", &path, None)?;
    writeln!(out, "{} conversations are forgotten", forgotten["forgotten"])
        .map_err(StatusError::Print)
}

/// Writes all messages that are kept, one JSON document a line.
pub fn export(
    server: Server<'_>,
    conversation: Option<i64>,
    out: &mut impl Write,
) -> Result<(), StatusError> {
    let path = match conversation {
        Some(id) => format!("/api/memory/{id}"),
        None => "/api/memory/export".to_owned(),
    };
    let exported = server.ask("GET", &path, None)?;
    let messages = exported["messages"].as_array().map_or(&[][..], Vec::as_slice);
    messages.iter().try_for_each(|message| writeln!(out, "{message}")).map_err(StatusError::Print)
}

fn conversations(shown: &Value) -> String {
    let all = shown["conversations"].as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return "nothing is remembered for this key or address\n".to_owned();
    }
    let mut lines = String::new();
    for one in all {
        let name = one["name"].as_str().map(|name| format!(", {name:?}")).unwrap_or_default();
        let (id, messages, bytes) = (&one["id"], &one["messages"], &one["bytes"]);
        let used = one["touched"].as_u64().map(when).unwrap_or_default();
        // Writing into a string cannot fail.
        let _ = writeln!(lines, "{id}: {messages} messages, {bytes} bytes, used {used}{name}");
    }
    lines
}

fn when(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn conversations_as_people_read_them() {
        let shown = json!({"conversations": [
            {"id": 3, "name": "plans", "messages": 12, "bytes": 4096, "touched": 1_700_000_000},
            {"id": 1, "name": null, "messages": 2, "bytes": 90, "touched": 1_600_000_000},
        ]});
        expect![[r#"
            3: 12 messages, 4096 bytes, used 2023-11-14T22:13:20Z, "plans"
            1: 2 messages, 90 bytes, used 2020-09-13T12:26:40Z
        "#]]
        .assert_eq(&conversations(&shown));
        assert!(conversations(&json!({"conversations": []})).starts_with("nothing"));
    }
}
