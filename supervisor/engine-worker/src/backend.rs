//! What a model runtime must be able to do to be served.
//!
//! There are three kinds. A [`Backend`] computes step by step what it is told to and
//! gives logits; [`crate::batch`] decides what a step is and which token comes
//! next. An [`Executor`] takes whole requests, batches, samples and keeps its KV
//! cache by itself, and gives tokens; [`crate::queue`] decides what it gets. An
//! [`Embedder`] makes a vector of a text; [`crate::vectors`] asks it for one after
//! the other.
//!
//! A backend holds a fixed number of *slots*. A slot is one sequence's place in
//! the KV cache; what stands in it is known to [`crate::slots`], not here. All
//! calls come from one thread. The [`Vocabulary`] is shared with the thread
//! that prepares prompts.

pub mod echo;
pub mod embedder;
pub mod executor;
mod gpus;
pub mod llama_cpp;
pub mod rten;
#[cfg(feature = "tensorrt-llm")]
pub mod tensorrt_llm;

use std::path::Path;
use std::sync::Arc;

use engine_api::manifest::{BackendKind, Manifest};
use engine_api::protocol::{DeviceMemory, ModelFacts, TokenId};

pub use self::embedder::Embedder;
pub use self::executor::Executor;

/// The backends that this build has.
pub const BUILT_IN: &[BackendKind] = &[
    BackendKind::LlamaCpp,
    #[cfg(feature = "tensorrt-llm")]
    BackendKind::TensorrtLlm,
    BackendKind::Rten,
    BackendKind::Echo,
];

/// One sequence's place in the KV cache, counted from 0.
pub type Slot = usize;

/// A token to be decoded: the slot it continues and its position there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextToken {
    pub slot: Slot,
    pub token: TokenId,
    pub position: u32,
}

/// Prompt tokens to be computed into one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    pub slot: Slot,
    pub tokens: &'a [TokenId],
    /// Position of the first of them.
    pub from: u32,
    /// Whether logits are wanted after the last of them.
    pub logits: bool,
}

/// Why a step failed. The KV cache of the slots involved is then undefined.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {cause}")]
pub struct StepError {
    pub doing: &'static str,
    pub cause: String,
}

/// A loaded model.
pub trait Backend {
    /// What it is and what it computes on.
    fn description(&self) -> Description;

    /// Computes one token for each entry, in ascending order of slots.
    ///
    /// # Errors
    /// The runtime's own; every sequence in `batch` is lost.
    fn decode(&mut self, batch: &[NextToken]) -> Result<(), StepError>;

    /// Logits after the `row`-th entry of the last [`Backend::decode`], or after
    /// the `row`-th chunk that asked for them in the last [`Backend::prefill`].
    /// One for each vocabulary entry.
    fn logits(&self, row: usize) -> &[f32];

    /// Computes prompt tokens, in ascending order of slots.
    ///
    /// # Errors
    /// The runtime's own; every sequence in `chunks` is lost.
    fn prefill(&mut self, chunks: &[Chunk<'_>]) -> Result<(), StepError>;

    /// Forgets everything in `slot` from position `length` on.
    fn truncate(&mut self, slot: Slot, length: u32);

    /// Makes `to` hold what `from` holds.
    ///
    /// # Errors
    /// The runtime's own; `to` is then empty.
    fn copy(&mut self, from: Slot, to: Slot) -> Result<(), StepError>;

    /// Exchanges what two slots hold.
    ///
    /// # Errors
    /// The runtime's own; both sequences are lost.
    fn swap(&mut self, a: Slot, b: Slot) -> Result<(), StepError>;

    /// Whether to compute with all threads or with one, because other
    /// processes need the cores and would hold up the whole team.
    fn share_cores(&mut self, alone: bool);

    /// Memory of the device it computes on, where there is such a thing.
    fn device_memory(&self) -> Option<DeviceMemory>;
}

/// What a backend says of itself.
#[derive(Debug, Clone)]
pub struct Description {
    pub backend: &'static str,
    pub device: String,
    pub model: ModelFacts,
    pub slots: usize,
    /// Tokens that one slot can hold.
    pub context: u32,
    pub kv_bytes: u64,
    pub threads: u16,
    /// Tokens that are worth computing at once, where nobody waits for a step.
    pub largest_step: u32,
    /// See [`engine_api::protocol::Ready`].
    pub reproducible: bool,
}

/// How a model is to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Compute threads at most.
    pub threads: u16,
    /// Whether answers shall depend on nothing but their requests, where the
    /// backend can do that.
    pub reproducible: bool,
}

/// The model's tokens, as text and back.
pub trait Vocabulary: Send + Sync {
    fn size(&self) -> u32;

