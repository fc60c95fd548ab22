//! The batch: which requests are computed in the next step, and what came of it.
//!
//! ```text
//!  waiting ──place──► prefill ──last prompt token──► decode ──► done
//!     ▲ stays while another request is computing the same beginning,
//!       or its grammar is being compiled
//! ```
//!
//! A step is one token for every decoding sequence, then a part of the prompts
//! that are not computed yet. That part is small while answers are running, so that a long prompt
//! cannot freeze them. The two are calls of their own: llama.cpp, with a buffer
//! for each sequence, would make two passes over the weights of one call as well.
//! Sequences join and leave between steps only.

mod part;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_api::pace::Pacing;
use engine_api::protocol::{
    FinishReason, FromWorker, Generate, Heartbeat, KvUse, Limits, Priority, RequestId,
};

use self::part::Part;
use crate::backend::{Backend, Chunk, NextToken, Slot, StepError, Vocabulary};
use crate::grammar::{Constraint, GrammarError};
use crate::sequence::{Advance, Sequence};
use crate::slots::{Move, Slots, common_prefix};

/// A common beginning shorter than this is not waited for.
const WORTH_WAITING: usize = 32;

/// A prompt that waited this long goes before shorter ones.
const PATIENCE: Duration = Duration::from_secs(10);

/// All requests of one worker and the backend that computes them.
pub struct Batch {
    backend: Box<dyn Backend>,
    vocabulary: Arc<dyn Vocabulary>,
    limits: Limits,
    /// Sequences that the engine was built for.
    built_for: usize,
    context: u32,
    /// Prompt tokens computed at once while no answer is running.
    largest_step: usize,
    slots: Slots,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    /// Messages that the current step gave rise to.
    out: Vec<FromWorker>,
    progress: Heartbeat,
    pacing: Pacing,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("waiting", &self.waiting.len())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// A batch of at most `built_for` sequences with windows of `context` tokens.
    #[must_use]
    pub fn new(
        backend: Box<dyn Backend>,
        vocabulary: Arc<dyn Vocabulary>,
        built_for: u16,
        context: u32,
        limits: Limits,
    ) -> Self {
        let description = backend.description();
        let kv = KvUse {
            capacity_tokens: u64::from(context) * description.slots as u64,
            bytes: description.kv_bytes,
            ..KvUse::default()
        };
        let progress = Heartbeat { kv, threads: description.threads, ..Heartbeat::default() };
        let slots = Slots::new(description.slots);
        let mut pacing = Pacing::default();
        pacing.set(pace(limits));
        Self {
            backend,
            vocabulary,
            limits,
            built_for: usize::from(built_for),
            context,
            largest_step: description.largest_step.max(1) as usize,
            slots,
            waiting: VecDeque::new(),
            running: Vec::new(),
            out: Vec::new(),
            progress,
            pacing,
        }
    }

    /// Takes a request. It starts in one of the next steps.
    pub fn add(&mut self, request: Generate, now: Instant) {
        let room = self.context.saturating_sub(1) as usize;
        let length = request.prompt.len();
        if length == 0 || length > room {
            let reason = format!("{length} tokens do not fit a window of {}", self.context);
            self.out.push(FromWorker::Failed { id: request.id, reason });
            return;
        }
        let sequence = Sequence::new(request, &*self.vocabulary, now);
        match sequence.ended_earlier(self.context) {
            Some(reason) => self.out.push(sequence.done(reason)),
            None => self.waiting.push_back(sequence),
        }
    }

    /// Gives a request the constraint that it waits for. Unknown ids are requests
    /// that were cancelled meanwhile.
    pub fn constrain(&mut self, id: RequestId, constraint: Result<Constraint, GrammarError>) {
        let waits = |sequence: &Sequence| sequence.id() == id && !sequence.is_ready();
        let Some(index) = self.waiting.iter().position(waits) else { return };
        let ended = match constraint {
            Ok(constraint) => self.waiting[index].constrain(constraint).map(Ok),
            Err(error) => Some(Err(format!("the answer's form cannot be enforced: {error}"))),
        };
        let Some(end) = ended else { return };
        let sequence = self.waiting.remove(index).expect("the index was found just now");
        self.out.push(match end {
            Ok(reason) => sequence.done(reason),
            Err(reason) => FromWorker::Failed { id, reason },
        });
    }

    /// Says something to whoever asked for what no batch does.
    pub fn refuse(&mut self, answer: FromWorker) {
        self.out.push(answer);
    }

