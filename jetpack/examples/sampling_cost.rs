//! What a sample costs: processor time on a recreated board, or on the machine
//! whose root is given.
//!
//! `cargo run --release -p jetpack --example sampling_cost [ROOT]`

use std::io::{self, Write};
use std::time::{Duration, Instant};

use jetpack::{Machine, Root, cpu};
use recreated_boards as tree;

const SAMPLES: u32 = 2000;
/// The period that a server samples with unless it is told otherwise.
const PERIOD: Duration = Duration::from_secs(2);

fn main() -> io::Result<()> {
    let tree = tree::agx_orin_64gb();
    let root = std::env::args().nth(1).map_or_else(|| tree.root(), Root::new);
    let mut machine = Machine::open(root);
    let used = || cpu::process_cpu_time(&Root::default(), std::process::id()).unwrap_or_default();
    machine.sample();
    let (before, start) = (used(), Instant::now());
    for _ in 0..SAMPLES {
        machine.sample();
    }
    let (each, wall) = ((used() - before) / SAMPLES, start.elapsed() / SAMPLES);
    let share = each.as_secs_f64() / PERIOD.as_secs_f64() * 100.0;
    writeln!(io::stdout(), "{each:?} of a processor and {wall:?} each, {share:.3} % of one core")
}
