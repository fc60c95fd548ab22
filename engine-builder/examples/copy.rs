//! Copies a file as builds do, its hash computed on the way, for
//! `scripts/bench-copy`. Prints the seconds that it took and the hash.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use engine_builder::hash;
use engine_builder::report::Report;

fn main() -> std::io::Result<()> {
    let names: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = names.as_slice() else {
        return Err(std::io::Error::other("usage: copy FROM TO"));
    };
    let began = Instant::now();
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let bytes = from.metadata()?.len();
    let report = Report::silent();
    let (sha256, _) = hash::copy(&mut from, &mut to, &mut report.meter(bytes))?;
    writeln!(std::io::stdout(), "{:.3} {sha256}", began.elapsed().as_secs_f64())
}
