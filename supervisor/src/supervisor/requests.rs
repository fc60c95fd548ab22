//! The requests that were accepted and have not ended, and the queue they
//! stand in. Part of the main loop's state.
//!
//! A request that ran when the worker died is put back in front of the queue
//! with the tokens that its client was given, and goes on from there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use engine_api::protocol::{FinishReason, Generate, RequestId, Timings, Usage};
use tokio::sync::mpsc;

use super::Input;
use crate::admission::Admission;
use crate::engines::Ending;
use crate::engines::connection::{Connection, Progress, Route, SendError};
use crate::engines::suspects::{InFlight, Suspects};
use crate::request::{Answer, Client, Event, Failure, Refusal, Request};
use crate::snapshot::{Queue, QueueClient};
use crate::store::unix_s;
use crate::store::{Outcome, RequestRow};

/// Events beside the tokens that a request can cause: `Started`, the text that
/// was held back, `Done`, and one to spare.
const BESIDE_TOKENS: usize = 4;
/// Notices of its place in the queue that a client gets, if it does not read.
const NOTICES: usize = 32;

const CLIENT_GONE: &str = "the client went away";

/// Accepted requests, waiting and running.
#[derive(Debug)]
pub(super) struct Requests {
    admission: Admission,
    live: HashMap<RequestId, Live>,
    suspects: Suspects,
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
    /// As the client asked for it; how far it is stands in `progress`.
    generate: Box<Generate>,
    events: mpsc::Sender<Event>,
    /// What earlier workers did of it.
    progress: Progress,
    /// When it first had its turn.
    began: Option<Instant>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting {
        /// How many went first when it was last told.
        told: Option<usize>,
    },
    Running {
        since: Instant,
        /// When the worker was asked to forget it.
        cancelled: Option<Instant>,
    },
}

/// What a worker's death did to the requests that it had.
#[derive(Debug)]
pub(super) struct Aftermath {
    /// Requests that go on with the next worker.
    pub(super) resumed: usize,
    /// A request that has killed too many workers; it is still to be failed.
    pub(super) convicted: Option<RequestId>,
    /// Requests whose clients had gone already.
    pub(super) rows: Vec<RequestRow>,
}

impl Requests {
    pub(super) fn new(queue: usize) -> Self {
        Self {
            admission: Admission::new(queue),
            live: HashMap::new(),
            suspects: Suspects::default(),
            moved: false,
        }
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
        while let Some(id) = self.next() {
            let live = self.live.get_mut(&id).expect("every queued request is live");
            live.stage = Stage::Running { since: now, cancelled: None };
            live.began.get_or_insert(now);
            let progress = std::mem::take(&mut live.progress);
            let generate =
                Generate { generated: progress.generated.clone(), ..(*live.generate).clone() };
            let route = Route::new(live.events.clone(), progress, generate.prompt.len());
            connection.generate(generate, route)?;
            self.moved = true;
        }
        Ok(())
    }

    /// Who goes next: whoever's turn it is, or whom a trial asks for.
    fn next(&mut self) -> Option<RequestId> {
        match self.suspects.trial() {
            None => self.admission.dispatch(),
            Some(trial) => trial.iter().copied().find(|id| self.admission.start(*id)),
        }
    }

    /// Whether some requests wait because others stand trial.
    pub(super) fn on_trial(&self) -> bool {
        self.suspects.trial().is_some()
    }

    /// Looks how those who stand trial get on.
    pub(super) fn hear_trial(&mut self, connection: &Connection) {
        for id in self.suspects.trial().unwrap_or_default().to_vec() {
            if let Some(generated) = connection.generated(id) {
                self.suspects.got_on(id, generated);
            }
        }
    }

