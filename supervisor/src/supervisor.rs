//! THE main loop: one task, events in, actions out.
//!
//! ```text
//!  Handle ── Submit, ClientGone, ShutDown ──┐              ┌─► Connection (Generate, Cancel)
//!  engines ─ Spawned … Ready … Ended ───────┤              ├─► launch, Order
//!  telemetry ─ Reading ─────────────────────┼─► one turn ──┼─► watch: Snapshot, Access
//!  store ── Report ─────────────────────────┤              ├─► store: rows
//!  time ─── restart, drain, waited too long ┘              └─► Answer: Queued, Failed
//! ```
//!
//! There is one task because the lifecycle has one writer: whoever else wants
//! something sends an input and gets a snapshot. A turn never waits. Tokens
//! do not pass here.

mod adoption;
mod embedders;
mod embedding;
mod ending;
mod engine;
mod facts;
mod governing;
mod handle;
mod history;
mod idle;
mod ledger;
mod lifecycle;
mod rates;
mod requests;
mod stale;
mod start;
mod view;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine_api::protocol::RequestId;
use engine_api::staleness::Here;
use tokio::sync::{mpsc, oneshot, watch};

pub use handle::{Handle, Haste};
pub use start::{Threads, start};

use crate::config::Settings;
use crate::engines::locate::Located;
use crate::engines::restart::Deaths;
use crate::engines::watchdog::Speeds;
use crate::engines::{LifeId, WorkerEvent};
use crate::index::{Entries, Index, Maker};
use crate::request::{Answer, Refusal, Request};
use crate::snapshot::Snapshot;
use crate::store::{Report, RequestRow};
use crate::systemd::keeper::{Keeper, LeftWorker};
use crate::telemetry::{Reading, Telemetry};
use embedders::{Embedders, Role};
use governing::Governing;
use handle::Access;
use idle::Idle;
use ledger::Ledger;
use lifecycle::Lifecycle;
use requests::Requests;
use stale::Stale;
use view::View;

/// How long the loop waits for the database before it begins without it.
const STORE_OPENS: Duration = Duration::from_secs(3);
/// Least time between two snapshots that are not urgent.
const PUBLISH_PERIOD: Duration = Duration::from_millis(100);

/// What the main loop hears.
#[derive(Debug)]
pub(crate) enum Input {
    Submit {
        request: Box<Request>,
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// For when nobody has a request.
    Idle {
        request: Box<Request>,
        reply: oneshot::Sender<Option<Answer>>,
    },
    /// A client's request is being read.
    ClientComes,
    ClientGone(RequestId),
    EmbedderWanted(Role),
    /// Whose vectors the index searches.
    SearchedAre {
        by: Option<Maker>,
    },
    Reading(Box<Reading>),
    ShutDown(Haste),
    Ping,
}

enum Turn {
    Input(Input),
    Worker(LifeId, WorkerEvent),
    Store(Report),
    Index,
    Time,
}

/// The loop's state.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    events: mpsc::Receiver<(LifeId, WorkerEvent)>,
    event_sender: mpsc::Sender<(LifeId, WorkerEvent)>,
    reports: mpsc::Receiver<Report>,
    telemetry: Telemetry,
    index: Index,
    index_changes: watch::Receiver<Entries>,
    lifecycle: Lifecycle,
    /// The engine that runs, or that ran last.
    located: Option<Located>,
    /// What the last life of that engine measured of its steps.
    measured: Option<Speeds>,
    /// Names of the chosen engine while another one is served in its place.
    stands_in_for: Vec<String>,
    /// The chosen engine, while it does not belong to this machine.
    stale: Option<Stale>,
    /// What an engine can be bound to, as of the last sample.
    here: Option<Here>,
    /// The worker was told to end because the chosen engine can serve again.
    replacing: bool,
    /// Who keeps the worker's sockets while we restart.
    keeper: Keeper,
    /// Workers that an earlier supervisor left and that were not looked at yet.
    left: Vec<LeftWorker>,
    /// Workers started so far.
    lives: u64,
    deaths: Deaths,
    governing: Governing,
    embedders: Embedders,
    /// Set by the first signal.
    draining: Option<Draining>,
    requests: Requests,
    idle: Idle,
    ledger: Ledger,
    access: watch::Sender<Access>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    published: Instant,
    /// What the last snapshot does not show yet.
    changed: Change,
    ids: Arc<AtomicU64>,
    beats: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
struct Draining {
    until: Instant,
    /// The worker was told to end.
    ordered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    None,
    /// Worth a snapshot within [`PUBLISH_PERIOD`].
    Small,
    /// Worth one now.
    Urgent,
}

impl Supervisor {
    /// Runs until it was told to shut down and has.
    pub async fn run(mut self) {
        // The engine loads meanwhile; incidents want to know which ids are taken.
        if let Ok(Some(report)) = tokio::time::timeout(STORE_OPENS, self.reports.recv()).await {
            self.ledger.store_says(report);
        }
        loop {
            self.settle(now());
            if matches!(self.lifecycle, Lifecycle::Ended) {
                break;
            }
            let turn = self.next_turn().await;
            self.beats.fetch_add(1, Ordering::Relaxed);
            match turn {
                Turn::Input(input) => self.hear(input, now()),
                Turn::Worker(life, event) => self.worker_says(life, event, now()),
                Turn::Store(report) => {
                    self.ledger.store_says(report);
                    self.change(Change::Urgent);
                }
                Turn::Index => self.change(Change::Small),
                Turn::Time => {}
            }
        }
        self.embedders.end(&mut self.events).await;
        self.governing.end().await;
    }

