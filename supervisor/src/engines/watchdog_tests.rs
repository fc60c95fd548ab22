//! The watchdog against workers that stand still, crawl, and starve.

use proptest::prelude::*;

use super::*;

const P99: Duration = Duration::from_millis(100);
const STEPPING: Doing = Doing::Steps { p99: P99, first: None };
const BOUND: Duration = Duration::from_millis(900);

/// A worker that is looked at every [`LOOK`].
struct Watched {
    dog: Watchdog,
    now: Instant,
    seen: Seen,
    waits: Waits,
}

impl Watched {
    fn new() -> Self {
        let seen = Seen { progress: 1, steps: 1, stalest: None };
        let mut dog = Watchdog::new();
        let now = Instant::now();
        dog.look(STEPPING, seen, Some(Waits::default()), now).unwrap();
        Self { dog, now, seen, waits: Waits::default() }
    }

    fn look(&mut self, doing: Doing) -> Result<(), Stall> {
        self.now += LOOK;
        self.dog.look(doing, self.seen, Some(self.waits), self.now)
    }

    /// Looks until it is found to stand still.
    fn until_stalled(&mut self, doing: Doing) -> (Duration, Stall) {
        let start = self.now;
        loop {
            if let Err(stall) = self.look(doing) {
                return (self.now - start, stall);
            }
            assert!(self.now - start < Duration::from_secs(1000), "it is never found");
        }
    }
}

#[test]
fn one_that_stands_still_is_found_within_three_slow_steps_and_a_second() {
    let (after, stall) = Watched::new().until_stalled(STEPPING);
    assert!(after <= P99 * 3 + Duration::from_secs(1), "{after:?}");
    assert!(matches!(stall, Stall::NoStep { bound: BOUND, .. }), "{stall:?}");
}

#[test]
fn the_first_step_of_a_life_may_take_longer() {
    let mut watched = Watched::new();
    watched.seen.steps = 0;
    assert!(watched.until_stalled(STEPPING).0 > FIRST_STEP);
}

#[test]
fn the_first_step_of_a_life_may_take_what_it_took_in_the_life_before() {
    for (first, expected) in [(P99 / 2, P99), (P99 * 5, P99 * 5)] {
        let mut watched = Watched::new();
        watched.seen.steps = 0;
        let (after, stall) = watched.until_stalled(Doing::Steps { p99: P99, first: Some(first) });
        assert!(after <= expected * 3 + Duration::from_secs(1), "{after:?}");
        assert!(matches!(stall, Stall::NoStep { expected: named, .. } if named == expected));
    }
}

#[test]
fn one_that_waits_for_a_processor_is_slow_and_not_hung() {
    let mut watched = Watched::new();
    for _ in 0..4000 {
        watched.waits.for_processor += LOOK;
        watched.look(STEPPING).unwrap();
    }
    // It gets all it wants, and still does not move.
    assert!(watched.until_stalled(STEPPING).0 <= Duration::from_millis(1300));
}

#[test]
fn one_that_has_waited_for_a_processor_all_along_is_slow_and_not_hung() {
    let mut watched = Watched::new();
    watched.waits.is_ready = true;
    for _ in 0..4000 {
        watched.look(STEPPING).unwrap();
    }
    // The kernel tells of a wait when it is over.
    watched.waits.for_processor += LOOK * 4000;
    watched.look(STEPPING).unwrap();
    // From now on it has a processor and goes in circles.
    let start = watched.now;
    while watched.look(STEPPING).is_ok() {
        watched.waits.on_processor += LOOK;
    }
    assert!(watched.now - start <= Duration::from_millis(1300));
}

#[test]
fn one_that_gets_half_a_processor_has_twice_the_time() {
    let mut watched = Watched::new();
    let start = watched.now;
    watched.waits.for_processor += LOOK / 2;
    while watched.look(STEPPING).is_ok() {
        watched.waits.for_processor += LOOK / 2;
    }
    let after = watched.now - start;
    assert!(after >= BOUND * 2 && after <= BOUND * 3, "{after:?}");
}

#[test]
fn one_that_fetches_its_pages_is_slow_but_not_for_ever() {
    let mut watched = Watched::new();
    let start = watched.now;
    while watched.look(STEPPING).is_ok() {
        watched.waits.pages_fetched += 1;
    }
    let after = watched.now - start;
    assert!(after >= MOST_FETCHING && after <= MOST_FETCHING + 3 * BOUND, "{after:?}");
}

#[test]
fn time_in_which_nobody_looked_does_not_count() {
    let mut watched = Watched::new();
    watched.now += Duration::from_secs(3600);
    watched.look(STEPPING).unwrap();
}

