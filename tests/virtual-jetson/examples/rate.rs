//! How many steps a second the model computes on this machine.

use std::time::{Duration, Instant};

use virtual_jetson::{Board, Conditions, Llm, Module, Work};

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn main() {
    let steps = 10_000_000_u32;
    for name in ["orin-nano-8gb-super", "agx-orin-64gb"] {
        let module = Module::named(name).expect("it is in the table");
        let mut board = Board::new(module, Conditions::default(), 1);
        let work = Work { sequences: 4, context_tokens: 2000, prefill_tokens: 0 };
        let begin = Instant::now();
        let mut hottest = 0.0_f64;
        for _ in 0..steps {
            let step = board.speed().step(&Llm::B3, work);
            let readings = board.advance(Duration::from_millis(100), step.load);
            hottest = hottest.max(readings.tj_celsius);
        }
        let took = begin.elapsed().as_secs_f64();
        let hours = f64::from(steps) / 36_000.0 / took;
        println!(
            "{name}: {:.1} million steps/s, {hours:.0} board hours/s at 100 ms; hottest {hottest:.1} °C",
            f64::from(steps) / took / 1e6
        );
    }
}
