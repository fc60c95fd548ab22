//! Vectors for the HTTP side. Texts go beside the main loop, in parts, so that many
//! of one client's do not hold up another's few.

use std::sync::Arc;
use std::time::Duration;

use engine_api::embedding::{Embed, Input, MOST_INPUTS, Purpose, Vector};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::{Access, Handle, SOON, WORKERS_PER_PROMPT, engine, soon};
use crate::engines::connection::{EmbedError, SendError};
use crate::index::Maker;
use crate::request::{NoVectors, Refusal};
use crate::supervisor::Input as LoopInput;
use crate::supervisor::embedders::Role;

/// The way to an embedder.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct Way {
    pub(in crate::supervisor) role: Role,
    pub(in crate::supervisor) access: watch::Receiver<Access>,
    /// What makes vectors, by which the index tells them apart.
    pub(in crate::supervisor) maker: watch::Receiver<Option<Maker>>,
}

impl Way {
    pub(super) fn is(&self, maker: &Maker) -> bool {
        self.maker.borrow().as_ref() == Some(maker)
    }
}

/// The ways to both embedders.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct Seats {
    /// The one that everybody asks.
    pub(in crate::supervisor) chosen: Way,
    /// The one before it, for questions to what it made.
    pub(in crate::supervisor) former: Way,
    /// One for each list of texts that is worked on or waits.
    pub(in crate::supervisor) free: Arc<Semaphore>,
    pub(in crate::supervisor) capacity: usize,
    /// How long a part may wait for its vectors.
    pub(in crate::supervisor) wait: Duration,
}

/// Held while texts are worked on. The main loop does not end while one is.
pub(super) struct Seat {
    permit: Option<OwnedSemaphorePermit>,
    handle: Handle,
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.handle.ping();
    }
}

impl Handle {
    /// The vectors of `inputs`, in their order. With `cut`, the end of what does not
    /// fit is left out, and its vector says so.
    ///
    /// # Errors
    /// One of them cannot be used, or nobody makes vectors in time.
    pub async fn embed(
        &self,
        inputs: Vec<Input>,
        purpose: Purpose,
        cut: bool,
    ) -> Result<Vec<Vector>, NoVectors> {
        let _seat = self.seat()?;
        let mut vectors = Vec::with_capacity(inputs.len());
        let mut inputs = inputs.into_iter();
        loop {
            let part: Vec<Input> = inputs.by_ref().take(MOST_INPUTS).collect();
            if part.is_empty() {
                return Ok(vectors);
            }
            let made = self.embed_part(&self.embedding.chosen, &part, purpose, cut).await;
            vectors.extend(made.map_err(|error| error.after(vectors.len()))?);
        }
    }

    pub(super) fn seat(&self) -> Result<Seat, Refusal> {
        if matches!(&*self.access.borrow(), Access::Draining) {
            return Err(Refusal::Draining);
        }
        let free = Arc::clone(&self.embedding.free);
        let permit = free.try_acquire_owned().map_err(|_| Refusal::QueueFull {
            queued: self.embedding.capacity,
            retry_after: SOON,
        })?;
        Ok(Seat { permit: Some(permit), handle: self.clone() })
    }

    pub(super) async fn embed_part(
        &self,
        way: &Way,
        part: &[Input],
        purpose: Purpose,
        cut: bool,
    ) -> Result<Vec<Vector>, NoVectors> {
        let ready = Instant::now() + self.prepare_wait;
        let mut access = way.access.clone();
        let mut died = None;
        for _ in 0..WORKERS_PER_PROMPT {
            if !matches!(&*access.borrow(), Access::Ready { life, .. } if Some(*life) != died) {
                // If nobody listens, the server ends.
                let _ = self.inputs.send(LoopInput::EmbedderWanted(way.role)).await;
            }
            let (life, connection, _) = engine(&mut access, died, ready).await?;
            let embed = Embed { id: self.next_id(), inputs: part.to_vec(), purpose, cut };
            let until = Instant::now() + self.embedding.wait;
            match timeout_at(until, connection.embed(embed)).await {
                Ok(Ok(vectors)) if vectors.len() == part.len() => return Ok(vectors),
                Ok(Ok(_)) => {
                    return Err(NoVectors::Failed("it made another number of vectors".into()));
                }
                Ok(Err(EmbedError::Input { index, problem })) => {
                    let index = usize::try_from(index).unwrap_or(usize::MAX);
                    return Err(NoVectors::Input { index, problem });
                }
                Ok(Err(EmbedError::Failed(reason))) => return Err(NoVectors::Failed(reason)),
                Ok(Err(EmbedError::Send(SendError::Gone))) => died = Some(life),
                Ok(Err(EmbedError::Send(error))) => return Err(soon(error.to_string()).into()),
                Err(_) => return Err(soon("it has too much to do".to_owned()).into()),
            }
        }
        Err(NoVectors::Failed("it stopped each time it worked on these texts".into()))
    }
}
