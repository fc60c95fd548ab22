//! Requests on a runtime that batches by itself: who is handed over when, and
//! what came of it.
//!
//! ```text
//!  waiting ──hand over──► running ──last token, stop string, cancel──► done
//! ```
//!
//! Not more are handed over than the limits allow, so nobody waits inside the
//! runtime, where urgency is not known and limits cannot be changed. A lower
//! limit therefore holds as answers end: a running one cannot be halted without
//! computing it again. The pace is the runtime's to keep and holds at once.
//! `max_batch_tokens` is fixed when such an engine is loaded.
//!
//! A cancelled request is done here at once. What the runtime still says of it is
//! dropped, and its place inside is free before the runtime's next step.
//!
//! A runtime that chooses tokens by itself obeys no grammar: a request with one
//! fails as it comes, and none ever waits for its constraint.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_api::embedding::Embed;
use engine_api::protocol::{
    Asker, FinishReason, FromWorker, Generate, Heartbeat, KvUse, Limits, RequestId, TokenId,
    TokenLogprobs,
};

use crate::backend::executor::{Executor, Gain, Order, Ticket};
use crate::backend::{StepError, Vocabulary};
use crate::grammar::{Constraint, GrammarError};
use crate::requests::{Requests, no_vectors};
use crate::sequence::{Advance, Sequence};

/// How long to wait for the runtime before commands are looked at. It doubles
/// while nothing comes: a thread that wakes often on a busy machine mostly waits
/// for a processor, and that excuses a worker which in truth stands still.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// All requests of one worker and the runtime that computes them.
pub struct Queue {
    executor: Box<dyn Executor>,
    vocabulary: Arc<dyn Vocabulary>,
    limits: Limits,
    /// Sequences that the engine was built for.
    built_for: usize,
    context: u32,
    waiting: VecDeque<Sequence>,
    running: Vec<Running>,
    /// Messages since they were last taken.
    out: Vec<FromWorker>,
    progress: Heartbeat,
    /// When the runtime was last given something to do after it had nothing.
    busy_since: Instant,
    /// How long to wait next; see [`SHORTEST_LOOK`].
    look: Duration,
    /// A failure that came where nobody could be told.
    broken: Option<StepError>,
}