#[test]
fn one_answer_that_is_forgotten_is_found_although_steps_go_on() {
    let mut watched = Watched::new();
    let since = watched.now;
    let (after, stall) = loop {
        watched.seen.progress += 1;
        watched.seen.steps += 2;
        let steps = watched.seen.steps;
        watched.seen.stalest = Some(Stalest { steps, prompts: 10, since });
        if let Err(stall) = watched.look(STEPPING) {
            break (watched.now - since, stall);
        }
    };
    assert!(matches!(stall, Stall::OneAnswer { .. }), "{stall:?}");
    assert!(after > ONE_ANSWER && after < ONE_ANSWER * 2, "{after:?}");
}

#[test]
fn a_long_prompt_that_is_computed_in_many_parts_is_not_forgotten() {
    let mut watched = Watched::new();
    let since = watched.now;
    for steps in 0..1000 {
        watched.seen.progress += 1;
        watched.seen.stalest = Some(Stalest { steps, prompts: 500, since });
        watched.look(STEPPING).unwrap();
    }
}

#[test]
fn a_load_that_stops_is_found_and_a_slow_one_is_not() {
    let load = Doing::Load { measured: Duration::from_secs(1) };
    assert!(matches!(Watched::new().until_stalled(load), (_, Stall::Load { .. })));
    let mut watched = Watched::new();
    for look in 0..4000 {
        watched.seen.progress += u64::from(look % 60 == 0);
        watched.look(load).unwrap();
    }
}

#[test]
fn the_99th_percentile_leaves_out_the_two_slowest_of_240() {
    let mut times = StepTimes::new(Duration::from_millis(5));
    assert_eq!(times.p99(), Duration::from_millis(5));
    for ms in 1..=240 {
        times.add(Duration::from_millis(ms));
    }
    assert_eq!(times.p99(), Duration::from_millis(238));
}

#[test]
fn what_was_assumed_counts_half_once_enough_was_measured() {
    let (assumed, fast) = (Duration::from_millis(800), Duration::from_millis(90));
    let mut times = StepTimes::new(assumed);
    for _ in 1..ENOUGH {
        times.add(fast);
    }
    assert_eq!(times.p99(), assumed);
    times.add(fast);
    assert_eq!(times.p99(), assumed / 2);
    times.add(assumed * 2);
    times.add(assumed * 2);
    assert_eq!(times.p99(), assumed * 2);
}

#[test]
fn a_prompt_of_a_large_step_has_the_time_that_it_needs() {
    let token = Duration::from_millis(3);
    let speeds = Speeds::new(Duration::from_millis(10), token, 64).with_steps_of(128);
    assert_eq!(speeds.p99(true), token * 256);
    assert_eq!(speeds.p99(false), LEAST_STEP);
    assert_eq!(speeds.steps_of_prompt(6400), 101);
}

#[test]
fn what_one_life_measured_the_next_one_knows() {
    let (step, token, fast) =
        (Duration::from_millis(10), Duration::from_millis(3), Duration::from_millis(90));
    let new = || Speeds::new(step, token, 64);
    let mut earlier = new().with_steps_of(128);
    for _ in 0..ENOUGH {
        earlier.add(fast, true);
    }
    let next = new().as_measured_in(earlier).with_steps_of(128);
    assert_eq!(next.p99(true), token * 128);
    assert_eq!(new().with_steps_of(128).p99(true), token * 256);
}

#[test]
fn a_life_without_a_step_leaves_the_next_ones_first_all_the_time_there_is() {
    let new = || Speeds::new(P99, P99, 64);
    let mut life = new();
    assert_eq!(life.first_before(), None);
    life.add(Duration::ZERO, false);
    life.add(P99 * 3, true);
    life.add(P99, false);
    let next = new().as_measured_in(life);
    assert_eq!(next.first_before(), Some(P99 * 3));
    assert_eq!(new().as_measured_in(next).first_before(), None);
}

proptest! {
    /// A worker that makes a step within three of its slow ones of time that it
    /// really had is never killed, however long others keep it waiting.
    #[test]
    fn a_slow_one_that_moves_is_never_killed(
        steps in prop::collection::vec((1u32..=2, 0u32..40), 1..80),
    ) {
        let mut watched = Watched::new();
        for (own, waiting) in steps {
            for _ in 0..waiting {
                watched.waits.for_processor += LOOK;
                prop_assert!(watched.look(STEPPING).is_ok());
            }
            for _ in 0..own {
                prop_assert!(watched.look(STEPPING).is_ok());
            }
            watched.seen.progress += 1;
            watched.seen.steps += 1;
        }
    }
}