    /// Ends a request early. Unknown ids are requests that ended by themselves.
    pub fn cancel(&mut self, id: RequestId) {
        let waiting = self.waiting.iter().position(|sequence| sequence.id() == id);
        let cancelled = if let Some(index) = waiting {
            self.waiting.remove(index)
        } else {
            let running = self.running.iter().position(|sequence| sequence.id() == id);
            running.map(|index| self.leave(index))
        };
        if let Some(sequence) = cancelled {
            self.out.push(sequence.done(FinishReason::Cancelled));
        }
    }

    /// Forgets every request without a word; what was computed for them stays
    /// as prefixes.
    pub fn abandon(&mut self) {
        self.waiting.clear();
        while !self.running.is_empty() {
            let _ = self.leave(0);
        }
        self.out.clear();
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.pacing.set(pace(limits));
    }

    /// Whether other processes need the cores.
    pub fn share_cores(&mut self, alone: bool) {
        self.backend.share_cores(alone);
        self.progress.threads = if alone { 1 } else { self.backend.description().threads };
    }

    /// How long to rest after a step of this length.
    #[must_use]
    pub fn rest(&self, step: Duration) -> Duration {
        self.pacing.rest(step)
    }

    /// So long was a step, and the rest after it.
    pub fn rested(&mut self, step: Duration, rest: Duration) {
        self.pacing.rested(step, rest);
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Whether a step would do anything: not if all that is there waits for
    /// its grammar.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.running.is_empty() || self.waiting.iter().any(Sequence::is_ready)
    }

    /// Messages since the last call, in order.
    pub fn take_messages(&mut self) -> Vec<FromWorker> {
        std::mem::take(&mut self.out)
    }

    /// Counters for the heartbeat. Resets the worst step time.
    pub fn progress(&mut self) -> Heartbeat {
        let (active_tokens, cached_tokens) = self.slots.held();
        let decoding = self.running.iter().filter(|sequence| sequence.next().is_some()).count();
        let cached_tokens = Some(cached_tokens);
        self.progress.kv = KvUse { active_tokens, cached_tokens, ..self.progress.kv };
        self.progress.decoding = count(decoding);
        self.progress.prefilling = count(self.running.len() - decoding);
        self.progress.waiting = count(self.waiting.len());
        self.progress.device_memory = self.backend.device_memory();
        let progress = self.progress.clone();
        self.progress.worst_step_us = 0;
        progress
    }

    /// One step: places who waits, decodes, computes a part of the prompts.
    ///
    /// # Errors
    /// Several requests were computed together and the runtime failed: which of
    /// them it failed at is not known, and what they had is lost. The process
    /// must end; the supervisor finds out, and nobody else's answer is lost. A
    /// request that was computed alone fails alone.
    pub fn step(&mut self) -> Result<(), StepError> {
        self.place_waiting();
        let decoded = self.decode()?;
        self.prefill(decoded)
    }

    /// A step of these slots has failed.
    fn failed(&mut self, slots: &[Slot], error: StepError) -> Result<(), StepError> {
        match slots {
            [_] => self.lose(slots, &error),
            _ => return Err(error),
        }
        Ok(())
    }

    /// Gives slots to waiting requests, most urgent first.
    fn place_waiting(&mut self) {
        self.waiting
            .make_contiguous()
            .sort_by_key(|sequence| (std::cmp::Reverse(sequence.priority()), sequence.arrived()));
        let mut index = 0;
        while index < self.waiting.len() && self.has_room(self.waiting[index].priority()) {
            let candidate = &self.waiting[index];
            if !candidate.is_ready() || self.is_being_computed(candidate) {
                index += 1;
                continue;
            }
            let sequence = self.waiting.remove(index).expect("index is below the length");
            self.start(sequence);
        }
    }

    /// Whether a request of this priority may begin. Less urgent ones that run
    /// do not count against lower limits: they wait while it is decoded.
    fn has_room(&self, priority: Priority) -> bool {
        let most = usize::from(self.limits.max_sequences).max(1);
        let before = self.running.iter().filter(|running| running.priority() >= priority).count();
        before < most && self.running.len() < self.built_for && self.slots.free() > 0
    }

