//! What the Ollama routes answer with, whole or in lines.

use std::time::{Duration, SystemTime};

use engine_api::protocol::{FinishReason, Timings, Token, Usage};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::logprobs::Entries;
use crate::api::calls::call_id;
use crate::api::job::Told;

/// Version that Ollama's clients compare with what they need. It names the
/// generation of the API that is spoken here, not this program.
pub(crate) const API_VERSION: &str = "0.33.0";

/// One line of a stream, or the whole answer; `B` is what was said.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a, B> {
    model: &'a str,
    #[serde(serialize_with = "rfc3339")]
    created_at: SystemTime,
    #[serde(flatten)]
    body: B,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Entries<'a>>,
    done: bool,
    #[serde(flatten)]
    end: Option<End>,
    /// What was done with the chat, in the last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    stoker: Option<&'a RawValue>,
}

/// What `/api/chat` said.
#[derive(Debug, Serialize)]
pub(crate) struct Chat<'a> {
    message: Message<'a>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

/// One call of a tool.
#[derive(Debug, Serialize)]
pub(crate) struct ToolCall {
    id: String,
    function: Function,
}

#[derive(Debug, Serialize)]
struct Function {
    index: usize,
    name: String,
    /// An object, with its own text.
    arguments: Box<RawValue>,
}

impl ToolCall {
    /// Arguments that are no object are none.
    pub(crate) fn new(answer: &str, index: usize, name: String, arguments: String) -> Self {
        let object = Some(arguments).filter(|text| text.trim_start().starts_with('{'));
        let arguments = object.and_then(|text| RawValue::from_string(text).ok());
        let arguments = arguments.unwrap_or_else(|| {
            RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
        });
        Self { id: call_id(answer, 0, index), function: Function { index, name, arguments } }
    }
}

/// What `/api/generate` said.
#[derive(Debug, Serialize)]
pub(crate) struct Generated<'a> {
    response: &'a str,
}

/// What the last line adds. Durations are in nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct End {
    done_reason: &'static str,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u32,
    prompt_eval_duration: u64,
    eval_count: u32,
    eval_duration: u64,
}

impl<'a> Chat<'a> {
    pub(crate) fn new(content: &'a str) -> Self {
        Self { message: Message { role: "assistant", content, tool_calls: Vec::new() } }
    }

    pub(crate) fn with_calls(mut self, tool_calls: Vec<ToolCall>) -> Self {
        self.message.tool_calls = tool_calls;
        self
    }
}

impl<'a> Generated<'a> {
    pub(crate) fn new(response: &'a str) -> Self {
        Self { response }
    }
}

impl<'a, B> Line<'a, B> {
    pub(crate) fn more(
        model: &'a str,
        created_at: SystemTime,
        body: B,
        tokens: Option<&'a [Token]>,
    ) -> Self {
        let logprobs = tokens.map(Entries);
        Self { model, created_at, body, logprobs, done: false, end: None, stoker: None }
    }

    pub(crate) fn last(
        model: &'a str,
        created_at: SystemTime,
        body: B,
        tokens: Option<&'a [Token]>,
        end: End,
    ) -> Self {
        let (logprobs, end) = (tokens.map(Entries), Some(end));
        Self { model, created_at, body, logprobs, done: true, end, stoker: None }
    }

    /// Says what was done with the chat.
    pub(crate) fn with_receipt(self, receipt: Option<&'a Told>) -> Self {
        let stoker = receipt.and_then(|told| serde_json::from_str(&told.json).ok());
        Self { stoker, ..self }
    }
}

impl End {
    pub(crate) fn new(
        reason: &FinishReason,
        usage: Usage,
        timings: Timings,
        total: Duration,
    ) -> Self {
        let done_reason = match reason {
            FinishReason::Stop { .. } => "stop",
            FinishReason::Length | FinishReason::Cancelled => "length",
        };
        Self {
            done_reason,
            total_duration: nanos(total),
            // The model was there before the request.
            load_duration: 0,
            prompt_eval_count: usage.prompt_tokens,
            prompt_eval_duration: timings.prefill_us.saturating_mul(1000),
            eval_count: usage.completion_tokens,
            eval_duration: timings.decode_us.saturating_mul(1000),
        }
    }
}

/// The answer to a request that only wanted the model loaded.
#[derive(Debug, Serialize)]
pub(crate) struct Loaded<'a, B> {
    model: &'a str,
    #[serde(serialize_with = "rfc3339")]
    created_at: SystemTime,
    #[serde(flatten)]
    body: B,
    done: bool,
    done_reason: &'static str,
}

impl<'a, B> Loaded<'a, B> {
    pub(crate) fn new(model: &'a str, created_at: SystemTime, body: B) -> Self {
        Self { model, created_at, body, done: true, done_reason: "load" }
    }
}

/// `GET /api/version`.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) version: &'static str,
}

/// `GET /api/tags` and `GET /api/ps`.
#[derive(Debug, Serialize)]
pub(crate) struct List<M> {
    pub(crate) models: Vec<M>,
}

/// One model in `/api/tags`.
#[derive(Debug, Serialize)]
pub(crate) struct Tag<'a> {
    pub(crate) name: &'a str,
    pub(crate) model: &'a str,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) modified_at: SystemTime,
    pub(crate) size: u64,
    pub(crate) digest: &'a str,
    pub(crate) details: &'a Details,
    pub(crate) capabilities: &'a [&'static str],
}

/// One loaded model in `/api/ps`.
#[derive(Debug, Serialize)]
pub(crate) struct Process<'a> {
    pub(crate) name: &'a str,
    pub(crate) model: &'a str,
    pub(crate) size: u64,
    pub(crate) digest: &'a str,
    pub(crate) details: &'a Details,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) expires_at: SystemTime,
    pub(crate) size_vram: u64,
    pub(crate) context_length: u32,
}

/// What kind of model it is, in Ollama's words.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Details {
    pub(crate) parent_model: &'static str,
    pub(crate) format: String,
    pub(crate) family: String,
    pub(crate) families: Vec<String>,
    pub(crate) parameter_size: String,
    pub(crate) quantization_level: String,
}

/// `POST /api/show`.
#[derive(Debug, Serialize)]
pub(crate) struct Show<'a> {
    pub(crate) modelfile: String,
    pub(crate) parameters: String,
    pub(crate) template: &'static str,
    pub(crate) details: &'a Details,
    pub(crate) model_info: serde_json::Map<String, serde_json::Value>,
    pub(crate) capabilities: &'a [&'static str],
    #[serde(serialize_with = "rfc3339")]
    pub(crate) modified_at: SystemTime,
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*time))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
