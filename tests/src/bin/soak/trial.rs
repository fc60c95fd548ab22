//! One server's trial: undisturbed first, for the twins and for what a load
//! takes; then started anew, with all clients and all faults at once.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::time::interval;

use crate::ask::Ask;
use crate::faults::{Begun, inject, ready_worker, send};
use crate::keeper::Keeper;
use crate::ledger::Pool;
use crate::load::{Load, Shared, drive, twins};
use crate::plan::{self, Means};
use crate::progress::Progress;
use crate::report::{Alone, Trial};
use crate::server::{LOOK, Ours, Server, Setup};
use crate::timeline::loads;

/// Loads that are timed while nothing else runs.
const TIMED_LOADS: usize = 3;
/// A prompt with fewer tokens says little of how fast prompts are read.
const TELLING_PROMPT: f64 = 32.0;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Peer,
}

/// What both sides are put through.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) requests: usize,
    pub(crate) faults: usize,
    /// No request begins after so much time.
    pub(crate) time: Duration,
    pub(crate) kills_only: bool,
    pub(crate) small_disk: Option<PathBuf>,
}

impl Side {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Ours => "stoker",
            Self::Peer => "llama-server",
        }
    }

    /// Starts the server and waits until it answers.
    pub(crate) async fn start(self, setup: &Setup) -> anyhow::Result<Server> {
        let server = match self {
            Self::Ours => Server::Ours(Box::new(Ours::start(setup.clone()).await?)),
            Self::Peer => Server::Peer(Keeper::start(setup.clone())?),
        };
        ensure!(ready_worker(&server).await.is_some(), "{} does not become ready", self.title());
        Ok(server)
    }
}

/// Answers every request of the pool alone, and times the engine's load.
pub(crate) async fn alone(
    side: Side,
    setup: &Setup,
    asks: Vec<Ask>,
) -> anyhow::Result<(Pool, Alone)> {
    let server = side.start(setup).await?;
    let progress = RefCell::new(Progress::new());
    let count = asks.len();
    let tell = |number: usize| {
        let what = format!("{}: {number} of {count} answers alone", side.title());
        progress.borrow_mut().say(number as f64 / count as f64, &what);
    };
    let pool = twins(server.address(), asks, tell).await?;
    drop(progress);
    for _ in 0..TIMED_LOADS {
        let worker = ready_worker(&server).await.context("the server does not become ready")?;
        send(worker, Signal::SIGKILL)?;
        while server.worker().await == Some(worker) {
            tokio::time::sleep(LOOK).await;
        }
    }
    ready_worker(&server).await.context("the server does not become ready")?;
    // The first load was not from memory.
    let timed = loads(&server.marks()).into_iter().skip(1).map(|load| load.as_secs_f64());
    let alone = Alone::new(&timed.collect::<Vec<_>>(), prefill_speed(&pool));
    server.stop().await?;
    Ok((pool, alone))
}

/// Prompt tokens read in a second, where the server says so.
fn prefill_speed(pool: &Pool) -> Option<f64> {
    let told = pool.twins.iter().filter_map(|twin| twin.prefill);
    let telling: Vec<_> = told.filter(|prefill| prefill.tokens >= TELLING_PROMPT).collect();
    let seconds: f64 = telling.iter().map(|prefill| prefill.seconds).sum();
    let tokens: f64 = telling.iter().map(|prefill| prefill.tokens).sum();
    (seconds > 0.0).then(|| tokens / seconds)
}

/// All clients and all faults at once.
pub(crate) async fn disturbed(
    side: Side,
    setup: &Setup,
    pool: &Arc<Pool>,
    alone: Alone,
    terms: &Terms,
) -> anyhow::Result<Trial> {
    let mut server = side.start(setup).await?;
    let began = Instant::now();
    let load = Load {
        seed: terms.seed,
        clients: terms.clients,
        requests: terms.requests,
        until: began + terms.time,
    };
    let means = Means {
        kills_only: terms.kills_only || side == Side::Peer,
        small_disk: terms.small_disk.is_some(),
        answers_have_ids: pool.with_ids,
    };
    let plan = plan::faults(terms.seed, terms.requests, terms.faults, means);
    let (ledger, done) = (Shared::new(), Cell::new(0));
    let (begun, begun_too) = watch::channel(Begun::default());
    let address = server.address();
    let tell = |number| done.set(number);
    let injected = {
        let faults = inject(&mut server, &plan, terms.small_disk.as_deref(), begun_too, tell);
        let work = async { tokio::try_join!(drive(address, pool, load, &ledger, begun), faults) };
        tokio::pin!(work);
        let mut progress = Progress::new();
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                worked = &mut work => break worked?.1,
                _ = ticks.tick() => {
                    say(&mut progress, side, &ledger, done.get(), terms, began);
                }
            }
        }
    };
    ledger.lock().close(&injected.done);
    if ready_worker(&server).await.is_none() {
        anyhow::bail!("{} was not ready again at the end", side.title());
    }
    let (marks, incidents) = (server.marks(), server.incidents());
    let duration = began.elapsed();
    server.stop().await?;
    let ledger = ledger.lock();
    let trial = Trial::new(side, setup, &ledger, &injected, &marks, alone, duration)?;
    Ok(Trial { incidents, ..trial })
}

fn say(
    progress: &mut Progress,
    side: Side,
    ledger: &Shared,
    faults: usize,
    terms: &Terms,
    began: Instant,
) {
    let ledger = ledger.lock();
    let counts = &ledger.counts;
    let share = counts.requests as f64 / terms.requests.max(1) as f64;
    let of_time = began.elapsed().as_secs_f64() / terms.time.as_secs_f64();
    let what = format!(
        "{}: {} of {} requests, {faults} of {} faults; {} lost, {} cut off without an id, \
         {} spliced, {} differing",
        side.title(),
        counts.requests,
        terms.requests,
        terms.faults,
        counts.lost,
        ledger.cut_so_far(),
        counts.repeated + counts.missing,
        counts.differing,
    );
    progress.say(share.max(of_time).min(1.0), &what);
}
