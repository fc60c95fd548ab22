//! What the main loop does about its engine: start it, hear it, and decide
//! what comes after its end.

use std::time::{Duration, Instant};

use engine_api::protocol::{Limits, Load, RequestId};

use super::lifecycle::{Alive, Lifecycle, Stage};
use super::{Change, Supervisor, words};
use crate::config::Settings;
use crate::engines::connection::Connection;
use crate::engines::locate::{self, LocateError, Located, locate};
use crate::engines::restart::{self, Deaths, Facts, Rung, Verdict};
use crate::engines::watchdog::Speeds;
use crate::engines::{Death, LifeId, Order, Spec, WorkerEvent};

/// How long the worker may take to end a request that was cancelled. It is one
/// step, which on a slow machine can be seconds.
const CANCEL_BOUND: Duration = Duration::from_secs(30);

impl Supervisor {
    pub(super) fn worker_says(&mut self, life: LifeId, event: WorkerEvent, now: Instant) {
        let Some(event) = self.embedder_says(life, event, now) else { return };
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
                alive.stage = Stage::Ready { since: now, ready, connection };
                self.apply_limits();
                self.lifecycle_changed();
            }
            WorkerEvent::Heartbeat(heartbeat) => {
                if let Some(connection) = self.lifecycle.connection() {
                    self.requests.hear_trial(connection);
                }
                self.recover(now);
                if self.ledger.heartbeat(heartbeat, now) {
                    self.change(Change::Small);
                }
            }
            WorkerEvent::Finished { id, ending } => {
                if self.idle.finished(id, &ending) {
                    self.change(Change::Small);
                }
                let row = self.requests.finished(id, &ending, now);
                self.ended(row);
            }
            WorkerEvent::Ended(death) => self.worker_ended(&death, now),
        }
    }

    /// The worker is gone and collected. Its requests go on with the next one,
    /// except one that has killed too many.
    fn worker_ended(&mut self, death: &Death, now: Instant) {
        self.telemetry.watch_worker(None);
        self.requests.set_limit(0);
        let idle = self.idle.runs();
        self.idle.worker_gone();
        self.measured =
            self.lifecycle.connection().map(Connection::speeds).or(self.measured.take());
        let heartbeat = self.ledger.worker_gone();
        let lifecycle = std::mem::replace(&mut self.lifecycle, Lifecycle::Ended);
        if !self.is_ending() && death.is_of_unadopted() {
            return self.replace_unadopted(death, now);
        }
        let connection = lifecycle.connection();
        // One that is stuck still holds its memory, whatever it was ended for.
        let replacing = std::mem::take(&mut self.replacing) && !death.is_stuck();
        if self.is_ending() || replacing {
            tracing::info!(%death, "engine ended");
            if let Some(connection) = connection {
                let aftermath = self.requests.take_back(connection, now);
                self.ended(aftermath.rows);
            }
            // Who is left then ends with the drain, or goes on with the next engine.
            if self.is_ending() {
                return self.lifecycle_changed();
            }
            self.deaths = Deaths::default();
            return self.start_engine(now);
        }
        let ready_for = match &lifecycle {
            Lifecycle::Alive(Alive { stage: Stage::Ready { since, .. }, .. }) => {
                Some(now.saturating_duration_since(*since))
            }
            _ => None,
        };
        let running = self.requests.running() + usize::from(idle);
        let aftermath = connection.map(|connection| self.requests.take_back(connection, now));
        let facts = Facts {
            ready_for,
            productive: connection.is_some_and(Connection::is_productive),
            unused: running == 0,
            trial: self.requests.on_trial()
                || aftermath.as_ref().is_some_and(|after| after.convicted.is_some()),
            refused: death.cause.is_refusal(),
            stuck: death.is_stuck(),
            fallback: self.fallback().is_some(),
        };
        let (deaths, verdict) = self.deaths.after(facts);
        self.deaths = deaths;
        let resumed = aftermath.as_ref().map_or(0, |aftermath| aftermath.resumed);
        let ended = words::Ended { death, ready_for, running, resumed, heartbeat, verdict };
        let incident = self.ledger.incident(words::death(&ended));
        if let Some(aftermath) = aftermath {
            self.ended(aftermath.rows);
            if let Some(id) = aftermath.convicted {
                self.quarantine(id, incident, now);
            }
        }
        self.lifecycle = match verdict {
            Verdict::Again { attempt, after, .. } => {
                self.ledger.restarts += 1;
                Lifecycle::Waiting { until: now + after, attempt, reason: death.to_string() }
            }
            Verdict::SafeMode { stuck, .. } => {
                let rows = self.requests.fail_waiting(&words::safe_mode(incident), now);
                self.ended(rows);
                let retry = (!stuck).then(|| now + restart::RETRY);
                Lifecycle::Failed { reason: death.to_string(), retry }
            }
        };
        self.lifecycle_changed();
    }

    /// Ends the request that kills workers, and nobody else's.
    fn quarantine(&mut self, id: RequestId, death: i64, now: Instant) {
        let incident = self.ledger.incident(words::poison(id, death));
        let rows = self.requests.fail_one(id, &words::poisoned(incident), now);
        self.ended(rows);
    }

    /// The engine that would be served if the chosen one does not work.
    fn fallback(&self) -> Option<Located> {
        let here = self.here.clone().unwrap_or_default();
        locate::fallback(&self.settings.state_dir, &self.located.as_ref()?.manifest, &here)
    }

    /// Goes back to full limits when the engine has been well for long enough.
    pub(super) fn recover(&mut self, now: Instant) {
        let Lifecycle::Alive(Alive { stage: Stage::Ready { since, .. }, .. }) = &self.lifecycle
        else {
            return;
        };
        let well = now.saturating_duration_since(*since) >= restart::RECOVERED;
        if self.deaths.rung() != Rung::Reduced || !well {
            return;
        }
        self.deaths = Deaths::default();
        self.apply_limits();
        tracing::info!("the engine has been well; it gets its full limits again");
        self.change(Change::Urgent);
    }

    /// Where there is no engine, or one that does not work, another may have
    /// been built since.
    pub(super) fn look_for_engine(&mut self, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        if self.stale.is_some() {
            return self.look_for_rebuilt(now);
        }
        if self.lifecycle.hopeless().is_none() {
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
        let chosen = match locate(&self.settings.state_dir, model) {
            Ok(located) => located,
            Err(error) => return self.no_engine(&error, now),
        };
        let Some(first) = self.belonging(&chosen, now) else { return };
        let rung = self.deaths.rung();
        let here = self.here.clone().unwrap_or_default();
        let fallback = match rung {
            Rung::Fallback => locate::fallback(&self.settings.state_dir, &first.manifest, &here),
            Rung::Full | Rung::Reduced => None,
        };
        let located = fallback.unwrap_or(first);
        // Clients go on to ask for the engine that they know.
        self.stands_in_for = match located == chosen {
            true => Vec::new(),
            false => names(&chosen),
        };
        self.lives += 1;
        let life = LifeId(self.lives);
        let bounds = limits(&self.settings, Some(&located), rung);
        let limits = self.governing.within(bounds, largest_part(&self.settings, rung));
        self.governing.engine_started(limits);
        let spec = Spec {
            worker: self.settings.engine.worker.clone(),
            load: Load {
                engine_dir: located.dir.clone(),
                limits,
                threads: self.settings.engine.threads,
                reproducible: self.settings.engine.reproducible,
            },
            load_timeout: self.settings.engine.load_timeout,
            measured_load: measured_load(&located),
            speeds: self.speeds(&located, limits.max_batch_tokens),
            keeper: self.keeper,
        };
        self.located = Some(located);
        let worker = self.worker_for(spec, life);
        self.lifecycle =
            Lifecycle::Alive(Alive { life, worker, pid: None, stage: Stage::Starting });
        self.lifecycle_changed();
    }

    /// How fast the engine is: what its manifest says, and what its lives before
    /// this one measured.
    fn speeds(&mut self, located: &Located, part: u16) -> Speeds {
        let speeds = speeds(located, part);
        match self.measured.take().filter(|_| self.located.as_ref() == Some(located)) {
            Some(earlier) => speeds.as_measured_in(earlier),
            None => speeds,
        }
    }

    fn no_engine(&mut self, error: &LocateError, now: Instant) {
        let reason = in_one_line(error);
        tracing::warn!(reason, "no engine");
        self.located = None;
        self.discard_left();
        self.lifecycle = match error.is_absence() {
            true => Lifecycle::Absent { reason },
            false => Lifecycle::Failed { reason, retry: None },
        };
        let rows = self.requests.fail_waiting(&words::no_engine(), now);
        self.ended(rows);
        self.lifecycle_changed();
    }

    /// When the worker will have ignored a cancellation for too long.
    pub(super) fn next_ignored(&self) -> Option<Instant> {
        let taking = self.requests.limit() > 0;
        let cancelled = [self.requests.oldest_cancelled(), self.idle.cancelled()];
        let oldest = cancelled.into_iter().flatten().min();
        oldest.filter(|_| taking).map(|since| since + CANCEL_BOUND)
    }

    /// Kills the worker; its end is heard of like any other.
    pub(super) fn give_up_on_worker(&mut self, why: &'static str) {
        if let Lifecycle::Alive(alive) = &self.lifecycle {
            self.requests.set_limit(0);
            self.governing.given_up = true;
            alive.worker.order(Order::Kill(why));
        }
    }
}

