//! Which backend, quantisation and sizes fit a model on a board: what
//! `engine-builder plan` prints. Pure: model, board, release and wishes in, a
//! plan or the reasons against one out.
//!
//! ```text
//! for each backend, best first         attempt.rs   one try
//!   what speaks against it             backend.rs   board, release and model
//!   for each form of the weights       variant.rs   what can be fetched or made
//!     the sizes that fit               budget.rs    context, users, KV cache
//!       → estimates, command lines     estimate.rs, steps.rs, needs.rs
//! an embedder                          embedder.rs   has one way only
//! ```
//!
//! The first that fits is the plan; what was passed over on the way is in it,
//! with the reason. [`crate::build`] builds llama.cpp engines in its own way,
//! [`crate::foreign`] runs the steps of the others; no plan for a Jetson has run
//! on one yet.

use jetpack::Bytes;
use serde::Serialize;

mod attempt;
mod backend;
mod board;
mod budget;
mod embedder;
mod estimate;
mod needs;
mod refusal;
mod release;
mod show;
mod steps;
mod variant;

pub use backend::{BACKENDS, Backend};
pub use board::{Board, Class, Origin};
pub use budget::{Sizes, budget};
pub use embedder::{EmbedderPlan, embedder, embedder_context, embedder_text};
pub use estimate::{Disk, Speed};
pub use refusal::choose_or_say;
pub use release::{Release, USUAL};
pub use show::text;
pub use steps::{Places, RUNTIMES, Step};

use attempt::Attempt;

use crate::catalogue::{Catalogue, Entry, Form};
use crate::engines::EngineId;

/// What the user asked for beside model and board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    pub backend: Option<Backend>,
    /// Tokens in one request's window.
    pub context: Option<u32>,
    /// Requests answered at once.
    pub users: Option<u16>,
    /// Which of the model's forms is taken.
    pub form: Option<Form>,
}

/// Everything that a plan depends on beside the model.
#[derive(Debug, Clone)]
pub struct Setting {
    pub board: Board,
    /// `None` on a PC.
    pub release: Option<Release>,
    pub wishes: Wishes,
    pub places: Places,
}

/// How one model would be built and served on one board.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoardPlan {
    /// The engine's name.
    pub engine: EngineId,
    pub model: String,
    pub name: String,
    pub licence: String,
    pub board: Board,
    pub release: Option<Release>,
    pub backend: Backend,
    pub version: &'static str,
    pub quantisation: String,
    pub sizes: Sizes,
    pub memory: Memory,
    pub disk: Disk,
    /// Numbers in a vector; `None` for a model that answers.
    pub dimension: Option<u32>,
    /// `None`: the board's memory bandwidth is unknown, or it makes no answers.
    pub speed: Option<Speed>,
    pub why: Vec<String>,
    pub rejected: Vec<Rejected>,
    pub cautions: Vec<String>,
    /// What must be true before the first step.
    pub needs: Vec<String>,
    /// How the worker configures the runtime, where the build does not.
    pub settings: Vec<String>,
    pub steps: Vec<Step>,
}

/// Where a board's memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub total_bytes: Bytes,
    /// What an engine may take; the rest is the system's.
    pub budget_bytes: Bytes,
    pub weights_bytes: Bytes,
    pub kv_bytes: Bytes,
    /// The runtime itself.
    pub working_bytes: Bytes,
    /// The most that a step of the build takes, an estimate.
    pub build_bytes: Option<Bytes>,
}

impl Memory {
    /// What the engine takes while it serves.
    #[must_use]
    pub fn needed(&self) -> Bytes {
        self.weights_bytes + self.kv_bytes + self.working_bytes
    }
}

/// A way that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    pub backend: Backend,
    pub quantisation: Option<String>,
    pub why: String,
    /// Whether more memory, or a smaller wish, would have helped.
    #[serde(skip)]
    pub for_want_of_memory: bool,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The wish cannot be granted anywhere.
    Wish(String),
    /// The release itself is at fault.
    Release(String),
    /// No backend does it here.
    Nowhere(Vec<Rejected>),
}

/// A window shorter than this holds no conversation.
const LEAST_CONTEXT: u32 = 256;

/// The plan for `entry`.
///
/// # Errors
/// [`Refusal`] if there is none.
pub fn choose(entry: &Entry, setting: &Setting) -> Result<BoardPlan, Refusal> {
    possible(entry, setting)?;
    let mut rejected = Vec::new();
    for backend in BACKENDS {
        if setting.wishes.backend.is_some_and(|wanted| wanted != backend) {
            continue;
        }
        match Attempt::new(entry, setting, backend).plan() {
            Ok((plan, passed_over)) => {
                rejected.extend(passed_over);
                return Ok(BoardPlan { rejected, ..plan });
            }
            Err(passed_over) => rejected.extend(passed_over),
        }
    }
    Err(Refusal::Nowhere(rejected))
}

/// Up to `most` models that would have a plan instead, the largest first.
#[must_use]
pub fn alternatives<'a>(
    catalogue: &'a Catalogue,
    instead_of: &Entry,
    setting: &Setting,
    most: usize,
) -> Vec<&'a Entry> {
    let same_use = |entry: &&Entry| {
        entry.id != instead_of.id
            && entry.capabilities.embedding == instead_of.capabilities.embedding
            && choose(entry, setting).is_ok()
    };
    let mut fitting: Vec<&Entry> = catalogue.entries().iter().filter(same_use).collect();
    fitting.sort_by_key(|entry| std::cmp::Reverse(entry.weights.parameters));
    fitting.truncate(most);
    fitting
}

/// What no backend could change.
fn possible(entry: &Entry, setting: &Setting) -> Result<(), Refusal> {
    let trained = entry.weights.trained_context;
    match setting.wishes.context {
        Some(context) if context > trained => {
            return Err(Refusal::Wish(format!(
                "--context {context} is more than the {trained} tokens the model was trained with"
            )));
        }
        Some(context) if context < LEAST_CONTEXT => {
            return Err(Refusal::Wish(format!(
                "--context {context} is less than the {LEAST_CONTEXT} tokens that make a conversation"
            )));
        }
        _ => {}
    }
    if let Some(form) = setting.wishes.form.filter(|form| form.published(entry).is_none()) {
        return Err(Refusal::Wish(crate::plan::no_such_form(entry, form).to_string()));
    }
    match setting.release.as_ref().and_then(Release::fault) {
        Some(fault) => Err(Refusal::Release(fault)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
