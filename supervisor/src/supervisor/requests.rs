//! The requests that were accepted and have not ended, and the queue they
//! stand in. Part of the main loop's state.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use engine_api::protocol::{FinishReason, Generate, RequestId, Timings, Usage};
use tokio::sync::mpsc;

use super::Input;
use super::ledger::unix_s;
use crate::admission::Admission;
use crate::engines::Ending;
use crate::engines::connection::{Connection, Route, SendError};
use crate::request::{Answer, Client, Event, Failure, Refusal, Request};
use crate::snapshot::{Queue, QueueClient};
use crate::store::{Outcome, RequestRow};

/// Events beside the tokens that a request can cause: `Started`, the text that
/// was held back, `Done`, and one to spare.
const BESIDE_TOKENS: usize = 4;
/// Notices of its place in the queue that a client gets, if it does not read.
const NOTICES: usize = 32;

/// Accepted requests, waiting and running.
#[derive(Debug)]
pub(super) struct Requests {
    admission: Admission,
    live: HashMap<RequestId, Live>,
    /// The order of those who wait may have changed since they were told.
    moved: bool,
}

#[derive(Debug)]
struct Live {
    client: Client,
    endpoint: &'static str,
    accepted: Instant,
    /// Seconds since 1970.
    at: u64,
    prompt_tokens: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting {
        generate: Box<Generate>,
        events: mpsc::Sender<Event>,
        /// How many went first when it was last told.
        told: Option<usize>,
    },
    Running {
        since: Instant,
        /// When the worker was asked to forget it.
        cancelled: Option<Instant>,
    },
}

impl Requests {
    pub(super) fn new(queue: usize) -> Self {
        Self { admission: Admission::new(queue), live: HashMap::new(), moved: false }
    }

