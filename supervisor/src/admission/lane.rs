//! The requests of one priority: each client has its own line, and the clients
//! take turns.

use std::collections::VecDeque;
use std::time::Instant;

use engine_api::protocol::{Priority, RequestId};

use crate::request::Client;

/// A request that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) since: Instant,
}

#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) priority: Priority,
    /// Turns in a row that a higher lane took while somebody waited here.
    pub(super) passes: u32,
    /// The client at the front has the next turn. No line is empty.
    lines: VecDeque<(Client, VecDeque<Waiting>)>,
}

impl Lane {
    pub(super) fn new(priority: Priority) -> Self {
        Self { priority, passes: 0, lines: VecDeque::new() }
    }

    pub(super) fn push(&mut self, client: Client, request: Waiting) {
        match self.lines.iter_mut().find(|(owner, _)| *owner == client) {
            Some((_, line)) => line.push_back(request),
            None => self.lines.push_back((client, VecDeque::from([request]))),
        }
    }

    /// Puts a request before all others of its client, and the client before
    /// all others.
    pub(super) fn push_front(&mut self, client: Client, request: Waiting) {
        let line = match self.lines.iter().position(|(owner, _)| *owner == client) {
            Some(at) => self.lines.remove(at).map(|(_, line)| line).unwrap_or_default(),
            None => VecDeque::new(),
        };
        self.lines.push_front((client, line));
        if let Some((_, line)) = self.lines.front_mut() {
            line.push_front(request);
        }
    }

    /// Takes one request out; its client.
    pub(super) fn take(&mut self, id: RequestId) -> Option<Client> {
        let holds = |line: &VecDeque<Waiting>| line.iter().any(|request| request.id == id);
        let client = self.lines.iter().find(|(_, line)| holds(line))?.0.clone();
        self.remove(id).then_some(client)
    }

    /// The next request; its client goes to the back.
    pub(super) fn pop(&mut self) -> Option<(Client, Waiting)> {
        let (client, mut line) = self.lines.pop_front()?;
        let request = line.pop_front().expect("no line is empty");
        if !line.is_empty() {
            self.lines.push_back((client.clone(), line));
        }
        Some((client, request))
    }

    pub(super) fn remove(&mut self, id: RequestId) -> bool {
        let before = self.len();
        for (_, line) in &mut self.lines {
            line.retain(|request| request.id != id);
        }
        self.lines.retain(|(_, line)| !line.is_empty());
        if self.lines.is_empty() {
            self.passes = 0;
        }
        self.len() < before
    }

    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(|(_, line)| line.len()).sum()
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.lines.iter().flat_map(|(_, line)| line)
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = (&Client, usize)> {
        self.lines.iter().map(|(client, line)| (client, line.len()))
    }
}
