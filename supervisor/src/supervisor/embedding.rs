//! An embedder as the main loop has it: a worker with a life of its own.
//!
//! ```text
//!             built            somebody asks
//!  Absent ───────────► Idle ─────────────────► Alive
//!                       ▲ │                      │ died
//!                       │ └──── (asked again) ───┤
//!                       └─────── time ─────── Resting, if it did nothing in its life
//! ```
//! One that is not sought any more while it is alive is told to end, and is *leaving*
//! until it has.
//!
//! It is started when somebody first asks for vectors, because most appliances never
//! do and its memory is theirs; it then stays. It holds no state that a client could
//! miss, so a restarted supervisor starts another one in place of taking it over.
//! Nothing of it touches the engine that answers, nor the other way round.

mod sought;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use engine_api::protocol::{Limits, Load, Ready};
use tokio::sync::watch;

use super::embedders::Role;
use super::engine::{measured_load, speeds};
use super::handle::Access;
use super::ledger::Happened;
use super::{Change, Supervisor};
use crate::config::Settings;
use crate::engines::connection::Connection;
use crate::engines::locate::Located;
use crate::engines::{self, Death, LifeId, Order, Spec, Worker, WorkerEvent};
use crate::index::Maker;
use crate::snapshot::{Embedder, EmbedderState};
use crate::systemd::keeper::Keeper;
pub(super) use sought::Sought;
use sought::maker;

/// Rest after an embedder that cannot even be loaded.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// Lives without a vector after which clients are told instead of kept waiting.
const HOPELESS: u32 = 3;

/// Where an embedder is, and who may ask for it.
#[derive(Debug)]
pub(super) struct Embedding {
    sought: Sought,
    located: Option<Located>,
    state: State,
    /// Somebody waits for a life.
    wanted: bool,
    /// Lives in a row that made no vector.
    futile: u32,
    restarts: u64,
    access: watch::Sender<Access>,
    /// What its vectors are told apart by.
    maker: watch::Sender<Option<Maker>>,
    /// When the directory of engines had changed at the last look.
    looked: Option<SystemTime>,
}

#[derive(Debug)]
enum State {
    Absent {
        reason: String,
    },
    Idle,
    Alive {
        life: LifeId,
        worker: Worker,
        pid: Option<u32>,
        ready: Option<(Box<Ready>, Connection)>,
    },
    Resting {
        until: Instant,
        reason: String,
    },
    Leaving {
        life: LifeId,
        worker: Worker,
    },
}

impl Embedding {
    pub(super) fn new(sought: Sought, settings: &Settings) -> Self {
        let (access, _) = watch::channel(Access::Soon { reason: String::new() });
        let state = State::Absent { reason: String::new() };
        let mut embedding = Self {
            sought,
            located: None,
            state,
            wanted: false,
            futile: 0,
            restarts: 0,
            access,
            maker: watch::Sender::new(None),
            looked: None,
        };
        embedding.look(settings);
        embedding
    }

    /// What clients see of it.
    pub(super) fn watched(&self) -> (watch::Receiver<Access>, watch::Receiver<Option<Maker>>) {
        (self.access.subscribe(), self.maker.subscribe())
    }

    /// Whether its vectors are these.
    pub(super) fn makes_as(&self, maker: &Maker) -> bool {
        self.maker.borrow().as_ref() == Some(maker)
    }

