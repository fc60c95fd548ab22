//! The batch of an engine, in simulated time.
//!
//! Its order of work is engine-worker's: sequences that decode first, each a
//! token, the longest passed over first where not all may; then the prompts,
//! the shortest rest first, as many tokens as the limits leave beside running
//! answers, and as the engine can without. The two are steps of their own.

use std::time::Duration;

use engine_api::pace::Pacing;
use engine_api::protocol::Limits;
use virtual_jetson::{Board, Llm, Load, Work};

use crate::heat::clients::Arrival;

/// Prompt tokens computed at once while no answer is running.
pub const LARGEST_STEP: usize = 512;
/// Sequences that the engine was built for.
pub const PLACES: u16 = 8;

/// A request in the engine.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    asked: Arrival,
    /// Prompt tokens that are computed.
    computed: u32,
    given: u32,
    /// When it last got a token.
    last: f64,
    /// The turn in which it was last decoded.
    turn: u64,
}

impl Sequence {
    fn decodes(&self) -> bool {
        self.computed >= self.asked.prompt
    }

    fn context(&self) -> u64 {
        u64::from(self.computed + self.given)
    }
}

/// What came of one turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Clients whose answers are whole, with the tokens of each.
    pub answered: Vec<(usize, u32)>,
    pub tokens: u32,
    /// Seconds from one token of an answer to the next.
    pub gaps: Vec<f64>,
    /// Seconds from a request to its first token.
    pub first_tokens: Vec<f64>,
}

/// All that runs and waits.
#[derive(Debug)]
pub struct Engine {
    llm: Llm,
    limits: Limits,
    waiting: Vec<Sequence>,
    running: Vec<Sequence>,
    turns: u64,
    last_step: Option<Duration>,
    pacing: Pacing,
    /// Tokens decoded and of prompts computed.
    counters: (u64, u64),
}

impl Engine {
    #[must_use]
    pub fn new(llm: Llm, limits: Limits) -> Self {
        let (waiting, running) = (Vec::new(), Vec::new());
        Self {
            llm,
            limits,
            waiting,
            running,
            turns: 0,
            last_step: None,
            pacing: Pacing::default(),
            counters: (0, 0),
        }
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.pacing.set(Duration::from_micros(limits.pace_us.into()));
    }

    pub fn add(&mut self, asked: Arrival) {
        let sequence = Sequence { asked, computed: 0, given: 0, last: asked.at, turn: 0 };
        self.waiting.push(sequence);
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Requests being decoded and prefilled.
    #[must_use]
    pub fn at_work(&self) -> (u32, u32) {
        let decoding = self.running.iter().filter(|sequence| sequence.decodes()).count();
        let count = |count: usize| u32::try_from(count).expect("there are few places");
        (count(decoding), count(self.running.len() - decoding))
    }

    /// Requests that have no place yet.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    /// Tokens decoded, and of prompts computed.
    #[must_use]
    pub fn counters(&self) -> (u64, u64) {
        self.counters
    }

    #[must_use]
    pub fn last_step(&self) -> Option<Duration> {
        self.last_step
    }

    /// The process is gone: everybody who waited is told so.
    pub fn lose_all(&mut self) -> Vec<usize> {
        let lost = self.running.drain(..).chain(self.waiting.drain(..));
        lost.map(|sequence| sequence.asked.client).collect()
    }

    /// One turn of the engine at `now`; the board's time goes on by it.
    pub fn turn(&mut self, board: &mut Board, now: &mut f64) -> Turn {
        let began = *now;
        self.turns += 1;
        self.place();
        let mut turn = Turn::default();
        let decoded = self.decode(board, now, &mut turn);
        self.prefill(decoded, board, now, &mut turn);
        let length = Duration::from_secs_f64(*now - began);
        let rest = self.pacing.rest(length);
        self.pacing.rested(length, rest);
        if !rest.is_zero() {
            board.advance(rest, Load::IDLE);
            *now += rest.as_secs_f64();
        }
        turn
    }

    fn most(&self) -> usize {
        usize::from(self.limits.max_sequences).max(1)
    }

    fn place(&mut self) {
        while self.running.len() < usize::from(PLACES).min(self.most()) && !self.waiting.is_empty()
        {
            self.running.push(self.waiting.remove(0));
        }
    }

    fn decode(&mut self, board: &mut Board, now: &mut f64, turn: &mut Turn) -> bool {
        let mut chosen: Vec<usize> =
            (0..self.running.len()).filter(|index| self.running[*index].decodes()).collect();
        if chosen.is_empty() {
            return false;
        }
        chosen.sort_by_key(|index| self.running[*index].turn);
        chosen.truncate(self.most());
        let context = chosen.iter().map(|index| self.running[*index].context()).sum();
        let sequences = u32::try_from(chosen.len()).expect("there are few places");
        self.step(Work { sequences, context_tokens: context, prefill_tokens: 0 }, board, now);
        for index in chosen {
            let sequence = &mut self.running[index];
            sequence.turn = self.turns;
            sequence.given += 1;
            turn.gaps.push(*now - sequence.last);
            sequence.last = *now;
            turn.tokens += 1;
        }
        self.finish(turn);
        true
    }

    fn prefill(&mut self, decoded: bool, board: &mut Board, now: &mut f64, turn: &mut Turn) {
        let part = usize::from(self.limits.max_batch_tokens).clamp(1, LARGEST_STEP);
        let budget = if decoded { part } else { self.pacing.tokens_alone(part, LARGEST_STEP) };
        let mut budget = u32::try_from(budget).expect("steps are short");
        let mut order: Vec<usize> =
            (0..self.running.len()).filter(|index| !self.running[*index].decodes()).collect();
        order.sort_by_key(|index| {
            let sequence = &self.running[*index];
            sequence.asked.prompt - sequence.computed
        });
        let (mut parts, mut context) = (Vec::new(), 0);
        for index in order {
            let sequence = &self.running[index];
            let part = (sequence.asked.prompt - sequence.computed).min(budget);
            if part == 0 {
                break;
            }
            budget -= part;
            context += sequence.context();
            parts.push((index, part));
        }
        if parts.is_empty() {
            return;
        }
        let tokens = parts.iter().map(|(_, part)| part).sum();
        let work = Work { sequences: 0, context_tokens: context, prefill_tokens: tokens };
        self.step(work, board, now);
        for (index, part) in parts {
            let sequence = &mut self.running[index];
            sequence.computed += part;
            if sequence.decodes() {
                sequence.given = 1;
                sequence.last = *now;
                turn.first_tokens.push(*now - sequence.asked.at);
                turn.tokens += 1;
            }
        }
        self.finish(turn);
    }

    fn step(&mut self, work: Work, board: &mut Board, now: &mut f64) {
        let step = board.speed().step(&self.llm, work);
        board.advance(step.time, step.load);
        self.counters.0 += u64::from(work.sequences);
        self.counters.1 += u64::from(work.prefill_tokens);
        *now += step.time.as_secs_f64();
        self.last_step = Some(step.time);
        match work.prefill_tokens {
            0 => self.pacing.decoded(step.time),
            tokens => self.pacing.prefilled(tokens as usize, step.time),
        }
    }

    fn finish(&mut self, turn: &mut Turn) {
        self.running.retain(|sequence| {
            let done = sequence.decodes() && sequence.given >= sequence.asked.answer;
            if done {
                turn.answered.push((sequence.asked.client, sequence.given));
            }
            !done
        });
    }
}
