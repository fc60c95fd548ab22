//! The socket to one ready worker.
//!
//! ```text
//!  main loop ── generate, cancel, limits ──► outbox ──► writer task ──► socket
//!  api ──────── prepare, embed ────────────►   (bounded)
//!  api  ◄── Answer ◄── routes ◄──── reader ◄─────────────────────────── socket
//!  main loop ◄── Finished, Heartbeat ──┘
//! ```
//!
//! Tokens go from the reader straight into each request's answer channel. A
//! worker that breaks the protocol, or does not read what is sent to it, is
//! not spoken to again.

mod reader;
mod routes;

use std::sync::Arc;

use engine_api::embedding::{Embed, Vector};
use engine_api::form::{Form, Grammar};
use engine_api::frame::{self, FrameError};
use engine_api::protocol::{
    Asker, Generate, Limits, Prompt, PromptProblem, RequestId, ToWorker, TokenId,
};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub(super) use reader::{Broken, Frames, serve};
use routes::{EmbedReply, PromptReply};

use super::watchdog::Speeds;
pub(super) use routes::Routes;
pub use routes::{Progress, Route};

/// Frames that may wait to be written. The main loop sends two per running
/// request at most, and prompts are bounded by [`PREPARING`], so a full outbox
/// means that the worker does not read.
const OUTBOX: usize = 1024;
/// Prompts, or lists of texts, that the worker has been sent and has not answered;
/// further ones wait.
const PREPARING: usize = 16;

/// Speaks to a ready worker. Clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Connection {
    outbox: mpsc::Sender<Vec<u8>>,
    routes: Arc<Routes>,
    preparing: Arc<Semaphore>,
}

/// A message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("encode a message for the engine worker")]
    Encode(#[from] FrameError),
    #[error("the engine worker does not read its socket")]
    Full,
    #[error("the engine worker is gone")]
    Gone,
}

/// A prompt did not become tokens.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Problem(#[from] PromptProblem),
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Texts got no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The one at this index cannot be used.
    #[error("input {index}: {problem}")]
    Input { index: u32, problem: PromptProblem },
    #[error("the engine worker made no vectors: {0}")]
    Failed(String),
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Connection {
    /// The connection and what its writer task sends.
    pub(super) fn new(speeds: Speeds) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let preparing = Arc::new(Semaphore::new(PREPARING));
        (Self { outbox, routes: Arc::new(Routes::new(speeds)), preparing }, frames)
    }

    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    /// Starts a request whose events go to `route`.
    ///
    /// # Errors
    /// The worker cannot be spoken to any more. The request stays with this
    /// connection, to be ended by [`Connection::abandon`] like all others.
    pub fn generate(&self, generate: Generate, route: Route) -> Result<(), SendError> {
        self.routes.add(generate.id, route);
        self.send(encode(&ToWorker::Generate(Box::new(generate)))?)
    }

    /// Asks the worker to forget a request; it still ends with an event.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn cancel(&self, id: RequestId) -> Result<(), SendError> {
        self.send(encode(&ToWorker::Cancel { id })?)
    }

    /// Asks the worker to keep nothing of what it computed for a client. What it is given
    /// from now on it is given after that.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn forget(&self, asker: Asker) -> Result<(), SendError> {
        self.send(encode(&ToWorker::Forget { asker })?)
    }

    /// Sets new limits.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn limits(&self, limits: Limits) -> Result<(), SendError> {
        self.routes.set_limits(limits);
        self.send(encode(&ToWorker::Limits(limits))?)
    }

    /// Asks the worker to finish and exit.
    pub(super) fn drain(&self) -> Result<(), SendError> {
        self.send(encode(&ToWorker::Drain)?)
    }

    /// Turns a prompt into tokens, whose answer is to fit `grammar`. Dropping the future forgets the answer.
    ///
    /// # Errors
    /// The prompt cannot be used, or the worker died meanwhile.
    pub async fn prepare(
        &self,
        id: RequestId,
        prompt: Prompt,
        grammar: Option<Grammar>,
    ) -> Result<(Vec<TokenId>, Form), PrepareError> {
        let encoded =
            encode(&ToWorker::Prepare { id, prompt, grammar }).map_err(SendError::from)?;
        let permit = Arc::clone(&self.preparing).acquire_owned().await;
        let (reply, answer) = oneshot::channel();
        let _permit = permit.map_err(|_| SendError::Gone)?;
        self.routes.add_prompt(id, PromptReply { reply, _permit })?;
        self.outbox.send(encoded).await.map_err(|_| SendError::Gone)?;
        let prepared = answer.await.map_err(|_| SendError::Gone)?;
        Ok(prepared?)
    }

    /// The vectors of some texts. Dropping the future forgets them.
    ///
    /// # Errors
    /// A text cannot be used, or the worker died meanwhile.
    pub async fn embed(&self, embed: Embed) -> Result<Vec<Vector>, EmbedError> {
        let id = embed.id;
        let encoded = encode(&ToWorker::Embed(Box::new(embed))).map_err(SendError::from)?;
        let permit = Arc::clone(&self.preparing).acquire_owned().await;
        let (reply, answer) = oneshot::channel();
        let _permit = permit.map_err(|_| SendError::Gone)?;
        self.routes.add_embed(id, EmbedReply { reply, _permit })?;
        self.outbox.send(encoded).await.map_err(|_| SendError::Gone)?;
        answer.await.map_err(|_| SendError::Gone)?
    }

    /// Tokens that a running request has; `None` if it does not run.
    #[must_use]
    pub fn generated(&self, id: RequestId) -> Option<usize> {
        self.routes.generated(id)
    }

    /// Whether the worker has given anybody a part of an answer worth the name.
    #[must_use]
    pub fn is_productive(&self) -> bool {
        self.routes.is_productive()
    }

    /// What was measured of the worker's steps.
    #[must_use]
    pub fn speeds(&self) -> Speeds {
        self.routes.speeds()
    }

    /// All requests that the worker has not finished; they are forgotten here.
    #[must_use]
    pub fn abandon(&self) -> Vec<(RequestId, Route)> {
        self.routes.close()
    }

    fn send(&self, encoded: Vec<u8>) -> Result<(), SendError> {
        self.outbox.try_send(encoded).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Gone,
        })
    }
}

pub(super) fn encode(message: &ToWorker) -> Result<Vec<u8>, FrameError> {
    let mut encoded = Vec::new();
    frame::encode(message, &mut encoded)?;
    Ok(encoded)
}

/// Writes frames until nobody can send any more or the socket is closed.
pub(super) async fn write(mut socket: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(encoded) = frames.recv().await {
        if let Err(error) = socket.write_all(&encoded).await {
            // The reader sees the end of file and says how the worker died.
            tracing::debug!(%error, "writing to the engine worker stopped");
            return;
        }
    }
}