    /// Whether a running prefill is about to compute more of this prompt's
    /// beginning than is there already.
    fn is_being_computed(&self, candidate: &Sequence) -> bool {
        if !candidate.reuses_prefix() {
            return false;
        }
        let tokens = candidate.context();
        let shared = self
            .running
            .iter()
            .filter(|running| running.next().is_none())
            .map(|running| common_prefix(running.context(), tokens).min(tokens.len() - 1))
            .max()
            .unwrap_or(0);
        shared >= WORTH_WAITING && shared >= self.slots.reusable(tokens) + WORTH_WAITING
    }

    fn start(&mut self, mut sequence: Sequence) {
        let placement =
            self.slots.place(sequence.id(), sequence.context(), sequence.reuses_prefix());
        let placement = placement.expect("has_room found a free slot");
        let moved = self.apply(&placement.moves);
        // A failed move loses what stood in the slots, not the request.
        let reused = if moved { placement.reused } else { 0 };
        self.progress.cached_tokens += reused as u64;
        self.out.push(sequence.start(Some(reused), Instant::now()));
        self.running.push(sequence);
    }

    /// Carries out moves. On failure the slots concerned are emptied and the
    /// requests that stood in them end; returns whether all went well.
    fn apply(&mut self, moves: &[Move]) -> bool {
        let mut well = true;
        for &step in moves {
            let done = match step {
                Move::Copy { from, to } => self.backend.copy(from, to).map_err(|e| (e, vec![to])),
                Move::Swap { a, b } => self.backend.swap(a, b).map_err(|e| (e, vec![a, b])),
                Move::Truncate { slot, length } => {
                    self.backend.truncate(slot, length);
                    Ok(())
                }
            };
            if let Err((error, slots)) = done {
                well = false;
                self.lose(&slots, &error);
            }
        }
        well
    }

    /// Ends the running requests in `slots`, whose cache can no longer be trusted.
    fn lose(&mut self, slots: &[Slot], error: &StepError) {
        for &slot in slots {
            let owner = self.slots.get(slot).owner;
            self.slots.forget_tokens(slot);
            self.backend.truncate(slot, 0);
            let index = self.running.iter().position(|sequence| Some(sequence.id()) == owner);
            if let Some(index) = index {
                let sequence = self.leave(index);
                self.out.push(FromWorker::Failed { id: sequence.id(), reason: error.to_string() });
            }
        }
    }

    /// One token for every decoding sequence that the limits allow; whether
    /// there was any.
    fn decode(&mut self) -> Result<bool, StepError> {
        let running = &self.running;
        let moves = self.slots.pack(|id| is_decoding(running, id));
        self.apply(&moves);

        let batch = self.next_tokens();
        if batch.is_empty() {
            return Ok(false);
        }
        let started = Instant::now();
        if let Err(error) = self.backend.decode(&batch) {
            let slots: Vec<Slot> = batch.iter().map(|entry| entry.slot).collect();
            return self.failed(&slots, error).map(|()| false);
        }
        let owners: Vec<_> = batch
            .iter()
            .map(|entry| {
                self.slots.extend(entry.slot, &[entry.token]);
                self.slots.get(entry.slot).owner.expect("only owned slots are decoded")
            })
            .collect();
        for (row, owner) in owners.into_iter().enumerate() {
            self.advance(owner, row);
        }
        let took = self.note_step(started);
        self.pacing.decoded(took);
        self.progress.decode_tokens += batch.len() as u64;
        Ok(true)
    }

    /// The next token of each decoding sequence, in order of slots. When the
    /// limits allow fewer than there are, the most urgent and then those that
    /// have waited longest take their turn.
    fn next_tokens(&mut self) -> Vec<NextToken> {
        let step = self.progress.steps;
        let mut decoding: Vec<&mut Sequence> =
            self.running.iter_mut().filter(|sequence| sequence.next().is_some()).collect();
        let most = usize::from(self.limits.max_sequences).max(1);
        if decoding.len() > most {
            decoding.sort_by_key(|sequence| sequence.turn());
            decoding.truncate(most);
        }
        let mut batch: Vec<NextToken> = decoding
            .into_iter()
            .filter_map(|sequence| {
                let token = sequence.next()?;
                sequence.take_turn(step);
                let slot = self.slots.slot_of(sequence.id())?;
                Some(NextToken { slot, token, position: count(self.slots.get(slot).tokens.len()) })
            })
            .collect();
        batch.sort_unstable_by_key(|entry| entry.slot);
        batch
    }

