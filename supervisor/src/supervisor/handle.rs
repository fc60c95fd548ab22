//! The engine side as the HTTP side sees it.
//!
//! Requests go through the main loop, which alone decides about them. Prompts
//! do not: they change nothing, and can be megabytes.

mod embed;
mod index;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine_api::form::Grammar;
use engine_api::protocol::{Prompt, RequestId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

pub(super) use embed::{Seats, Way};

use super::Input;
use super::history::History;
use crate::engines::LifeId;
use crate::engines::connection::{Connection, PrepareError, SendError};
use crate::request::{Answer, Client, Prepared, Refusal, Request};
use crate::snapshot::{HistoryPoint, Snapshot};

/// When a client may ask again for an engine that is on its way.
const SOON: Duration = Duration::from_secs(5);
/// When a client may ask again for an engine that needs a person.
const LATER: Duration = Duration::from_secs(60);
/// How long an engine that is on its way is waited for to be told to forget something.
const FORGETTING: Duration = Duration::from_secs(10);
/// Workers that one prompt is given to. A second, because the first may have
/// died of something else; no third, because it may have died of this.
const WORKERS_PER_PROMPT: usize = 2;

/// Asks the engine side for answers. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) access: watch::Receiver<Access>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) history: Arc<History>,
    pub(super) ids: Arc<AtomicU64>,
    pub(super) beats: Arc<AtomicU64>,
    pub(super) prepare_wait: Duration,
    pub(super) embedding: Seats,
}

/// Whether prompts can be turned into tokens now.
#[derive(Debug, Clone)]
pub(super) enum Access {
    Ready {
        life: LifeId,
        connection: Connection,
        context: u32,
    },
    /// Not yet, but soon, for all we know.
    Soon {
        reason: String,
    },
    /// Not until somebody acts.
    Never {
        reason: String,
    },
    Draining,
}

/// How fast to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Accepted answers may finish.
    Drain,
    /// Nothing may.
    Now,
}

impl Handle {
    /// Turns a prompt into tokens, whose answer is to fit `grammar`. Waits while
    /// the engine loads or restarts.
    ///
    /// # Errors
    /// The prompt or the grammar cannot be used, or no engine answers in time.
    pub async fn prepare(
        &self,
        prompt: Prompt,
        grammar: Option<Grammar>,
    ) -> Result<Prepared, Refusal> {
        let deadline = Instant::now() + self.prepare_wait;
        let mut access = self.access.clone();
        let mut died = None;
        for _ in 0..WORKERS_PER_PROMPT {
            let (life, connection, context) = engine(&mut access, died, deadline).await?;
            let prepare = connection.prepare(self.next_id(), prompt.clone(), grammar.clone());
            match timeout_at(deadline, prepare).await {
                Ok(Ok((tokens, form))) => return Ok(Prepared { tokens, form, context }),
                Ok(Err(PrepareError::Problem(problem))) => return Err(problem.into()),
                Ok(Err(PrepareError::Send(SendError::Gone))) => died = Some(life),
                Ok(Err(PrepareError::Send(error))) => return Err(soon(error.to_string())),
                Err(_) => return Err(soon("it did not read the prompt in time".to_owned())),
            }
        }
        Err(soon("it stopped while it read this prompt".to_owned()))
    }

    /// Asks for an answer to a prepared prompt.
    ///
    /// # Errors
    /// The queue is full, or no engine will answer.
    pub async fn submit(&self, request: Request) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inputs.send(Input::Submit { request: Box::new(request), reply }).await;
        if sent.is_err() {
            return Err(Refusal::Draining);
        }
        answer.await.unwrap_or(Err(Refusal::Draining))
    }

    /// Asks for an answer that nobody waits for. It ends as soon as somebody has a
    /// request; `None` if somebody has one, or the board is held back.
    pub async fn submit_idle(&self, request: Request) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Idle { request: Box::new(request), reply }).await.ok()?;
        answer.await.ok().flatten()
    }

    /// Has the engine keep nothing of what it computed for a client.
    ///
    /// # Errors
    /// An engine that may have kept something cannot be told.
    pub async fn forget(&self, client: &Client) -> Result<(), Refusal> {
        let deadline = Instant::now() + FORGETTING;
        let mut access = self.access.clone();
        match engine(&mut access, None, deadline).await {
            Ok((_, connection, _)) => match connection.forget(client.asker()) {
                // What a worker that is gone had kept is gone with it.
                Ok(()) | Err(SendError::Gone) => Ok(()),
                Err(error) => Err(soon(error.to_string())),
            },
            // There is no worker, and will be none.
            Err(_) if matches!(*self.access.borrow(), Access::Never { .. }) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Ends what nobody waits for, because a request is being read.
    pub fn client_comes(&self) {
        // If there is no room for it, it ends with the request itself.
        let _ = self.inputs.try_send(Input::ClientComes);
    }

    /// What is true now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Every new snapshot, the latest only if the reader is slow.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// The last ten minutes, oldest first.
    #[must_use]
    pub fn history(&self) -> Arc<Vec<HistoryPoint>> {
        Arc::new(self.history.points())
    }

    /// Ends the supervisor.
    pub async fn shut_down(&self, haste: Haste) {
        // If nobody listens, it has ended.
        let _ = self.inputs.send(Input::ShutDown(haste)).await;
    }

    /// Asks the main loop to show that it moves.
    pub fn ping(&self) {
        // A full channel is a reason to move.
        let _ = self.inputs.try_send(Input::Ping);
    }

    /// How often the main loop has moved.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    fn next_id(&self) -> RequestId {
        RequestId(self.ids.fetch_add(1, Ordering::Relaxed))
    }
}

/// The engine to ask, other than the one that `died`.
async fn engine(
    access: &mut watch::Receiver<Access>,
    died: Option<LifeId>,
    deadline: Instant,
) -> Result<(LifeId, Connection, u32), Refusal> {
    let settled = |access: &Access| match access {
        Access::Ready { life, .. } => Some(*life) != died,
        Access::Soon { .. } => false,
        Access::Never { .. } | Access::Draining => true,
    };
    let waited = timeout_at(deadline, access.wait_for(settled))
        .await
        .map(|found| found.map(|access| access.clone()));
    match waited {
        Ok(Ok(Access::Ready { life, connection, context })) => Ok((life, connection, context)),
        Ok(Ok(Access::Never { reason })) => {
            Err(Refusal::Unavailable { reason, retry_after: LATER })
        }
        Ok(Ok(Access::Draining) | Err(_)) => Err(Refusal::Draining),
        Ok(Ok(Access::Soon { .. })) | Err(_) => {
            let reason = match &*access.borrow() {
                Access::Soon { reason } => reason.clone(),
                _ => "it has just been started".to_owned(),
            };
            Err(soon(reason))
        }
    }
}

fn soon(reason: String) -> Refusal {
    Refusal::Unavailable { reason, retry_after: SOON }
}
