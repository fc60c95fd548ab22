//! The model against other people's boards: where they settled, how fast they
//! were, what they took. Each table says how far off the model may be.

use std::time::Duration;

use virtual_jetson::{Board, Conditions, Llm, Load, Module, Profile, Work};

fn board(name: &str, conditions: Conditions) -> Board {
    Board::new(Module::named(name).expect("the module is in the table"), conditions, 1)
}

/// The die's temperature after `minutes` in which the board takes `watts`.
fn after(board: &mut Board, watts: f64, minutes: u64) -> f64 {
    let mut extra = 0.0;
    for _ in 0..minutes * 120 {
        let load = Load { extra_watts: extra, ..Load::IDLE };
        let readings = board.advance(Duration::from_millis(500), load);
        extra += watts - readings.true_watts;
    }
    board.readings().die_celsius
}

fn settles(name: &str, conditions: Conditions, rows: &[(f64, f64)], tolerance: f64) {
    for (watts, celsius) in rows {
        let modelled = after(&mut board(name, conditions), *watts, 60);
        assert!(
            (modelled - celsius).abs() <= tolerance,
            "{name} at {watts} W: {modelled:.1} °C, measured {celsius} °C"
        );
    }
}

/// Stock heat sink, room air taken as 25 °C.
#[test]
fn an_orin_nano_without_a_fan_settles_within_2_k() {
    let conditions = Conditions { fan_stuck: true, ..Conditions::default() };
    settles("orin-nano-8gb-super", conditions, &[(9.1, 99.0), (7.2, 85.0)], 2.0);
}

/// Room air taken as 30 °C: 25 °C, and a carrier that is warm.
#[test]
fn an_orin_nano_with_its_fan_settles_within_2_k() {
    let at = |fan| Conditions { fan, ambient_celsius: 30.0, ..Conditions::default() };
    settles("orin-nano-8gb-super", at(Profile::Full), &[(9.0, 43.0)], 2.0);
    settles("orin-nano-8gb-super", at(Profile::Quiet), &[(9.0, 56.0)], 2.0);
}

/// A reComputer with a fast fan. Its figures meet 35 °C at no power, which is
/// taken as its inner air.
#[test]
fn an_orin_nano_in_a_case_settles_within_4_k() {
    let conditions =
        Conditions { ambient_celsius: 35.0, fan: Profile::Full, ..Conditions::default() };
    let rows = [(4.5, 45.0), (6.6, 45.3), (12.8, 57.0), (15.3, 60.0), (20.0, 65.5)];
    settles("orin-nano-8gb-super", conditions, &rows, 4.0);
}

/// ARK's carrier, sink and quiet fan; its air taken as 42 °C, which fits best.
#[test]
fn an_orin_nx_settles_within_5_k() {
    let conditions = Conditions { ambient_celsius: 42.0, ..Conditions::default() };
    let rows = [(4.6, 58.0), (16.9, 71.0), (27.6, 86.0), (29.4, 89.0)];
    settles("orin-nx-16gb-super", conditions, &rows, 5.0);
}

/// The developer kit serving language models; its air taken as 30 °C.
#[test]
fn an_agx_orin_settles_within_4_k() {
    let conditions =
        Conditions { ambient_celsius: 30.0, fan: Profile::Cool, ..Conditions::default() };
    let rows = [
        (24.0, 61.0),
        (28.7, 64.5),
        (31.6, 65.2),
        (34.6, 66.8),
        (39.9, 69.6),
        (43.0, 71.2),
        (46.2, 71.7),
        (47.8, 70.0),
    ];
    settles("agx-orin-64gb", conditions, &rows, 4.0);
}

/// 40 → 63.5, 73.7 and 80.5 °C after 5, 10 and 15 minutes at 7.2 W, fan off.
#[test]
fn an_orin_nano_without_a_fan_warms_up_as_slowly_as_measured() {
    let cold = Conditions { ambient_celsius: 25.0, fan: Profile::Full, ..Conditions::default() };
    let mut board = board("orin-nano-8gb-super", cold);
    while board.readings().die_celsius < 40.0 {
        board.advance(Duration::from_millis(500), Load { extra_watts: 10.0, ..Load::IDLE });
    }
    board.conditions.fan_stuck = true;
    board.advance(Duration::from_secs(3), Load::IDLE);
    let modelled: Vec<f64> = (0..3).map(|_| after(&mut board, 7.2, 5)).collect();
    for (modelled, measured) in modelled.iter().zip([63.5, 73.7, 80.5]) {
        assert!((modelled - measured).abs() <= 5.0, "{modelled:.1} °C, measured {measured} °C");
    }
}

