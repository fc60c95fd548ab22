//! What a session does with requests, whichever kind of runtime computes them.

#[cfg(test)]
pub(crate) mod promises;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_api::embedding::Embed;
use engine_api::protocol::{Asker, FromWorker, Generate, Heartbeat, Limits, RequestId};

use crate::backend::{Runtime, StepError, Vocabulary};
use crate::batch::Batch;
use crate::grammar::{Constraint, GrammarError};
use crate::queue::Queue;
use crate::vectors::Vectors;

/// All requests of one worker and the runtime that computes them.
pub trait Requests {
    /// Takes a request. It starts in one of the next steps.
    fn add(&mut self, request: Generate, now: Instant);

    /// Takes texts whose vectors are wanted.
    fn embed(&mut self, embed: Embed);

    /// Gives a request the constraint that it waits for. Unknown ids are requests
    /// that ended meanwhile.
    fn constrain(&mut self, id: RequestId, constraint: Result<Constraint, GrammarError>);

    /// Ends a request early. Unknown ids are requests that ended by themselves.
    fn cancel(&mut self, id: RequestId);

    /// Keeps no prefix of what was computed for a client.
    fn forget(&mut self, asker: Asker);

    /// Forgets every request without a word.
    fn abandon(&mut self);

    fn set_limits(&mut self, limits: Limits);

    /// Whether other processes need the cores.
    fn share_cores(&mut self, alone: bool);

    /// How long to rest after a step of this length, for the session to keep.
    fn rest(&self, step: Duration) -> Duration;

    /// So long was a step, and the rest after it.
    fn rested(&mut self, step: Duration, rest: Duration);

    fn is_idle(&self) -> bool;

    /// Whether a step would do anything: not if all that is there waits for its
    /// constraint.
    fn has_work(&self) -> bool;

    /// Messages since the last call, in order.
    fn take_messages(&mut self) -> Vec<FromWorker>;

    /// Counters for the heartbeat. Resets the worst step time.
    fn progress(&mut self) -> Heartbeat;

    /// Brings all requests on by a little.
    ///
    /// # Errors
    /// The runtime failed, and not at a single request; the process must end.
    fn step(&mut self) -> Result<(), StepError>;
}

/// The requests of a runtime, none yet.
#[must_use]
pub fn of(
    runtime: Runtime,
    vocabulary: Arc<dyn Vocabulary>,
    built_for: u16,
    context: u32,
    limits: Limits,
) -> Box<dyn Requests> {
    match runtime {
        Runtime::Steps(backend) => {
            Box::new(Batch::new(backend, vocabulary, built_for, context, limits))
        }
        Runtime::Requests(executor) => {
            Box::new(Queue::new(executor, vocabulary, built_for, context, limits))
        }
        Runtime::Vectors(embedder) => {
            Box::new(Vectors::new(embedder, vocabulary.size(), context, limits))
        }
    }
}

/// The answer of an engine that makes no vectors.
#[must_use]
pub fn no_vectors(embed: &Embed) -> FromWorker {
    FromWorker::Failed { id: embed.id, reason: "this engine makes no embeddings".into() }
}
