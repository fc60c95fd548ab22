//! What the governor promises, as tables and with any sequence of facts.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "temperatures and powers of made-up boards are small"
)]

use std::time::{Duration, Instant};

use engine_api::protocol::Limits;
use jetpack::{Bytes, Celsius, Watts};
use proptest::prelude::*;

use super::*;

const PERIOD: Duration = Duration::from_secs(2);
const BOUNDS: Limits = Limits { max_sequences: 8, max_batch_tokens: 64, pace_us: 0 };

fn governor(profile: Profile, now: Instant) -> Governor {
    Governor::new(profile, PERIOD, now)
}

fn clock() -> Option<Clock> {
    let available_hz = [306, 408, 510, 612, 714, 816, 918].map(|mhz| mhz * 1_000_000).to_vec();
    Some(Clock { available_hz, top_hz: 918_000_000 })
}

/// A Jetson that works, at this temperature and power.
fn facts(millidegrees: i32, milliwatts: u64, now: Instant) -> Facts {
    let limit = Celsius::from_millidegrees(99_000);
    let celsius = Celsius::from_millidegrees(millidegrees);
    Facts {
        governed: true,
        heat: Some(Heat { zone: "tj-thermal".into(), celsius, limit, at: now }),
        power: Some(Power { watts: Watts::from_milliwatts(milliwatts), at: now }),
        work: Work { decoding: 8, step: Some(Duration::from_millis(60)), ..Work::default() },
        ..Facts::unknown(BOUNDS)
    }
}

/// A board of one node that takes `full` watts at full power.
#[derive(Debug)]
struct Board {
    celsius: f64,
    gain: f64,
    ambient: f64,
    full: f64,
    tau: f64,
}

impl Board {
    fn step(&mut self, speed: f64) -> u64 {
        let watts = 5.0 + (self.full - 5.0) * speed;
        let steady = self.ambient + self.gain * watts;
        self.celsius += PERIOD.as_secs_f64() / self.tau * (steady - self.celsius);
        (watts * 1e3) as u64
    }
}

/// Runs a board for so many minutes; the decisions and temperatures of it.
fn run(
    governor: &mut Governor,
    board: &mut Board,
    start: Instant,
    minutes: u32,
) -> Vec<(Decision, f64)> {
    let mut speed = 1.0;
    let step = |index: u32| {
        let now = start + PERIOD * index;
        let milliwatts = board.step(speed);
        let facts =
            Facts { clock: clock(), ..facts((board.celsius * 1e3) as i32, milliwatts, now) };
        let decision = governor.decide(&facts, now);
        let clock = decision.gpu_cap_hz.map_or(1.0, |hz| hz as f64 / 918e6);
        let pace = f64::from(decision.limits.pace_us) / 60e3;
        speed = clock * if pace > 1.0 { 1.0 / pace } else { 1.0 };
        (decision, board.celsius)
    };
    (0..minutes * 30).map(step).collect()
}

#[test]
fn a_board_that_stays_cool_is_never_limited() {
    let start = Instant::now();
    let mut board = Board { celsius: 40.0, gain: 1.5, ambient: 30.0, full: 25.0, tau: 90.0 };
    let mut governor = governor(Profile::Max, start);
    for (decision, _) in run(&mut governor, &mut board, start, 60) {
        assert_eq!((decision.limits, decision.gpu_cap_hz), (BOUNDS, None));
        assert_eq!(decision.because, Limiting::Nothing);
    }
}

#[test]
fn a_board_without_a_fan_is_held_below_its_limit_and_settles() {
    let start = Instant::now();
    let mut board = Board { celsius: 40.0, gain: 6.2, ambient: 40.0, full: 20.0, tau: 396.0 };
    let mut governor = governor(Profile::Max, start);
    let decisions = run(&mut governor, &mut board, start, 120);
    let hottest = decisions.iter().map(|(_, celsius)| *celsius).fold(0.0, f64::max);
    assert!(hottest < 95.5, "{hottest} °C");
    let late = &decisions[decisions.len() / 2..];
    let coolest = late.iter().map(|(_, celsius)| *celsius).fold(100.0, f64::min);
    assert!(coolest > 83.0, "{coolest} °C gives heat room away");
    let mut changes = late.windows(2).filter(|pair| pair[0].0.notch != pair[1].0.notch);
    assert!(changes.by_ref().count() <= 30, "an hour of one load has few changes");
    assert_eq!(late.last().unwrap().0.because.kind(), "heat");
}

