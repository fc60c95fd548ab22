//! What the HTTP side and the engine side say to each other about one request.
//!
//! ```text
//!  api ── Handle::prepare(prompt) ──► Prepared{tokens, form} | Refusal
//!  api ── Handle::submit(Request) ──► Answer                | Refusal
//!  api ◄── Answer::next() ─────────── Queued … Started … Text … Done | Failed
//! ```
//!
//! Tokens travel from the engine's connection straight into [`Answer`]; the
//! main loop sees only that a request began and ended. Dropping an [`Answer`]
//! cancels its request in the engine.

use std::fmt;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use engine_api::form::{CallSyntax, Form, Grammar};
use engine_api::protocol::{
    Asker, FinishReason, Priority, PromptProblem, RequestId, Sampling, Timings, Token, TokenId,
    Usage,
};

use crate::hexadecimal::Hexadecimal;
use crate::keys::{Hash, KeyName};

/// Whose turn it is: an API key if the client sent one, else its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// A digest of the key, never the key.
    Key(KeyDigest),
    /// A key that the operator has given a name, which stands for it wherever it is
    /// shown or logged.
    Named {
        name: KeyName,
        digest: KeyDigest,
    },
    Address(IpAddr),
}

impl Client {
    /// As the engine tells clients apart: a key is the same with a name or without.
    #[must_use]
    pub fn asker(&self) -> Asker {
        let digest = match self {
            Self::Key(KeyDigest(digest)) | Self::Named { digest: KeyDigest(digest), .. } => *digest,
            Self::Address(address) => Hash::of(&address.to_string()).beginning(),
        };
        Asker(u64::from_le_bytes(digest))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Named { name, .. } => name.fmt(f),
            Self::Key(KeyDigest(digest)) => {
                write!(f, "key {}", Hexadecimal(&digest[..4]))
            }
        }
    }
}

/// First eight bytes of the SHA-256 of an API key: enough to tell keys apart,
/// useless for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 8]);

/// A prompt that the engine has turned into tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    pub tokens: Vec<TokenId>,
    /// The form that its answer has.
    pub form: Form,
    /// The window, prompt and answer together, in tokens.
    pub context: u32,
}

/// One answer to be generated. A client's `n > 1` is several of these.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub client: Client,
    /// The route, for the request's row: `/v1/chat/completions`.
    pub endpoint: &'static str,
    pub prompt: Vec<TokenId>,
    /// Tokens that this answer has already; it goes on after them.
    pub generated: Vec<TokenId>,
    /// Already bounded to what the window leaves.
    pub max_tokens: u32,
    pub sampling: Sampling,
    pub stops: Vec<String>,
    /// What the answer must fit.
    pub grammar: Option<Grammar>,
    /// How calls of tools stand in it, if there may be any.
    pub calls: Option<CallSyntax>,
    pub priority: Priority,
    pub reuse_prefix: bool,
}

/// What happens to an answer, in this order: `Queued` any number of times,
/// `Started`, `Text` any number of times, then one `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Requests that go first.
    Queued {
        ahead: usize,
    },
    Started {
        prompt_tokens: u32,
        cached_tokens: Option<u32>,
    },
    /// New tokens and the text they complete; either may be empty.
    Text {
        text: String,
        tokens: Vec<Token>,
    },
    Done {
        reason: FinishReason,
        usage: Usage,
        timings: Timings,
    },
    Failed(Failure),
}

/// Why an answer that had been accepted ended without being finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For the client: what happened and what to do.
    pub message: String,
    /// The incident's row, if there is one.
    pub incident: Option<i64>,
    pub fault: Fault,
}

/// What an answer failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The engine, or what it was given to do. It may be asked again.
    Engine,
    /// The request itself: it stops the engine, and must not be taken up again.
    Request,
    /// The end of the server. Another may give the rest.
    End,
}

/// Why a request was not accepted. Each names what the client can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{queued} requests are waiting already; try again in {} s", retry_after.as_secs())]
    QueueFull { queued: usize, retry_after: Duration },
    #[error(transparent)]
    Prompt(#[from] PromptProblem),
    /// No engine answers and none will soon.
    #[error("no engine can answer now: {reason}")]
    Unavailable { reason: String, retry_after: Duration },
    #[error("shutting down; try again in a few seconds")]
    Draining,
}

/// Why texts got no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoVectors {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The one at this index cannot be used.
    #[error("input {index}: {problem}")]
    Input { index: usize, problem: PromptProblem },
    #[error("the embedder failed: {0}")]
    Failed(String),
}

impl NoVectors {
    /// The same, where so many inputs had gone before.
    #[must_use]
    pub fn after(self, earlier: usize) -> Self {
        match self {
            Self::Input { index, problem } => {
                Self::Input { index: index.saturating_add(earlier), problem }
            }
            same => same,
        }
    }
}

/// A request that was accepted.
#[derive(Debug)]
pub struct Answer {
    pub id: RequestId,
    events: tokio::sync::mpsc::Receiver<Event>,
    /// Dropped with the answer; the engine side sees it and cancels.
    _cancel: tokio::sync::oneshot::Sender<()>,
}

impl Answer {
    /// An answer and the engine side's ends of it: where events go in, and what
    /// resolves when the client is gone. `capacity` is the most events that the
    /// request can cause, so that a slow client never holds up the others.
    #[must_use]
    pub fn channel(
        id: RequestId,
        capacity: usize,
    ) -> (Self, tokio::sync::mpsc::Sender<Event>, tokio::sync::oneshot::Receiver<()>) {
        let (sender, events) = tokio::sync::mpsc::channel(capacity);
        let (_cancel, cancelled) = tokio::sync::oneshot::channel();
        (Self { id, events, _cancel }, sender, cancelled)
    }

    /// The next event; `None` after `Done` or `Failed`, or if the engine side
    /// vanished, which only happens while the process ends.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// [`Answer::next`] for a body that is polled by the HTTP server.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }
}
