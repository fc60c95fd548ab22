//! What the engine's time goes into, prompts or answers, and how it is best shared.
//!
//! | what is asked | how it is served |
//! |---|---|
//! | anything, where tokens are to cost little | prompts in parts as large as a saver bears: they cost least |
//! | mostly prompts, by several | one after the other: each is computed in steps as large as can be, with nobody beside it to be held up |
//! | mostly answers, prompts seldom | prompts in parts as large as a reader bears: few gaps are long, and the others are short |
//! | anything, on a board that is held back | the same: heat is what there is least of, and each part costs a pass over the weights |
//! | many who read, few who wait | parts as short as a decode step: no gap is long |
//! | anything else | parts as the operator has them |
//!
//! A part beside running answers costs a decode step each time, so that prompts of
//! thousands of tokens take twice as long in small parts, and everybody who reads
//! or waits bears it.
//!
//! What speaks for one after the other is known from the engine's measured speeds,
//! which are those of a short prompt, alone. So it is tried, and given up where the
//! engine gets less done than it did before.

use std::time::{Duration, Instant};

use engine_api::pace::MOST_REST;

use super::facts::{Alone, Work};

/// Over how long the mix is averaged, in seconds of work: several of the longest
/// requests, because served one by one, prompts and answers come in turns.
const AVERAGE: f64 = 240.0;
/// Work that must have been seen before anything follows from it, in seconds.
const SEEN: f64 = 60.0;
/// Work at the beginning that says nothing of how much gets done, in seconds: all
/// begin with their prompts, and are in step for a while.
const START: f64 = 150.0;
/// One answer does not keep others waiting for longer, in seconds.
const MOST_ALONE: f64 = 30.0;
/// Longest time between two looks that is counted, in seconds.
const GAP: f64 = 10.0;
/// Prompts take so many times the time of answers, each alone: from here on one
/// after the other, down to there still.
const PROMPTS: (f64, f64) = (1.2, 1.0);
/// What requests get done together, to what each of them would alone. Where they
/// gain from each other, that is not given up for shorter gaps.
const TOGETHER: f64 = 1.05;
/// Work after which it shows how much gets done together, in seconds, and after which
/// it shows how much is done one after the other: requests come in turns then, so that
/// minutes with more answers and with more prompts follow each other.
const TELLS: f64 = 120.0;
const TELLS_ONE_BY_ONE: f64 = 600.0;
/// As much is this share of what was done before.
const AS_MUCH: f64 = 0.975;
/// Work before it is tried again where it got less done, in seconds.
const AGAIN: f64 = 3600.0;
/// Requests at once, on average, from which on there is somebody to serve first.
const SEVERAL: f64 = 1.5;
/// The share of gaps in which a large part may fall, and may stay.
const SELDOM: (f64, f64) = (0.045, 0.05);
/// How long a large part may hold up running answers, in seconds.
const BEARABLE: f64 = 0.9;
/// The share of full speed below which a board counts as held back, and counts so still.
const HELD_BACK: (f64, f64) = (0.97, 0.999);
/// A large part that is not so many times the operator's is not worth a change.
const LARGE: f64 = 1.5;
/// Readers for each one who waits, from which on parts are small, and stay so.
const READERS: (f64, f64) = (2.5, 1.5);
/// Least prompt tokens between two steps: with fewer, a prompt costs far more
/// passes over the weights than it is worth.
const LEAST_PART: f64 = 16.0;
/// Where the engine computes less than this, nobody notices a small part beside the
/// pauses.
const PAUSED: f64 = 0.8;
/// How long a small part takes, in decode steps of one request.
const SMALL: f64 = 1.25;

/// How prompts and answers share the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Sharing {
    /// As the operator has it.
    #[default]
    Usual,
    OneByOne,
    /// Parts of so many tokens, more than usual.
    Large(u16),
    /// Of so many, fewer than usual.
    Small(u16),
}

impl Sharing {
    /// Whether it is worth a change.
    pub(super) fn differs(self, other: Self) -> bool {
        match (self, other) {
            (Self::Large(a), Self::Large(b)) | (Self::Small(a), Self::Small(b)) => {
                a.abs_diff(b) > a.max(b) / 5
            }
            (a, b) => a != b,
        }
    }
}

/// What sharing is chosen by, beside the mix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) alone: Alone,
    /// The operator's part, and the largest that the operator allows.
    pub(super) usual: u16,
    pub(super) largest: u16,
    /// The clock as a share of what `alone` was measured at.
    pub(super) clock: f64,
    /// The share of the time in which the engine computes.
    pub(super) duty: f64,
    /// Tokens are to cost little.
    pub(super) saves: bool,
}