#[test]
fn it_gives_back_what_it_took_when_the_heat_leaves() {
    let start = Instant::now();
    let mut board = Board { celsius: 40.0, gain: 6.2, ambient: 40.0, full: 20.0, tau: 396.0 };
    let mut governor = governor(Profile::Max, start);
    let limited = run(&mut governor, &mut board, start, 30).pop().unwrap().0;
    assert!(limited.notch > 0);
    (board.gain, board.ambient, board.tau) = (1.5, 25.0, 90.0);
    let later = start + Duration::from_secs(30 * 60);
    let recovered = run(&mut governor, &mut board, later, 10);
    assert_eq!(recovered.last().unwrap().0.limits, BOUNDS);
    assert_eq!(recovered.last().unwrap().0.gpu_cap_hz, None);
    let log: Vec<_> = governor.log().collect();
    assert!(log.len() > 1 && log.len() <= REMEMBERED);
    assert_eq!((log[0].to, log[0].from > 0), (0, true));
}

#[test]
fn a_board_that_has_cooled_down_gets_all_back_soon_even_if_it_is_not_understood() {
    let start = Instant::now();
    let mut governor = governor(Profile::Max, start);
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut decide = |seconds, millidegrees| {
        // There is no model of a board whose power cannot be read.
        let facts = facts(millidegrees, 0, at(seconds));
        governor.decide(&Facts { power: None, clock: clock(), ..facts }, at(seconds))
    };
    let rising = |second: u64| 50_000 + 100 * second as i32;
    let hot = (0..480).step_by(2).map(|second| decide(second, rising(second))).last().unwrap();
    assert!(hot.notch > 10, "{hot:?}");
    let back = (480..800).step_by(2).map(|second| decide(second, 50_000)).last().unwrap();
    assert_eq!((back.limits, back.gpu_cap_hz), (BOUNDS, None));
}

#[test]
fn a_sensor_that_dies_counts_as_hot_and_one_that_returns_is_believed() {
    let start = Instant::now();
    let mut governor = governor(Profile::Max, start);
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut decide = |seconds, dead: bool| {
        let mut facts = facts(50_000, 12_000, at(seconds));
        facts.heat = facts.heat.filter(|_| !dead);
        governor.decide(&facts, at(seconds))
    };
    assert_eq!(decide(0, false).notch, 0);
    assert_eq!(decide(8, true).notch, 0, "one missed reading is none");
    let blind = (10..90).step_by(2).map(|second| decide(second, true)).last().unwrap();
    assert_eq!(blind.because.kind(), "blind");
    assert!(blind.limits.pace_us > 2 * 60_000, "{blind:?}");
    let back = (90..400).step_by(2).map(|second| decide(second, false)).last().unwrap();
    assert_eq!(back.limits, BOUNDS);
}

#[test]
fn a_machine_that_is_no_jetson_is_left_alone_and_says_so() {
    let start = Instant::now();
    let mut governor = governor(Profile::Max, start);
    for hot in [40_000, 99_500, 120_000] {
        let facts = Facts { governed: false, ..facts(hot, 90_000, start) };
        let decision = governor.decide(&facts, start);
        assert_eq!((decision.limits, decision.because.kind()), (BOUNDS, "ungoverned"));
    }
    let nothing = governor.decide(&Facts::unknown(BOUNDS), start);
    assert_eq!((nothing.limits, nothing.because.kind()), (BOUNDS, "ungoverned"));
}

#[test]
fn a_budget_is_kept_and_used() {
    let start = Instant::now();
    let mut governor = governor(Profile::Watts(12), start);
    let mut board = Board { celsius: 40.0, gain: 1.5, ambient: 25.0, full: 24.0, tau: 90.0 };
    let mut watts = Vec::new();
    let mut speed = 1.0;
    for index in 0..900_u32 {
        let now = start + PERIOD * index;
        let milliwatts = board.step(speed);
        watts.push(milliwatts as f64 / 1e3);
        let facts =
            Facts { clock: clock(), ..facts((board.celsius * 1e3) as i32, milliwatts, now) };
        let decision = governor.decide(&facts, now);
        speed = decision.gpu_cap_hz.map_or(1.0, |hz| hz as f64 / 918e6);
        if decision.limits.pace_us > 60_000 {
            speed *= 60e3 / f64::from(decision.limits.pace_us);
        }
    }
    let late = &watts[300..];
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    assert!(mean <= 12.0 && mean > 10.5, "{mean} W");
}