/// Decode of one sequence of Phi-3-mini Q4 with llama.cpp over GPU clocks.
#[test]
fn an_agx_orin_s_clock_sweep_is_met_within_3_percent_of_speed_and_10_of_power() {
    let rows = [
        (306_000_000, 12.2, 16.2),
        (612_000_000, 23.1, 22.6),
        (816_000_000, 30.1, 28.9),
        (1_300_500_000, 40.3, 42.1),
    ];
    let conditions = Conditions { fan: Profile::Cool, ..Conditions::default() };
    for (hz, tokens_per_s, watts) in rows {
        let mut board = board("agx-orin-64gb", conditions);
        board.set_mode(0);
        board.cap_gpu(Some(hz));
        let work = Work { sequences: 1, context_tokens: 200, prefill_tokens: 0 };
        let mut rate = 0.0;
        for _ in 0..2000 {
            let step = board.speed().step(&Llm::PHI3, work);
            board.advance(Duration::from_millis(250), step.load);
            rate = 1.0 / step.time.as_secs_f64();
        }
        let modelled = board.readings().true_watts;
        assert!((rate / tokens_per_s - 1.0).abs() < 0.03, "{hz}: {rate:.1} tokens/s");
        assert!((modelled / watts - 1.0).abs() < 0.10, "{hz}: {modelled:.1} W");
    }
}

fn rate(board: &Board, llm: &Llm, work: Work) -> f64 {
    let tokens = f64::from(work.sequences + work.prefill_tokens);
    tokens / board.speed().step(llm, work).time.as_secs_f64()
}

/// NVIDIA's kernels gain 28 to 63 % from 15 W to 25 W, llama.cpp 36 to 47 %;
/// 11 % more clock gain 5 % then. Prompts go with the clock: 629 tokens/s of 3B
/// at 612 MHz.
#[test]
fn an_orin_nano_s_modes_differ_as_measured() {
    let at = |mode, work| {
        let mut board = board("orin-nano-8gb-super", Conditions::default());
        assert!(board.set_mode(mode));
        rate(&board, &Llm::B3, work)
    };
    let decode = Work { sequences: 1, context_tokens: 200, prefill_tokens: 0 };
    let prompt = Work { sequences: 0, context_tokens: 0, prefill_tokens: 2048 };
    let (low, high, most) = (at(0, decode), at(1, decode), at(2, decode));
    assert!((1.36..1.50).contains(&(high / low)), "{low:.1} → {high:.1} tokens/s");
    assert!((1.03..1.07).contains(&(most / high)), "{high:.1} → {most:.1} tokens/s");
    assert!((at(0, prompt) / 629.0 - 1.0).abs() < 0.05, "{:.0} tokens/s", at(0, prompt));
    assert!((1.60..1.70).contains(&(at(2, prompt) / at(0, prompt))));
}

/// No sweep over batches is published for Orin. Thor's gain from one to eight
/// is 2.7 to 4.8 times; more than half of eight is not believed here.
#[test]
fn batches_gain_about_as_much_as_on_thor() {
    let board = board("orin-nano-8gb-super", Conditions::default());
    for llm in [&Llm::B1, &Llm::B3, &Llm::B8] {
        let at = |sequences| {
            let context_tokens = u64::from(sequences) * 500;
            rate(&board, llm, Work { sequences, context_tokens, prefill_tokens: 0 })
        };
        let gain = at(8) / at(1);
        assert!((3.0..6.0).contains(&gain), "{}: {gain:.1}", llm.name);
    }
}

/// Peaks at the unlimited mode's clock, where they were 27 times as many.
#[test]
fn over_current_is_common_in_maxn_super_and_rare_at_25_watts() {
    let events = |mode| {
        let mut board = board("orin-nano-8gb-super", Conditions::default());
        board.set_mode(mode);
        let work = Work { sequences: 1, context_tokens: 500, prefill_tokens: 0 };
        for _ in 0..6000 {
            let step = board.speed().step(&Llm::B3, work);
            board.advance(Duration::from_millis(100), step.load);
        }
        board.totals().over_currents[2]
    };
    let (limited, unlimited) = (events(1), events(2));
    let ratio = unlimited / limited.max(1);
    assert!((10..80).contains(&ratio), "{unlimited} and {limited} events in ten minutes");
    assert!((600 * 2..600 * 28).contains(&unlimited), "{unlimited} events in ten minutes");
}