    /// The worker is dead: puts back what it had, and finds out who did it.
    pub(super) fn take_back(&mut self, connection: &Connection, now: Instant) -> Aftermath {
        let mut in_flight = Vec::new();
        let mut rows = Vec::new();
        let mut abandoned = connection.abandon();
        // Those who were accepted first go first again.
        abandoned.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        for (id, route) in abandoned {
            let Some(live) = self.live.get_mut(&id) else { continue };
            live.progress = route.into_progress();
            if let Stage::Running { cancelled: Some(_), .. } = live.stage {
                self.admission.forget(id);
                self.suspects.clear(id);
                rows.extend(self.end(id, Outcome::Cancelled, CLIENT_GONE, None, now));
                continue;
            }
            live.stage = Stage::Waiting { told: None };
            let generated = live.progress.generated.len();
            self.admission.put_back(id, live.generate.priority, now);
            in_flight.push(InFlight { id, generated });
        }
        self.moved = true;
        let convicted = self.suspects.died(&in_flight);
        let resumed = in_flight.len() - usize::from(convicted.is_some());
        Aftermath { resumed, convicted, rows }
    }

    /// Tells those who wait how many go first, if that has changed.
    pub(super) fn tell_places(&mut self) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        for (ahead, id) in self.admission.order().into_iter().enumerate() {
            let live = self.live.get_mut(&id).expect("every queued request is live");
            if let Stage::Waiting { told } = &mut live.stage {
                let kept_free = live.generate.max_tokens as usize + BESIDE_TOKENS;
                if *told != Some(ahead) && live.events.capacity() > kept_free {
                    *told = Some(ahead);
                    let _ = live.events.try_send(Event::Queued { ahead });
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
            self.suspects.clear(id);
            return Ok(self.end(id, Outcome::Cancelled, CLIENT_GONE, None, now));
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
        self.suspects.clear(id);
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

    /// Ends one request that waits.
    pub(super) fn fail_one(
        &mut self,
        id: RequestId,
        failure: &Failure,
        now: Instant,
    ) -> Vec<RequestRow> {
        self.fail(&[id], failure, now)
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
            self.suspects.clear(*id);
            if let Some(live) = self.live.get(id) {
                let _ = live.events.try_send(Event::Failed(failure.clone()));
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

    /// Whether nobody is answered and nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(super) fn running(&self) -> usize {
        self.admission.running()
    }

    /// Who waits for a turn.
    pub(super) fn waiting(&self) -> usize {
        self.admission.waiting()
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
        let asker = request.client.asker();
        Self {
            client: request.client,
            endpoint: request.endpoint,
            accepted: now,
            at: unix_s(),
            progress: Progress::after(request.generated),
            began: None,
            generate: Box::new(Generate {
                id,
                asker,
                prompt: request.prompt,
                generated: Vec::new(),
                max_tokens: request.max_tokens,
                sampling: request.sampling,
                stops: request.stops,
                grammar: request.grammar,
                calls: request.calls,
                priority: request.priority,
                reuse_prefix: request.reuse_prefix,
            }),
            events,
            stage: Stage::Waiting { told: None },
        }
    }

    fn into_row(
        self,
        outcome: Outcome,
        reason: &str,
        used: Option<(Usage, Option<Timings>)>,
        now: Instant,
    ) -> RequestRow {
        let (usage, timings) = used.unwrap_or_else(|| (self.progress.used(), None));
        let prompt_tokens = u32::try_from(self.generate.prompt.len()).unwrap_or(u32::MAX);
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let queued = self.began.unwrap_or(now).saturating_duration_since(self.accepted);
        let in_worker = |pick: fn(&Timings) -> u64| timings.as_ref().map(|t| pick(t) / 1000);
        RequestRow {
            at: self.at,
            client: self.client.to_string(),
            endpoint: self.endpoint,
            model: String::new(),
            outcome,
            reason: reason.to_owned(),
            usage: Usage { prompt_tokens, ..usage },
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
        FinishReason::Cancelled => (Outcome::Cancelled, CLIENT_GONE),
    }
}
