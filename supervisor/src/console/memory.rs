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

/// What is remembered of everybody's chats; `None` if nothing ever is.
pub(super) fn in_numbers(memory: &Value) -> Option<String> {
    if memory["kept"] != true {
        return None;
    }
    let numbers =
        [("conversations", "conversations"), ("messages", "messages"), ("bytes", "bytes")];
    let number = |(field, noun): (&str, &str)| match memory[field].as_u64() {
        Some(number) => format!("{number} {noun}"),
        None => format!("{noun} unknown"),
    };
    let numbers = numbers.map(number).join(", ");
    let reason = memory["reason"].as_str().map(|reason| format!("; {reason}"));
    Some(numbers + &reason.unwrap_or_default())
}

/// What was added to a chat, in numbers.
pub(super) fn receipt(receipt: &Value) -> String {
    let mut line = receipt["at"].as_u64().map(when).unwrap_or_default();
    match receipt["sections"].as_object() {
        Some(sections) => {
            let parts = sections
                .iter()
                .map(|(name, tokens)| format!("{} {tokens}", name.replace('_', " ")));
            let parts: Vec<_> = parts.collect();
            let all: u64 = sections.values().filter_map(Value::as_u64).sum();
            let _ = write!(line, ", {all} tokens ({})", parts.join(", "));
        }
        None => line.push_str(", tokens unknown"),
    }
    for (field, noun) in [
        ("code_added", "of code added"),
        ("code_left_out", "left out"),
        ("replaced", "messages replaced"),
        ("recalled", "recalled"),
    ] {
        if let Some(number) = receipt[field].as_u64() {
            let _ = write!(line, ", {number} {noun}");
        }
    }
    line
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

    #[test]
    fn what_is_unknown_is_no_number() {
        let known = json!({"kept": true, "conversations": 2, "messages": 0, "bytes": 90});
        assert_eq!(in_numbers(&known).as_deref(), Some("2 conversations, 0 messages, 90 bytes"));
        let broken = json!({"kept": true, "conversations": null, "reason": "it hurts"});
        let words = in_numbers(&broken).unwrap();
        assert_eq!(words, "conversations unknown, messages unknown, bytes unknown; it hurts");
        assert_eq!(in_numbers(&json!({"kept": false})), None);
        let noted = json!({"at": 1_700_000_000, "code_added": 2, "code_left_out": 1,
            "sections": {"system": 5, "last_turn": 8}});
        expect![
            "2023-11-14T22:13:20Z, 13 tokens (system 5, last turn 8), 2 of code added, 1 left out"
        ]
        .assert_eq(&receipt(&noted));
        assert!(receipt(&json!({"at": 0})).ends_with(", tokens unknown"));
    }
}
