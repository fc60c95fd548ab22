//! How the main loop ends: nothing new, accepted answers finish, then the worker.

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
        self.give_way(now);
        self.lifecycle_changed();
    }

    /// Ends or leaves the worker when no answer is to come any more, or when it is time.
    pub(super) fn drain_on(&mut self, now: Instant) {
        let Some(draining) = &mut self.draining else { return };
        let (done, late) =
            (self.requests.is_empty() && !self.embedders.in_use(), draining.until <= now);
        match &self.lifecycle {
            Lifecycle::Alive(alive) if !draining.ordered && (done || late) => {
                let order = match (self.keeper.keeps(), done) {
                    (true, _) => Order::Leave,
                    (false, true) => Order::Drain,
                    (false, false) => Order::Kill(words::OUT_OF_TIME),
                };
                alive.worker.order(order);
                draining.ordered = true;
            }
            Lifecycle::Alive(_) => {}
            // Texts are worked on without an engine that answers.
            _ if self.embedders.in_use() && !late => {}
            // Answers go on with the next worker.
            Lifecycle::Waiting { .. } if !done && !late => {}
            _ => {
                let rows = self.requests.fail_waiting(&words::shutting_down(), now);
                self.ended(rows);
                self.lifecycle = Lifecycle::Ended;
            }
        }
    }

    /// Whether the worker was told to end, so that it is to be given nothing more.
    pub(super) fn is_ending(&self) -> bool {
        self.draining.is_some_and(|draining| draining.ordered)
    }
}