#[test]
fn a_saving_profile_finds_the_clock_where_tokens_are_cheap() {
    let (start, mut governor) = (Instant::now(), governor(Profile::Balanced, Instant::now()));
    // Speed goes with the clock, and power with its square, from 4 W on.
    let (mut decoded, mut caps) = (0.0, Vec::new());
    let mut clock = 1.0;
    for index in 0..3600_u32 {
        let now = start + PERIOD * index;
        let watts = 4.0 + 16.0 * clock * clock;
        decoded += 100.0 * clock * PERIOD.as_secs_f64();
        let mut facts = Facts { clock: self::clock(), ..facts(50_000, (watts * 1e3) as u64, now) };
        facts.work.decoded = decoded as u64;
        let decision = governor.decide(&facts, now);
        clock = decision.gpu_cap_hz.map_or(1.0, |hz| hz as f64 / 918e6);
        caps.push(decision.gpu_cap_hz);
    }
    let late = &caps[1800..];
    let at_best = late.iter().filter(|cap| **cap == Some(510_000_000)).count();
    assert!(at_best * 10 > late.len() * 8, "{at_best} of {}", late.len());
}

#[test]
fn memory_shuts_the_door_and_not_the_limits() {
    let start = Instant::now();
    let mut governor = governor(Profile::Max, start);
    let mib = |mib: u64| Bytes::from_kib(mib * 1024);
    let memory = Memory { total: mib(7600), available: mib(100), at: start };
    let facts = Facts { memory: Some(memory), ..facts(50_000, 9_000, start) };
    let decision = governor.decide(&facts, start);
    assert!(matches!(decision.door, Door::Shut { .. }));
    assert_eq!(decision.limits, BOUNDS);
    assert_eq!(
        decision.because.to_string(),
        "the board has 100.0 MiB of memory left and keeps 256.0 MiB back: no request is taken"
    );
}

#[test]
fn a_prompt_s_part_is_small_while_many_read_and_few_wait() {
    let start = Instant::now();
    for (decode_ms, prompt_us, small) in [(50, 2000, 31), (50, 20_000, 16), (50, 10, 64)] {
        let (decode_step, prompt_token) =
            (Duration::from_millis(decode_ms), Duration::from_micros(prompt_us));
        let alone = Some(Alone { decode_step, prompt_token });
        let mut governor = governor(Profile::Max, start);
        let mut part = |steps: std::ops::Range<u32>, decoding, prefilling| {
            let part = |step: u32| {
                let now = start + PERIOD * step;
                let facts = facts(50_000, 9_000, now);
                let work = Work { decoding, prefilling, alone, ..facts.work };
                governor.decide(&Facts { work, ..facts }, now).limits.max_batch_tokens
            };
            steps.map(part).last()
        };
        assert_eq!(part(0..1, 8, 0), Some(64));
        assert_eq!(part(1..100, 8, 0), Some(small), "many read, nobody waits");
        assert_eq!(part(100..300, 2, 4), Some(64), "few read, many wait");
    }
}

/// Anything that a board can say, and some things that none can.
fn any_facts() -> impl Strategy<Value = (u64, Facts)> {
    let heat = prop::option::weighted(0.9, (-40_000..130_000_i32, 0..40_u64));
    let power = prop::option::weighted(0.9, (0..80_000_u64, 0..40_u64));
    let work = (0..9_u32, 0..3_u32, prop::option::of(0..2_000_u64));
    let memory = prop::option::of((0..8_000_u64, 0..8_192_u64));
    let board = (prop::bool::weighted(0.9), any::<bool>(), prop::option::of(0.0..40.0_f64));
    let clock = prop::option::weighted(0.7, prop::collection::vec(100..1_500_u64, 0..9));
    (1..20_u64, heat, power, work, memory, board, clock, 1..9_u16, 1..200_u16).prop_map(
        |(seconds, heat, power, work, memory, board, clock, sequences, part)| {
            let now = Instant::now();
            let age = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now);
            let limit = Celsius::from_millidegrees(99_000);
            let zone = String::from("tj-thermal");
            let heat = heat.map(|(millidegrees, old)| {
                let celsius = Celsius::from_millidegrees(millidegrees);
                Heat { zone, celsius, limit, at: age(old) }
            });
            let power = power.map(|(milliwatts, old)| Power {
                watts: Watts::from_milliwatts(milliwatts),
                at: age(old),
            });
            let (decoding, prefilling, step) = work;
            let step = step.map(Duration::from_millis);
            let kv = memory.map(|(_, held)| Kv {
                held,
                capacity: 8_192,
                bytes: Bytes::from_kib(1 << 20),
            });
            let memory = memory.map(|(mib, _)| Memory {
                total: Bytes::from_kib(8_000 * 1024),
                available: Bytes::from_kib(mib * 1024),
                at: now,
            });
            let bounds = Limits { max_sequences: sequences, max_batch_tokens: part, pace_us: 0 };
            let (governed, throttled, over_current) = board;
            let clock = clock.map(|mut mhz| {
                mhz.sort_unstable();
                mhz.dedup();
                let top_hz = mhz.last().copied().unwrap_or(0) * 1_000_000;
                Clock { available_hz: mhz.into_iter().map(|mhz| mhz * 1_000_000).collect(), top_hz }
            });
            let work = Work { decoding, prefilling, step, kv, ..Work::default() };
            let facts = Facts {
                bounds,
                largest_part: part.saturating_mul(4),
                governed,
                heat,
                power,
                throttled,
                over_current,
                clock,
                memory,
                work,
            };
            (seconds, facts)
        },
    )
}

