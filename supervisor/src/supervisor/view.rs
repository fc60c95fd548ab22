//! The snapshot, drawn from the present state and the ledger.

use std::time::Instant;

use engine_api::protocol::Limits;

use super::ledger::Ledger;
use super::lifecycle::Lifecycle;
use super::stale::Stale;
use super::words;
use crate::engines::locate::Located;
use crate::engines::restart::Rung;
use crate::snapshot::{
    Embedder, Engine, EngineState, Governor, Idle, Index, Problem, Queue, SCHEMA, Snapshot,
};
use crate::store::unix_s;

/// The present state.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) lifecycle: &'a Lifecycle,
    pub(super) located: Option<&'a Located>,
    pub(super) limits: Limits,
    pub(super) governor: Option<Governor>,
    /// What is wrong with what the governor may do.
    pub(super) problem: Option<Problem>,
    pub(super) rung: Rung,
    /// The chosen engine, while it does not belong to this machine.
    pub(super) stale: Option<&'a Stale>,
    pub(super) stands_in_for: &'a [String],
    pub(super) queue: Queue,
    pub(super) embedder: Option<Embedder>,
    pub(super) former_embedder: Option<Embedder>,
    pub(super) index: Index,
    pub(super) idle: Idle,
    pub(super) draining: bool,
}

impl Ledger {
    pub(super) fn snapshot(&self, view: View<'_>, now: Instant) -> Snapshot {
        let reading = self.reading.as_ref();
        Snapshot {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            at: unix_s(),
            uptime_s: now.saturating_duration_since(self.started).as_secs(),
            engine: self.engine(&view, now),
            embedder: view.embedder,
            former_embedder: view.former_embedder,
            limits: view.limits,
            governor: view.governor,
            build: reading.and_then(|reading| reading.build.clone()),
            update: reading.and_then(|reading| reading.update.clone()),
            queue: view.queue,
            index: view.index,
            idle: view.idle,
            totals: self.totals,
            rates: self.meter.rates(now),
            machine: reading.map(|reading| reading.machine.clone()),
            supervisor_resident_bytes: reading
                .and_then(|reading| reading.supervisor_resident_bytes),
            incidents: self.incidents(),
            problems: words::lowered(view.rung)
                .into_iter()
                .chain(view.stale.map(words::stale_problem))
                .chain(view.problem)
                .chain(self.problems.clone())
                .collect(),
        }
    }

    fn engine(&self, view: &View<'_>, now: Instant) -> Engine {
        let manifest = view.located.map(|located| &located.manifest);
        let heartbeat = self.heartbeat.as_ref();
        let age = |at: Instant| now.saturating_duration_since(at).as_millis();
        Engine {
            model: manifest.map(|manifest| manifest.id.clone()),
            aliases: manifest
                .map(|manifest| [&manifest.model.aliases, view.stands_in_for].concat())
                .unwrap_or_default(),
            backend: manifest.map(|manifest| manifest.backend.kind),
            state: match view.draining {
                true => EngineState::Draining,
                false => view.lifecycle.state(now),
            },
            pid: view.lifecycle.pid(),
            resident_bytes: self.reading.as_ref().and_then(|reading| reading.worker_resident_bytes),
            ready: view.lifecycle.ready().cloned().map(Box::new),
            heartbeat: heartbeat.map(|(beat, _)| beat.clone()),
            heartbeat_age_ms: heartbeat.and_then(|(_, at)| u64::try_from(age(*at)).ok()),
            restarts: self.restarts,
        }
    }
}
