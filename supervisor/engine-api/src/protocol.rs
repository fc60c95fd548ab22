//! The messages between a supervisor and one engine worker.
//!
//! ```text
//! worker                          supervisor
//!   ◄────────────── a connection ────      (see `handover`)
//!   ── Hello{version} ───────────────►
//!   ◄─────────────────────── Backends ──   (or not)
//!   ── Backends{built_in} ───────────►
//!   ◄────────────────── Load{engine} ──
//!   ── Loading{fraction} … ──────────►     (any number)
//!   ── Ready{…} | LoadFailed{…} ─────►
//!   ◄──────────────── Prepare{prompt} ──   prompt → token ids
//!   ── Prepared | Unprepared ────────►
//!   ◄────────────── Generate{tokens} ──
//!   ── Started, Tokens …, Done|Failed ►
//!   ◄───────────────── Embed{inputs} ──   of an embedder, in place of `Generate`
//!   ── Embedded|Unembedded|Failed ───►
//!   ◄───────────────── Forget{asker} ──   prefixes that were kept for a client
//!   ── Heartbeat ────────────────────►     every [`HEARTBEAT_PERIOD`] with requests,
//!                                          every [`IDLE_HEARTBEAT_PERIOD`] without
//! ```
//!
//! All this is said on one connection. When it ends, its requests are forgotten,
//! and the worker waits for the next one, on which it begins with `Hello` again
//! and answers `Load` at once if that engine is loaded already. Every request
//! that was started gets exactly one `Done` or `Failed` on its connection, also
//! after `Cancel`; every `Embed` exactly one `Embedded`, `Unembedded` or `Failed`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::embedding::{Embed, Vector};
use crate::form::{CallSyntax, Form, Grammar, Tools};
use crate::manifest::BackendKind;

/// Version of everything in this module. A worker that says another number is
/// not spoken to.
pub const PROTOCOL_VERSION: u32 = 7;

/// How often a worker that has requests says how far it has come.
pub const HEARTBEAT_PERIOD: Duration = Duration::from_millis(250);

/// How often a worker without requests says that it lives. Its death shows as
/// end of file at once; this only tells a hang, which then costs nobody.
pub const IDLE_HEARTBEAT_PERIOD: Duration = Duration::from_secs(15);

/// Most entries of the vocabulary whose log-probability a request may ask for
/// beside each token (OpenAI's bound).
pub const MAX_TOP_LOGPROBS: u8 = 20;

/// One entry of the model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub u32);

/// A request, unique for the life of a supervisor; chosen by the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Whom a request is for: the same number for all requests of one client, which tells
/// nobody who that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asker(pub u64);

/// What a supervisor says to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Load this engine. Sent once on a connection, after `Hello`. A worker that
    /// has another one, or the same with other threads, answers `LoadFailed`.
    Load(Load),
    /// Turn a prompt into token ids, and look whether its answer can have the
    /// form of `grammar`. Answered out of turn, also during a step.
    Prepare { id: RequestId, prompt: Prompt, grammar: Option<Grammar> },
    /// Start a request.
    Generate(Box<Generate>),
    /// Forget a request; it ends with `Done{reason: Cancelled}` within one step.
    Cancel { id: RequestId },
    /// New limits, honoured from the next step on; nobody is dropped.
    Limits(Limits),
    /// Finish what is running, take nothing new, then exit with status 0.
    Drain,
    /// Say which backends this worker was built with. Answered at any time, before
    /// `Load` as well: who builds an engine asks first whether it can be run.
    Backends,
    /// Make vectors of texts. An engine that makes none answers `Failed`.
    Embed(Box<Embed>),
    /// Keep no prefix of what was computed for this client: those that are kept go now, and
    /// those of its requests that were started before as soon as they end.
    Forget { asker: Asker },
}

/// What a worker says to its supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first frame of a connection. It stands the same in every version, so
    /// that each can say that it does not understand the other.
    Hello { protocol: u32, pid: u32 },
    /// Share of the load that is done, 0 to 1.
    Loading { fraction: f32 },
    /// The engine cannot be loaded; the worker exits after this.
    LoadFailed { reason: String },
    /// The engine takes requests.
    Ready(Box<Ready>),
    /// Answer to `Prepare`.
    Prepared { id: RequestId, tokens: Vec<TokenId>, form: Box<Form> },
    /// `Prepare` failed; nobody else is concerned.
    Unprepared { id: RequestId, problem: PromptProblem },
    /// The request has its place in the batch; prefill begins.
    Started { id: RequestId, prompt_tokens: u32, cached_tokens: Option<u32> },
    /// Newly generated tokens. `text` ends at a UTF-8 and stop-string boundary,
    /// so it may be empty and may belong to earlier tokens.
    Tokens { id: RequestId, tokens: Vec<Token>, text: String },
    /// The request ended well. `rest` is text that was held back until now; it
    /// stands here and not in a `Tokens` before, so that a worker that dies
    /// between two frames has either said it and ended, or neither.
    Done { id: RequestId, reason: FinishReason, rest: String, usage: Usage, timings: Timings },
    /// The request alone failed.
    Failed { id: RequestId, reason: String },
    /// Sign of life and of progress.
    Heartbeat(Box<Heartbeat>),
    /// Answer to `Backends`.
    Backends { built_in: Vec<BackendKind> },
    /// Answer to `Embed`: one vector for each input, in their order.
    Embedded { id: RequestId, vectors: Vec<Vector> },
    /// The input at this index cannot be used, and so none of them was.
    Unembedded { id: RequestId, input: u32, problem: PromptProblem },
}