    async fn next_turn(&mut self) -> Turn {
        let at = self.next_time();
        let time = async {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((life, event)) = self.events.recv() => Turn::Worker(life, event),
            Some(input) = self.inputs.recv() => Turn::Input(input),
            Some(report) = self.reports.recv() => Turn::Store(report),
            Ok(()) = self.index_changes.changed() => Turn::Index,
            () = time => Turn::Time,
        }
    }

    /// When something is due although nothing happens.
    fn next_time(&self) -> Option<Instant> {
        let restart = self.next_start();
        let embedder = self.embedders.next_start();
        let publish = (self.changed > Change::None).then(|| self.published + PUBLISH_PERIOD);
        let overdue = self.requests.next_overdue(self.settings.admission.wait);
        let ignored = self.next_ignored();
        let drained =
            self.draining.filter(|draining| !draining.ordered).map(|draining| draining.until);
        let decide = self.next_decision();
        [restart, embedder, publish, overdue, ignored, drained, decide].into_iter().flatten().min()
    }

    /// When the engine is to be started.
    fn next_start(&self) -> Option<Instant> {
        match self.lifecycle {
            Lifecycle::Waiting { until, .. } => Some(until),
            Lifecycle::Failed { retry, .. } if self.draining.is_none() => retry,
            _ => None,
        }
    }

    /// Does all that follows from the state and the time, after each turn.
    fn settle(&mut self, now: Instant) {
        self.drain_on(now);
        if self.next_decision().is_some_and(|at| at <= now) {
            self.govern(now);
        }
        if self.next_start().is_some_and(|at| at <= now) {
            self.start_engine(now);
        }
        self.start_embedders(now);
        let bound = self.settings.admission.wait;
        let overdue = self.requests.fail_overdue(bound, &words::waited_too_long(), now);
        self.ended(overdue);
        if let Some(connection) = self.lifecycle.connection()
            && !self.is_ending()
            && self.requests.dispatch(connection, now).is_err()
        {
            self.give_up_on_worker(words::NOT_READING);
        }
        if self.next_ignored().is_some_and(|at| at <= now) {
            self.give_up_on_worker(words::NOT_CANCELLING);
        }
        self.requests.tell_places();
        self.publish(now);
    }