/// Moves the facts' times so that they are as old at `now` as they were made.
fn at(facts: &Facts, made: Instant, now: Instant) -> Facts {
    let moved = |at: Instant| now.checked_sub(made.saturating_duration_since(at)).unwrap_or(now);
    let mut facts = facts.clone();
    facts.heat = facts.heat.map(|heat| Heat { at: moved(heat.at), ..heat });
    facts.power = facts.power.map(|power| Power { at: moved(power.at), ..power });
    facts
}

fn any_profile() -> impl Strategy<Value = Profile> {
    prop_oneof![
        Just(Profile::Max),
        Just(Profile::Balanced),
        Just(Profile::Quiet),
        (3..80_u32).prop_map(Profile::Watts)
    ]
}

proptest! {
    #[test]
    fn limits_stay_within_bounds_and_change_seldom(
        profile in any_profile(),
        sequence in prop::collection::vec(any_facts(), 1..120),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut governor = governor(profile, start);
        let mut seen: Vec<(Instant, (usize, u32), Option<Clock>)> = Vec::new();
        for (seconds, facts) in &sequence {
            now += Duration::from_secs(*seconds);
            let facts = at(facts, start, now);
            let decision = governor.decide(&facts, now);
            let (limits, bounds) = (decision.limits, facts.bounds);
            prop_assert!((1..=bounds.max_sequences).contains(&limits.max_sequences));
            prop_assert!((1..=facts.largest_part).contains(&limits.max_batch_tokens));
            prop_assert!(limits.pace_us <= 5_000_000);
            prop_assert!(decision.notch <= decision.notches);
            let cap = decision.gpu_cap_hz;
            let may_cap = |hz| facts.clock.as_ref().is_some_and(|it| it.available_hz.contains(&hz));
            prop_assert!(cap.is_none_or(may_cap));
            prop_assert!(governor.changes_in_a_minute(now) <= MOST_CHANGES_A_MINUTE);
            prop_assert!(governor.log().count() <= REMEMBERED);
            prop_assert!(!decision.because.to_string().is_empty());
            seen.push((now, (decision.notch, limits.pace_us), facts.clock.clone()));
        }
        // Seen from outside: a clock that appears or goes is not our change.
        let changed: Vec<_> = seen
            .windows(2)
            .filter(|pair| pair[0].2 == pair[1].2)
            .filter(|pair| pair[0].1 != pair[1].1)
            .map(|pair| pair[1].0)
            .collect();
        for (index, first) in changed.iter().enumerate() {
            let minute = changed[index..].iter().take_while(|at| **at - *first < Duration::from_secs(60));
            prop_assert!(minute.count() <= MOST_CHANGES_A_MINUTE);
        }
    }

    #[test]
    fn hotter_never_gives_more(
        profile in any_profile(),
        sequence in prop::collection::vec(any_facts(), 1..60),
        hotter in 1..60_000_i32,
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut governor = governor(profile, start);
        for (seconds, facts) in &sequence {
            now += Duration::from_secs(*seconds);
            let facts = at(facts, start, now);
            let mut hot = facts.clone();
            if let Some(heat) = &mut hot.heat {
                let millidegrees = (heat.celsius.degrees() * 1e3).round() as i32 + hotter;
                heat.celsius = Celsius::from_millidegrees(millidegrees);
            }
            let as_hot = governor.clone().decide(&hot, now);
            let as_is = governor.decide(&facts, now);
            prop_assert!(as_hot.notch >= as_is.notch, "{as_hot:?} when hotter than {as_is:?}");
        }
    }

    #[test]
    fn whoever_cannot_see_is_careful(
        profile in any_profile(),
        sequence in prop::collection::vec(any_facts(), 0..60),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut governor = governor(profile, start);
        for (seconds, facts) in &sequence {
            now += Duration::from_secs(*seconds);
            let _ = governor.decide(&at(facts, start, now), now);
        }
        let mut unseen = facts(50_000, 9_000, now);
        (unseen.heat, unseen.power) = (None, None);
        let mut last = None;
        for _ in 0..150 {
            now += PERIOD;
            last = Some(governor.decide(&unseen, now));
        }
        let last = last.expect("there were decisions");
        prop_assert!(last.limits.pace_us > 0, "{last:?}");
        prop_assert_eq!(last.because.kind(), "blind");
    }
}
