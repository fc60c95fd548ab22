//! Who asks for what, and when. Each client waits for its answer, then thinks.

use crate::dice::Dice;
use crate::heat::cell::Load;

/// From one burst to the next.
const BURST_EVERY_S: f64 = 300.0;

/// A request as it comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    pub at: f64,
    pub client: usize,
    pub prompt: u32,
    pub answer: u32,
}

/// The clients of one load.
#[derive(Debug)]
pub struct Clients {
    load: Load,
    dice: Dice,
    /// What each client asks next; `None` while it waits for an answer.
    next: Vec<Option<Arrival>>,
}

impl Clients {
    #[must_use]
    pub fn new(load: Load, seed: u64) -> Self {
        let count = match load {
            Load::Idle => 0,
            Load::OneUser => 1,
            Load::LongPrefills => 4,
            Load::BurstOfEight | Load::SustainedEight => 8,
        };
        let mut clients = Self { load, dice: Dice::new(seed, &[]), next: vec![None; count] };
        for client in 0..count {
            let at = if load == Load::BurstOfEight { 5.0 } else { clients.between(1.0, 10.0) };
            clients.ask(client, at);
        }
        clients
    }

    /// When somebody asks next.
    #[must_use]
    pub fn next_at(&self) -> Option<f64> {
        self.next.iter().flatten().map(|arrival| arrival.at).reduce(f64::min)
    }

    /// Everybody who has asked by `now`.
    pub fn arrived(&mut self, now: f64) -> Vec<Arrival> {
        let due = |next: &mut Option<Arrival>| next.take_if(|arrival| arrival.at <= now);
        self.next.iter_mut().filter_map(due).collect()
    }

    /// The client has its answer, or knows that it gets none.
    pub fn answered(&mut self, client: usize, now: f64) {
        let think = match self.load {
            Load::OneUser => self.between(5.0, 30.0),
            Load::LongPrefills => self.between(2.0, 8.0),
            Load::BurstOfEight => {
                let next = (now / BURST_EVERY_S).floor() + 1.0;
                return self.ask(client, next * BURST_EVERY_S + 5.0);
            }
            Load::Idle | Load::SustainedEight => self.between(0.5, 2.0),
        };
        self.ask(client, now + think);
    }

    fn ask(&mut self, client: usize, at: f64) {
        let (prompt, answer) = match self.load {
            Load::LongPrefills => (self.dice.within(3000, 6000), self.dice.within(48, 96)),
            _ => (self.dice.within(150, 900), self.dice.within(120, 360)),
        };
        let count = |tokens| u32::try_from(tokens).expect("prompts are short");
        self.next[client] =
            Some(Arrival { at, client, prompt: count(prompt), answer: count(answer) });
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        let share = f64::from(self.dice.seed()) / f64::from(i32::MAX);
        low + (high - low) * share
    }
}
