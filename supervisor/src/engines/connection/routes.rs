//! Where the events of each request go, shared by the main loop, which adds
//! requests, and the reader, which delivers to them.
//!
//! What was delivered is recorded under the same lock, so that an answer can be
//! taken up by another worker after exactly what its client was given.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine_api::embedding::Vector;
use engine_api::form::Form;
use engine_api::pace::MOST_REST;
use engine_api::protocol::{
    FinishReason, Heartbeat, Limits, PromptProblem, RequestId, Timings, TokenId, Usage,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};

use super::{EmbedError, SendError};
use crate::engines::suspects::CLEARED_BY;
use crate::engines::watchdog::{Doing, Seen, Speeds, Stalest};
use crate::request::{Event, Failure};

/// How far an answer has come, in this worker and in those before it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Tokens that its client was given.
    pub generated: Vec<TokenId>,
    /// What the first worker that began it said of its prompt.
    started: Option<Started>,
    first_token: Option<Instant>,
    /// Whether an earlier worker had it.
    resumed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Started {
    at: Instant,
    prompt_tokens: u32,
    cached_tokens: Option<u32>,
}

impl Progress {
    /// An answer that begins after these tokens.
    #[must_use]
    pub fn after(generated: Vec<TokenId>) -> Self {
        let resumed = !generated.is_empty();
        Self { generated, resumed, ..Self::default() }
    }

    /// What the request has used so far.
    #[must_use]
    pub fn used(&self) -> Usage {
        Usage {
            prompt_tokens: self.started.map_or(0, |started| started.prompt_tokens),
            cached_tokens: self.started.map_or(Some(0), |started| started.cached_tokens),
            completion_tokens: u32::try_from(self.generated.len()).unwrap_or(u32::MAX),
        }
    }

    /// The worker that takes the answer up knows only its own part of these.
    fn corrected(&self, usage: Usage, timings: Timings, now: Instant) -> (Usage, Timings) {
        let Some(started) = self.started.filter(|_| self.resumed) else {
            return (usage, timings);
        };
        let first = self.first_token.unwrap_or(now);
        let timings = Timings {
            prefill_us: micros(first.saturating_duration_since(started.at)),
            decode_us: micros(now.saturating_duration_since(first)),
            ..timings
        };
        (Usage { cached_tokens: started.cached_tokens, ..usage }, timings)
    }
}

/// Where a request's events go, and how far it has come.
#[derive(Debug)]
pub struct Route {
    events: mpsc::Sender<Event>,
    progress: Progress,
    prompt_tokens: u64,
    /// When, and at which step, the worker last said something of it; `None`
    /// until it has begun it.
    heard: Option<(Instant, u64)>,
    /// Whether this worker has given a token.
    decodes: bool,
}

impl Route {
    /// A route for a request that has come so far, with a prompt of so many
    /// tokens.
    #[must_use]
    pub fn new(events: mpsc::Sender<Event>, progress: Progress, prompt_tokens: usize) -> Self {
        let prompt_tokens = (prompt_tokens + progress.generated.len()) as u64;
        Self { events, progress, prompt_tokens, heard: None, decodes: false }
    }

    /// How far the request has come.
    #[must_use]
    pub fn into_progress(self) -> Progress {
        Progress { resumed: true, ..self.progress }
    }

    fn send(&self, event: Event) -> Result<(), Undelivered> {
        match self.events.try_send(event) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Undelivered::TooMany),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Records and sends an event. A beginning is only told once.
    fn deliver(&mut self, event: Event, now: Instant, step: u64) -> Result<(), Undelivered> {
        self.heard = Some((now, step));
        match &event {
            Event::Started { prompt_tokens, cached_tokens } => {
                if self.progress.started.is_some() {
                    return Ok(());
                }
                let (prompt_tokens, cached_tokens) = (*prompt_tokens, *cached_tokens);
                self.progress.started = Some(Started { at: now, prompt_tokens, cached_tokens });
            }
            Event::Text { tokens, .. } => {
                self.progress.first_token.get_or_insert(now);
                self.progress.generated.extend(tokens.iter().map(|token| token.id));
                self.decodes = true;
            }
            Event::Queued { .. } | Event::Done { .. } | Event::Failed(_) => {}
        }
        self.send(event)
    }
}