/// A request that the runtime has.
#[derive(Debug)]
struct Running {
    sequence: Sequence,
    ticket: Ticket,
    /// Tokens of its prompt and its answer.
    length: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.waiting.len())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// A queue for at most `built_for` sequences with windows of `context` tokens.
    #[must_use]
    pub fn new(
        executor: Box<dyn Executor>,
        vocabulary: Arc<dyn Vocabulary>,
        built_for: u16,
        context: u32,
        limits: Limits,
    ) -> Self {
        let description = executor.description();
        let kv = KvUse {
            capacity_tokens: u64::from(context) * description.slots as u64,
            bytes: description.kv_bytes,
            ..KvUse::default()
        };
        let progress = Heartbeat { kv, threads: description.threads, ..Heartbeat::default() };
        let mut queue = Self {
            executor,
            vocabulary,
            limits,
            built_for: usize::from(built_for),
            context,
            waiting: VecDeque::new(),
            running: Vec::new(),
            out: Vec::new(),
            progress,
            busy_since: Instant::now(),
            look: SHORTEST_LOOK,
            broken: None,
        };
        queue.set_limits(limits);
        queue
    }

    /// Hands over who waits, most urgent first.
    fn hand_over(&mut self) {
        self.waiting
            .make_contiguous()
            .sort_by_key(|sequence| (std::cmp::Reverse(sequence.priority()), sequence.arrived()));
        let most = self.built_for.min(usize::from(self.limits.max_sequences).max(1));
        while self.running.len() < most
            && let Some(sequence) = self.waiting.pop_front()
        {
            self.start(sequence);
        }
    }

    fn start(&mut self, mut sequence: Sequence) {
        let tokens = sequence.context();
        let room = (self.context as usize).saturating_sub(tokens.len());
        let order = Order {
            tokens,
            generated: sequence.generated(),
            most: count(sequence.left().clamp(1, room.max(1))),
            sampling: sequence.sampling(),
            ends: self.vocabulary.ends(),
            priority: sequence.priority(),
            reuse_prefix: sequence.reuses_prefix(),
        };
        let length = tokens.len();
        match self.executor.start(&order) {
            Ok(ticket) => {
                let now = Instant::now();
                if self.running.is_empty() {
                    self.busy_since = now;
                }
                // How much of it is computed again is not told for one request.
                self.out.push(sequence.start(None, now));
                self.running.push(Running { sequence, ticket, length });
            }
            Err(reason) => self.out.push(FromWorker::Failed { id: sequence.id(), reason }),
        }
    }

    /// Takes what one request got.
    fn take(&mut self, gain: Gain) {
        let Some(index) = self.running.iter().position(|running| running.ticket == gain.ticket)
        else {
            return; // It was cancelled.
        };
        let tokens = match gain.tokens {
            Ok(tokens) => tokens,
            Err(reason) => {
                let sequence = self.leave(index, true);
                self.out.push(FromWorker::Failed { id: sequence.id(), reason });
                return;
            }
        };
        for token in tokens {
            match self.accept(index, token) {
                Advance::Goes => {}
                Advance::Ends(reason) => {
                    let sequence = self.leave(index, gain.is_last);
                    self.out.push(sequence.done(reason));
                    return;
                }
                Advance::Broken(reason) => {
                    let sequence = self.leave(index, gain.is_last);
                    self.out.push(FromWorker::Failed { id: sequence.id(), reason });
                    return;
                }
            }
        }
        if gain.is_last {
            // The end token itself is not always shown.
            let sequence = self.leave(index, true);
            self.out.push(sequence.done(FinishReason::Stop { matched: None }));
        }
    }

    fn accept(&mut self, index: usize, token: TokenId) -> Advance {
        let Running { sequence, length, .. } = &mut self.running[index];
        if sequence.next().is_none() {
            sequence.prefilled(Instant::now());
        }
        let no_logprobs = None::<fn() -> Box<TokenLogprobs>>;
        let vocabulary = &*self.vocabulary;
        let advance =
            sequence.accept(token, no_logprobs, *length, vocabulary, self.context, &mut self.out);
        *length += 1;
        self.progress.decode_tokens += 1;
        advance
    }

    /// Takes a request out, and out of the runtime unless it `is_over` there.
    fn leave(&mut self, index: usize, is_over: bool) -> Sequence {
        let Running { sequence, ticket, .. } = self.running.swap_remove(index);
        if !is_over {
            self.withdraw(ticket);
        }
        sequence
    }

    fn withdraw(&mut self, ticket: Ticket) {
        if let Err(error) = self.executor.cancel(ticket) {
            self.broken.get_or_insert(error);
        }
    }

    /// Adds what the runtime's loop did.
    fn note_work(&mut self) -> Result<(), StepError> {
        let work = self.executor.work()?;
        let progress = &mut self.progress;
        progress.steps += work.steps;
        progress.prefill_tokens += work.prompt_tokens;
        progress.cached_tokens += work.cached_tokens;
        if work.steps > 0 {
            // Whether a step that ends an idle time contains it, is not documented;
            // the watchdog would take the engine for that slow.
            let busy = self.busy_since.elapsed();
            progress.step_us = micros(work.step.min(busy));
            progress.worst_step_us = progress.worst_step_us.max(micros(work.worst_step.min(busy)));
        }
        if let Some((capacity, active)) = work.kv {
            progress.kv.capacity_tokens = capacity;
            progress.kv.active_tokens = active;
        }
        Ok(())
    }
}

impl Requests for Queue {
    fn add(&mut self, request: Generate, now: Instant) {
        if request.grammar.is_some() {
            let reason = "this engine's runtime cannot hold answers to a grammar".to_owned();
            self.out.push(FromWorker::Failed { id: request.id, reason });
            return;
        }
        match Sequence::admit(request, &*self.vocabulary, self.context, now) {
            Ok(sequence) => self.waiting.push_back(sequence),
            Err(said) => self.out.push(said),
        }
    }

    fn embed(&mut self, embed: Embed) {
        self.out.push(no_vectors(&embed));
    }

    /// No request here waits for one.
    fn constrain(&mut self, _id: RequestId, _constraint: Result<Constraint, GrammarError>) {}

    fn cancel(&mut self, id: RequestId) {
        let waiting = self.waiting.iter().position(|sequence| sequence.id() == id);
        if let Some(sequence) = waiting.and_then(|index| self.waiting.remove(index)) {
            self.out.push(sequence.done(FinishReason::Cancelled));
        }
        let running = self.running.iter().position(|running| running.sequence.id() == id);
        if let Some(index) = running {
            let sequence = self.leave(index, false);
            self.out.push(sequence.done(FinishReason::Cancelled));
        }
    }

    /// The runtime keeps prefixes by itself until others need the room, and has no way to
    /// be told.
    fn forget(&mut self, _asker: Asker) {}

    fn abandon(&mut self) {
        self.waiting.clear();
        for Running { ticket, .. } in std::mem::take(&mut self.running) {
            self.withdraw(ticket);
        }
        self.out.clear();
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.executor.set_pace(Duration::from_micros(u64::from(limits.pace_us)));
    }

    /// The runtime computes elsewhere.
    fn share_cores(&mut self, _alone: bool) {}