/// Which engine to load and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Directory with `engine.toml` in it.
    pub engine_dir: PathBuf,
    /// Limits that hold from the first step on.
    pub limits: Limits,
    /// Compute threads at most; the worker uses fewer while other processes
    /// need the cores. `None`: one for each core.
    pub threads: Option<u16>,
    /// Compute every answer as if it were alone, so that it can be taken up
    /// again exactly.
    pub reproducible: bool,
}

/// What the board can bear now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests decoded at once; further ones wait in the worker.
    pub max_sequences: u16,
    /// Prompt tokens computed between two decode steps while answers are
    /// running. It bounds the gap between tokens that a long prompt can cause.
    pub max_batch_tokens: u16,
    /// Least time from the start of one decode step to the next, in
    /// microseconds; 0 for none. Lowers heat without dropping anyone. What it
    /// means for longer steps is in [`crate::pace`].
    pub pace_us: u32,
}

/// A prompt as a client gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Prompt {
    /// Chat messages, to be put through the model's chat template.
    Chat {
        messages: Vec<Message>,
        /// The template renders them, or a system message of ours does.
        tools: Option<Tools>,
    },
    /// Plain text. `special`: text such as `<|im_start|>` means the special token.
    Text { text: String, special: bool },
    /// Fill in the middle, with the model's own tokens for it.
    Infill { prefix: String, suffix: String },
    /// Token ids, checked against the vocabulary.
    Tokens(Vec<TokenId>),
}

/// One chat message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
    /// OpenAI `tool_calls` as a JSON array, for the template.
    pub tool_calls_json: Option<String>,
    /// Which tool call a `Role::Tool` message answers, and by what name.
    pub tool_call_id: Option<String>,
    pub name: Option<String>,
}

/// Who speaks. OpenAI's `developer` is `System`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// Why a prompt could not be turned into tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PromptProblem {
    /// Certainly longer than the window; counted exactly only where that is cheap.
    #[error("the prompt has {} {tokens} tokens, the window has {context}", if *at_least { "at least" } else { "exactly" })]
    TooLong { tokens: u32, at_least: bool, context: u32 },
    /// The model's template refused the messages, with its own words.
    #[error("the model's chat template refused the messages: {0}")]
    Template(String),
    #[error("this model has no chat template; use /v1/completions")]
    NoTemplate,
    #[error("this model cannot fill in the middle")]
    NoInfill,
    #[error("the prompt is empty")]
    Empty,
    /// The grammar is wrong, too complex, or beyond what can be enforced.
    #[error("the answer's form cannot be enforced: {0}")]
    Grammar(String),
    /// The same of a grammar that was made of the tools.
    #[error("the tools cannot be used: {0}")]
    Tools(String),
    #[error("token id {id} is not in the vocabulary of {vocabulary}")]
    UnknownToken { id: u32, vocabulary: u32 },
}

/// One request for an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    pub id: RequestId,
    pub asker: Asker,
    /// The whole prompt.
    pub prompt: Vec<TokenId>,
    /// Tokens that this request generated in an earlier life. They are part of
    /// the context and of the text state (stops, UTF-8), and are not sent again.
    /// If they already complete the answer, `Done` is all that comes.
    pub generated: Vec<TokenId>,
    /// Tokens to generate at most, those in `generated` included.
    pub max_tokens: u32,
    pub sampling: Sampling,
    /// Generation ends before any of these.
    pub stops: Vec<String>,
    /// What the answer must fit, as [`FromWorker::Prepared`] said it.
    pub grammar: Option<Grammar>,
    /// The opening of calls is text, also where it is a control token.
    pub calls: Option<CallSyntax>,
    pub priority: Priority,
    /// Whether finished work may serve as a prefix here.
    pub reuse_prefix: bool,
}

/// Which request goes first when not all can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// Nobody waits for it at a keyboard.
    Bulk,
    /// A person reads along.
    Interactive,
    /// An editor completion, useless after a second.
    Completion,
}

