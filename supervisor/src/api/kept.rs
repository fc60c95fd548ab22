//! Answers that outlive their connections.
//!
//! ```text
//!  stream ── Recording ──► store ──► answers.db
//!                                        │
//!  reconnect ── Keeper::take_over ───────┴──► Past: said again, then goes on
//! ```
//!
//! What a streamed answer says is kept for some minutes. A client that lost its
//! connection comes back with the last event id that it saw and gets the rest:
//! first what was kept, then what the engine goes on to generate. An answer
//! that nobody reads does not run meanwhile; its engine is free at once, and the
//! same tokens come again from the same seed.

mod position;
mod recipe;
mod recording;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub(crate) use position::Position;
pub(crate) use recipe::{Entry, Past, Recipe};
pub(crate) use recording::Recording;

use crate::api::error::Problem;
use crate::api::identity;
use crate::api::stream::Answers;
use crate::request::Client;
use crate::store::{Head, Store};

/// When to come back for an answer that cannot be read now.
const SOON: Duration = Duration::from_secs(2);

/// Where kept answers go, and who is sending one now.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// `None` if answers are not kept.
    store: Option<Store>,
    live: Mutex<HashMap<Arc<str>, Live>>,
}

#[derive(Debug)]
struct Live {
    owner: String,
    seat: Weak<Seat>,
}

/// Where an answer lies while it is sent, so that another connection can take
/// it away from one that does not move any more.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    sitting: Mutex<Sitting>,
    /// Where others find it; nowhere, if the answer is not kept.
    listed: Option<(Arc<Keeper>, Arc<str>)>,
}

/// What lies in a [`Seat`].
#[derive(Debug, Default)]
pub(crate) enum Sitting {
    /// Nothing yet.
    #[default]
    Reserved,
    Running(Box<Answers>),
    /// Another connection has it.
    TakenOver,
}

/// A kept answer for the client that came back for it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) past: Past,
    /// For the new connection.
    pub(crate) seat: Arc<Seat>,
    pub(crate) recording: Recording,
}

impl Keeper {
    pub(crate) fn new(store: Option<Store>) -> Self {
        Self { store, live: Mutex::default() }
    }

    /// Begins to keep an answer, if answers are kept and this one can be.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        client: &Client,
        recipe: &Recipe,
    ) -> (Arc<Seat>, Option<Recording>) {
        let Some(store) = self.store.clone() else { return (Arc::default(), None) };
        let (id, owner): (Arc<str>, _) = (recipe.stamp.id().into(), identity::owner(client));
        let (seat, _) = self.reserve(&id, &owner);
        let head = Head { owner, recipe: recipe.encode() };
        (seat, Recording::begin(store, id, head).await)
    }

    /// Forgets all that is kept of a client's answers; false if that cannot be done now.
    pub(crate) async fn forget(&self, owner: &str) -> bool {
        match &self.store {
            Some(store) => store.forget_answers(owner).await,
            None => true,
        }
    }

    /// Finds a kept answer for its owner. A connection that still sends it is
    /// cut off from it.
    ///
    /// # Errors
    /// There is none for this client, or it cannot be read now.
    pub(crate) async fn take_over(
        self: &Arc<Self>,
        client: &Client,
        id: &str,
    ) -> Result<Found, Problem> {
        let store = self.store.clone().ok_or_else(Problem::answer_not_found)?;
        let (id, owner): (Arc<str>, _) = (id.into(), identity::owner(client));
        let (seat, before) = self.reserve(&id, &owner);
        if let Some(before) = before {
            // What it had said and not written yet is written with this, and
            // the store does one thing after the other.
            drop(before.leave());
        }
        let found = store.find(&id, &owner).await;
        let found = found.map_err(|error| Problem::unavailable(error.to_string(), SOON))?;
        let past = found.as_ref().and_then(Past::decode);
        let past = past.ok_or_else(Problem::answer_not_found)?;
        let recording = Recording::go_on(store, id, past.pieces);
        Ok(Found { past, seat, recording })
    }

    /// The seat from which an answer is sent from now on, and the one from which
    /// it was sent before. Somebody else's answer stays as it is, and will not
    /// be found.
    fn reserve(self: &Arc<Self>, id: &Arc<str>, owner: &str) -> (Arc<Seat>, Option<Arc<Seat>>) {
        let mut live = self.lock();
        let before =
            live.get(id).and_then(|live| Some((live.seat.upgrade()?, live.owner == owner)));
        if let Some((_, false)) = before {
            // Should that seat end with us, it will look into the table.
            drop(live);
            return (Arc::default(), None);
        }
        let before = before.map(|(seat, _)| seat);
        let listed = Some((Arc::clone(self), Arc::clone(id)));
        let seat = Arc::new(Seat { sitting: Mutex::default(), listed });
        live.insert(Arc::clone(id), Live { owner: owner.to_owned(), seat: Arc::downgrade(&seat) });
        (seat, before)
    }

    /// An answer is not sent any more, unless another connection has taken it over.
    fn ended(&self, id: &Arc<str>) {
        let mut live = self.lock();
        if live.get(id).is_some_and(|live| live.seat.strong_count() == 0) {
            live.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Sitting> {
        self.sitting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the answers into it. If it was taken over before that, they are dropped.
    pub(crate) fn sit(&self, answers: Answers) {
        let mut sitting = self.lock();
        if matches!(*sitting, Sitting::Reserved) {
            *sitting = Sitting::Running(Box::new(answers));
        }
    }

    /// Takes away what lies in it. To be dropped when the lock is free.
    fn leave(&self) -> Sitting {
        std::mem::replace(&mut *self.lock(), Sitting::TakenOver)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // First the answer, so that it is written before it can be looked for.
        drop(self.leave());
        if let Some((keeper, id)) = self.listed.take() {
            keeper.ended(&id);
        }
    }
}

#[cfg(test)]
mod tests;
