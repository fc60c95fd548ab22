//! `bench`: Stoker and `llama-server` under the same load on the same machine,
//! one after the other, in one table. `scripts/bench` builds both and starts it.
//!
//! ```text
//! plan ──► scenario (one server, one load) ──► readings ──► report ──► table or JSON
//!            │ server.rs  starts it and times its first token
//!            │ client.rs  streams answers and stamps every piece
//!            └ proc.rs    processor time, memory, wake-ups, from outside
//! ```
//!
//! The two servers never run at the same time. Runs come in pairs, ours and
//! the peer's right after each other, in alternating order. The load is made
//! on one thread, since the machine's processors are the servers'.

#![forbid(unsafe_code)]

mod plan;
mod scenario;

mod measure;
mod report;
mod table;

mod server;

mod client;
mod load;

mod proc;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use plan::{Plan, Scenario};
use report::Report;
use server::{Port, Programs, Setup};
use tests::rivals::Serving;
use tests::spinner;
use tests::spoken::Format;

/// Compares Stoker with llama-server on this machine and prints one table.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// The `stoker` to measure.
    #[arg(long)]
    stoker: PathBuf,
    /// The `llama-server` to measure it against.
    #[arg(long)]
    peer: PathBuf,
    /// The engine directory that both serve.
    #[arg(long)]
    engine: PathBuf,
    /// Stoker's state directory; the engine stands below it.
    #[arg(long)]
    state_dir: PathBuf,
    /// Threads that each server computes with [default: one for each processor].
    #[arg(long)]
    threads: Option<usize>,
    /// Smaller loads and fewer pairs.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios; may be repeated.
    #[arg(long)]
    only: Vec<Scenario>,
    /// Pairs of each scenario [default: what the plan says].
    #[arg(long)]
    pairs: Option<usize>,
    /// Put llama-server on both sides: every ratio should be 1, and how far it
    /// is from 1 is what this machine's noise makes of it.
    #[arg(long)]
    twins: bool,
    /// Port that the servers listen on, loopback only [default: any free one].
    #[arg(long)]
    port: Option<u16>,
    /// What the prompts are made from [default: the clock].
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes in one line, without a backtrace.
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some(spinner::ARGUMENT) {
        return spinner::spin(std::env::args());
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = bench(arguments) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn bench(arguments: Arguments) -> anyhow::Result<()> {
    let logs = tempfile::tempdir().context("create a directory for the servers' logs")?;
    let setup = setup(&arguments, logs.path().into())?;
    let seed = arguments.seed.map_or_else(seed_of_the_clock, Ok)?;
    let scenarios = plan::scenarios(&arguments.only, arguments.twins);
    let mut plan = Plan::new(arguments.quick, &scenarios, arguments.pairs);
    let mut report = Report::new(&setup, seed, arguments.quick, arguments.twins)?;

    scenario::warm_page_cache(&setup).await?;
    while let Some(step) = plan.next() {
        plan.announce(&step);
        let started = Instant::now();
        let sample = scenario::run(&setup, &step, arguments.quick, seed)
            .await
            .with_context(|| format!("measure {step}"))?;
        plan.finished(&step, started.elapsed());
        report.add(sample);
    }
    let text = match arguments.format {
        Format::Text => table::draw(&report.finish()),
        Format::Json => serde_json::to_string_pretty(&report.finish())? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes()).context("write the result")
}

fn setup(arguments: &Arguments, logs: PathBuf) -> anyhow::Result<Setup> {
    Ok(Setup {
        programs: Programs {
            stoker: arguments.stoker.clone(),
            peer: arguments.peer.clone(),
            twins: arguments.twins,
        },
        state_dir: arguments.state_dir.clone(),
        serving: Serving::of_engine(&arguments.engine, arguments.threads)?,
        port: arguments.port.map_or(Port::Any, Port::Fixed),
        logs,
    })
}

/// Another seed each time, so that no run asks what an earlier one asked.
fn seed_of_the_clock() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    Ok(since.as_secs() ^ (u64::from(since.subsec_nanos()) << 32))
}
