//! Clients that ask one request after the other, all at once, until there are
//! no more or the time is over.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ask::Ask;
use crate::client::{self, Ending};
use crate::faults::Begun;
use crate::ledger::{Ledger, Pool};
use crate::plan::{Manner, request};

/// Longest time for one answer, whatever happens to the server meanwhile.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(900);

/// How much is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) requests: usize,
    /// No request begins after this.
    pub(crate) until: Instant,
}

/// A ledger that clients write into.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(Instant::now()))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks everything and returns when the last answer has ended. `begun` tells
/// how far it is.
pub(crate) async fn drive(
    server: SocketAddr,
    pool: &Arc<Pool>,
    load: Load,
    ledger: &Shared,
    begun: watch::Sender<Begun>,
) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let (pool, ledger, begun) = (pool.clone(), ledger.clone(), begun.clone());
        clients.spawn(async move {
            while let Some(number) = next(&begun, load) {
                let (body, manner) = request(load.seed, number, pool.asks.len());
                let outcome = client::run(server, &pool.asks[body], manner, ANSWER_LIMIT).await;
                ledger.lock().add(&pool, number, body, manner, outcome);
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("run a client")?;
    }
    begun.send_modify(|begun| begun.over = true);
    Ok(())
}

/// Takes the next request's number, if there is one.
fn next(begun: &watch::Sender<Begun>, load: Load) -> Option<usize> {
    let mut number = None;
    begun.send_if_modified(|begun| {
        let goes_on = begun.requests < load.requests && Instant::now() < load.until;
        if goes_on {
            number = Some(begun.requests);
            begun.requests += 1;
        }
        goes_on
    });
    number
}

/// The answers of a server that nobody disturbs, one after the other.
pub(crate) async fn twins(
    server: SocketAddr,
    asks: Vec<Ask>,
    tell: impl Fn(usize),
) -> anyhow::Result<Pool> {
    let mut pool = Pool { asks: Vec::new(), twins: Vec::new(), with_ids: false };
    for (number, ask) in asks.iter().enumerate() {
        let outcome = client::run(server, ask, Manner::Eager, ANSWER_LIMIT).await;
        let lack = match outcome.ending {
            Ending::Broken(why) => Some(why),
            _ => outcome.transcript.lack(ask),
        };
        if let Some(lack) = lack {
            anyhow::bail!(
                "undisturbed, request {number} of the pool ({}) has no whole answer: {lack}",
                ask.path
            );
        }
        pool.with_ids |= outcome.has_id;
        pool.twins.push(outcome.transcript);
        tell(pool.twins.len());
    }
    Ok(Pool { asks, ..pool })
}
