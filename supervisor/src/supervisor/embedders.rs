//! The two embedders that there can be: the chosen one, which everybody asks, and the
//! former one, which is asked about questions alone, as long as the index searches
//! among vectors that it made.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};

use super::embedding::{Embedding, Sought};
use super::handle::{Seats, Way};
use super::{Change, Supervisor};
use crate::config::Settings;
use crate::engines::{DRAIN_GRACE, LifeId, WorkerEvent};
use crate::index::Maker;
use crate::snapshot::Embedder;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that the configuration chooses, or the only one.
    Chosen,
    /// The one whose vectors are searched until the chosen one has made them all.
    Former,
}

const ROLES: [Role; 2] = [Role::Chosen, Role::Former];

#[derive(Debug)]
pub(super) struct Embedders {
    chosen: Embedding,
    former: Embedding,
    seats: Arc<Semaphore>,
    capacity: usize,
}

impl Embedders {
    pub(super) fn new(settings: &Settings) -> Self {
        let capacity = settings.admission.queue.max(1);
        Self {
            chosen: Embedding::new(Sought::Configured, settings),
            former: Embedding::new(Sought::Nothing, settings),
            seats: Arc::new(Semaphore::new(capacity)),
            capacity,
        }
    }

    pub(super) fn of(&mut self, role: Role) -> &mut Embedding {
        match role {
            Role::Chosen => &mut self.chosen,
            Role::Former => &mut self.former,
        }
    }

    /// What clients reach them through.
    pub(super) fn seats(&self, settings: &Settings) -> Seats {
        let way = |role, embedding: &Embedding| {
            let (access, maker) = embedding.watched();
            Way { role, access, maker }
        };
        Seats {
            chosen: way(Role::Chosen, &self.chosen),
            former: way(Role::Former, &self.former),
            free: Arc::clone(&self.seats),
            capacity: self.capacity,
            wait: settings.admission.wait,
        }
    }

    /// Whether somebody's texts are not done.
    pub(super) fn in_use(&self) -> bool {
        self.seats.available_permits() < self.capacity
    }

    /// When one is to be started although nothing happens.
    pub(super) fn next_start(&self) -> Option<Instant> {
        [&self.chosen, &self.former].into_iter().filter_map(Embedding::next_start).min()
    }

    /// What is shown of one; `None` if it is not there.
    pub(super) fn view(&self, role: Role) -> Option<Embedder> {
        match role {
            Role::Chosen => self.chosen.view(),
            Role::Former => self.former.view(),
        }
    }

    /// Ends both at the very end, and collects them.
    pub(super) async fn end(&mut self, events: &mut mpsc::Receiver<(LifeId, WorkerEvent)>) {
        let mut lives: Vec<_> = ROLES.iter().filter_map(|role| self.of(*role).leave()).collect();
        let gone = async {
            while !lives.is_empty()
                && let Some((life, event)) = events.recv().await
            {
                if matches!(event, WorkerEvent::Ended(_)) {
                    lives.retain(|its| *its != life);
                }
            }
        };
        if tokio::time::timeout(DRAIN_GRACE * 2, gone).await.is_err() {
            tracing::warn!("an embedder did not end in time");
        }
    }
}

impl Supervisor {
    /// Looks for embedders that were built meanwhile.
    pub(super) fn look_for_embedders(&mut self) {
        for role in ROLES {
            if self.embedders.of(role).look(&self.settings) {
                self.change(Change::Urgent);
            }
        }
    }

    /// The index searches among vectors by this one.
    pub(super) fn searched_are(&mut self, by: Option<Maker>) {
        let other = by.filter(|by| !self.embedders.chosen.makes_as(by));
        let sought = other.map_or(Sought::Nothing, |by| Sought::Maker(by.identity));
        if self.embedders.former.seek(sought, &self.settings) {
            self.change(Change::Urgent);
        }
    }

    /// Starts those that are wanted and have rested.
    pub(super) fn start_embedders(&mut self, now: Instant) {
        for role in ROLES {
            self.start_embedder(role, now);
        }
    }

    /// Whether this was said by an embedder; if so, it has been heeded.
    pub(super) fn embedder_says(
        &mut self,
        life: LifeId,
        event: WorkerEvent,
        now: Instant,
    ) -> Option<WorkerEvent> {
        match ROLES.into_iter().find(|role| self.embedders.of(*role).is(life)) {
            Some(role) => {
                self.embedder_said(role, event, now);
                None
            }
            None => Some(event),
        }
    }
}
