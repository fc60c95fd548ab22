//! The embedder as the main loop has it: a second worker with a life of its own.
//!
//! ```text
//!             built            somebody asks
//!  Absent ───────────► Idle ─────────────────► Alive
//!                       ▲ │                      │ died
//!                       │ └──── (asked again) ───┤
//!                       └─────── time ─────── Resting, if it did nothing in its life
//! ```
//!
//! It is started when somebody first asks for vectors, because most appliances never
//! do and its memory is theirs; it then stays. It holds no state that a client could
//! miss, so a restarted supervisor starts another one in place of taking it over.
//! Nothing of it touches the engine that answers, nor the other way round.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine_api::manifest::Manifest;
use engine_api::protocol::{Limits, Load, Ready};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc, watch};

use super::engine::{in_one_line, measured_load, speeds};
use super::handle::{Access, Seats};
use super::ledger::Happened;
use super::{Change, Supervisor};
use crate::config::Settings;
use crate::engines::connection::Connection;
use crate::engines::locate::{self, Located};
use crate::engines::{self, DRAIN_GRACE, Death, LifeId, Order, Spec, Worker, WorkerEvent};
use crate::index::Maker;
use crate::snapshot::{Embedder, EmbedderState};
use crate::systemd::keeper::Keeper;

/// Rest after an embedder that cannot even be loaded.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// Lives without a vector after which clients are told instead of kept waiting.
const HOPELESS: u32 = 3;

/// Where the embedder is, and who may ask for it.
#[derive(Debug)]
pub(super) struct Embedding {
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
    seats: Arc<Semaphore>,
    capacity: usize,
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
}

impl Embedding {
    pub(super) fn new(settings: &Settings) -> Self {
        let capacity = settings.admission.queue.max(1);
        let (access, _) = watch::channel(Access::Soon { reason: String::new() });
        let seats = Arc::new(Semaphore::new(capacity));
        let state = State::Absent { reason: String::new() };
        let mut embedding = Self {
            located: None,
            state,
            wanted: false,
            futile: 0,
            restarts: 0,
            access,
            maker: watch::Sender::new(None),
            seats,
            capacity,
            looked: None,
        };
        embedding.look(settings);
        embedding
    }

    /// What clients reach it through.
    pub(super) fn seats(&self, settings: &Settings) -> Seats {
        Seats {
            access: self.access.subscribe(),
            maker: self.maker.subscribe(),
            free: Arc::clone(&self.seats),
            capacity: self.capacity,
            wait: settings.admission.wait,
        }
    }

    /// Whether somebody's texts are not done.
    pub(super) fn in_use(&self) -> bool {
        self.seats.available_permits() < self.capacity
    }

    /// When it is to be started although nothing happens.
    pub(super) fn next_start(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until, .. } => Some(until),
            _ => None,
        }
    }

    fn is(&self, life: LifeId) -> bool {
        matches!(self.state, State::Alive { life: alive, .. } if alive == life)
    }

    /// Finds the embedder, if the directory of engines has changed and none runs.
    fn look(&mut self, settings: &Settings) -> bool {
        let changed = changed_at(&settings.state_dir.engines());
        let stale = matches!(self.state, State::Alive { .. })
            || (self.looked == changed && changed.is_some());
        if stale {
            return false;
        }
        self.looked = changed;
        let before = self.located.take();
        match locate::embedder(&settings.state_dir, settings.embedding.model.as_ref()) {
            Ok(located) => {
                // Another build is worth another try.
                if before.as_ref() != Some(&located) || !matches!(self.state, State::Resting { .. })
                {
                    self.state = State::Idle;
                    self.futile = 0;
                }
                self.located = Some(located);
            }
            Err(error) => self.state = State::Absent { reason: in_one_line(&error) },
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
                State::Idle => EmbedderState::Idle,
                State::Alive { .. } if ready.is_some() => EmbedderState::Ready,
                State::Alive { .. } => EmbedderState::Starting,
            },
            device: ready.map(|ready| ready.device.clone()),
            pid,
            restarts: self.restarts,
        })
    }

    /// Ends it at the very end, and collects it.
    pub(super) async fn end(&mut self, events: &mut mpsc::Receiver<(LifeId, WorkerEvent)>) {
        let State::Alive { life, worker, .. } = &self.state else { return };
        worker.order(Order::Drain);
        let gone = async {
            while let Some((ended, event)) = events.recv().await {
                if ended == *life && matches!(event, WorkerEvent::Ended(_)) {
                    return;
                }
            }
        };
        if tokio::time::timeout(DRAIN_GRACE * 2, gone).await.is_err() {
            tracing::warn!("the embedder did not end in time");
        }
    }
}

