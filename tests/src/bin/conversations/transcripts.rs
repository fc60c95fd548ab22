//! Recorded conversations of people with coding agents, as their editors would send them.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Part;

/// What settings were chosen on; all from one session.
const TUNE: &str = "codex-2026-03-14";
/// A shorter one has no place for what is asked 100 messages later.
const SHORTEST: usize = 120;
/// Characters of a message, as agents cut them.
const LONGEST_MESSAGE: usize = 8000;
/// How a tool's result begins in the recording.
const RESULT: &str = "[tool result]";

pub(crate) struct Transcript {
    pub(crate) id: String,
    pub(crate) messages: Vec<Value>,
}

#[derive(Deserialize)]
struct Recorded {
    id: String,
    messages: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

/// The longest of each session that belongs to this part.
pub(crate) fn read(path: &Path, part: Part) -> anyhow::Result<Vec<Transcript>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut all: Vec<Recorded> = Vec::new();
    for line in text.lines() {
        all.push(serde_json::from_str(line).context("a transcript is a JSON object")?);
    }
    let day = |recorded: &Recorded| recorded.id.split("-multiturn").next().unwrap_or("").to_owned();
    all.retain(|recorded| recorded.id.starts_with(TUNE) == (part == Part::Tune));
    all.retain(|recorded| recorded.messages.len() >= SHORTEST);
    all.sort_by_key(|recorded| (day(recorded), std::cmp::Reverse(recorded.messages.len())));
    all.dedup_by_key(|recorded| day(recorded));
    ensure!(!all.is_empty(), "{} has no long transcripts", path.display());
    Ok(all.into_iter().map(Recorded::sent).collect())
}

impl Recorded {
    /// With calls and results as an editor sends them.
    fn sent(self) -> Transcript {
        let mut messages =
            vec![json!({"role": "system", "content": "You help with the code of this project."})];
        let is_result = |said: Option<&Said>| said.is_some_and(|s| s.content.starts_with(RESULT));
        for (at, said) in self.messages.iter().enumerate() {
            let content: String = said.content.chars().take(LONGEST_MESSAGE).collect();
            let id = format!("call-{}", at - usize::from(at > 0 && said.role == "user"));
            messages.push(match said.role.as_str() {
                "user" if at > 0 && is_result(Some(said)) => {
                    json!({"role": "tool", "tool_call_id": id, "content": content})
                }
                "assistant" if is_result(self.messages.get(at + 1)) => {
                    let call = json!([{"id": id, "type": "function",
                        "function": {"name": "run", "arguments": "{}"}}]);
                    json!({"role": "assistant", "content": content, "tool_calls": call})
                }
                role => json!({"role": role, "content": content}),
            });
        }
        Transcript { id: self.id, messages }
    }
}

/// What a message says.
pub(crate) fn content(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

/// Whether its client waits for an answer behind it.
pub(crate) fn asks(message: &Value) -> bool {
    message["role"] == "user" || message["role"] == "tool"
}
