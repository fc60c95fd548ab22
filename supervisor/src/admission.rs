//! Who goes next: dispatch, queue or refuse. Pure: no clock, no tokio.
//!
//! ```text
//!            offer                       dispatch
//!  request ────────► lane of its priority ──────► running (at most `limit`)
//!             │        client A: r1 r4 r7              │ finished
//!             │        client B: r2                    ▼
//!             └─ full: refused, with a time to come back
//! ```
//!
//! Inside a lane the clients take turns, so one that sends a hundred requests
//! delays nobody else by more than one turn. Between lanes the higher priority
//! goes first, except that a lane that was passed over [`MAX_PASSES`] times in
//! a row gets the next turn.

mod lane;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use engine_api::protocol::{Priority, RequestId};

use crate::request::Client;
use lane::{Lane, Waiting};

/// Turns that a waiting lane lets higher lanes go first, at most.
pub const MAX_PASSES: u32 = 4;

/// Bounds of the time that a refused client is told to wait.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(120);
/// What a request is taken to need before any was measured.
const FIRST_GUESS: Duration = Duration::from_secs(5);
/// Share of the newest measurement in the running average.
const NEWEST: f64 = 0.2;

/// The queue in front of the engine.
#[derive(Debug)]
pub struct Admission {
    capacity: usize,
    /// Requests that may run at once.
    limit: usize,
    /// Highest priority first.
    lanes: [Lane; 3],
    running: HashMap<RequestId, Client>,
    service: Duration,
}

/// A request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub waiting: usize,
    pub retry_after: Duration,
}

/// How many requests of one client wait and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub client: Client,
    pub waiting: usize,
    pub running: usize,
}

impl Admission {
    /// A queue for `capacity` waiting requests that lets nothing run yet.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let lane = |priority| Lane::new(priority);
        Self {
            capacity,
            limit: 0,
            lanes: [lane(Priority::Completion), lane(Priority::Interactive), lane(Priority::Bulk)],
            running: HashMap::new(),
            service: FIRST_GUESS,
        }
    }

    /// Sets how many requests may run at once; those that run, go on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a request into the queue.
    ///
    /// # Errors
    /// The queue is full. A request that would run at once is never refused.
    pub fn offer(
        &mut self,
        id: RequestId,
        client: Client,
        priority: Priority,
        now: Instant,
    ) -> Result<(), Full> {
        let waiting = self.waiting();
        let free = self.limit.saturating_sub(self.running.len());
        if waiting >= self.capacity + free {
            return Err(Full { waiting, retry_after: self.retry_after(waiting) });
        }
        let lane = self.lanes.iter_mut().find(|lane| lane.priority == priority);
        lane.expect("every priority has its lane").push(client, Waiting { id, since: now });
        Ok(())
    }

    /// The request whose turn it is, now counted as running; `None` if nobody
    /// waits or no place is free.
    pub fn dispatch(&mut self) -> Option<RequestId> {
        if self.running.len() >= self.limit {
            return None;
        }
        let (client, request) = take_turn(&mut self.lanes)?;
        self.running.insert(request.id, client);
        Some(request.id)
    }

    /// Lets a waiting request run out of turn. False if it does not wait, or no
    /// place is free.
    pub fn start(&mut self, id: RequestId) -> bool {
        if self.running.len() >= self.limit {
            return false;
        }
        let client = self.lanes.iter_mut().find_map(|lane| lane.take(id));
        client.map(|client| self.running.insert(id, client)).is_some()
    }

    /// Puts a request that ran back in front of those that wait.
    pub fn put_back(&mut self, id: RequestId, priority: Priority, now: Instant) {
        if let Some(client) = self.running.remove(&id) {
            let lane = self.lanes.iter_mut().find(|lane| lane.priority == priority);
            let lane = lane.expect("every priority has its lane");
            lane.push_front(client, Waiting { id, since: now });
        }
    }

    /// Takes a waiting request out. False if it did not wait.
    pub fn withdraw(&mut self, id: RequestId) -> bool {
        self.lanes.iter_mut().any(|lane| lane.remove(id))
    }

    /// A running request ended after `service`; its place is free.
    pub fn finished(&mut self, id: RequestId, service: Duration) {
        if self.running.remove(&id).is_some() {
            let average = self.service.mul_f64(1.0 - NEWEST) + service.mul_f64(NEWEST);
            self.service = average.min(*RETRY_AFTER.end() * 60);
        }
    }

    /// All that waited or ran is gone, for example because the engine is.
    pub fn forget(&mut self, id: RequestId) {
        self.running.remove(&id);
        self.withdraw(id);
    }

    /// Requests that have waited for `bound` or longer.
    #[must_use]
    pub fn overdue(&self, bound: Duration, now: Instant) -> Vec<RequestId> {
        let waiting = self.lanes.iter().flat_map(Lane::waiting);
        let late = waiting.filter(|request| now.saturating_duration_since(request.since) >= bound);
        late.map(|request| request.id).collect()
    }

    /// When the request that has waited longest began to wait.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.lanes.iter().flat_map(Lane::waiting).map(|request| request.since).min()
    }

    /// Waiting requests in the order in which they will go.
    #[must_use]
    pub fn order(&self) -> Vec<RequestId> {
        let mut lanes = self.lanes.clone();
        std::iter::from_fn(|| take_turn(&mut lanes).map(|(_, request)| request.id)).collect()
    }

    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Each client that waits or runs, by its label's order.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        let mut shares: std::collections::BTreeMap<&Client, (usize, usize)> = Default::default();
        for (client, waiting) in self.lanes.iter().flat_map(Lane::clients) {
            shares.entry(client).or_default().0 += waiting;
        }
        for client in self.running.values() {
            shares.entry(client).or_default().1 += 1;
        }
        let share = |(client, (waiting, running)): (&Client, _)| Share {
            client: client.clone(),
            waiting,
            running,
        };
        shares.into_iter().map(share).collect()
    }

    /// When a place should be free, from how long requests took lately.
    fn retry_after(&self, waiting: usize) -> Duration {
        let places = self.limit.max(1);
        let turns = (waiting + 1).div_ceil(places);
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        self.service.saturating_mul(turns).clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end())
    }
}

/// Takes the next request out of the lanes, the first of which goes first.
fn take_turn(lanes: &mut [Lane]) -> Option<(Client, Waiting)> {
    let waiting = |lane: &&mut Lane| lane.len() > 0;
    let passed_over = lanes.iter().rposition(|lane| lane.len() > 0 && lane.passes >= MAX_PASSES);
    let chosen = passed_over.or_else(|| lanes.iter().position(|lane| lane.len() > 0))?;
    for lane in lanes[chosen + 1..].iter_mut().filter(waiting) {
        lane.passes += 1;
    }
    lanes[chosen].passes = 0;
    lanes[chosen].pop()
}

#[cfg(test)]
mod tests;