impl Supervisor {
    /// Somebody asks for vectors, and nobody makes them.
    pub(super) fn embedder_wanted(&mut self) {
        self.embedding.wanted = true;
    }

    /// Looks for an embedder that was built meanwhile.
    pub(super) fn look_for_embedder(&mut self) {
        if self.embedding.look(&self.settings) {
            self.change(Change::Urgent);
        }
    }

    /// Starts it when it is wanted and has rested.
    pub(super) fn start_embedder(&mut self, now: Instant) {
        if matches!(self.embedding.state, State::Resting { until, .. } if until <= now) {
            self.embedding.state = State::Idle;
            self.embedding.tell();
        }
        if !(self.embedding.wanted && matches!(self.embedding.state, State::Idle)) {
            return;
        }
        let Some(located) = self.embedding.located.clone() else { return };
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
        self.embedding.state = State::Alive { life, worker, pid: None, ready: None };
        self.embedding.tell();
        self.change(Change::Urgent);
    }

    /// Whether this was said by the embedder; if so, it has been heeded.
    pub(super) fn embedder_says(
        &mut self,
        life: LifeId,
        event: WorkerEvent,
        now: Instant,
    ) -> Option<WorkerEvent> {
        if !self.embedding.is(life) {
            return Some(event);
        }
        match event {
            WorkerEvent::Spawned { pid: started } => {
                tracing::info!(pid = started, "embedder started");
                if let State::Alive { pid, .. } = &mut self.embedding.state {
                    *pid = Some(started);
                }
                self.change(Change::Urgent);
            }
            WorkerEvent::Ready { ready: said, connection } => {
                tracing::info!(load_ms = said.load_ms, device = said.device, "embedder ready");
                if let State::Alive { ready, .. } = &mut self.embedding.state {
                    *ready = Some((said, connection));
                }
                self.embedding.wanted = false;
                self.embedding.tell();
                self.change(Change::Urgent);
            }
            WorkerEvent::Ended(death) => self.embedder_ended(&death, now),
            WorkerEvent::Loading { .. }
            | WorkerEvent::Heartbeat(_)
            | WorkerEvent::Finished { .. } => {}
        }
        None
    }

    fn embedder_ended(&mut self, death: &Death, now: Instant) {
        let state = std::mem::replace(&mut self.embedding.state, State::Idle);
        let connection = match state {
            State::Alive { ready: Some((_, connection)), .. } => Some(connection),
            _ => None,
        };
        let made = connection.as_ref().is_some_and(Connection::is_productive);
        if let Some(connection) = connection {
            // Whoever waits on it hears that it is gone, and asks for the next life.
            drop(connection.abandon());
        }
        self.embedding.futile = if made { 0 } else { self.embedding.futile.saturating_add(1) };
        self.embedding.restarts += 1;
        let rest = match death.cause.is_refusal() || death.is_stuck() {
            true => {
                self.embedding.futile = self.embedding.futile.max(HOPELESS);
                AFTER_REFUSAL
            }
            false => rest_after(self.embedding.futile),
        };
        if !rest.is_zero() {
            self.embedding.state = State::Resting { until: now + rest, reason: death.to_string() };
        }
        if self.embedding.futile >= HOPELESS {
            // Whoever waited is told; the next one may try.
            self.embedding.wanted = false;
        }
        self.embedding.tell();
        self.ledger.incident(ended(death, rest));
        self.change(Change::Urgent);
    }
}

/// What tells its vectors from those of every other; `None` if it makes none.
fn maker(manifest: &Manifest) -> Option<Maker> {
    let embedding = manifest.embedding.as_ref()?;
    let files: Vec<_> = manifest.files.iter().map(|file| (file.role, &file.sha256)).collect();
    let backend = (&manifest.backend.kind, &manifest.backend.version);
    let all = (&manifest.id, backend, embedding, manifest.serving.context, files);
    let all = serde_json::to_vec(&all).ok()?;
    Some(Maker {
        identity: Sha256::digest(&all).into(),
        model: manifest.id.clone(),
        dimension: embedding.dimension,
    })
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