    /// The runtime keeps it.
    fn rest(&self, _step: Duration) -> Duration {
        Duration::ZERO
    }

    fn rested(&mut self, _step: Duration, _rest: Duration) {}

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    fn has_work(&self) -> bool {
        !self.is_idle()
    }

    fn take_messages(&mut self) -> Vec<FromWorker> {
        std::mem::take(&mut self.out)
    }

    fn progress(&mut self) -> Heartbeat {
        let decoding =
            self.running.iter().filter(|running| running.sequence.next().is_some()).count();
        self.progress.decoding = count(decoding);
        self.progress.prefilling = count(self.running.len() - decoding);
        self.progress.waiting = count(self.waiting.len());
        self.progress.device_memory = self.executor.device_memory();
        let progress = self.progress.clone();
        self.progress.worst_step_us = 0;
        progress
    }

    /// Hands over who waits and takes what has come; waits for it if there is
    /// nothing, but not long.
    fn step(&mut self) -> Result<(), StepError> {
        self.hand_over();
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let most = if self.running.is_empty() { Duration::ZERO } else { self.look };
        let gains = self.executor.wait(most)?;
        let nothing_came = gains.is_empty();
        self.look = if nothing_came { LONGEST_LOOK.min(self.look * 2) } else { SHORTEST_LOOK };
        for gain in gains {
            self.take(gain);
        }
        self.note_work()
    }
}

/// A count as the protocol carries it; nothing here comes near the bound.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use engine_api::form::Grammar;
    use engine_api::protocol::{DeviceMemory, ModelFacts};

    use super::*;
    use crate::backend::Description;
    use crate::backend::echo::EchoVocabulary;
    use crate::backend::executor::Work;
    use crate::grammar::Grammars;
    use crate::requests::promises::{CONTEXT, LIMITS, chat, request};

    /// A runtime that says something in its sixth wait, and notes how long each
    /// may take.
    struct Reticent(Rc<RefCell<Vec<u128>>>);

    impl Executor for Reticent {
        fn description(&self) -> Description {
            Description {
                backend: "reticent",
                device: String::new(),
                model: ModelFacts::default(),
                slots: 8,
                context: CONTEXT,
                kv_bytes: 0,
                threads: 1,
                largest_step: 1,
                reproducible: false,
            }
        }

        fn start(&mut self, _order: &Order<'_>) -> Result<Ticket, String> {
            Ok(1)
        }

        fn cancel(&mut self, _ticket: Ticket) -> Result<(), StepError> {
            Ok(())
        }

        fn wait(&mut self, most: Duration) -> Result<Vec<Gain>, StepError> {
            let mut waits = self.0.borrow_mut();
            waits.push(most.as_millis());
            let gain = Gain { ticket: 1, tokens: Ok(vec![TokenId(97)]), is_last: false };
            Ok(if waits.len() == 6 { vec![gain] } else { Vec::new() })
        }

        fn work(&mut self) -> Result<Work, StepError> {
            Ok(Work::default())
        }

        fn set_pace(&mut self, _pace: Duration) {}

        fn device_memory(&self) -> Option<DeviceMemory> {
            None
        }
    }

    fn queue(waits: Rc<RefCell<Vec<u128>>>) -> Queue {
        let vocabulary = Arc::new(EchoVocabulary::new());
        Queue::new(Box::new(Reticent(waits)), vocabulary, 8, CONTEXT, LIMITS)
    }

    #[test]
    fn a_request_with_a_grammar_fails_as_it_comes_and_nobody_waits() {
        let mut queue = queue(Rc::default());
        let grammar = Some(Grammar::JsonObject);
        queue.add(Generate { grammar, ..request(1, chat("hello")) }, Instant::now());
        let messages = queue.take_messages();
        let failed =
            |message: &FromWorker| matches!(message, FromWorker::Failed { id: RequestId(1), .. });
        assert!(messages.len() == 1 && failed(&messages[0]), "{messages:?}");
        assert!(queue.is_idle() && !queue.has_work());
        // What its compiler still says is nobody's.
        let vocabulary = Arc::new(EchoVocabulary::new());
        queue.constrain(RequestId(1), Grammars::new(vocabulary).start(&Grammar::JsonObject, &[]));
        assert!(queue.take_messages().is_empty());
    }

    #[test]
    fn a_runtime_that_says_nothing_is_asked_less_often() {
        let waits = Rc::default();
        let mut queue = queue(Rc::clone(&waits));
        queue.add(request(1, chat("hello")), Instant::now());
        for _ in 0..8 {
            queue.step().unwrap();
        }
        assert_eq!(*waits.borrow(), [10, 20, 40, 80, 100, 100, 10, 20]);
    }
}