    /// Somebody asks for vectors, and nobody makes them.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// When it is to be started although nothing happens.
    pub(super) fn next_start(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until, .. } => Some(until),
            _ => None,
        }
    }

    pub(super) fn is(&self, life: LifeId) -> bool {
        match self.state {
            State::Alive { life: its, .. } | State::Leaving { life: its, .. } => its == life,
            State::Absent { .. } | State::Idle | State::Resting { .. } => false,
        }
    }

    /// Looks for another one from now on; whether it is another.
    pub(super) fn seek(&mut self, sought: Sought, settings: &Settings) -> bool {
        if self.sought == sought {
            return false;
        }
        self.sought = sought;
        self.looked = None;
        (self.wanted, self.futile) = (false, 0);
        match std::mem::replace(&mut self.state, State::Absent { reason: String::new() }) {
            State::Alive { life, worker, ready, .. } => {
                worker.order(Order::Drain);
                if let Some((_, connection)) = ready {
                    drop(connection.abandon());
                }
                self.state = State::Leaving { life, worker };
                self.located = None;
                self.maker.send_replace(None);
                self.tell();
            }
            leaving @ State::Leaving { .. } => self.state = leaving,
            State::Absent { .. } | State::Idle | State::Resting { .. } => {
                self.look(settings);
            }
        }
        true
    }

    /// Finds the embedder, if the directory of engines has changed and none runs.
    pub(super) fn look(&mut self, settings: &Settings) -> bool {
        let changed = changed_at(&settings.state_dir.engines());
        let stale = matches!(self.state, State::Alive { .. } | State::Leaving { .. })
            || (self.looked == changed && changed.is_some());
        if stale {
            return false;
        }
        self.looked = changed;
        let before = self.located.take();
        match self.sought.locate(settings) {
            Ok(located) => {
                // Another build is worth another try.
                if before.as_ref() != Some(&located) || !matches!(self.state, State::Resting { .. })
                {
                    self.state = State::Idle;
                    self.futile = 0;
                }
                self.located = Some(located);
            }
            Err(reason) => self.state = State::Absent { reason },
        }
        self.maker.send_replace(self.located.as_ref().and_then(|located| maker(&located.manifest)));
        self.tell();
        before != self.located
    }

    fn tell(&self) {
        let soon = |reason: &str| Access::Soon { reason: reason.to_owned() };
        self.access.send_replace(match &self.state {
            State::Absent { reason } => Access::Never { reason: reason.clone() },
            State::Idle => soon("the embedder is being started"),
            State::Alive { ready: None, .. } => soon("the embedder is loading"),
            State::Alive { life, ready: Some((ready, connection)), .. } => Access::Ready {
                life: *life,
                connection: connection.clone(),
                context: ready.context,
            },
            State::Resting { reason, .. } if self.futile >= HOPELESS => {
                Access::Never { reason: format!("the embedder stopped again and again: {reason}") }
            }
            State::Resting { .. } => soon("the embedder is being started again"),
            State::Leaving { .. } => soon("another embedder is being ended"),
        });
    }

    /// What is shown of it; `None` if none is built.
    pub(super) fn view(&self) -> Option<Embedder> {
        let manifest = &self.located.as_ref()?.manifest;
        let (pid, ready) = match &self.state {
            State::Alive { pid, ready, .. } => (*pid, ready.as_ref().map(|(ready, _)| &**ready)),
            _ => (None, None),
        };
        Some(Embedder {
            model: manifest.id.clone(),
            aliases: manifest.model.aliases.clone(),
            backend: manifest.backend.kind,
            architecture: manifest.model.architecture.clone(),
            parameters: manifest.model.parameters,
            quantisation: manifest.model.quantisation.clone(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            dimension: manifest.embedding.as_ref().map_or(0, |embedding| embedding.dimension),
            context: manifest.serving.context,
            state: match &self.state {
                State::Absent { reason } | State::Resting { reason, .. } => {
                    EmbedderState::Resting { reason: reason.clone() }
                }
                State::Idle | State::Leaving { .. } => EmbedderState::Idle,
                State::Alive { .. } if ready.is_some() => EmbedderState::Ready,
                State::Alive { .. } => EmbedderState::Starting,
            },
            device: ready.map(|ready| ready.device.clone()),
            pid,
            restarts: self.restarts,
        })
    }

    /// Tells it to end at the very end; which life it is that will.
    pub(super) fn leave(&self) -> Option<LifeId> {
        let (State::Alive { life, worker, .. } | State::Leaving { life, worker }) = &self.state
        else {
            return None;
        };
        worker.order(Order::Drain);
        Some(*life)
    }
}

impl Supervisor {
    /// Starts it when it is wanted and has rested.
    pub(super) fn start_embedder(&mut self, role: Role, now: Instant) {
        let embedding = self.embedders.of(role);
        if matches!(embedding.state, State::Resting { until, .. } if until <= now) {
            embedding.state = State::Idle;
            embedding.tell();
        }
        if !(embedding.wanted && matches!(embedding.state, State::Idle)) {
            return;
        }
        let Some(located) = embedding.located.clone() else { return };
        self.lives += 1;
        let life = LifeId(self.lives);
        let settings = &self.settings.engine;
        // Each step computes a whole text.
        let text = u16::try_from(located.manifest.serving.context).unwrap_or(u16::MAX);
        let limits = Limits { max_sequences: 1, max_batch_tokens: text, pace_us: 0 };
        let spec = Spec {
            worker: settings.worker.clone(),
            load: Load {
                engine_dir: located.dir.clone(),
                limits,
                threads: settings.threads,
                reproducible: true,
            },
            load_timeout: settings.load_timeout,
            measured_load: measured_load(&located),
            speeds: speeds(&located, text),
            keeper: Keeper::none(),
        };
        let worker = engines::launch(spec, life, self.event_sender.clone());
        embedding.state = State::Alive { life, worker, pid: None, ready: None };
        embedding.tell();
        self.change(Change::Urgent);
    }

