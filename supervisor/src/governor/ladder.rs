//! The ways to do less, from the one that costs least to the one that costs
//! most: notch 0 is full power, and each further one takes less.
//!
//! ```text
//!  full ─► GPU clock lower, step by step ─► pauses between steps ─► fewer at once
//! ```
//!
//! The clock goes first, because beyond what a board takes at rest, a token costs
//! less at a lower one (measured on an AGX Orin: 0.61 J at 612 MHz, 0.83 J at 1300
//! MHz, and no less further down). Between two
//! clocks stands one notch with short pauses, so that a notch is small. Pauses
//! go before the batch, since decoding together costs little more than alone.
//! Without permission for the clock, pauses are all there is before the batch.

use super::facts::Clock;

/// The lowest clock that is set, as a share of the highest that the chip can do in
/// any mode: below it the voltage falls no further, and a pause costs less.
const LOWEST: f64 = 0.5;
/// The same for a chip that is sold slower than others of its kind, in hertz: all of
/// them are one silicon, whose voltage is lowest there.
const LOWEST_HZ: f64 = 500e6;
/// Shares of the time in which the engine computes, once the clock is lowest.
const DUTIES: [f64; 19] = [
    0.93, 0.86, 0.79, 0.72, 0.65, 0.58, 0.51, 0.44, 0.38, 0.32, 0.26, 0.22, 0.18, 0.15, 0.125, 0.1,
    0.08, 0.065, 0.05,
];
/// From this share on, the batch is halved as well.
const FEWER_FROM: f64 = 0.05;
/// From this share on, the prompts' usual parts are a quarter: a rest is bounded, so
/// that a turn with a long part could not be rested for.
const SMALLER_FROM: f64 = 0.1;
/// The share of time at which a board is held that cannot be watched.
const BLIND: f64 = 0.26;

/// One way to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Notch {
    /// What the clock is capped to.
    pub(super) cap_hz: Option<u64>,
    /// Share of the time in which the engine computes.
    pub(super) duty: f64,
    /// The batch is divided by this.
    pub(super) divisor: u16,
    /// So are the prompts' usual parts.
    pub(super) part_divisor: u16,
    /// The clock as a share of the highest.
    clock: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ladder {
    notches: Vec<Notch>,
    /// The notch of each clock without pauses, the highest clock first.
    clocks: Vec<usize>,
    blind: usize,
}

impl Ladder {
    pub(super) fn new(clock: Option<&Clock>) -> Self {
        let available = clock.map_or(&[][..], |clock| &clock.available_hz);
        let highest = available.last().copied().unwrap_or(0) as f64;
        let share = |hz: u64| hz as f64 / highest;
        // Highest first. The highest itself needs no cap.
        let mut clocks: Vec<(Option<u64>, f64)> = vec![(None, 1.0)];
        let lowest = clock.map_or(0.0, |clock| (clock.top_hz as f64 * LOWEST).max(LOWEST_HZ));
        let lower = available.iter().rev().skip(1).filter(|hz| **hz as f64 >= lowest);
        clocks.extend(lower.map(|hz| (Some(*hz), share(*hz))));

        let (mut notches, mut starts) = (Vec::new(), Vec::new());
        for (index, (cap_hz, clock)) in clocks.iter().copied().enumerate() {
            let notch = Notch { cap_hz, duty: 1.0, divisor: 1, part_divisor: 1, clock };
            starts.push(notches.len());
            notches.push(notch);
            match clocks.get(index + 1) {
                Some((_, next)) => {
                    let duty = f64::midpoint(speed(clock), speed(*next)) / speed(clock);
                    notches.push(Notch { duty, ..notch });
                }
                None => notches.extend(DUTIES.iter().map(|duty| paused(notch, *duty))),
            }
        }
        let blind = notches.iter().position(|notch| notch.duty <= BLIND);
        let blind = blind.expect("the last notches have lower duties");
        Self { notches, clocks: starts, blind }
    }

    pub(super) fn notch(&self, index: usize) -> Notch {
        self.notches[index.min(self.last())]
    }

    pub(super) fn last(&self) -> usize {
        self.notches.len() - 1
    }

    /// How many clocks there are, the uncapped one among them.
    pub(super) fn clocks(&self) -> usize {
        self.clocks.len()
    }