    fn hear(&mut self, input: Input, now: Instant) {
        match input {
            Input::Submit { request, reply } => {
                let answer = self.submit(*request, now);
                // If the client is gone, so is the answer, and that cancels it.
                let _ = reply.send(answer);
                self.change(Change::Small);
            }
            Input::Idle { request, reply } => {
                let _ = reply.send(self.begin_idle(*request, now));
            }
            Input::ClientComes => self.give_way(now),
            Input::ClientGone(id) => {
                self.cancel_idle(id, now);
                match self.requests.client_gone(id, self.lifecycle.connection(), now) {
                    Ok(row) => self.ended(row),
                    Err(_) => self.give_up_on_worker(words::NOT_READING),
                }
            }
            Input::EmbedderWanted(role) => self.embedders.of(role).want(),
            Input::SearchedAre { by } => self.searched_are(by),
            Input::Reading(reading) => {
                self.machine_is(&reading);
                self.ledger.reading(*reading, &self.requests.queue(), now);
                self.machine_read(now);
                self.look_for_engine(now);
                self.look_for_embedders();
                self.change(Change::Urgent);
            }
            Input::ShutDown(haste) => self.shut_down(haste, now),
            Input::Ping => {}
        }
    }

    fn submit(&mut self, request: Request, now: Instant) -> Result<Answer, Refusal> {
        self.give_way(now);
        self.ledger.totals.requests += 1;
        let accepted = if self.draining.is_some() {
            Err(Refusal::Draining)
        } else if let Some(reason) = self.lifecycle.hopeless() {
            Err(Refusal::Unavailable {
                reason: reason.to_owned(),
                retry_after: Duration::from_secs(60),
            })
        } else if let Some(refusal) = self.governing.refusal() {
            Err(refusal)
        } else {
            let id = RequestId(self.ids.fetch_add(1, Ordering::Relaxed));
            self.requests.accept(id, request, now, &self.input_sender)
        };
        if accepted.is_err() {
            self.ledger.totals.refused += 1;
        }
        accepted
    }

    fn ended(&mut self, rows: impl IntoIterator<Item = RequestRow>) {
        let model = self.located.as_ref().map(|located| located.manifest.id.clone());
        for mut row in rows {
            row.model = model.clone().unwrap_or_default();
            self.ledger.ended(row);
            self.change(Change::Small);
        }
    }

    fn lifecycle_changed(&mut self) {
        let access = match self.draining {
            Some(_) => Access::Draining,
            None => self.lifecycle.access(),
        };
        self.access.send_replace(access);
        self.change(Change::Urgent);
    }

    fn change(&mut self, change: Change) {
        self.changed = self.changed.max(change);
    }

    fn publish(&mut self, now: Instant) {
        let due = match self.changed {
            Change::None => false,
            Change::Small => now.saturating_duration_since(self.published) >= PUBLISH_PERIOD,
            Change::Urgent => true,
        };
        if due {
            self.changed = Change::None;
            self.published = now;
            let governor = self.governing.snapshot(now);
            let hinders = governor.as_ref().filter(|governor| hinders(governor.limiting));
            let held = hinders.map(|governor| governor.reason.clone());
            if held.is_some() {
                self.give_way(now);
            }
            self.index.hold(held);
            let view = View {
                lifecycle: &self.lifecycle,
                located: self.located.as_ref(),
                limits: self.limits_now(),
                governor,
                problem: self.governing.problem(&self.settings),
                rung: self.deaths.rung(),
                stale: self.stale.as_ref(),
                stands_in_for: &self.stands_in_for,
                queue: self.requests.queue(),
                embedder: self.embedders.view(Role::Chosen),
                former_embedder: self.embedders.view(Role::Former),
                index: self.index.shown(),
                idle: self.idle.shown(),
                draining: self.draining.is_some(),
            };
            self.snapshots.send_replace(Arc::new(self.ledger.snapshot(view, now)));
        }
    }
}

/// Whether what limits the engine is a reason to leave the board alone. A profile
/// that somebody chose is none.
fn hinders(limiting: &str) -> bool {
    ["heat", "throttled", "blind", "over_current", "memory"].contains(&limiting)
}

/// The clock of the loop, which is tokio's, so that a test can stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
