//! What one step computes: a token for each answer that runs, then a part of the prompts.

use std::time::{Duration, Instant};

use engine_api::protocol::{FromWorker, Priority, RequestId};

use super::part::Part;
use super::{Batch, count};
use crate::backend::{Chunk, NextToken, Slot, StepError};
use crate::sequence::{Advance, Sequence};

/// A prompt that waited this long goes before shorter ones.
const PATIENCE: Duration = Duration::from_secs(10);
/// A step for those that can wait takes about so long at most, because who comes meanwhile
/// waits for its end.
const BULK_STEP: Duration = Duration::from_millis(250);

impl Batch {
    /// One token for every decoding sequence that the limits allow; whether
    /// there was any.
    pub(super) fn decode(&mut self) -> Result<bool, StepError> {
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
    pub(super) fn prefill(&mut self, answers_run: bool) -> Result<(), StepError> {
        let part = usize::from(self.limits.max_batch_tokens).clamp(1, self.largest_step);
        let all_can_wait =
            self.running.iter().all(|sequence| sequence.priority() == Priority::Bulk);
        let budget = match answers_run {
            true => part,
            false => self.pacing.tokens_alone(part, self.largest_step),
        };
        let budget = match all_can_wait {
            true => self.pacing.tokens_within(BULK_STEP, budget),
            false => budget,
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