/// Who waits for a prompt's tokens. The permit is held until the worker has
/// answered, also when nobody waits any more: it bounds what the worker has
/// yet to read.
#[derive(Debug)]
pub(super) struct PromptReply {
    pub(super) reply: oneshot::Sender<Result<(Vec<TokenId>, Form), PromptProblem>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Who waits for vectors, with the same kind of permit.
#[derive(Debug)]
pub(super) struct EmbedReply {
    pub(super) reply: oneshot::Sender<Result<Vec<Vector>, EmbedError>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(in crate::engines) struct Routes {
    table: Mutex<Table>,
    /// Told when there is something to do.
    pub(in crate::engines) work: Notify,
}

#[derive(Debug)]
struct Table {
    answers: HashMap<RequestId, Route>,
    prompts: HashMap<RequestId, PromptReply>,
    embeds: HashMap<RequestId, EmbedReply>,
    closed: bool,
    /// Grows with everything that the worker gets done.
    progress: u64,
    /// Tokens given to clients; the end of an answer counts like several.
    given: usize,
    /// Of the last heartbeat; `None` before the first, because a worker that
    /// was taken over has made some already.
    steps: Option<u64>,
    speeds: Speeds,
    /// Least time from one step to the next.
    pace: Duration,
    /// Requests that are decoded at once; more urgent ones go first.
    at_once: usize,
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
    pub(super) fn new(speeds: Speeds) -> Self {
        let table = Table {
            answers: HashMap::new(),
            prompts: HashMap::new(),
            embeds: HashMap::new(),
            closed: false,
            progress: 0,
            given: 0,
            steps: None,
            speeds,
            pace: Duration::ZERO,
            at_once: usize::MAX,
        };
        Self { table: Mutex::new(table), work: Notify::new() }
    }

    pub(super) fn add(&self, id: RequestId, route: Route) {
        self.lock().answers.insert(id, route);
        self.work.notify_one();
    }

    pub(super) fn add_prompt(&self, id: RequestId, reply: PromptReply) -> Result<(), SendError> {
        let mut table = self.lock();
        if table.closed {
            return Err(SendError::Gone);
        }
        table.prompts.insert(id, reply);
        self.work.notify_one();
        Ok(())
    }

    pub(super) fn add_embed(&self, id: RequestId, reply: EmbedReply) -> Result<(), SendError> {
        let mut table = self.lock();
        if table.closed {
            return Err(SendError::Gone);
        }
        table.embeds.insert(id, reply);
        self.work.notify_one();
        Ok(())
    }

    /// Delivers an event. A client that no longer listens is not an error: its
    /// cancellation is on the way.
    pub(super) fn deliver(&self, id: RequestId, event: Event) -> Result<(), Undelivered> {
        let mut table = self.lock();
        let steps = table.steps.unwrap_or(0);
        table.progress += 1;
        if let Event::Text { tokens, .. } = &event {
            table.given += tokens.len();
        }
        table.answers.get_mut(&id).ok_or(Undelivered::Unknown)?.deliver(event, now(), steps)
    }

    /// Delivers the end of an answer; returns what all its workers together
    /// used for it.
    pub(super) fn done(
        &self,
        id: RequestId,
        reason: FinishReason,
        rest: String,
        (usage, timings): (Usage, Timings),
    ) -> Result<(Usage, Timings), Undelivered> {
        let route = self.remove(id).ok_or(Undelivered::Unknown)?;
        let (usage, timings) = route.progress.corrected(usage, timings, now());
        if !rest.is_empty() {
            route.send(Event::Text { text: rest, tokens: Vec::new() })?;
        }
        route.send(Event::Done { reason, usage, timings })?;
        Ok((usage, timings))
    }

    /// Delivers the failure of a request; returns what it had used.
    pub(super) fn failed(&self, id: RequestId, failure: Failure) -> Result<Usage, Undelivered> {
        let route = self.remove(id).ok_or(Undelivered::Unknown)?;
        route.send(Event::Failed(failure))?;
        Ok(route.progress.used())
    }

    fn remove(&self, id: RequestId) -> Option<Route> {
        let mut table = self.lock();
        table.progress += 1;
        table.given += CLEARED_BY;
        table.answers.remove(&id)
    }

    /// Answers a prompt.
    pub(super) fn reply(
        &self,
        id: RequestId,
        result: Result<(Vec<TokenId>, Form), PromptProblem>,
    ) -> Result<(), Undelivered> {
        let mut table = self.lock();
        table.progress += 1;
        let waiting = table.prompts.remove(&id).ok_or(Undelivered::Unknown)?;
        // Whoever asked may have gone.
        let _ = waiting.reply.send(result);
        Ok(())
    }

