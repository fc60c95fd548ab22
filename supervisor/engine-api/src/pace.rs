//! How a pace is kept: how long a worker rests after a turn, and how much of a
//! prompt it computes at once while it has to rest.
//!
//! `Limits::pace_us` is the least time from one decode step to the next, so that a
//! step's length beside it says in which share of the time the engine may compute.
//! That share holds for longer turns too: one that computes a part of a prompt as
//! well is followed by a rest that is longer by as much. Otherwise a long prompt
//! would heat a board that is told to rest, or had to be computed in parts so
//! small that each of them reads the weights for a few tokens.
//!
//! The rest that a long turn asks for is owed and paid back over the turns that
//! follow, a little with each, so that whoever reads an answer sees even gaps and not
//! some that are many times as long as the others. Where nobody reads it is paid at
//! once.

use std::time::Duration;

/// Longest rest after a turn, beyond what the pace itself asks for. A worker that
/// rests for longer would look like one that hangs.
pub const MOST_REST: Duration = Duration::from_secs(2);
/// Prompt tokens in a step from which on it tells what each of them takes.
const TELLING: usize = 32;
/// The most rest that is owed, in seconds, and the share of it that a turn pays back.
/// Prompts come in every few turns, so that the share has to be small to be even.
const MOST_OWED: f64 = 20.0;
const PAID: f64 = 0.02;
/// The least share of the time in which anything is computed.
const LEAST_DUTY: f64 = 0.02;

/// What a pace is measured against: how long this engine's steps take.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pacing {
    pace: Duration,
    /// The last decode step.
    decode: Option<Duration>,
    /// A prompt's token in the last step that computed some.
    prompt_token: Option<Duration>,
    /// Something was decoded in this turn: somebody reads.
    read: bool,
    /// Rest that earlier turns asked for and did not get, in seconds.
    owed: f64,
}

impl Pacing {
    /// From now on this is the least time between two decode steps.
    pub fn set(&mut self, pace: Duration) {
        self.pace = pace;
        if pace.is_zero() {
            self.owed = 0.0;
        }
    }

    /// A decode step was computed.
    pub fn decoded(&mut self, took: Duration) {
        self.decode = Some(took);
        self.read = true;
    }

    /// So many tokens of prompts were computed in one step.
    pub fn prefilled(&mut self, tokens: usize, took: Duration) {
        // The few tokens at a prompt's end cost as much as more would.
        if tokens >= TELLING || self.prompt_token.is_none() {
            let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            self.prompt_token = took.checked_div(tokens);
        }
    }

    /// The rest after a turn of this length.
    #[must_use]
    pub fn rest(&self, turn: Duration) -> Duration {
        let (least, due) = (self.pace.saturating_sub(turn), self.owed + self.asked(turn));
        let wanted = match self.read {
            true => (least.as_secs_f64() + self.owed * PAID).min(due),
            false => due,
        };
        let wanted = Duration::try_from_secs_f64(wanted).unwrap_or(MOST_REST).min(MOST_REST);
        least.max(wanted)
    }

    /// So long was a turn, and the rest after it.
    pub fn rested(&mut self, turn: Duration, rest: Duration) {
        self.read = false;
        let owed = self.owed + self.asked(turn) - rest.as_secs_f64();
        self.owed = owed.clamp(0.0, MOST_OWED);
    }

    /// Seconds of rest that a turn asks for.
    fn asked(&self, turn: Duration) -> f64 {
        turn.as_secs_f64() * (1.0 / self.duty() - 1.0)
    }

