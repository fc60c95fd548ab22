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
mod step;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_api::embedding::Embed;
use engine_api::pace::Pacing;
use engine_api::protocol::{
    Asker, FinishReason, FromWorker, Generate, Heartbeat, KvUse, Limits, Priority, RequestId,
};

use crate::backend::{Backend, Slot, StepError, Vocabulary};
use crate::grammar::{Constraint, GrammarError};
use crate::requests::{Requests, no_vectors};
use crate::sequence::Sequence;
use crate::slots::{Move, Slots, common_prefix};

/// A common beginning shorter than this is not waited for.
const WORTH_WAITING: usize = 32;

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
        let placement = self.slots.place(
            sequence.id(),
            sequence.asker(),
            sequence.context(),
            sequence.reuses_prefix(),
        );
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

    /// Takes a sequence out of the batch. Its tokens stay as a prefix, unless they are to be
    /// forgotten, or nobody waited for it and it used none: then the next one finds an empty
    /// slot, and not the oldest prefix in its way.
    fn leave(&mut self, index: usize) -> Sequence {
        let sequence = self.running.swap_remove(index);
        if let Some(slot) = self.slots.slot_of(sequence.id()) {
            let is_of_use = sequence.priority() != Priority::Bulk || sequence.reuses_prefix();
            if sequence.is_forgotten() || !is_of_use {
                self.slots.forget_tokens(slot);
                self.backend.truncate(slot, 0);
            }
            self.slots.release(slot);
        }
        sequence
    }
}

impl Requests for Batch {
    fn add(&mut self, request: Generate, now: Instant) {
        match Sequence::admit(request, &*self.vocabulary, self.context, now) {
            Ok(sequence) => self.waiting.push_back(sequence),
            Err(said) => self.out.push(said),
        }
    }

    fn embed(&mut self, embed: Embed) {
        self.out.push(no_vectors(&embed));
    }

    fn constrain(&mut self, id: RequestId, constraint: Result<Constraint, GrammarError>) {
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

    fn cancel(&mut self, id: RequestId) {
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

    fn forget(&mut self, asker: Asker) {
        let moves = self.slots.forget(asker);
        self.apply(&moves);
        for sequence in self.waiting.iter_mut().chain(&mut self.running) {
            if sequence.asker() == asker {
                sequence.forget();
            }
        }
    }

    /// Forgets every request without a word; what was computed for them stays
    /// as prefixes.
    fn abandon(&mut self) {
        self.waiting.clear();
        while !self.running.is_empty() {
            let _ = self.leave(0);
        }
        self.out.clear();
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.pacing.set(pace(limits));
    }

    fn share_cores(&mut self, alone: bool) {
        self.backend.share_cores(alone);
        self.progress.threads = if alone { 1 } else { self.backend.description().threads };
    }

    fn rest(&self, step: Duration) -> Duration {
        self.pacing.rest(step)
    }

    fn rested(&mut self, step: Duration, rest: Duration) {
        self.pacing.rested(step, rest);
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    fn has_work(&self) -> bool {
        !self.running.is_empty() || self.waiting.iter().any(Sequence::is_ready)
    }

    fn take_messages(&mut self) -> Vec<FromWorker> {
        std::mem::take(&mut self.out)
    }

    fn progress(&mut self) -> Heartbeat {
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
    fn step(&mut self) -> Result<(), StepError> {
        self.place_waiting();
        let decoded = self.decode()?;
        self.prefill(decoded)
    }
}

fn pace(limits: Limits) -> Duration {
    Duration::from_micros(limits.pace_us.into())
}

/// A count as the protocol carries it; nothing here comes near the bound.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