/// Averages of what is asked of the engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Mix {
    last: Option<(Instant, u64, u64)>,
    /// What the averages are made of.
    seconds: f64,
    /// The beginning is over.
    started: bool,
    /// Tokens each second, at full speed.
    decoded: f64,
    prefilled: f64,
    /// Requests.
    decoding: f64,
    prefilling: f64,
    waiting: f64,
    /// Seconds of work since a prompt was last computed.
    without_prompts: f64,
    /// What was done together, before requests were served one after the other.
    before: Option<f64>,
    /// Seconds of work before that is tried again.
    refused: f64,
}

impl Mix {
    /// `speed`: at which the engine may run now, as a share of full speed.
    pub(super) fn observe(&mut self, work: &Work, speed: f64, now: Instant) {
        let counters = (now, work.decoded, work.prefilled);
        let Some((then, decoded, prefilled)) = self.last.replace(counters) else { return };
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        // A new engine counts from zero.
        let grown =
            |now: u64, before: u64| now.saturating_sub(before) as f64 / (seconds * speed.max(0.01));
        if !work.is_busy() || seconds > GAP || seconds <= 0.0 {
            return;
        }
        if !self.started && self.seconds >= START {
            self.started = true;
            self.seconds = 0.0;
        }
        self.seconds += seconds;
        self.refused = (self.refused - seconds).max(0.0);
        let computes = work.prefilled > prefilled;
        self.without_prompts = if computes { 0.0 } else { self.without_prompts + seconds };
        let weight = (1.0 - (-seconds / AVERAGE).exp()).max(seconds / self.seconds.max(seconds));
        let toward = |usual: f64, now: f64| usual + (now - usual) * weight;
        self.decoded = toward(self.decoded, grown(work.decoded, decoded));
        self.prefilled = toward(self.prefilled, grown(work.prefilled, prefilled));
        self.decoding = toward(self.decoding, f64::from(work.decoding));
        self.prefilling = toward(self.prefilling, f64::from(work.prefilling));
        self.waiting = toward(self.waiting, f64::from(work.waiting));
    }

    /// How to share the engine from now on; `now` is how it is shared.
    pub(super) fn choose(&self, now: Sharing, choice: Choice) -> Sharing {
        let Choice { usual, saves, .. } = choice;
        let large = choice.part(BEARABLE);
        let is_large = f64::from(large) >= LARGE * f64::from(usual);
        if saves {
            // Whatever is asked.
            return if is_large { Sharing::Large(large) } else { Sharing::Usual };
        }
        if self.seconds < SEEN {
            return now;
        }
        let kept = |is: bool, (enter, stay): (f64, f64)| if is { stay } else { enter };
        // Served one by one, those who come next wait.
        let several = self.decoding + self.prefilling + self.waiting >= SEVERAL;
        let alone = self.without_prompts >= MOST_ALONE;
        let is_one = now == Sharing::OneByOne;
        let costs_nothing = match is_one {
            true => self.gets_as_much_done(choice.alone),
            false => self.may_be_tried(choice.alone),
        };
        let prompts = self.prompts(choice.alone) >= kept(is_one, PROMPTS);
        if several && !alone && costs_nothing && prompts {
            return Sharing::OneByOne;
        }
        let stays = matches!(now, Sharing::Large(_));
        let seldom = self.interrupted(large) <= kept(stays, SELDOM);
        let held_back = choice.clock * choice.duty < kept(stays, HELD_BACK);
        if is_large && (seldom || held_back) {
            return Sharing::Large(large);
        }
        let readers = kept(matches!(now, Sharing::Small(_)), READERS);
        let small = choice.small();
        if choice.duty >= PAUSED
            && small < usual
            && self.decoding > 1.0
            && self.decoding > readers * self.prefilling
        {
            return Sharing::Small(small);
        }
        Sharing::Usual
    }

    /// The engine is shared in another way from now on: one after the other begins,
    /// or ends.
    pub(super) fn turned(&mut self, from: Sharing, to: Sharing, alone: Alone) {
        match (from, to) {
            (from, to) if from == to => return,
            (_, Sharing::OneByOne) => self.before = Some(self.together(alone)),
            (Sharing::OneByOne, _) => {
                if !self.gets_as_much_done(alone) {
                    self.refused = AGAIN;
                }
                self.before = None;
            }
            _ => return,
        }
        // What was is no longer.
        self.seconds = 0.0;
    }

    /// One after the other may get done as much as is done together.
    fn may_be_tried(&self, alone: Alone) -> bool {
        let tells = self.started && self.seconds >= TELLS;
        tells && self.refused <= 0.0 && self.together(alone) <= TOGETHER
    }

