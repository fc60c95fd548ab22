//! How the main loop ends: nothing new, running answers finish, then the worker.

use std::time::{Duration, Instant};

use super::handle::Haste;
use super::lifecycle::Lifecycle;
use super::{Draining, Supervisor, words};
use crate::engines::Order;

impl Supervisor {
    pub(super) fn shut_down(&mut self, haste: Haste, now: Instant) {
        let bound = match haste {
            Haste::Drain => self.settings.server.http.drain_timeout,
            Haste::Now => Duration::ZERO,
        };
        let until = match self.draining {
            Some(draining) => draining.until.min(now + bound),
            None => now + bound,
        };
        let again = self.draining.is_some();
        tracing::info!(running = self.requests.running(), again, "shutting down");
        let ordered =
            self.draining.is_some_and(|draining| draining.ordered) && haste == Haste::Drain;
        self.draining = Some(Draining { until, ordered });
        let rows = self.requests.fail_waiting(&words::shutting_down(), now);
        self.ended(rows);
        self.lifecycle_changed();
    }

    /// Ends or leaves the worker when nothing runs any more, or when it is time.
    pub(super) fn drain_on(&mut self, now: Instant) {
        let Some(draining) = &mut self.draining else { return };
        let Lifecycle::Alive(alive) = &self.lifecycle else {
            self.lifecycle = Lifecycle::Ended;
            return;
        };
        if draining.ordered {
            return;
        }
        if self.keeper.keeps() && (draining.until <= now || self.requests.is_empty()) {
            alive.worker.order(Order::Leave);
            draining.ordered = true;
        } else if draining.until <= now {
            alive.worker.order(Order::Kill(words::OUT_OF_TIME));
            draining.ordered = true;
        } else if self.requests.is_empty() {
            alive.worker.order(Order::Drain);
            draining.ordered = true;
        }
    }
}