    /// Tokens of `text`. With `special`, text such as `<|im_start|>` is the
    /// special token. Adds nothing at the beginning.
    fn tokenize(&self, text: &str, special: bool) -> Vec<TokenId>;

    /// Appends the bytes that `token` stands for; none for control tokens.
    fn append_bytes(&self, token: TokenId, out: &mut Vec<u8>);

    /// The tokens that end an answer.
    fn ends(&self) -> &[TokenId];

    /// The token that the model wants before every text, if any.
    fn beginning(&self) -> Option<TokenId>;

    /// Upper bound of the bytes that one token stands for.
    fn longest_token(&self) -> usize;

    /// The chat template's Jinja source.
    fn chat_template(&self) -> Option<String>;

    /// Text of the tokens that templates call `bos_token` and `eos_token`.
    fn template_tokens(&self) -> TemplateTokens;

    /// Tokens that surround prefix, suffix and middle, if the model has them.
    fn infill(&self) -> Option<InfillTokens>;
}

/// Special tokens as chat templates write them.
#[derive(Debug, Clone, Default)]
pub struct TemplateTokens {
    pub bos: String,
    pub eos: String,
}

/// The model's fill-in-the-middle tokens.
#[derive(Debug, Clone, Copy)]
pub struct InfillTokens {
    pub prefix: TokenId,
    pub suffix: TokenId,
    pub middle: TokenId,
}

/// A backend and the vocabulary that belongs to it.
pub type Loaded = (Box<dyn Backend>, Arc<dyn Vocabulary>);

/// A loaded model of one of the three kinds.
pub enum Runtime {
    Steps(Box<dyn Backend>),
    Requests(Box<dyn Executor>),
    Vectors(Box<dyn Embedder>),
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Runtime").field(&self.description()).finish()
    }
}

impl Runtime {
    #[must_use]
    pub fn description(&self) -> Description {
        match self {
            Self::Steps(backend) => backend.description(),
            Self::Requests(executor) => executor.description(),
            Self::Vectors(embedder) => embedder.description(),
        }
    }
}

/// Loads the engine that `manifest` describes, found in `dir`. `progress` is
/// told the share that is done.
///
/// # Errors
/// One line that names what is wrong with which file.
pub fn load(
    manifest: &Manifest,
    dir: &Path,
    wishes: Wishes,
    progress: impl FnMut(f32) + 'static,
) -> Result<(Runtime, Arc<dyn Vocabulary>), anyhow::Error> {
    let (backend, vocabulary) = match manifest.backend.kind {
        BackendKind::LlamaCpp => return llama_cpp::load(manifest, dir, wishes, progress),
        BackendKind::Echo => echo::load(manifest, progress),
        BackendKind::Rten => return rten::load(manifest, dir, wishes, progress),
        #[cfg(feature = "tensorrt-llm")]
        BackendKind::TensorrtLlm => return tensorrt_llm::load(manifest, dir),
        #[cfg(not(feature = "tensorrt-llm"))]
        BackendKind::TensorrtLlm => anyhow::bail!(
            "this engine-worker was built without TensorRT-LLM; the README says how to build one \
             that has it"
        ),
    };
    Ok((Runtime::Steps(backend), vocabulary))
}