    /// One after the other, requests get done what they did together, or it is too
    /// early to tell.
    fn gets_as_much_done(&self, alone: Alone) -> bool {
        let enough = |before: f64| self.together(alone) >= AS_MUCH * before;
        self.seconds < TELLS_ONE_BY_ONE || self.before.is_none_or(enough)
    }

    /// Time that prompts take to that of answers, each computed alone.
    fn prompts(&self, alone: Alone) -> f64 {
        let answers = self.decoded * alone.decode_step.as_secs_f64();
        self.prefilled * alone.prompt_token.as_secs_f64() / answers.max(1e-9)
    }

    /// Seconds of work, each computed alone, that a second of work gets done.
    fn together(&self, alone: Alone) -> f64 {
        self.decoded * alone.decode_step.as_secs_f64()
            + self.prefilled * alone.prompt_token.as_secs_f64()
    }

    /// The share of decode steps that a part of so many tokens follows. A prompt
    /// ends with a part that is half as large, on average.
    fn interrupted(&self, part: u16) -> f64 {
        let steps = self.decoded / self.decoding.max(1.0);
        1.35 * self.prefilled / f64::from(part.max(1)) / steps.max(1e-9)
    }
}

impl Choice {
    /// The largest part that holds others up for so many seconds at most, the rest after
    /// it included, and can be rested for.
    fn part(self, seconds: f64) -> u16 {
        let slowed = |time: Duration| time.as_secs_f64() / self.clock.max(0.05);
        let rested = MOST_REST.as_secs_f64() * self.duty / (1.0 - self.duty).max(1e-9);
        let seconds = (seconds * self.duty).min(rested - slowed(self.alone.decode_step));
        let token = slowed(self.alone.prompt_token);
        whole((seconds / token.max(1e-9)).min(f64::from(self.largest)))
    }

    /// A part that takes about as long as a decode step. On a GPU it costs one pass
    /// over the weights and hardly more.
    fn small(self) -> u16 {
        let Alone { decode_step, prompt_token } = self.alone;
        whole(SMALL * decode_step.as_secs_f64() / prompt_token.as_secs_f64().max(1e-9))
    }
}