    /// Whether vectors are waited for by this name.
    pub(super) fn is_embed(&self, id: RequestId) -> bool {
        self.lock().embeds.contains_key(&id)
    }

    /// Answers who waits for vectors.
    pub(super) fn embedded(
        &self,
        id: RequestId,
        result: Result<Vec<Vector>, EmbedError>,
    ) -> Result<(), Undelivered> {
        let mut table = self.lock();
        table.progress += 1;
        if result.is_ok() {
            table.given += CLEARED_BY;
        }
        let waiting = table.embeds.remove(&id).ok_or(Undelivered::Unknown)?;
        // Whoever asked may have gone.
        let _ = waiting.reply.send(result);
        Ok(())
    }

    /// Takes note of a heartbeat.
    pub(super) fn heard(&self, heartbeat: &Heartbeat) {
        let mut table = self.lock();
        let before = table.steps.replace(heartbeat.steps);
        if before != Some(heartbeat.steps) {
            table.progress += 1;
        }
        if before.is_none() {
            let heard = table.answers.values_mut().filter_map(|route| route.heard.as_mut());
            heard.for_each(|(_, step)| *step = heartbeat.steps);
        }
        let slowest = Duration::from_micros(heartbeat.worst_step_us);
        table.speeds.add(slowest, heartbeat.prefilling > 0);
    }

    /// What the worker was told of parts and pauses: it is not expected to be
    /// faster.
    pub(in crate::engines) fn set_limits(&self, limits: Limits) {
        let mut table = self.lock();
        table.speeds.set_part(limits.max_batch_tokens);
        table.pace = match Duration::from_micros(limits.pace_us.into()) {
            Duration::ZERO => Duration::ZERO,
            pace => pace.max(MOST_REST),
        };
        table.at_once = limits.max_sequences.into();
    }

    /// Tokens that a running request has.
    pub(super) fn generated(&self, id: RequestId) -> Option<usize> {
        self.lock().answers.get(&id).map(|route| route.progress.generated.len())
    }

    /// Whether the worker has given anybody a part of an answer worth the name.
    pub(super) fn is_productive(&self) -> bool {
        self.lock().given >= CLEARED_BY
    }

    /// What was measured of the worker's steps.
    pub(super) fn speeds(&self) -> Speeds {
        self.lock().speeds.clone()
    }

    /// What the worker has to do, and how far it has come; `None` if it has
    /// nothing to do.
    pub(in crate::engines) fn standing(&self) -> Option<(Doing, Seen)> {
        let table = self.lock();
        let waiting = || table.answers.values().filter(|route| !route.decodes);
        let steps = |prefilling| Doing::Steps {
            p99: table.speeds.p99(prefilling) + table.pace,
            first: table.speeds.first_before().map(|first| first + table.pace),
        };
        let doing = if !table.embeds.is_empty() {
            // Texts are computed like prompts, a whole one in each step.
            steps(true)
        } else if table.answers.is_empty() {
            (!table.prompts.is_empty()).then_some(Doing::Prompts)?
        } else {
            steps(waiting().next().is_some())
        };
        let prompts = waiting().map(|route| table.speeds.steps_of_prompt(route.prompt_tokens));
        let prompts = prompts.sum();
        // Where not all may be decoded, whoever is less urgent gets nothing.
        let all_may = table.answers.len() <= table.at_once;
        let stalest = table
            .answers
            .values()
            .filter(|_| all_may)
            .filter_map(|route| route.heard)
            .min_by_key(|(_, step)| *step)
            .map(|(since, step)| {
                let steps = table.steps.unwrap_or(step).saturating_sub(step);
                Stalest { steps, prompts, since }
            });
        // A token may come before the heartbeat that tells of its step.
        let steps = table.steps.unwrap_or(0).max(table.given as u64);
        Some((doing, Seen { progress: table.progress, steps, stalest }))
    }

    /// Forgets everything; those who wait for prompts or vectors see that the worker is gone.
    pub(super) fn close(&self) -> Vec<(RequestId, Route)> {
        let mut table = self.lock();
        table.closed = true;
        table.prompts.clear();
        table.embeds.clear();
        table.answers.drain().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// tokio's clock, so that a test can stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
