//! Starvation: busy processes on every processor beside the server, and no
//! other fault. It then answers slowly, and nobody may take it for hanging.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tests::spinner::Spinner;
use tokio::sync::watch;
use tokio::time::interval;

use crate::faults::Begun;
use crate::ledger::{Counts, Pool};
use crate::load::{Load, Shared, drive};
use crate::progress::Progress;
use crate::server::Setup;
use crate::timeline::What;
use crate::trial::Side;

/// Busy processes on each processor, at the server's own priority. Every second
/// one is of a session of its own, which many kernels give as much of the
/// processor as the whole server.
const HOGS_PER_PROCESSOR: usize = 4;

/// What starvation did.
#[derive(Debug, Serialize)]
pub(crate) struct Starvation {
    pub(crate) duration_s: f64,
    pub(crate) hogs: usize,
    /// Engines that died or were killed: none had to.
    pub(crate) deaths: usize,
    pub(crate) counts: Counts,
}

/// Asks for `time` beside the busy processes.
pub(crate) async fn run(
    setup: &Setup,
    pool: &Arc<Pool>,
    seed: u64,
    clients: usize,
    time: Duration,
) -> anyhow::Result<Starvation> {
    let server = Side::Ours.start(setup).await?;
    let processors = std::thread::available_parallelism().context("count the processors")?.get();
    let places = (0..processors).flat_map(|place| (0..HOGS_PER_PROCESSOR).map(move |n| (place, n)));
    let hogs = places
        .map(|(processor, number)| Spinner::start_on(processor, number % 2 == 1))
        .collect::<Result<Vec<_>, _>>()?;
    let began = Instant::now();
    let load = Load { seed, clients, requests: usize::MAX, until: began + time };
    let ledger = Shared::new();
    {
        let work =
            drive(server.address(), pool, load, &ledger, watch::Sender::new(Begun::default()));
        tokio::pin!(work);
        let (mut progress, mut ticks) = (Progress::new(), interval(Duration::from_secs(1)));
        loop {
            tokio::select! {
                worked = &mut work => break worked?,
                _ = ticks.tick() => {
                    let share = began.elapsed().as_secs_f64() / time.as_secs_f64();
                    let requests = ledger.lock().counts.requests;
                    progress.say(share.min(1.0), &format!("starving: {requests} requests"));
                }
            }
        }
    }
    let hogs_count = hogs.len();
    drop(hogs);
    ledger.lock().close(&[]);
    let duration_s = began.elapsed().as_secs_f64();
    let deaths = server.marks().iter().filter(|mark| mark.what == What::Died).count();
    server.stop().await?;
    let counts = ledger.lock().counts.clone();
    Ok(Starvation { duration_s, hogs: hogs_count, deaths, counts })
}
