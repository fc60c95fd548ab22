//! Which clock gives most work for each joule, found by trying.
//!
//! Published sweeps disagree: one board is thriftiest at two thirds of its
//! clock, another at nearly all of it, and the model and the power mode matter.
//! So the next lower and the next higher clock are tried now and then, for as
//! long as it takes to tell, and kept if they are better.

use std::time::{Duration, Instant};

use super::facts::Work;

/// Busy time that a measurement takes, in seconds.
const WINDOW: f64 = 90.0;
/// How much better another clock must be.
const BETTER: f64 = 1.02;
/// When a clock that was worse is tried again.
const AGAIN: Duration = Duration::from_secs(1800);
/// Batches whose mean sizes differ by more than this share are not compared.
const ALIKE: f64 = 0.25;
/// Longest time between two looks that is counted, in seconds.
const GAP: f64 = 10.0;
/// A prompt's token counts as this much of a decoded one, if nobody measured it.
const PROMPT_TOKEN: f64 = 0.03;

#[derive(Debug, Clone, Default)]
pub(super) struct Thrift {
    /// What was measured at each clock, the highest first.
    seen: Vec<Option<Seen>>,
    home: usize,
    trial: Option<usize>,
    window: Window,
    last: Option<(Instant, u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    per_joule: f64,
    batch: f64,
    at: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    seconds: f64,
    joules: f64,
    work: f64,
    batch_seconds: f64,
}

impl Thrift {
    /// For so many clocks; nothing is known about them yet.
    pub(super) fn new(clocks: usize) -> Self {
        Self { seen: vec![None; clocks], ..Self::default() }
    }

    /// The clock to run at, 0 for the highest.
    pub(super) fn clock(&self) -> usize {
        self.trial.unwrap_or(self.home)
    }

    /// `holds`: the engine runs at [`Thrift::clock`] and nothing else limits it.
    pub(super) fn observe(&mut self, work: &Work, watts: Option<f64>, holds: bool, now: Instant) {
        let counters = (now, work.decoded, work.prefilled);
        let Some((then, decoded, prefilled)) = self.last.replace(counters) else { return };
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        if !holds {
            self.window = Window::default();
            return;
        }
        let Some(watts) = watts.filter(|_| work.is_busy() && seconds <= GAP) else { return };
        // A new engine counts from zero.
        let decoded = work.decoded.saturating_sub(decoded) as f64;
        let prefilled = work.prefilled.saturating_sub(prefilled) as f64;
        let prompt_token = work.alone.map_or(PROMPT_TOKEN, |alone| {
            alone.prompt_token.as_secs_f64() / alone.decode_step.as_secs_f64().max(1e-9)
        });
        self.window.seconds += seconds;
        self.window.joules += watts * seconds;
        self.window.work += decoded + prefilled * prompt_token;
        self.window.batch_seconds += f64::from(work.decoding) * seconds;
        if self.window.seconds >= WINDOW {
            self.judge(now);
        }
    }

    /// A measurement is complete.
    fn judge(&mut self, now: Instant) {
        let Window { seconds, joules, work, batch_seconds } = std::mem::take(&mut self.window);
        let batch = batch_seconds / seconds;
        let seen = Seen { per_joule: work / joules.max(1e-9), batch, at: now };
        let clock = self.clock();
        let Some(place) = self.seen.get_mut(clock) else { return };
        *place = Some(seen);
        match self.trial.take() {
            None => self.trial = self.next_trial(now),
            Some(trial) => {
                let home = self.seen[self.home];
                let alike = home.is_some_and(|home| {
                    (home.batch - seen.batch).abs() <= ALIKE * home.batch.max(seen.batch)
                });
                match home {
                    Some(home) if alike && seen.per_joule > home.per_joule * BETTER => {
                        self.home = trial;
                    }
                    Some(_) if alike => {}
                    // Another load: home is measured anew, then this one.
                    _ => self.seen[trial] = None,
                }
            }
        }
    }

    /// A neighbour that was not tried lately, the lower one first.
    fn next_trial(&self, now: Instant) -> Option<usize> {
        let due = |clock: &usize| match self.seen.get(*clock) {
            Some(Some(seen)) => now.saturating_duration_since(seen.at) >= AGAIN,
            Some(None) => true,
            None => false,
        };
        [Some(self.home + 1), self.home.checked_sub(1)].into_iter().flatten().find(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours of eight requests at boards whose tokens for each joule are these.
    fn settled(per_joule: &[f64]) -> usize {
        let (start, mut thrift) = (Instant::now(), Thrift::new(per_joule.len()));
        let mut work = Work { decoding: 8, ..Work::default() };
        let mut tokens = 0.0;
        let mut homes = vec![0; per_joule.len()];
        for second in (0..7200).step_by(2) {
            let clock = thrift.clock();
            tokens += per_joule[clock] * 10.0 * 2.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is small"
            )]
            let decoded = tokens as u64;
            work.decoded = decoded;
            thrift.observe(&work, Some(10.0), true, start + Duration::from_secs(second));
            homes[clock] += 1;
        }
        (0..homes.len()).max_by_key(|clock| homes[*clock]).unwrap()
    }

    #[test]
    fn it_finds_the_clock_where_a_token_costs_least() {
        assert_eq!(settled(&[2.0, 1.8, 1.5, 1.2]), 0);
        assert_eq!(settled(&[1.0, 1.1, 1.25, 1.2]), 2);
        assert_eq!(settled(&[1.0, 1.005, 1.01]), 0, "not worth a lower speed");
        assert_eq!(settled(&[1.0]), 0);
    }

    #[test]
    fn loads_that_differ_are_not_compared() {
        let (start, mut thrift) = (Instant::now(), Thrift::new(3));
        let mut work = Work { decoding: 2, ..Work::default() };
        let mut at = start;
        let mut run = |thrift: &mut Thrift, decoding: u32, each: u64| {
            for _ in 0..50 {
                at += Duration::from_secs(2);
                work.decoding = decoding;
                work.decoded += each;
                thrift.observe(&work, Some(10.0), true, at);
            }
        };
        run(&mut thrift, 2, 20);
        assert_eq!(thrift.clock(), 1, "the lower one is tried");
        run(&mut thrift, 8, 80);
        assert_eq!(thrift.home, 0, "eight together cost less at any clock");
    }
}