/// How the next token is chosen. The draw depends on `seed` and the position
/// of the token alone. A value of 0 (or 1 for `top_p` and `repeat_penalty`)
/// switches that filter off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    /// How many tokens back the penalties look; they never see the prompt's
    /// tokens further back than this.
    pub repeat_last_n: u32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub seed: u64,
    /// Added to a token's logit; `f32::NEG_INFINITY` forbids it.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Report log-probabilities: of the chosen token and of this many others.
    pub logprobs: Option<u8>,
    /// Go on after the model's end-of-answer token, which is then never chosen.
    pub ignore_eos: bool,
}

impl Default for Sampling {
    /// llama.cpp's defaults.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: None,
            ignore_eos: false,
        }
    }
}

impl Sampling {
    /// Whether tokens are penalised for having come before.
    #[must_use]
    pub fn penalises(&self) -> bool {
        self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// What some runtimes cannot do of what a request may ask for. They refuse it;
/// [`crate::manifest::BackendKind::lacks`] says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    MinP,
    /// A `top_k` above [`crate::manifest::MOST_CANDIDATES`].
    TopK,
    /// Any bias but one that forbids a token.
    LogitBias,
    Logprobs,
    /// Penalties that look back less far than the whole window.
    RepeatLastN,
    /// `reuse_prefix: false`.
    FreshPrompt,
    /// Answers that must fit a [`Grammar`], calls of tools that must be made among
    /// them.
    Grammar,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    /// Present if the request asked for log-probabilities.
    pub logprobs: Option<Box<TokenLogprobs>>,
}

/// Log-probabilities of a token and of its nearest rivals, over the whole
/// vocabulary, before any filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprobs {
    pub chosen: Logprob,
    /// Most likely first.
    pub top: Vec<Logprob>,
}

/// One vocabulary entry with its natural log-probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logprob {
    pub id: TokenId,
    pub logprob: f32,
    /// The token's bytes, which need not be valid UTF-8 by themselves.
    pub bytes: Vec<u8>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model's end token, or one of the request's stop strings, which is named.
    Stop {
        matched: Option<String>,
    },
    /// `max_tokens`, or the end of the window.
    Length,
    Cancelled,
}

/// What a request used, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Prompt tokens that were not computed again; `None` where the runtime does
    /// not tell it for one request.
    pub cached_tokens: Option<u32>,
    pub completion_tokens: u32,
}

/// Where a request's time went inside the worker, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// From arrival in the worker until its prefill began.
    pub queued_us: u64,
    pub prefill_us: u64,
    pub decode_us: u64,
}

/// What a loaded engine is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Tokens in one request's window, prompt and answer together.
    pub context: u32,
    pub vocabulary: u32,
    /// Sequences that can be decoded at once.
    pub max_sequences: u16,
    /// For example `llama_cpp` or `echo`.
    pub backend: String,
    /// What it computes on, in words, for example `CPU x86-64-v3, 2 threads`.
    pub device: String,
    pub model: ModelFacts,
    pub load_ms: u64,
    /// Tokens that it computes in one step at most.
    pub largest_step: u32,
    /// Whether an answer depends on its prompt and settings alone, and not on
    /// what is computed beside it or how its tokens came to be computed.
    pub reproducible: bool,
    pub chat: bool,
    pub infill: bool,
    /// The chat template's source, for clients that ask; empty if there is none.
    pub chat_template: String,
}

/// What the model file says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    pub name: String,
    pub architecture: String,
    pub parameters: u64,
    pub weights_bytes: u64,
    pub quantisation: String,
    /// Window the model was trained with, in tokens.
    pub trained_context: u32,
}

/// Sign of life and of progress. Counters only ever grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Decode steps plus prefill chunks.
    pub steps: u64,
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    /// Prompt tokens taken from the prefix cache.
    pub cached_tokens: u64,
    /// Requests being decoded, being prefilled, and waiting.
    pub decoding: u32,
    pub prefilling: u32,
    pub waiting: u32,
    /// Time of the last decode step and of the slowest since the last heartbeat.
    pub step_us: u64,
    pub worst_step_us: u64,
    /// Compute threads in use.
    pub threads: u16,
    pub kv: KvUse,
    pub device_memory: Option<DeviceMemory>,
}

/// The KV cache's size and use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvUse {
    /// Tokens of running requests.
    pub active_tokens: u64,
    /// Tokens kept as reusable prefixes; `None` where the runtime does not tell
    /// them apart from room.
    pub cached_tokens: Option<u64>,
    /// Tokens that fit.
    pub capacity_tokens: u64,
    /// Bytes that the whole cache takes.
    pub bytes: u64,
}

/// Memory of a discrete or unified GPU as its driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMemory {
    pub free_bytes: u64,
    pub total_bytes: u64,
}