fn whole(tokens: f64) -> u16 {
    let tokens = tokens.clamp(LEAST_PART, f64::from(u16::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was clamped")]
    let tokens = tokens as u16;
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICE: Choice = Choice {
        alone: Alone {
            decode_step: Duration::from_millis(40),
            prompt_token: Duration::from_millis(1),
        },
        usual: 64,
        largest: 512,
        clock: 1.0,
        duty: 1.0,
        saves: false,
    };

    /// Five minutes of so many decoding and waiting, with tokens each second.
    fn mix(at_once: (u32, u32), decoded: u64, prefilled: u64) -> Mix {
        let mut mix = Mix::default();
        goes_on(&mut mix, Instant::now(), at_once, decoded, prefilled);
        mix
    }

    /// Five minutes more, from `start` on.
    fn goes_on(
        mix: &mut Mix,
        start: Instant,
        at_once: (u32, u32),
        decoded: u64,
        prefilled: u64,
    ) -> Instant {
        let (_, tokens, prompts) = mix.last.unwrap_or((start, 0, 0));
        for second in (0..300).step_by(2) {
            let work = Work {
                decoding: at_once.0,
                prefilling: at_once.1,
                decoded: tokens + decoded * second,
                prefilled: prompts + prefilled * second,
                ..Work::default()
            };
            mix.observe(&work, 1.0, start + Duration::from_secs(second));
        }
        start + Duration::from_secs(300)
    }

    #[test]
    fn several_long_prompts_are_served_one_after_the_other() {
        let long = mix((1, 3), 9, 560);
        assert_eq!(long.choose(Sharing::Usual, CHOICE), Sharing::OneByOne);
        let alone = mix((0, 1), 9, 560);
        assert_eq!(alone.choose(Sharing::Usual, CHOICE), Sharing::Usual, "nobody else is there");
        let together = mix((4, 3), 11, 640);
        assert_eq!(together.choose(Sharing::Usual, CHOICE), Sharing::Usual, "it would cost tokens");
        let fewer = mix((1, 3), 9, 400);
        assert_eq!(fewer.choose(Sharing::Usual, CHOICE), Sharing::Usual);
        assert_eq!(fewer.choose(Sharing::OneByOne, CHOICE), Sharing::OneByOne, "it stays a while");
    }

    #[test]
    fn one_after_the_other_is_given_up_where_it_gets_less_done() {
        for (prefilled, kept) in [(560, true), (555, true), (500, false)] {
            let (mut mix, alone) = (Mix::default(), CHOICE.alone);
            let later = goes_on(&mut mix, Instant::now(), (1, 3), 9, 560);
            mix.turned(Sharing::Usual, Sharing::OneByOne, alone);
            let later = goes_on(&mut mix, later, (1, 2), 9, prefilled);
            let chosen = mix.choose(Sharing::OneByOne, CHOICE);
            assert_eq!(chosen, Sharing::OneByOne, "five minutes tell nothing");
            let later = goes_on(&mut mix, later, (1, 2), 9, prefilled);
            let chosen = mix.choose(Sharing::OneByOne, CHOICE);
            assert_eq!(chosen == Sharing::OneByOne, kept, "{prefilled} tokens a second");
            mix.turned(Sharing::OneByOne, Sharing::Usual, alone);
            let mut later = goes_on(&mut mix, later, (1, 3), 9, 560);
            let again = mix.choose(Sharing::Usual, CHOICE);
            assert_eq!(again == Sharing::OneByOne, kept, "nothing has changed");
            for _ in 0..12 {
                later = goes_on(&mut mix, later, (1, 3), 9, 560);
            }
            let again = mix.choose(Sharing::Usual, CHOICE);
            assert_eq!(again, Sharing::OneByOne, "an hour later it is tried again");
        }
    }

    #[test]
    fn nothing_follows_from_a_few_seconds() {
        let mut mix = mix((1, 3), 9, 560);
        mix.turned(Sharing::Usual, Sharing::OneByOne, CHOICE.alone);
        let idle = Work { decoding: 1, ..Work::default() };
        mix.observe(&idle, 1.0, Instant::now());
        assert_eq!(mix.choose(Sharing::OneByOne, CHOICE), Sharing::OneByOne);
    }

    #[test]
    fn parts_are_large_where_they_are_seldom_and_bearable() {
        let answers = mix((7, 1), 120, 200);
        assert_eq!(answers.choose(Sharing::Usual, CHOICE), Sharing::Large(512));
        let slow = Alone { prompt_token: Duration::from_millis(5), ..CHOICE.alone };
        let slow = Choice { alone: slow, ..CHOICE };
        assert_eq!(
            answers.choose(Sharing::Usual, slow),
            Sharing::Small(16),
            "512 would take 2.6 s"
        );
        let operator = Choice { largest: 64, ..CHOICE };
        assert_eq!(answers.choose(Sharing::Usual, operator), Sharing::Small(50));
        let capped = Choice { clock: 0.5, ..CHOICE };
        let seldom = mix((7, 1), 120, 100);
        assert_eq!(seldom.choose(Sharing::Large(512), capped), Sharing::Large(450));
    }

    #[test]
    fn on_a_board_that_is_held_back_parts_are_as_large_as_is_bearable() {
        let hot = Choice { duty: 0.3, clock: 0.5, ..CHOICE };
        let reading = mix((7, 1), 120, 200);
        assert_eq!(reading.choose(Sharing::Usual, CHOICE), Sharing::Large(512));
        assert_eq!(reading.choose(Sharing::Usual, hot), Sharing::Large(135), "rests come with it");
        let mixed = mix((4, 3), 11, 640);
        assert_eq!(mixed.choose(Sharing::Usual, CHOICE), Sharing::Usual);
        let hardly = Choice { clock: 0.98, ..CHOICE };
        assert_eq!(mixed.choose(Sharing::Usual, hardly), Sharing::Usual);
        assert_eq!(mixed.choose(Sharing::Large(512), hardly), Sharing::Large(512), "it stays");
        let prompts = mix((1, 3), 9, 560);
        assert_eq!(prompts.choose(Sharing::Usual, hot), Sharing::OneByOne, "nobody is beside them");
    }

    #[test]
    fn to_save_energy_parts_are_large_whatever_is_asked() {
        let saves = Choice { saves: true, ..CHOICE };
        assert_eq!(mix((1, 3), 9, 560).choose(Sharing::Usual, saves), Sharing::Large(512));
        let slow = Alone { prompt_token: Duration::from_millis(10), ..CHOICE.alone };
        let slow = Choice { alone: slow, ..saves };
        assert_eq!(Mix::default().choose(Sharing::Usual, slow), Sharing::Usual, "80 are no more");
        let rare = Choice { duty: 0.3, ..saves };
        let rested = mix((1, 3), 9, 560).choose(Sharing::Usual, rare);
        assert_eq!(rested, Sharing::Large(270), "a third of it, because the rest is as long again");
    }
}