    pub(super) fn embedder_said(&mut self, role: Role, event: WorkerEvent, now: Instant) {
        let embedding = self.embedders.of(role);
        match event {
            WorkerEvent::Spawned { pid: started } => {
                tracing::info!(pid = started, "embedder started");
                if let State::Alive { pid, .. } = &mut embedding.state {
                    *pid = Some(started);
                }
                self.change(Change::Urgent);
            }
            WorkerEvent::Ready { ready: said, connection } => {
                tracing::info!(load_ms = said.load_ms, device = said.device, "embedder ready");
                if let State::Alive { ready, .. } = &mut embedding.state {
                    *ready = Some((said, connection));
                }
                embedding.wanted = false;
                embedding.tell();
                self.change(Change::Urgent);
            }
            WorkerEvent::Ended(death) => self.embedder_ended(role, &death, now),
            WorkerEvent::Loading { .. }
            | WorkerEvent::Heartbeat(_)
            | WorkerEvent::Finished { .. } => {}
        }
    }

    fn embedder_ended(&mut self, role: Role, death: &Death, now: Instant) {
        let embedding = self.embedders.of(role);
        let state = std::mem::replace(&mut embedding.state, State::Idle);
        if matches!(state, State::Leaving { .. }) {
            // Nobody waits for it.
            embedding.looked = None;
            embedding.look(&self.settings);
            return self.change(Change::Urgent);
        }
        let connection = match state {
            State::Alive { ready: Some((_, connection)), .. } => Some(connection),
            _ => None,
        };
        let made = connection.as_ref().is_some_and(Connection::is_productive);
        if let Some(connection) = connection {
            // Whoever waits on it hears that it is gone, and asks for the next life.
            drop(connection.abandon());
        }
        embedding.futile = if made { 0 } else { embedding.futile.saturating_add(1) };
        embedding.restarts += 1;
        let rest = match death.cause.is_refusal() || death.is_stuck() {
            true => {
                embedding.futile = embedding.futile.max(HOPELESS);
                AFTER_REFUSAL
            }
            false => rest_after(embedding.futile),
        };
        if !rest.is_zero() {
            embedding.state = State::Resting { until: now + rest, reason: death.to_string() };
        }
        if embedding.futile >= HOPELESS {
            // Whoever waited is told; the next one may try.
            embedding.wanted = false;
        }
        embedding.tell();
        self.ledger.incident(ended(death, rest));
        self.change(Change::Urgent);
    }
}

/// How long it rests after so many lives in a row that made nothing.
fn rest_after(futile: u32) -> Duration {
    Duration::from_secs(match futile {
        0 | 1 => 0,
        2 => 1,
        HOPELESS => 5,
        _ => 30,
    })
}

fn ended(death: &Death, rest: Duration) -> Happened {
    let done = match rest.as_secs() {
        0 => "the next request for vectors starts another".to_owned(),
        seconds => format!("it rests for {seconds} s; then the next request starts another"),
    };
    Happened {
        kind: "embedder_died",
        problem: "the embedder stopped; answers were not touched".to_owned(),
        cause: death.to_string(),
        evidence: serde_json::json!({
            "last_lines": death.exit.as_ref().map(|exit| &exit.lines),
        }),
        done,
        advice: "none, unless it happens again; then build it again".to_owned(),
    }
}

/// `None` if it cannot be told.
fn changed_at(dir: &Path) -> Option<SystemTime> {
    dir.metadata().and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedder_that_does_its_work_is_never_made_to_rest() {
        assert_eq!(rest_after(0), Duration::ZERO);
    }

    #[test]
    fn one_that_does_nothing_rests_longer_each_time_within_a_bound() {
        let rests: Vec<_> = (1..7).map(|futile| rest_after(futile).as_secs()).collect();
        assert_eq!(rests, [0, 1, 5, 30, 30, 30]);
    }
}
