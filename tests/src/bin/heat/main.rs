//! `heat`: the governor and its rivals on virtual boards, in one report.
//! `scripts/bench-governor` builds and starts it.
//!
//! The boards' constants, the requests and the events come from draws. Those
//! from 1 on are for tuning; what is reported uses others, from 1001 on, so
//! that no figure is of a board that anything was fitted to.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::{Context as _, ensure};
use clap::Parser;
use serde::Serialize;

use tests::heat::cell::{Cell, Fan, Load, PowerMode};
use tests::heat::controller::{Kind, RIVALS_HOLD};
use tests::heat::oracle::{HOLDS, Oracle};
use tests::heat::run::{Plan, Stage, run};
use tests::heat::verdict::{Mark, Row, Wanted, judge};
use tests::heat::{plot, report};
use tests::spoken::Format;

/// Runs the governor and what others would do in its place, and compares them.
#[derive(Debug, Parser)]
#[command(name = "heat")]
struct Arguments {
    /// Simulated hours of each run.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Boards drawn for each cell.
    #[arg(long, default_value_t = 1)]
    draws: u64,
    /// Use the draws that the governor was tuned on.
    #[arg(long)]
    tuning: bool,
    /// What those hold that are not ours, in degrees.
    #[arg(long, default_value_t = RIVALS_HOLD)]
    rivals_hold: f64,
    /// First of the draws, instead of the first of those that are reported.
    #[arg(long)]
    first_draw: Option<u64>,
    /// Boards in their highest power mode, instead of the one that they come in.
    #[arg(long)]
    highest_mode: bool,
    /// Also find out what is possible in each cell: many times the work.
    #[arg(long)]
    oracle: bool,
    /// Ask the oracle for one goal alone.
    #[arg(long, requires = "oracle")]
    oracle_for: Option<Wanted>,
    /// What the oracle holds, in degrees.
    #[arg(long, default_value_t = HOLDS)]
    oracle_holds: f64,
    /// The oracle commands the fan as well, which nobody else does.
    #[arg(long)]
    oracle_fan: bool,
    /// Cells computed at once [default: one for each processor].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Every how many-th cell, for a quick look.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Only modules whose names contain this.
    #[arg(long)]
    module: Option<String>,
    /// Only fans in a state whose name contains this, such as "stuck".
    #[arg(long)]
    fan: Option<String>,
    /// Only loads whose names contain this, such as "long".
    #[arg(long)]
    load: Option<String>,
    /// Also print every cell.
    #[arg(long)]
    cells: bool,
    /// Write a plot of one run per load and fan into this directory.
    #[arg(long)]
    plots: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The JSON document.
#[derive(Debug, Serialize)]
struct Document<'a> {
    hours: f64,
    rivals_hold: f64,
    oracle_holds: Option<f64>,
    draws: Vec<u64>,
    rows: &'a [Row],
    marks: &'a [Mark],
}

/// First of the draws for tuning, and of those that are reported.
const TUNING: u64 = 1;
const REPORTED: u64 = 1001;

/// The board of the plots.
const PLOTTED: &str = "orin-nano-8gb-super";

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.hours > 0.0 && arguments.every > 0, "there is nothing to run");
    let usual = if arguments.tuning { TUNING } else { REPORTED };
    let first = arguments.first_draw.unwrap_or(usual);
    let draws: Vec<u64> = (first..first + arguments.draws).collect();
    let contains = |name: &str, part: &Option<String>| {
        part.as_ref().is_none_or(|part| name.contains(part.as_str()))
    };
    let named = |cell: &Cell| {
        contains(cell.module, &arguments.module)
            && contains(&cell.fan.to_string(), &arguments.fan)
            && contains(&cell.load.to_string(), &arguments.load)
    };
    let mode = if arguments.highest_mode { PowerMode::Highest } else { PowerMode::Shipped };
    let cells: Vec<Cell> =
        Cell::grid(mode).into_iter().filter(named).step_by(arguments.every).collect();
    let of_draw = |draw: &u64| cells.iter().map(|cell| (*cell, *draw)).collect::<Vec<_>>();
    let rows = rows(&draws.iter().flat_map(of_draw).collect::<Vec<_>>(), &arguments);
    let marks = judge(&rows);
    let text = match arguments.format {
        Format::Json => {
            let (rows, marks) = (&rows[..], &marks[..]);
            let (hours, rivals_hold) = (arguments.hours, arguments.rivals_hold);
            let oracle_holds = arguments.oracle.then_some(arguments.oracle_holds);
            let document = Document { hours, rivals_hold, oracle_holds, draws, rows, marks };
            serde_json::to_string_pretty(&document)? + "\n"
        }
        Format::Text if arguments.cells => report::draw_cells(&rows) + &report::draw(&rows, &marks),
        Format::Text => report::draw(&rows, &marks),
    };
    std::io::stdout().write_all(text.as_bytes()).context("write the result")?;
    match &arguments.plots {
        None => Ok(()),
        Some(directory) => plots(directory, first),
    }
}

/// All rows, in the order of their cells, each computed by one of some threads.
fn rows(cells: &[(Cell, u64)], arguments: &Arguments) -> Vec<Row> {
    let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = arguments.jobs.unwrap_or_else(processors).get();
    let next = AtomicUsize::new(0);
    let (done, computed) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                while let Some((index, (cell, draw))) = take(cells, next) {
                    let _ = done.send((index, row(cell, draw, arguments)));
                }
            });
        }
        drop(done);
        let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
        for (index, row) in computed {
            rows.insert(index, row);
            if rows.len().is_multiple_of(60) {
                eprintln!("{} of {} cells", rows.len(), cells.len());
            }
        }
        rows.into_values().collect()
    })
}

fn take(cells: &[(Cell, u64)], next: &AtomicUsize) -> Option<(usize, (Cell, u64))> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    cells.get(index).map(|cell| (index, *cell))
}

fn row(cell: Cell, draw: u64, arguments: &Arguments) -> Row {
    let (hours, rivals_hold) = (arguments.hours, arguments.rivals_hold);
    let plan = |kind| Plan { cell, kind, draw, hours, rivals_hold };
    let outcome = |kind: &Kind| (*kind, run(plan(*kind), |_| {}));
    let outcomes = Kind::ALL.iter().map(outcome).collect::<BTreeMap<_, _>>();
    let mut row = Row { cell, draw, outcomes, oracle: None };
    if arguments.oracle {
        let stage = Stage { cell, draw, hours };
        let mut oracle = Oracle::new(stage, arguments.oracle_holds, arguments.oracle_fan);
        row.oracle = Some(row.ask(&mut oracle, arguments.oracle_for));
    }
    row
}

/// One plot for each load and state of the fan, at 40 °C.
fn plots(directory: &std::path::Path, draw: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).context("create the directory of the plots")?;
    for load in Load::ALL {
        for fan in Fan::ALL {
            let mode = PowerMode::Shipped;
            let cell = Cell { module: PLOTTED, mode, ambient: 40, fan, load };
            let course = |kind: Kind| {
                let mut points = Vec::new();
                let plan = Plan { cell, kind, draw, hours: 1.0, rivals_hold: RIVALS_HOLD };
                let _ = run(plan, |point| points.push(point));
                (kind, points)
            };
            let kinds =
                [Kind::Governor, Kind::Balanced, Kind::Hardware, Kind::Threshold, Kind::Pid];
            let courses: Vec<_> = kinds.map(course).into();
            let name = format!("{fan}-{load}.svg").replace(' ', "-");
            let path = directory.join(name);
            std::fs::write(&path, plot::draw(&cell.to_string(), &courses))
                .with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