/// Prompt tokens computed between two steps of running answers, unless somebody
/// says how many, and the most that anybody gains from.
const USUAL_PART: u16 = 64;
const LARGEST_PART: u16 = 512;

/// What the engine may do on a rung of the ladder.
pub(super) fn limits(settings: &Settings, located: Option<&Located>, rung: Rung) -> Limits {
    let sequences = located.map_or(1, |located| located.manifest.serving.max_sequences.max(1));
    let tokens = settings.engine.max_batch_tokens.unwrap_or(USUAL_PART);
    let (max_sequences, max_batch_tokens) = match rung {
        Rung::Full | Rung::Fallback => (sequences, tokens),
        Rung::Reduced => (sequences.div_ceil(2), tokens.div_ceil(4)),
    };
    Limits { max_sequences, max_batch_tokens, pace_us: 0 }
}

/// Prompt tokens that the governor may have computed at once beside running
/// answers. What an operator has set is kept to.
pub(super) fn largest_part(settings: &Settings, rung: Rung) -> u16 {
    let most = settings.engine.max_batch_tokens.unwrap_or(LARGEST_PART);
    match rung {
        Rung::Full | Rung::Fallback => most,
        Rung::Reduced => USUAL_PART.min(most).div_ceil(4),
    }
}

/// The names that clients call an engine by.
fn names(located: &Located) -> Vec<String> {
    let manifest = &located.manifest;
    std::iter::once(&manifest.id).chain(&manifest.model.aliases).cloned().collect()
}

pub(super) fn measured_load(located: &Located) -> Duration {
    let smoke = located.manifest.smoke.as_ref();
    Duration::from_millis(smoke.map_or(0, |smoke| smoke.load_ms))
}

/// What the engine's manifest leads to expect of its steps.
pub(super) fn speeds(located: &Located, part: u16) -> Speeds {
    let each = |per_s: f64| Duration::try_from_secs_f64(1.0 / per_s).unwrap_or_default();
    let (step, token) = match (&located.manifest.smoke, &located.manifest.backend.echo) {
        (Some(smoke), _) => (each(smoke.decode_tokens_per_s), each(smoke.prefill_tokens_per_s)),
        (None, Some(echo)) => {
            let micros = Duration::from_micros;
            (micros(echo.step_us), micros(echo.prefill_token_us))
        }
        (None, None) => (Duration::from_millis(100), Duration::from_millis(10)),
    };
    Speeds::new(step, token, part)
}

/// An error and its causes.
pub(super) fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line = format!("{line}: {error}");
        source = error.source();
    }
    line
}
