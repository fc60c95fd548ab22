//! Where the events of each request go, shared by the main loop, which adds
//! requests, and the reader, which delivers to them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine_api::protocol::{PromptProblem, RequestId, TokenId, Usage};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::SendError;
use crate::request::{Event, Failure};

/// Where a request's events go, and what it has used so far.
#[derive(Debug)]
pub struct Route {
    events: mpsc::Sender<Event>,
    used: Usage,
}

impl Route {
    #[must_use]
    pub fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, used: Usage::default() }
    }

    /// What the worker has told of this request.
    #[must_use]
    pub fn used(&self) -> Usage {
        self.used
    }

    /// Sends the last event, if the client still listens.
    pub fn fail(&self, failure: Failure) {
        let _ = self.send(Event::Failed(failure));
    }

    fn send(&self, event: Event) -> Result<(), Undelivered> {
        match self.events.try_send(event) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Undelivered::TooMany),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens, cached_tokens } => {
                self.used.prompt_tokens = *prompt_tokens;
                self.used.cached_tokens = *cached_tokens;
            }
            Event::Text { tokens, .. } => {
                let more = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
                self.used.completion_tokens = self.used.completion_tokens.saturating_add(more);
            }
            Event::Queued { .. } | Event::Done { .. } | Event::Failed(_) => {}
        }
    }
}

/// Who waits for a prompt's tokens. The permit is held until the worker has
/// answered, also when nobody waits any more: it bounds what the worker has
/// yet to read.
#[derive(Debug)]
pub(super) struct PromptReply {
    pub(super) reply: oneshot::Sender<Result<Vec<TokenId>, PromptProblem>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
pub(in crate::engines) struct Routes {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<RequestId, Route>,
    prompts: HashMap<RequestId, PromptReply>,
    closed: bool,
}

/// An event could not be delivered to its request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// No such request was started, or it has ended.
    Unknown,
    /// More events than the request can cause.
    TooMany,
}

impl Routes {
    pub(super) fn add(&self, id: RequestId, route: Route) {
        self.lock().answers.insert(id, route);
    }

    pub(super) fn add_prompt(&self, id: RequestId, reply: PromptReply) -> Result<(), SendError> {
        let mut table = self.lock();
        if table.closed {
            return Err(SendError::Gone);
        }
        table.prompts.insert(id, reply);
        Ok(())
    }

    /// Delivers an event. A client that no longer listens is not an error: its
    /// cancellation is on the way.
    pub(super) fn deliver(&self, id: RequestId, event: Event) -> Result<(), Undelivered> {
        let mut table = self.lock();
        let route = table.answers.get_mut(&id).ok_or(Undelivered::Unknown)?;
        route.count(&event);
        route.send(event)
    }

    /// Delivers the last event of a request; returns what it had used.
    pub(super) fn finish(&self, id: RequestId, event: Event) -> Result<Usage, Undelivered> {
        let route = self.remove(id).ok_or(Undelivered::Unknown)?;
        route.send(event)?;
        Ok(route.used)
    }

    pub(super) fn remove(&self, id: RequestId) -> Option<Route> {
        self.lock().answers.remove(&id)
    }

    /// Answers a prompt.
    pub(super) fn reply(
        &self,
        id: RequestId,
        result: Result<Vec<TokenId>, PromptProblem>,
    ) -> Result<(), Undelivered> {
        let waiting = self.lock().prompts.remove(&id).ok_or(Undelivered::Unknown)?;
        // Whoever asked may have gone.
        let _ = waiting.reply.send(result);
        Ok(())
    }

    /// Forgets everything; those who wait for prompts see that the worker is gone.
    pub(super) fn close(&self) -> Vec<(RequestId, Route)> {
        let mut table = self.lock();
        table.closed = true;
        table.prompts.clear();
        table.answers.drain().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