    /// Sets how many may run at once.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.admission.set_limit(limit);
    }

    /// How many may run at once; none while the worker is not to be given more.
    pub(super) fn limit(&self) -> usize {
        self.admission.limit()
    }

    /// Takes a request into the queue. When its client goes, `inputs` is told.
    pub(super) fn accept(
        &mut self,
        id: RequestId,
        request: Request,
        now: Instant,
        inputs: &mpsc::Sender<Input>,
    ) -> Result<Answer, Refusal> {
        let offered = self.admission.offer(id, request.client.clone(), request.priority, now);
        offered.map_err(|full| Refusal::QueueFull {
            queued: full.waiting,
            retry_after: full.retry_after,
        })?;
        let tokens = usize::try_from(request.max_tokens).unwrap_or(usize::MAX);
        let (answer, events, gone) =
            Answer::channel(id, tokens.saturating_add(BESIDE_TOKENS + NOTICES));
        let inputs = inputs.clone();
        tokio::spawn(async move {
            // Resolves when the answer is dropped, read to its end or not.
            let _ = gone.await;
            let _ = inputs.send(Input::ClientGone(id)).await;
        });
        self.live.insert(id, Live::new(id, request, events, now));
        self.moved = true;
        Ok(answer)
    }

    /// Gives the engine as many requests as may run.
    pub(super) fn dispatch(
        &mut self,
        connection: &Connection,
        now: Instant,
    ) -> Result<(), SendError> {
        while let Some(id) = self.admission.dispatch() {
            let live = self.live.get_mut(&id).expect("every queued request is live");
            let running = Stage::Running { since: now, cancelled: None };
            if let Stage::Waiting { generate, events, .. } =
                std::mem::replace(&mut live.stage, running)
            {
                connection.generate(*generate, Route::new(events))?;
            }
            self.moved = true;
        }
        Ok(())
    }

    /// Tells those who wait how many go first, if that has changed.
    pub(super) fn tell_places(&mut self) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        for (ahead, id) in self.admission.order().into_iter().enumerate() {
            let live = self.live.get_mut(&id).expect("every queued request is live");
            if let Stage::Waiting { events, told, generate } = &mut live.stage {
                let kept_free = generate.max_tokens as usize + BESIDE_TOKENS;
                if *told != Some(ahead) && events.capacity() > kept_free {
                    *told = Some(ahead);
                    let _ = events.try_send(Event::Queued { ahead });
                }
            }
        }
    }

    /// The client of a request is gone. A request that waited ends here; one
    /// that runs ends when the engine says so.
    pub(super) fn client_gone(
        &mut self,
        id: RequestId,
        connection: Option<&Connection>,
        now: Instant,
    ) -> Result<Option<RequestRow>, SendError> {
        if self.admission.withdraw(id) {
            return Ok(self.end(id, Outcome::Cancelled, "the client went away", None, now));
        }
        let live = self.live.get_mut(&id);
        if let (Some(Live { stage: Stage::Running { cancelled, .. }, .. }), Some(connection)) =
            (live, connection)
        {
            *cancelled = Some(now);
            connection.cancel(id)?;
        }
        Ok(None)
    }

    /// When the first of those who were cancelled was cancelled, if the worker
    /// has not ended it since.
    pub(super) fn oldest_cancelled(&self) -> Option<Instant> {
        let cancelled = |live: &Live| match live.stage {
            Stage::Running { cancelled, .. } => cancelled,
            Stage::Waiting { .. } => None,
        };
        self.live.values().filter_map(cancelled).min()
    }

    /// The engine has finished a request.
    pub(super) fn finished(
        &mut self,
        id: RequestId,
        ending: &Ending,
        now: Instant,
    ) -> Option<RequestRow> {
        let since = match self.live.get(&id)?.stage {
            Stage::Running { since, .. } => since,
            Stage::Waiting { .. } => now,
        };
        self.admission.finished(id, now.saturating_duration_since(since));
        let (outcome, reason, used) = match ending {
            Ending::Done { reason, usage, timings } => {
                let (outcome, reason) = outcome_of(reason);
                (outcome, reason, (*usage, Some(*timings)))
            }
            Ending::Failed { reason, used } => (Outcome::Failed, reason.as_str(), (*used, None)),
        };
        self.end(id, outcome, reason, Some(used), now)
    }

    /// The engine died: every request it had ends.
    pub(super) fn fail_running(
        &mut self,
        connection: &Connection,
        failure: &Failure,
        now: Instant,
    ) -> Vec<RequestRow> {
        let abandoned = connection.abandon().into_iter();
        let fail = |(id, route): (RequestId, Route)| {
            route.fail(failure.clone());
            self.admission.forget(id);
            self.end(id, Outcome::Failed, &failure.message, Some((route.used(), None)), now)
        };
        abandoned.filter_map(fail).collect()
    }

    /// Ends every request that waits.
    pub(super) fn fail_waiting(&mut self, failure: &Failure, now: Instant) -> Vec<RequestRow> {
        let waiting = self.admission.order();
        self.fail(&waiting, failure, now)
    }

    /// Ends the requests that have waited for `bound`.
    pub(super) fn fail_overdue(
        &mut self,
        bound: Duration,
        failure: &Failure,
        now: Instant,
    ) -> Vec<RequestRow> {
        let overdue = self.admission.overdue(bound, now);
        self.fail(&overdue, failure, now)
    }

    fn fail(&mut self, ids: &[RequestId], failure: &Failure, now: Instant) -> Vec<RequestRow> {
        let fail = |id: &RequestId| {
            self.admission.withdraw(*id);
            if let Some(Live { stage: Stage::Waiting { events, .. }, .. }) = self.live.get(id) {
                let _ = events.try_send(Event::Failed(failure.clone()));
            }
            self.end(*id, Outcome::Failed, &failure.message, None, now)
        };
        ids.iter().filter_map(fail).collect()
    }

    fn end(
        &mut self,
        id: RequestId,
        outcome: Outcome,
        reason: &str,
        used: Option<(Usage, Option<Timings>)>,
        now: Instant,
    ) -> Option<RequestRow> {
        self.moved = true;
        let live = self.live.remove(&id)?;
        Some(live.into_row(outcome, reason, used, now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(super) fn running(&self) -> usize {
        self.admission.running()
    }

    /// When the first of those who wait will have waited for `bound`.
    pub(super) fn next_overdue(&self, bound: Duration) -> Option<Instant> {
        self.admission.oldest().map(|since| since + bound)
    }

    pub(super) fn queue(&self) -> Queue {
        let shares = self.admission.shares().into_iter();
        Queue {
            capacity: self.admission.capacity(),
            waiting: self.admission.waiting(),
            running: self.admission.running(),
            clients: shares
                .map(|share| QueueClient {
                    client: share.client.to_string(),
                    waiting: share.waiting,
                    running: share.running,
                })
                .collect(),
        }
    }
}

impl Live {
    fn new(id: RequestId, request: Request, events: mpsc::Sender<Event>, now: Instant) -> Self {
        Self {
            client: request.client,
            endpoint: request.endpoint,
            accepted: now,
            at: unix_s(),
            prompt_tokens: u32::try_from(request.prompt.len()).unwrap_or(u32::MAX),
            stage: Stage::Waiting {
                generate: Box::new(Generate {
                    id,
                    prompt: request.prompt,
                    generated: request.generated,
                    max_tokens: request.max_tokens,
                    sampling: request.sampling,
                    stops: request.stops,
                    priority: request.priority,
                    reuse_prefix: request.reuse_prefix,
                }),
                events,
                told: None,
            },
        }
    }

    fn into_row(
        self,
        outcome: Outcome,
        reason: &str,
        used: Option<(Usage, Option<Timings>)>,
        now: Instant,
    ) -> RequestRow {
        let (usage, timings) = used.unwrap_or_default();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let queued = match self.stage {
            Stage::Running { since, .. } => since.saturating_duration_since(self.accepted),
            Stage::Waiting { .. } => now.saturating_duration_since(self.accepted),
        };
        let in_worker = |pick: fn(&Timings) -> u64| timings.as_ref().map(|t| pick(t) / 1000);
        RequestRow {
            at: self.at,
            client: self.client.to_string(),
            endpoint: self.endpoint,
            model: String::new(),
            outcome,
            reason: reason.to_owned(),
            usage: Usage { prompt_tokens: self.prompt_tokens, ..usage },
            queued_ms: Some(ms(queued) + in_worker(|t| t.queued_us).unwrap_or(0)),
            prefill_ms: in_worker(|t| t.prefill_us),
            decode_ms: in_worker(|t| t.decode_us),
            total_ms: ms(now.saturating_duration_since(self.accepted)),
        }
    }
}

fn outcome_of(reason: &FinishReason) -> (Outcome, &'static str) {
    match reason {
        FinishReason::Stop { .. } => (Outcome::Answered, "stop"),
        FinishReason::Length => (Outcome::Answered, "length"),
        FinishReason::Cancelled => (Outcome::Cancelled, "the client went away"),
    }
}
