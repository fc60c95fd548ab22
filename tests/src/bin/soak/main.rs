//! `soak`: a server under load while things go wrong, and each answer beside
//! the one that it gives when nothing does. `scripts/soak` builds what is
//! needed and starts it.
//!
//! ```text
//! ask ──► trial, alone:     each request once, alone ──► twins
//!    └──► trial, disturbed: clients ──► verdicts ──► ledger ──┐
//!                           faults  ──► server ──► timeline ──┴─► report ──► table or JSON
//! ```
//!
//! Everything that is drawn comes from the seed. The load is made on one
//! thread, since the machine's processors are the server's.

#![forbid(unsafe_code)]

mod ask;
mod plan;
mod transcript;
mod verdict;

mod trial;

mod client;
mod http;
mod ledger;
mod load;

mod faults;
mod keeper;
mod server;

mod poison;
mod starve;

mod pauses;
mod timeline;

mod progress;
mod report;
mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Parser;
use tests::measured_on::MachineFacts;
use tests::rivals::Serving;
use tests::spinner;
use tests::spoken::Format;
use tokio::signal::unix::{SignalKind, signal};

use report::{Report, Trial};
use server::Setup;
use trial::{Side, Terms};

/// Disturbs a server under load and checks each of its answers.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// The `stoker` to disturb.
    #[arg(long)]
    stoker: PathBuf,
    /// The engine directory that it serves.
    #[arg(long)]
    engine: PathBuf,
    /// A `llama-server` that gets the same load and the same kills.
    #[arg(long)]
    peer: Option<PathBuf>,
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// Spread evenly over the requests [default: one for each 20 requests].
    #[arg(long)]
    faults: Option<usize>,
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// Different requests, each of which is answered once undisturbed.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    bodies: u32,
    /// Tokens of the longest answer.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..))]
    longest_answer: u16,
    /// Words of the longest prompt.
    #[arg(long, default_value_t = 1300, value_parser = clap::value_parser!(u16).range(1..))]
    longest_prompt: u16,
    /// No request begins after so many minutes under load.
    #[arg(long, default_value_t = 600.0)]
    minutes: f64,
    /// Seconds of starvation after that.
    #[arg(long, default_value_t = 0)]
    starve: u64,
    /// Poisoned requests after that.
    #[arg(long, default_value_t = 0)]
    poison: usize,
    /// No fault but kill -9; so it is with a peer anyway.
    #[arg(long)]
    kills_only: bool,
    /// Answers need not equal their undisturbed twins.
    #[arg(long)]
    differing_is_fine: bool,
    /// A setting of Stoker's, for example `engine.threads=1`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = variable)]
    settings: Vec<(String, String)>,
    #[arg(long)]
    threads: Option<usize>,
    /// A directory with a small file system of its own, for state that meets a
    /// full disk.
    #[arg(long)]
    small_disk: Option<PathBuf>,
    /// Where the servers' logs are kept [default: nowhere].
    #[arg(long)]
    logs: Option<PathBuf>,
    /// What all is drawn from [default: the clock].
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Arguments {
    fn lengths(&self) -> ask::Lengths {
        ask::Lengths {
            prompt_words: self.longest_prompt.into(),
            answer_tokens: self.longest_answer.into(),
        }
    }
}

/// `engine.threads=1` as the variable that says it.
fn variable(setting: &str) -> Result<(String, String), String> {
    let (key, value) = setting.split_once('=').ok_or("is not KEY=VALUE")?;
    let name = format!("STOKER_{}", key.replace('.', "__").to_uppercase());
    Ok((name, value.to_owned()))
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // The causes in one line, without a backtrace.
            progress::note(&format!("soak: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing happened that must not.
fn run() -> anyhow::Result<bool> {
    if std::env::args().nth(1).as_deref() == Some(spinner::ARGUMENT) {
        return spinner::spin(std::env::args()).map(|()| true);
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = soak(arguments) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn soak(arguments: Arguments) -> anyhow::Result<bool> {
    let work = tempfile::tempdir().context("create a directory for state and logs")?;
    let logs = arguments.logs.clone().unwrap_or_else(|| work.path().join("logs"));
    std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
    let seed = arguments.seed.map_or_else(seed_of_the_clock, Ok)?;
    let setup = Setup {
        program: arguments.stoker.clone(),
        serving: Serving::of_engine(&arguments.engine, arguments.threads)?,
        state_dir: arguments.small_disk.as_deref().unwrap_or(work.path()).join("state"),
        variables: arguments.settings.clone(),
        log: fresh_log(&logs, "stoker.log")?,
    };
    setup.link_engine(&arguments.engine)?;
    let terms = terms(&arguments, seed)?;
    let bodies = usize::try_from(arguments.bodies).context("more requests than memory")?;
    let asks = ask::pool(seed, bodies, &setup.serving.model, arguments.lengths());

    let first = Setup { log: fresh_log(&logs, "stoker-alone.log")?, ..setup.clone() };
    let (pool, alone) = trial::alone(Side::Ours, &first, asks.clone()).await?;
    let pool = Arc::new(pool);
    let ours = trial::disturbed(Side::Ours, &setup, &pool, alone, &terms).await?;
    let starvation = match arguments.starve {
        0 => None,
        seconds => {
            let setup = Setup { log: fresh_log(&logs, "stoker-starving.log")?, ..setup.clone() };
            let time = Duration::from_secs(seconds);
            Some(starve::run(&setup, &pool, seed, terms.clients, time).await?)
        }
    };
    let poison = match arguments.poison {
        0 => None,
        rounds => {
            let log = fresh_log(&logs, "stoker-poison.log")?;
            Some(poison::run(&arguments.stoker, work.path(), &log, seed, rounds).await?)
        }
    };
    let peer = match &arguments.peer {
        None => None,
        Some(program) => {
            let log = fresh_log(&logs, "llama-server.log")?;
            let setup = Setup { program: program.clone(), log, ..setup.clone() };
            Some(peer(&setup, &asks, &terms).await?)
        }
    };
    let report = Report {
        machine: MachineFacts::read()?,
        model: setup.serving.model,
        threads: setup.serving.threads,
        seed,
        clients: terms.clients,
        bodies,
        reproducible: !arguments.differing_is_fine,
        ours,
        peer,
        starvation,
        poison,
        failures: Vec::new(),
    };
    let report = report.finish();
    let text = match arguments.format {
        Format::Text => table::draw(&report),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes()).context("write the result")?;
    Ok(report.failures.is_empty())
}

fn terms(arguments: &Arguments, seed: u64) -> anyhow::Result<Terms> {
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0).context("--minutes")?;
    Ok(Terms {
        seed,
        clients: arguments.clients,
        requests: arguments.requests,
        faults: arguments.faults.unwrap_or(arguments.requests / 20),
        time,
        kills_only: arguments.kills_only || arguments.peer.is_some(),
        small_disk: arguments.small_disk.clone(),
    })
}

async fn peer(setup: &Setup, asks: &[ask::Ask], terms: &Terms) -> anyhow::Result<Trial> {
    let asks = asks.iter().cloned().map(ask::Ask::for_peer).collect();
    let (pool, alone) = trial::alone(Side::Peer, setup, asks).await.context("undisturbed peer")?;
    trial::disturbed(Side::Peer, setup, &Arc::new(pool), alone, terms).await
}

/// A log of this run alone: what an earlier run left there would be counted.
fn fresh_log(logs: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = logs.join(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(path),
    }
}

/// Another seed each time, so that no run asks what an earlier one asked.
fn seed_of_the_clock() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    Ok(since.as_secs() ^ (u64::from(since.subsec_nanos()) << 32))
}
