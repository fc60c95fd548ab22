//! Work that nobody waits for: one request at a time, while no client has any, and gone
//! as soon as one comes.
//!
//! It never stands in the queue, has no turn and no row, and is in no client's count. The
//! engine is given it at the lowest priority and told to forget it in the same turn in
//! which a client's request comes; that one is handed over right behind. It is not taken
//! up again when a worker dies: whoever wanted it may want it again.

use std::time::Instant;

use engine_api::protocol::{FinishReason, Generate, Priority, RequestId};

use super::{Change, Supervisor, hinders, words};
use crate::engines::Ending;
use crate::engines::connection::{Progress, Route};
use crate::request::{Answer, Request};
use crate::snapshot;

/// Events beside the tokens: `Started`, text that was held back, `Done`, one to spare.
const BESIDE_TOKENS: usize = 4;

/// The request that runs, and what became of those before it.
#[derive(Debug, Default)]
pub(super) struct Idle {
    running: Option<Running>,
    shown: snapshot::Idle,
}

#[derive(Debug)]
struct Running {
    id: RequestId,
    cancelled: Option<Instant>,
}

impl Idle {
    pub(super) fn shown(&self) -> snapshot::Idle {
        snapshot::Idle { running: self.running.is_some(), ..self.shown }
    }

    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// When the one that runs was cancelled, if the worker has not ended it since.
    pub(super) fn cancelled(&self) -> Option<Instant> {
        self.running.as_ref()?.cancelled
    }

    /// The engine has ended a request. Says whether it was this one.
    pub(super) fn finished(&mut self, id: RequestId, ending: &Ending) -> bool {
        let is_this = self.running.take_if(|running| running.id == id).is_some();
        match ending {
            _ if !is_this => {}
            // Whoever has read its end may have let it go already, which is no giving way.
            Ending::Done { reason: FinishReason::Stop { .. } | FinishReason::Length, .. } => {
                self.shown.done += 1;
            }
            Ending::Done { .. } | Ending::Failed { .. } => self.shown.gave_way += 1,
        }
        is_this
    }

    /// The engine is gone, and the request with it.
    pub(super) fn worker_gone(&mut self) {
        if self.running.take().is_some() {
            self.shown.gave_way += 1;
        }
    }
}

impl Supervisor {
    /// Gives the engine a request that nobody waits for; `None` if somebody else has any.
    pub(super) fn begin_idle(&mut self, request: Request, now: Instant) -> Option<Answer> {
        let held = |governor: &snapshot::Governor| hinders(governor.limiting);
        if self.draining.is_some()
            || self.idle.runs()
            || !self.requests.is_empty()
            || self.requests.limit() == 0
            || self.governing.snapshot(now).as_ref().is_some_and(held)
        {
            return None;
        }
        let connection = self.lifecycle.connection()?;
        let id = RequestId(self.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let tokens = usize::try_from(request.max_tokens).unwrap_or(usize::MAX);
        let (answer, events, gone) = Answer::channel(id, tokens.saturating_add(BESIDE_TOKENS));
        let inputs = self.input_sender.clone();
        tokio::spawn(async move {
            // Resolves when the answer is dropped, read to its end or not.
            let _ = gone.await;
            let _ = inputs.send(super::Input::ClientGone(id)).await;
        });
        let generate = Generate {
            id,
            asker: request.client.asker(),
            prompt: request.prompt,
            generated: request.generated,
            max_tokens: request.max_tokens,
            sampling: request.sampling,
            stops: request.stops,
            grammar: request.grammar,
            calls: request.calls,
            priority: Priority::Bulk,
            reuse_prefix: request.reuse_prefix,
        };
        let route = Route::new(events, Progress::default(), generate.prompt.len());
        self.idle.running = Some(Running { id, cancelled: None });
        if connection.generate(generate, route).is_err() {
            self.give_up_on_worker(words::NOT_READING);
        }
        self.change(Change::Small);
        Some(answer)
    }

    /// Somebody comes who waits for an answer.
    pub(super) fn give_way(&mut self, now: Instant) {
        if let Some(running) = &self.idle.running {
            self.cancel_idle(running.id, now);
        }
    }

    /// Whoever wanted this request does not any more.
    pub(super) fn cancel_idle(&mut self, id: RequestId, now: Instant) {
        let Some(connection) = self.lifecycle.connection() else { return };
        let running = self.idle.running.as_mut().filter(|running| running.id == id);
        let Some(running) = running.filter(|running| running.cancelled.is_none()) else { return };
        running.cancelled = Some(now);
        if connection.cancel(id).is_err() {
            self.give_up_on_worker(words::NOT_READING);
        }
    }
}