    /// Prompt tokens to compute at once where no answer is running: `most`, or so
    /// many that the rest after them is long enough. `part` is always right.
    #[must_use]
    pub fn tokens_alone(&self, part: usize, most: usize) -> usize {
        let duty = self.duty();
        if self.pace.is_zero() {
            return most;
        }
        if self.decode.is_none() {
            return part.min(most);
        }
        let longest = MOST_REST.as_secs_f64() * duty / (1.0 - duty).max(1e-9);
        let token = self.prompt_token.map_or(f64::INFINITY, |token| token.as_secs_f64());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count that is not negative; what is too large for it is cut below"
        )]
        let tokens = (longest / token.max(1e-9)) as usize;
        tokens.clamp(part.min(most), most)
    }

    /// Prompt tokens that take about so long, by the last ones, but `most` at most.
    #[must_use]
    pub fn tokens_within(&self, time: Duration, most: usize) -> usize {
        let token = self.prompt_token.map_or(0, |token| token.as_micros());
        let tokens = time.as_micros().checked_div(token);
        let tokens = tokens.and_then(|tokens| usize::try_from(tokens).ok()).unwrap_or(most);
        // Fewer take about as long, and would not tell how long that is now.
        tokens.clamp(TELLING.min(most), most)
    }

    /// The share of the time in which the engine may compute.
    fn duty(&self) -> f64 {
        match self.decode {
            _ if self.pace.is_zero() => 1.0,
            // Nothing was decoded yet: the pace is all that is known.
            None => 1.0,
            Some(decode) => (decode.as_secs_f64() / self.pace.as_secs_f64()).clamp(LEAST_DUTY, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Decode steps of 50 ms at a pace of 200 ms, and prompts of 1000 tokens/s.
    fn quarter() -> Pacing {
        let mut pacing = Pacing::default();
        pacing.set(ms(200));
        pacing.decoded(ms(50));
        pacing.prefilled(64, ms(64));
        pacing
    }

    #[test]
    fn where_nobody_reads_a_longer_turn_is_followed_by_a_longer_rest() {
        let mut pacing = quarter();
        pacing.rested(ms(50), ms(150));
        assert_eq!(pacing.rest(ms(50)), ms(150));
        assert_eq!(pacing.rest(ms(114)), ms(342));
        assert_eq!(pacing.rest(ms(30)), ms(170), "the pace itself is kept");
        assert_eq!(pacing.rest(ms(5000)), MOST_REST);
        assert_eq!(Pacing::default().rest(ms(5000)), Duration::ZERO);
    }

    #[test]
    fn gaps_are_even_where_some_turns_are_long() {
        let mut pacing = quarter();
        let (mut gaps, mut computed) = (Vec::new(), Duration::ZERO);
        for turn in (0..600).map(|turn| if turn % 4 == 0 { ms(110) } else { ms(50) }) {
            pacing.decoded(ms(50));
            let rest = pacing.rest(turn);
            pacing.rested(turn, rest);
            gaps.push(turn + rest);
            computed += turn;
        }
        // On average a turn takes 65 ms, four times that are 260 ms.
        let settled = &gaps[300..];
        assert!(settled.iter().all(|gap| (ms(245)..ms(275)).contains(gap)), "{settled:?}");
        let share = computed.as_secs_f64() / gaps.iter().sum::<Duration>().as_secs_f64();
        assert!((0.24..0.28).contains(&share), "{share}");
    }

    #[test]
    fn what_is_owed_is_forgotten_when_there_is_no_pace() {
        let mut pacing = quarter();
        pacing.rested(ms(300), ms(0));
        pacing.set(Duration::ZERO);
        assert_eq!(pacing.rest(ms(50)), Duration::ZERO);
        pacing.set(ms(200));
        assert_eq!(pacing.rest(ms(50)), ms(150), "and what is owed now is its own");
    }

    #[test]
    fn before_anything_was_decoded_only_the_pace_is_known() {
        let mut pacing = Pacing::default();
        pacing.set(ms(200));
        assert_eq!((pacing.rest(ms(50)), pacing.rest(ms(500))), (ms(150), Duration::ZERO));
        assert_eq!(pacing.tokens_alone(64, 512), 64);
    }

    #[test]
    fn a_prompt_alone_is_computed_in_parts_that_can_be_rested_for() {
        assert_eq!(quarter().tokens_alone(64, 512), 512);
        let mut deep = quarter();
        deep.set(ms(1000));
        assert_eq!(deep.tokens_alone(64, 512), 105, "2 s of rest at a twentieth");
        deep.set(ms(2500));
        assert_eq!(deep.tokens_alone(64, 512), 64, "and never less than a part");
        assert_eq!(Pacing::default().tokens_alone(64, 512), 512);
    }

    #[test]
    fn a_step_is_as_long_as_it_may_be() {
        let within = |each: u64| {
            let mut pacing = Pacing::default();
            pacing.prefilled(100, ms(100 * each));
            pacing.tokens_within(ms(250), 128)
        };
        assert_eq!([0, 1, 5, 50].map(within), [128, 128, 50, TELLING]);
        assert_eq!(Pacing::default().tokens_within(ms(250), 128), 128);
        assert_eq!(Pacing::default().tokens_within(ms(250), 8), 8);
    }

    proptest! {
        #[test]
        fn the_share_of_the_time_is_kept_within_the_longest_rest(
            pace in 1_u64..5_000, decode in 1_u64..500, turn in 1_u64..5_000,
        ) {
            let mut pacing = Pacing::default();
            pacing.set(ms(pace));
            pacing.decoded(ms(decode));
            pacing.rested(ms(decode), ms(pace.saturating_sub(decode)));
            let rest = pacing.rest(ms(turn));
            prop_assert!(rest <= MOST_REST.max(ms(pace)));
            let share = turn as f64 / (ms(turn) + rest).as_secs_f64() / 1e3;
            let duty = (decode as f64 / pace as f64).clamp(LEAST_DUTY, 1.0);
            prop_assert!(rest >= MOST_REST || share <= duty + 1e-6);
        }

        #[test]
        fn what_is_owed_is_rested_within_some_turns(
            pace in 60_u64..200, turns in prop::collection::vec(20_u64..120, 1..100),
        ) {
            let mut pacing = quarter();
            pacing.set(ms(pace));
            let (mut computed, mut all) = (Duration::ZERO, Duration::ZERO);
            // Plain decode steps at the end have time for what is owed.
            for turn in turns.into_iter().chain([50; 1000]).map(ms) {
                pacing.decoded(ms(50));
                let rest = pacing.rest(turn);
                prop_assert!(rest <= MOST_REST.max(ms(pace)));
                pacing.rested(turn, rest);
                computed += turn;
                all += turn + rest;
            }
            let duty = 50.0 / pace as f64;
            prop_assert!(computed.as_secs_f64() <= duty * (all.as_secs_f64() + 0.1));
        }
    }
}
