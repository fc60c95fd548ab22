//! What the main loop does with workers that an earlier supervisor left.

use std::time::Instant;

use super::Supervisor;
use super::ledger::Happened;
use crate::engines::{self, Cause, Death, LifeId, Spec, Worker};

impl Supervisor {
    /// A worker for `spec`: one that was left, else a new one.
    pub(super) fn worker_for(&mut self, spec: Spec, life: LifeId) -> Worker {
        let events = self.event_sender.clone();
        let left = self.left.pop();
        self.discard_left();
        match left {
            Some(left) => {
                tracing::info!(pid = left.pid, "taking over the engine that was left running");
                engines::adopt(left, spec, life, events)
            }
            None => engines::launch(spec, life, events),
        }
    }

    pub(super) fn discard_left(&mut self) {
        for left in self.left.drain(..) {
            engines::discard(left, self.keeper);
        }
    }

    /// Starts a worker in the place of one that could not be taken over. It had
    /// no request of ours, and its end does not count as a failure of the engine.
    pub(super) fn replace_unadopted(&mut self, death: &Death, now: Instant) {
        tracing::info!(%death, "the engine that was left running is replaced");
        if let Some(happened) = fault_of(death) {
            self.ledger.incident(happened);
        }
        self.start_engine(now);
    }
}

/// What an operator should know: not that another engine or version was wanted.
fn fault_of(death: &Death) -> Option<Happened> {
    match &death.cause {
        Cause::NotAdopted(cause)
            if matches!(**cause, Cause::Version { .. } | Cause::LoadFailed { .. }) =>
        {
            return None;
        }
        _ => {}
    }
    Some(Happened {
        kind: "engine_not_adopted",
        problem: "the engine that ran before the restart could not be taken over".to_owned(),
        cause: death.to_string(),
        evidence: serde_json::json!({
            "last_lines": death.exit.as_ref().map(|exit| &exit.lines),
        }),
        done: "another was started in its place".to_owned(),
        advice: "none, unless it happens again".to_owned(),
    })
}
