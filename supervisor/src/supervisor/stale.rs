//! What the main loop does about a chosen engine that was built for another
//! machine or release: it is not tried. Another one serves in its place, until
//! the chosen one was built again and nobody asks for anything.

use std::time::Instant;

use engine_api::manifest::{BoundTo, Manifest};
use engine_api::progress::State;
use engine_api::staleness::{Here, Staleness};
use jetpack::Root;

use super::lifecycle::Lifecycle;
use super::{Change, Supervisor, words};
use crate::engines::Order;
use crate::engines::locate::{self, Located, locate};
use crate::engines::restart::Deaths;
use crate::telemetry::Reading;

/// An engine that may not serve here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) engine: String,
    /// What is different, in words.
    pub(super) why: String,
    /// The engine that serves in its place.
    pub(super) stand_in: Option<String>,
}

impl Supervisor {
    /// The engine to serve for `chosen`: itself, if it belongs here. If nothing may
    /// serve, that is the state from now on.
    pub(super) fn belonging(&mut self, chosen: &Located, now: Instant) -> Option<Located> {
        let here = self.here_for(&chosen.manifest);
        let staleness = Staleness::of(&chosen.manifest, &here);
        if !staleness.forbids_serving() {
            self.stale = None;
            return Some(chosen.clone());
        }
        let stand_in = locate::fallback(&self.settings.state_dir, &chosen.manifest, &here);
        let stale = Stale {
            engine: chosen.manifest.id.clone(),
            why: staleness.words(&here),
            stand_in: stand_in.as_ref().map(|located| located.manifest.id.clone()),
        };
        // Each start of the engine comes here; it is news once.
        if self.stale.as_ref() != Some(&stale) {
            self.ledger.incident(words::stale(&stale));
        }
        if stand_in.is_none() {
            self.nothing_belongs(chosen, &stale, now);
        }
        self.stale = Some(stale);
        stand_in
    }

    fn nothing_belongs(&mut self, chosen: &Located, stale: &Stale, now: Instant) {
        self.located = Some(chosen.clone());
        self.stands_in_for = Vec::new();
        self.discard_left();
        self.lifecycle = Lifecycle::Failed { reason: words::stale_reason(stale), retry: None };
        let rows = self.requests.fail_waiting(&words::nothing_belongs(), now);
        self.ended(rows);
        self.lifecycle_changed();
    }

    /// Takes note of what the machine says of itself.
    pub(super) fn machine_is(&mut self, reading: &Reading) {
        let is_this_machine = Root::new(&self.settings.root).is_this_machine();
        self.here = Some(Here::of(&reading.machine, is_this_machine));
    }

    /// The machine, as far as an engine can be bound to it. Before the first
    /// sample it is read for an engine that is bound to something.
    fn here_for(&self, manifest: &Manifest) -> Here {
        match &self.here {
            Some(here) => here.clone(),
            None if manifest.bound_to == BoundTo::default() => Here::default(),
            None => Here::read(Root::new(&self.settings.root)),
        }
    }

    /// While the chosen engine is stale: whether it was built again, or another
    /// one that can stand in.
    pub(super) fn look_for_rebuilt(&mut self, now: Instant) {
        // An engine that fails its last proof gives its name back until then.
        let is_being_built = self.ledger.build().is_some_and(|state| state == State::Running);
        let model = self.settings.engine.model.as_ref();
        let Ok(found) = locate(&self.settings.state_dir, model) else { return };
        if is_being_built || self.replacing {
            return;
        }
        let here = self.here_for(&found.manifest);
        let belongs = !Staleness::of(&found.manifest, &here).forbids_serving();
        if self.lifecycle.hopeless().is_some() {
            let has_none = self.stale.as_ref().is_some_and(|stale| stale.stand_in.is_none());
            let another = || locate::fallback(&self.settings.state_dir, &found.manifest, &here);
            if belongs || (has_none && another().is_some()) {
                tracing::info!("an engine was built that belongs to this machine");
                self.deaths = Deaths::default();
                self.start_engine(now);
            }
        } else if belongs && self.requests.is_empty() {
            self.replace_stand_in();
        }
    }

    /// Ends the worker; its end is followed by a start of the chosen engine.
    fn replace_stand_in(&mut self) {
        if let Lifecycle::Alive(alive) = &self.lifecycle {
            tracing::info!("the chosen engine belongs to this machine again, and takes over");
            self.requests.set_limit(0);
            alive.worker.order(Order::Drain);
            self.replacing = true;
            self.change(Change::Urgent);
        }
    }
}
