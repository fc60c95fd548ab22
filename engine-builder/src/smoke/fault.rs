//! What can be wrong with an engine or its worker, in one sentence each.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use engine_api::frame::FrameError;
use engine_api::protocol::{PROTOCOL_VERSION, PromptProblem};

use crate::child::ChildError;
use crate::interrupt::Interrupted;

/// Why the engine did not prove itself.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    #[error("start the worker")]
    Start(#[from] ChildError),
    #[error("talk to the worker")]
    Socket(#[from] io::Error),
    #[error(
        "it answers otherwise than when it was built; on another kind of processor that can be \
         rounding, else it is damaged: build it again"
    )]
    OtherThanBuilt,
    #[error("the worker speaks protocol {theirs}, this program {PROTOCOL_VERSION}")]
    OtherProtocol { theirs: u32 },
    #[error("the worker's words make no sense")]
    Garbage(#[from] FrameError),
    #[error("the worker said something out of turn while {doing}")]
    OutOfTurn { doing: &'static str },
    #[error("the worker died while {doing} ({status}){last}")]
    Died { doing: &'static str, status: ExitStatus, last: LastWords },
    #[error("the worker made no progress for {} s while {doing} and was ended{last}", limit.as_secs())]
    Hung { doing: &'static str, limit: Duration, last: LastWords },
    #[error("the worker cannot load this model: {reason}{last}")]
    CannotLoad { reason: String, last: LastWords },
    #[error("the worker offers a window of {given} tokens, not of {wanted}")]
    SmallWindow { wanted: u32, given: u32 },
    #[error("the known prompt could not be read")]
    Unprepared(#[source] PromptProblem),
    #[error("the known prompt was not answered: {reason}")]
    Failed { reason: String },
    #[error("the answer to the known prompt has {given} tokens, not {wanted}")]
    Short { wanted: usize, given: usize },
    #[error(
        "the answer to the known prompt begins with the tokens {given:?}, expected were {expected:?}"
    )]
    OtherAnswer { given: Vec<u32>, expected: Vec<u32> },
    #[error(
        "two known texts are {found:.4} near, expected was {expected:.4}: the files are not what \
         they should be, or the runtime computes wrong"
    )]
    OtherDistance { found: f32, expected: f32 },
    #[error("the catalogue promises {what}, the worker does not offer it{}", because(reason.as_deref()))]
    BrokenPromise { what: &'static str, reason: Option<String> },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// The last lines a worker wrote to its standard error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWords(pub Vec<String>);

impl std::fmt::Display for LastWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; its last words: {}", self.0.join(" | "))
    }
}