    /// The notch of a clock without pauses; 0 is the highest clock.
    pub(super) fn of_clock(&self, clock: usize) -> usize {
        self.clocks.get(clock).copied().unwrap_or(0)
    }

    /// Where a board is held that cannot be watched.
    pub(super) fn blind(&self) -> usize {
        self.blind
    }

    /// Power beyond idling at one notch, as a share of that at another. How it
    /// falls with the clock is known within bounds only, so it is taken at its
    /// worse end: little is saved going down, much is spent going up.
    pub(super) fn power(&self, to: usize, from: usize) -> f64 {
        let exponent = if to >= from { 1.0 } else { 1.5 };
        let of = |notch: Notch| notch.clock.powf(exponent) * notch.duty;
        of(self.notch(to)) / of(self.notch(from))
    }

    /// The notch of another ladder that is about as fast, and not faster.
    pub(super) fn like(&self, other: &Self, index: usize) -> usize {
        let wanted = other.notch(index).speed();
        let slow = self.notches.iter().position(|notch| notch.speed() <= wanted + 1e-9);
        slow.unwrap_or(self.last())
    }
}

impl Notch {
    /// The clock as a share of the highest that the power mode allows.
    pub(super) fn clock(self) -> f64 {
        self.clock
    }

    /// Tokens each second, as a share of those at full power.
    pub(super) fn speed(self) -> f64 {
        speed(self.clock) * self.duty / f64::from(self.divisor)
    }
}

fn paused(notch: Notch, duty: f64) -> Notch {
    let divisor = if duty <= FEWER_FROM { 2 } else { 1 };
    let part_divisor = if duty <= SMALLER_FROM { 4 } else { 1 };
    Notch { duty, divisor, part_divisor, ..notch }
}

/// Speed of decoding at a share of the clock: a fifth of the time does not
/// depend on it. Fitted to a sweep of an AGX Orin's clocks.
fn speed(clock: f64) -> f64 {
    1.0 / (0.2 + 0.8 / clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nano() -> Ladder {
        let available_hz = [306, 408, 510, 612, 714, 816, 918].map(|mhz| mhz * 1_000_000).to_vec();
        Ladder::new(Some(&Clock { available_hz, top_hz: 918_000_000 }))
    }

    #[test]
    fn each_notch_is_slower_and_takes_less() {
        for ladder in [
            nano(),
            Ladder::new(None),
            Ladder::new(Some(&Clock { available_hz: vec![], top_hz: 0 })),
        ] {
            let full = ladder.notch(0);
            assert_eq!((full.cap_hz, full.duty, full.divisor), (None, 1.0, 1));
            for index in 1..=ladder.last() {
                let [above, below] = [index - 1, index].map(|index| ladder.notch(index));
                assert!(below.speed() < above.speed(), "{index}: {below:?} after {above:?}");
                assert!(ladder.power(index, index - 1) < 1.0, "{index}");
                assert!(ladder.power(index - 1, index) > 1.0, "{index}");
            }
        }
    }

    #[test]
    fn the_clock_goes_before_the_pauses_and_the_batch_goes_last() {
        let ladder = nano();
        let clocks_end = (0..=ladder.last()).position(|index| ladder.notch(index).duty < 0.8);
        assert_eq!(ladder.notch(clocks_end.unwrap()).cap_hz, Some(510_000_000));
        assert_eq!(ladder.notch(ladder.of_clock(3)).cap_hz, Some(612_000_000));
        assert_eq!((Ladder::new(None).clocks(), Ladder::new(None).of_clock(5)), (1, 0));
        let fewer = (0..=ladder.last()).position(|index| ladder.notch(index).divisor > 1).unwrap();
        assert!(ladder.notch(fewer).duty <= FEWER_FROM);
        assert_eq!((fewer, ladder.notch(fewer).divisor), (ladder.last(), 2));
    }

    #[test]
    fn another_ladder_s_notch_is_never_faster() {
        let (with, without) = (nano(), Ladder::new(None));
        for index in 0..=with.last() {
            let like = without.like(&with, index);
            assert!(
                without.notch(like).speed() <= with.notch(index).speed() + 1e-9
                    || like == without.last()
            );
        }
        assert_eq!(with.like(&without, 0), 0);
    }
}
