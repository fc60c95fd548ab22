//! What the main loop does about its engine: start it, hear it, and decide
//! what comes after its end.

use std::time::{Duration, Instant};

use engine_api::protocol::{Limits, Load};

use super::lifecycle::{Alive, Lifecycle, Stage};
use super::{Change, Supervisor, words};
use crate::config::Settings;
use crate::engines::locate::{LocateError, Located, locate};
use crate::engines::restart::{Deaths, Facts, Verdict};
use crate::engines::{self, Death, LifeId, Order, Spec, WorkerEvent};
use crate::request::Failure;

/// How long the worker may take to end a request that was cancelled. It is one
/// step, which on a slow machine can be seconds.
const CANCEL_BOUND: Duration = Duration::from_secs(30);

impl Supervisor {
    pub(super) fn worker_says(&mut self, life: LifeId, event: WorkerEvent, now: Instant) {
        let Some(alive) = self.lifecycle.alive(life) else { return };
        match event {
            WorkerEvent::Spawned { pid } => {
                tracing::info!(pid, "engine started");
                alive.pid = Some(pid);
                self.telemetry.watch_worker(Some(pid));
                self.change(Change::Urgent);
            }
            WorkerEvent::Loading { fraction } => {
                alive.stage = Stage::Loading { fraction };
                self.change(Change::Small);
            }
            WorkerEvent::Ready { ready, connection } => {
                tracing::info!(
                    load_ms = ready.load_ms,
                    context = ready.context,
                    backend = ready.backend,
                    device = ready.device,
                    "engine ready"
                );
                let offered = usize::from(ready.max_sequences);
                alive.stage = Stage::Ready { since: now, ready, connection };
                let limits = limits(&self.settings, self.located.as_ref());
                self.requests.set_limit(offered.min(limits.max_sequences.into()));
                self.lifecycle_changed();
            }
            WorkerEvent::Heartbeat(heartbeat) => {
                if self.ledger.heartbeat(heartbeat, now) {
                    self.change(Change::Small);
                }
            }
            WorkerEvent::Finished { id, ending } => {
                let row = self.requests.finished(id, &ending, now);
                self.ended(row);
            }
            WorkerEvent::Ended(death) => self.worker_ended(&death, now),
        }
    }

    /// The worker is gone and collected: its requests end, and it is decided
    /// what comes next.
    fn worker_ended(&mut self, death: &Death, now: Instant) {
        self.telemetry.watch_worker(None);
        self.requests.set_limit(0);
        self.ledger.worker_gone();
        let lifecycle = std::mem::replace(&mut self.lifecycle, Lifecycle::Ended);
        if self.draining.is_some() {
            tracing::info!(%death, "engine ended");
            self.fail_running(&lifecycle, &words::shutting_down(), now);
            return self.lifecycle_changed();
        }
        let ready_for = match &lifecycle {
            Lifecycle::Alive(Alive { stage: Stage::Ready { since, .. }, .. }) => {
                Some(now.saturating_duration_since(*since))
            }
            _ => None,
        };
        let facts = Facts { ready_for, refused: death.cause.is_refusal(), stuck: death.is_stuck() };
        let (deaths, verdict) = self.deaths.after(facts);
        self.deaths = deaths;
        let running = self.requests.running();
        let incident = self.ledger.incident(words::death(death, ready_for, running, verdict));
        let failure = words::died(verdict, incident);
        self.fail_running(&lifecycle, &failure, now);
        self.lifecycle = match verdict {
            Verdict::Again { attempt, after } => {
                self.ledger.restarts += 1;
                Lifecycle::Waiting { until: now + after, attempt, reason: death.to_string() }
            }
            Verdict::GiveUp { .. } => {
                let rows = self.requests.fail_waiting(&failure, now);
                self.ended(rows);
                Lifecycle::Failed { reason: death.to_string() }
            }
        };
        self.lifecycle_changed();
    }

    pub(super) fn fail_running(&mut self, lifecycle: &Lifecycle, failure: &Failure, now: Instant) {
        if let Some(connection) = lifecycle.connection() {
            let rows = self.requests.fail_running(connection, failure, now);
            self.ended(rows);
        }
    }

    /// Where there is no engine, or one that does not work, another may have
    /// been built since.
    pub(super) fn look_for_engine(&mut self, now: Instant) {
        if self.lifecycle.hopeless().is_none() || self.draining.is_some() {
            return;
        }
        let model = self.settings.engine.model.as_ref();
        let found = locate(&self.settings.state_dir, model).ok();
        if found.is_some() && found != self.located {
            tracing::info!("another engine was built");
            self.deaths = Deaths::default();
            self.start_engine(now);
        }
    }

    /// Finds the engine and starts a worker on it.
    pub(super) fn start_engine(&mut self, now: Instant) {
        let model = self.settings.engine.model.as_ref();
        let located = match locate(&self.settings.state_dir, model) {
            Ok(located) => located,
            Err(error) => return self.no_engine(&error, now),
        };
        self.lives += 1;
        let life = LifeId(self.lives);
        let spec = Spec {
            worker: self.settings.engine.worker.clone(),
            load: Load {
                engine_dir: located.dir.clone(),
                limits: limits(&self.settings, Some(&located)),
                threads: self.settings.engine.threads,
            },
            load_timeout: self.settings.engine.load_timeout,
        };
        self.located = Some(located);
        let worker = engines::launch(spec, life, self.event_sender.clone());
        self.lifecycle =
            Lifecycle::Alive(Alive { life, worker, pid: None, stage: Stage::Starting });
        self.lifecycle_changed();
    }

    fn no_engine(&mut self, error: &LocateError, now: Instant) {
        let reason = in_one_line(error);
        tracing::warn!(reason, "no engine");
        self.located = None;
        self.lifecycle = match error.is_absence() {
            true => Lifecycle::Absent { reason },
            false => Lifecycle::Failed { reason },
        };
        let rows = self.requests.fail_waiting(&words::no_engine(), now);
        self.ended(rows);
        self.lifecycle_changed();
    }

    /// When the worker will have ignored a cancellation for too long.
    pub(super) fn next_ignored(&self) -> Option<Instant> {
        let taking = self.requests.limit() > 0;
        self.requests.oldest_cancelled().filter(|_| taking).map(|since| since + CANCEL_BOUND)
    }

    /// Kills the worker; its end is heard of like any other.
    pub(super) fn give_up_on_worker(&mut self, why: &'static str) {
        if let Lifecycle::Alive(alive) = &self.lifecycle {
            self.requests.set_limit(0);
            alive.worker.order(Order::Kill(why));
        }
    }
}

/// What the engine may do.
pub(super) fn limits(settings: &Settings, located: Option<&Located>) -> Limits {
    Limits {
        max_sequences: located.map_or(1, |located| located.manifest.serving.max_sequences.max(1)),
        max_batch_tokens: settings.engine.max_batch_tokens,
        pace_us: 0,
    }
}

/// An error and its causes.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line = format!("{line}: {error}");
        source = error.source();
    }
    line
}
