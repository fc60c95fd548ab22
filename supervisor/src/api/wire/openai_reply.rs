//! What the OpenAI routes answer with, whole or in chunks.

use engine_api::protocol::{FinishReason, Token, Usage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::llama_server::TimingsReply;
use super::logprobs;
use crate::api::calls::{CallNews, call_id};
use crate::api::job::Told;
use crate::api::tally::Tally;

/// What every document of one answer repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    id: String,
    /// Seconds since 1970.
    created: u64,
    model: String,
}

impl Stamp {
    /// A fresh id, beginning with `prefix`. Nobody can guess it, because it is
    /// half of what it takes to have the answer again.
    pub(crate) fn new(prefix: &str, created: u64, model: &str) -> Self {
        let mut drawn = [0; 16];
        getrandom::fill(&mut drawn).expect("the kernel gives random numbers once it has started");
        let id = format!("{prefix}-{:032x}", u128::from_ne_bytes(drawn));
        Self { id, created, model: model.to_owned() }
    }

    /// The id that the answer is known by.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    #[cfg(test)]
    pub(crate) fn fixed() -> Self {
        Self { id: "id-1".to_owned(), created: 1_700_000_000, model: "m".to_owned() }
    }
}

/// A whole answer or one chunk of a stream; `C` is its list of choices.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageReply<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<TimingsReply>,
    /// Where there is no usage in which it could stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    stoker: Option<&'a RawValue>,
}

impl<'a, C> Document<'a, C> {
    pub(crate) fn new(stamp: &'a Stamp, object: &'static str, choices: C) -> Self {
        Self {
            id: &stamp.id,
            object,
            created: stamp.created,
            model: &stamp.model,
            choices,
            usage: None,
            timings: None,
            stoker: None,
        }
    }

    pub(crate) fn with_usage(self, tally: &Tally) -> Self {
        Self { usage: Some(tally.usage.into()), ..self }
    }

    /// Says what was done with the chat, in its usage if it has one.
    pub(crate) fn with_receipt(mut self, receipt: Option<&'a Told>) -> Self {
        let receipt = receipt.and_then(|told| serde_json::from_str(&told.json).ok());
        match &mut self.usage {
            Some(usage) => usage.stoker = receipt,
            None => self.stoker = receipt,
        }
        self
    }

    pub(crate) fn with_timings(self, tally: &Tally) -> Self {
        let timings = tally.timings.map(|(usage, timings)| TimingsReply::new(usage, timings));
        Self { timings, ..self }
    }
}

/// One choice of a chat chunk.
#[derive(Debug, Serialize)]
pub(crate) struct ChatDelta<'a> {
    pub(crate) index: usize,
    pub(crate) delta: Delta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logprobs: Option<logprobs::Chat<'a>>,
    pub(crate) finish_reason: Option<&'static str>,
}

/// What a chunk adds to a chat message.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall<'a>>,
}

/// One call of a tool, whole or what a chunk adds to it. What comes first has id
/// and name.
#[derive(Debug, Serialize)]
pub(crate) struct ToolCall<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionCall<'a>,
}

#[derive(Debug, Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// What is new of calls in the `choice` of an answer.
pub(crate) fn call_deltas<'a>(
    calls: &'a [CallNews],
    answer: &str,
    choice: usize,
) -> Vec<ToolCall<'a>> {
    let call = |news: &'a CallNews| {
        let name = news.name.as_deref();
        let function = FunctionCall { name, arguments: &news.arguments };
        let id = name.map(|_| call_id(answer, choice, news.index));
        ToolCall { index: news.index, id, kind: name.map(|_| "function"), function }
    };
    calls.iter().map(call).collect()
}

/// One choice of a whole chat answer.
#[derive(Debug, Serialize)]
pub(crate) struct ChatChoice<'a> {
    pub(crate) index: usize,
    pub(crate) message: ChatMessage<'a>,
    pub(crate) logprobs: Option<logprobs::Chat<'a>>,
    pub(crate) finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct ChatMessage<'a> {
    pub(crate) role: &'static str,
    /// `None` if it calls tools and says nothing.
    pub(crate) content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall<'a>>,
}

/// One choice of a plain completion, whole or of a chunk.
#[derive(Debug, Serialize)]
pub(crate) struct TextChoice<'a> {
    pub(crate) index: usize,
    pub(crate) text: &'a str,
    pub(crate) logprobs: Option<logprobs::Completion<'a>>,
    pub(crate) finish_reason: Option<&'static str>,
}

impl<'a> ChatDelta<'a> {
    pub(crate) fn text(index: usize, text: &'a str, tokens: Option<&'a [Token]>) -> Self {
        let delta = Delta { content: Some(text), ..Delta::default() };
        let logprobs = tokens.map(logprobs::Chat::new);
        Self { index, delta, logprobs, finish_reason: None }
    }
}

/// OpenAI's word for the end of an answer, which may have called tools.
pub(crate) fn finish_reason(reason: &FinishReason, called: bool) -> &'static str {
    match reason {
        FinishReason::Stop { .. } if called => "tool_calls",
        FinishReason::Stop { .. } => "stop",
        // A cancelled answer is never written as finished; see the stream.
        FinishReason::Length | FinishReason::Cancelled => "length",
    }
}

#[derive(Debug, Serialize)]
struct UsageReply<'a> {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    /// Left out where the engine does not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptTokensDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stoker: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u32,
}

impl From<Usage> for UsageReply<'_> {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: cached_tokens
                .map(|cached_tokens| PromptTokensDetails { cached_tokens }),
            stoker: None,
        }
    }
}

/// `GET /v1/models`.
#[derive(Debug, Serialize)]
pub(crate) struct Models<'a> {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<Model<'a>>,
}

/// One name of the serving model.
#[derive(Debug, Serialize)]
pub(crate) struct Model<'a> {
    pub(crate) id: &'a str,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) owned_by: &'static str,
    /// The window in tokens, as vLLM says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_model_len: Option<u32>,
    /// The same and more, as llama-server says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<ModelMeta>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ModelMeta {
    pub(crate) n_ctx: u32,
    pub(crate) n_ctx_train: u32,
    pub(crate) n_vocab: u32,
    pub(crate) n_params: u64,
    pub(crate) size: u64,
}