    /// Chooses the next token of `owner` from the logits in `row` and reports it.
    fn advance(&mut self, owner: RequestId, row: usize) {
        let Some(index) = self.running.iter().position(|sequence| sequence.id() == owner) else {
            return;
        };
        let Some(slot) = self.slots.slot_of(owner) else { return };
        let history = &self.slots.get(slot).tokens;
        let sequence = &mut self.running[index];
        let logits = self.backend.logits(row);
        match sequence.advance(logits, history, &*self.vocabulary, self.context, &mut self.out) {
            Advance::Goes => {}
            Advance::Ends(reason) => {
                let sequence = self.leave(index);
                self.out.push(sequence.done(reason));
            }
            Advance::Broken(reason) => {
                let sequence = self.leave(index);
                self.out.push(FromWorker::Failed { id: sequence.id(), reason });
            }
        }
    }

    /// Computes the next part of the most urgent prompts, a small one while
    /// answers are running. Short prompts go together: one pass over the weights
    /// serves them all.
    fn prefill(&mut self, answers_run: bool) -> Result<(), StepError> {
        let part = usize::from(self.limits.max_batch_tokens).clamp(1, self.largest_step);
        let budget = match answers_run {
            true => part,
            false => self.pacing.tokens_alone(part, self.largest_step),
        };
        let parts = self.next_prefill(budget);
        if parts.is_empty() {
            return Ok(());
        }
        let chunks: Vec<Chunk<'_>> =
            parts.iter().map(|part| part.chunk(&self.running[part.index])).collect();
        let started = Instant::now();
        if let Err(error) = self.backend.prefill(&chunks) {
            let slots: Vec<Slot> = parts.iter().map(|part| part.slot).collect();
            return self.failed(&slots, error);
        }
        for chunk in &chunks {
            self.slots.extend(chunk.slot, chunk.tokens);
        }
        let tokens: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        self.progress.prefill_tokens += tokens as u64;
        self.pacing.prefilled(tokens, started.elapsed());
        let finished: Vec<RequestId> = parts
            .iter()
            .filter(|part| part.last)
            .map(|part| {
                self.running[part.index].prefilled(Instant::now());
                self.running[part.index].id()
            })
            .collect();
        for (row, id) in finished.into_iter().enumerate() {
            self.advance(id, row);
        }
        self.note_step(started);
        Ok(())
    }

    /// What to compute of which prompts within `budget` tokens, in order of
    /// slots. The most urgent go first, then whoever has lost patience, then
    /// those with the least left to do.
    fn next_prefill(&self, budget: usize) -> Vec<Part> {
        let now = Instant::now();
        let mut parts: Vec<_> = self
            .running
            .iter()
            .enumerate()
            .filter(|(_, sequence)| sequence.next().is_none())
            .filter_map(|(index, sequence)| {
                let slot = self.slots.slot_of(sequence.id())?;
                let from = self.slots.get(slot).tokens.len();
                let left = sequence.context().len() - from;
                let waited = now.duration_since(sequence.arrived());
                let rank = if waited > PATIENCE { 0 } else { left };
                let order = (std::cmp::Reverse(sequence.priority()), rank, sequence.arrived());
                Some((order, Part { index, slot, from, length: left, last: true }))
            })
            .collect();
        parts.sort_by_key(|(order, _)| *order);
        let mut left = budget;
        let mut chosen: Vec<Part> =
            parts.into_iter().map_while(|(_, part)| part.within(&mut left)).collect();
        chosen.sort_unstable_by_key(|part| part.slot);
        chosen
    }

    /// Takes a sequence out of the batch; its tokens stay as a prefix.
    fn leave(&mut self, index: usize) -> Sequence {
        let sequence = self.running.swap_remove(index);
        if let Some(slot) = self.slots.slot_of(sequence.id()) {
            self.slots.release(slot);
        }
        sequence
    }

    fn note_step(&mut self, started: Instant) -> Duration {
        let elapsed = started.elapsed();
        let took = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.progress.steps += 1;
        self.progress.step_us = took;
        self.progress.worst_step_us = self.progress.worst_step_us.max(took);
        elapsed
    }
}

fn is_decoding(running: &[Sequence], id: RequestId) -> bool {
    running.iter().any(|sequence| sequence.id() == id && sequence.next().is_some())
}

fn pace(limits: Limits) -> Duration {
    Duration::from_micros(limits.pace_us.into())
}

/// A count as the protocol carries it; nothing here comes near the bound.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
