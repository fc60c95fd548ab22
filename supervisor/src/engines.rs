//! Engines: which one is served, its worker process and the speech with it.
//!
//! A worker's life is a chain of consuming steps, so that nothing can be asked
//! of a worker that has not shaken hands. Each step that fails ends the
//! process and collects it.
//!
//! ```text
//!  Spawned ── Hello ──► Connected ── Load … Ready ──► Serving ──┐
//!     └──────────────────────┴───────────────────────────┴──► Death
//! ```
//!
//! A worker that an earlier supervisor left goes the same way, see [`adopt`]; its
//! engine is there already, so it is ready at once.
//!
//! [`launch`] runs one life as a task and tells the main loop what happens;
//! whether there is a next life is decided by [`restart`], and by nobody here.

pub mod connection;
pub mod locate;
pub mod process;
pub mod restart;
pub mod suspects;
pub mod watchdog;

mod life;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use engine_api::protocol::{
    FinishReason, Heartbeat, Load, PROTOCOL_VERSION, Ready, RequestId, Timings, Usage,
};
use tokio::sync::mpsc;

use connection::Connection;
use process::{Exit, Process};
use watchdog::{Speeds, Stall};

use crate::systemd::keeper::{Keeper, LeftWorker};

/// How long a fresh worker may take to say hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a worker that was left running may take to say hello, and then to
/// say that it is ready unless it still loads. It says hello at once and ready
/// after the step that it is in; one that does neither hangs.
pub const ADOPTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker may take to exit after `Drain`, with nothing running.
pub const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Which worker of this supervisor: events of an earlier life mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LifeId(pub u64);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The worker's executable.
    pub worker: PathBuf,
    pub load: Load,
    pub load_timeout: Duration,
    /// How long the engine took to load when it was built.
    pub measured_load: Duration,
    pub speeds: Speeds,
    /// Who keeps its sockets while we restart.
    pub keeper: Keeper,
}

/// What a worker's life tells the main loop. `Ended` is always the last.
#[derive(Debug)]
pub enum WorkerEvent {
    Spawned { pid: u32 },
    Loading { fraction: f32 },
    Ready { ready: Box<Ready>, connection: Connection },
    Heartbeat(Box<Heartbeat>),
    Finished { id: RequestId, ending: Ending },
    Ended(Death),
}

/// How a request ended that the worker had taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Done { reason: FinishReason, usage: Usage, timings: Timings },
    Failed { reason: String, used: Usage },
}

/// What a worker is told from outside its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Exit when nothing runs; after [`DRAIN_GRACE`] it is killed.
    Drain,
    /// Go on for the next supervisor, without what runs.
    Leave,
    /// End at once, because of this.
    Kill(&'static str),
}

/// The end of a life.
#[derive(Debug)]
pub struct Death {
    pub cause: Cause,
    /// `None` if there never was a process.
    pub exit: Option<Exit>,
}

/// Why a life ended.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Spawn(#[from] process::SpawnError),
    #[error("it did not say hello within {} s", within.as_secs())]
    NoHello { within: Duration },
    #[error("it speaks version {theirs} of the protocol, this program speaks {PROTOCOL_VERSION}")]
    Version { theirs: u32 },
    #[error("it did not load the engine within {} s", after.as_secs())]
    LoadTimeout { after: Duration },
    #[error("it cannot load the engine: {reason}")]
    LoadFailed { reason: String },
    #[error(transparent)]
    Broken(#[from] connection::Broken),
    #[error("it stood still")]
    Stalled(#[from] Stall),
    /// `exits`: it closed its socket after `Drain`, so it is about to exit.
    #[error("it was told to end")]
    Drained { exits: bool },
    #[error("it was left running for the next supervisor")]
    Left,
    #[error("{0}")]
    Killed(&'static str),
    /// It was left by an earlier supervisor, and never got ready for this one.
    #[error("it could not be taken over")]
    NotAdopted(#[source] Box<Cause>),
    #[error(transparent)]
    Gone(#[from] process::Gone),
}

impl Cause {
    /// Whether trying the same again is unlikely to help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Spawn(_) | Self::Version { .. } | Self::LoadFailed { .. })
    }
}

impl Death {
    /// Whether the worker was left by an earlier supervisor and could not be
    /// taken over. That says nothing about how another one will fare.
    #[must_use]
    pub fn is_of_unadopted(&self) -> bool {
        !self.is_stuck() && matches!(self.cause, Cause::NotAdopted(_) | Cause::Gone(_))
    }

    /// Whether the process could not be ended.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.stuck)
    }
}

impl fmt::Display for Death {
    /// One line: why, and how the process ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        let mut source = std::error::Error::source(&self.cause);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        match &self.exit {
            Some(Exit { status: Some(status), .. }) => write!(f, " ({status})"),
            Some(Exit { stuck: true, .. }) => {
                f.write_str(" (it is stuck in the kernel and could not be ended)")
            }
            Some(_) => f.write_str(" (exit status unknown: an earlier supervisor started it)"),
            None => Ok(()),
        }
    }
}

/// The main loop's end of a worker's life. Dropping it kills the worker.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::Sender<Order>,
}

impl Worker {
    /// Gives an order. A worker that is already ending takes none.
    pub fn order(&self, order: Order) {
        // Four fit; whoever has not heeded four is being killed already.
        let _ = self.orders.try_send(order);
    }
}

/// Starts a worker; what happens to it is told to `events`.
#[must_use]
pub fn launch(spec: Spec, life: LifeId, events: mpsc::Sender<(LifeId, WorkerEvent)>) -> Worker {
    let (sender, orders) = mpsc::channel(4);
    tokio::spawn(life::live(None, spec, life, orders, events));
    Worker { orders: sender }
}

/// Like [`launch`], with a worker that an earlier supervisor left in place of a
/// new one.
#[must_use]
pub fn adopt(
    left: LeftWorker,
    spec: Spec,
    life: LifeId,
    events: mpsc::Sender<(LifeId, WorkerEvent)>,
) -> Worker {
    let (sender, orders) = mpsc::channel(4);
    tokio::spawn(life::live(Some(left), spec, life, orders, events));
    Worker { orders: sender }
}

/// Ends a worker that an earlier supervisor left and nobody needs.
pub fn discard(left: LeftWorker, keeper: Keeper) {
    tracing::info!(pid = left.pid, "an engine that was left running is not needed");
    if let Ok(process) = Process::adopt(left, keeper) {
        tokio::spawn(process.end(Duration::ZERO));
    }
}
