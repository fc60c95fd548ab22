//! The reading half: from bytes to events, each to where it belongs.

use engine_api::frame::{Decoder, FrameError};
use engine_api::protocol::{FromWorker, RequestId};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

use super::EmbedError;
use super::routes::{Routes, Undelivered};
use crate::engines::{Ending, LifeId, WorkerEvent};
use crate::request::{Event, Failure, Fault};

/// Bytes read at once. One token is about thirty.
const CHUNK: usize = 16 * 1024;

/// Why nothing more can be read from the worker.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("it closed its socket")]
    Closed,
    #[error("it sent garbage")]
    Garbage(#[from] FrameError),
    #[error("it broke the protocol: {0}")]
    Protocol(String),
}

/// Messages as they come from the worker.
#[derive(Debug)]
pub(in crate::engines) struct Frames {
    socket: OwnedReadHalf,
    decoder: Decoder,
    chunk: Box<[u8]>,
}

impl Frames {
    pub(in crate::engines) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, decoder: Decoder::default(), chunk: vec![0; CHUNK].into() }
    }

    /// The next message. Cancelling the future loses nothing.
    pub(in crate::engines) async fn next(&mut self) -> Result<FromWorker, Broken> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(message);
            }
            match self.socket.read(&mut self.chunk).await {
                Ok(0) | Err(_) => return Err(Broken::Closed),
                Ok(count) => self.decoder.push(&self.chunk[..count]),
            }
        }
    }
}

/// Delivers messages of a ready worker until it breaks off.
pub(in crate::engines) async fn serve(
    frames: &mut Frames,
    routes: &Routes,
    life: LifeId,
    events: &mpsc::Sender<(LifeId, WorkerEvent)>,
) -> Broken {
    loop {
        let message = match frames.next().await {
            Ok(message) => message,
            Err(broken) => return broken,
        };
        let event = match route(message, routes) {
            Ok(Some(event)) => event,
            Ok(None) => continue,
            Err(broken) => return broken,
        };
        if events.send((life, event)).await.is_err() {
            return Broken::Closed;
        }
    }
}

/// Delivers one message; what it means for the main loop comes back.
fn route(message: FromWorker, routes: &Routes) -> Result<Option<WorkerEvent>, Broken> {
    match message {
        FromWorker::Tokens { id, tokens, text } => {
            delivered(id, routes.deliver(id, Event::Text { text, tokens }))?;
            Ok(None)
        }
        FromWorker::Started { id, prompt_tokens, cached_tokens } => {
            delivered(id, routes.deliver(id, Event::Started { prompt_tokens, cached_tokens }))?;
            Ok(None)
        }
        FromWorker::Done { id, reason, rest, usage, timings } => {
            let used = routes.done(id, reason.clone(), rest, (usage, timings));
            let (usage, timings) = delivered(id, used)?;
            Ok(Some(WorkerEvent::Finished { id, ending: Ending::Done { reason, usage, timings } }))
        }
        FromWorker::Embedded { id, vectors } => {
            delivered(id, routes.embedded(id, Ok(vectors)))?;
            Ok(None)
        }
        FromWorker::Unembedded { id, input: index, problem } => {
            delivered(id, routes.embedded(id, Err(EmbedError::Input { index, problem })))?;
            Ok(None)
        }
        FromWorker::Failed { id, reason } if routes.is_embed(id) => {
            delivered(id, routes.embedded(id, Err(EmbedError::Failed(reason))))?;
            Ok(None)
        }
        FromWorker::Failed { id, reason } => {
            let failure = Failure { message: reason.clone(), incident: None, fault: Fault::Engine };
            let used = delivered(id, routes.failed(id, failure))?;
            Ok(Some(WorkerEvent::Finished { id, ending: Ending::Failed { reason, used } }))
        }
        FromWorker::Prepared { id, tokens, form } => {
            delivered(id, routes.reply(id, Ok((tokens, *form))))?;
            Ok(None)
        }
        FromWorker::Unprepared { id, problem } => {
            delivered(id, routes.reply(id, Err(problem)))?;
            Ok(None)
        }
        FromWorker::Heartbeat(heartbeat) => {
            routes.heard(&heartbeat);
            Ok(Some(WorkerEvent::Heartbeat(heartbeat)))
        }
        FromWorker::Hello { .. }
        | FromWorker::Loading { .. }
        | FromWorker::LoadFailed { .. }
        | FromWorker::Ready(_)
        | FromWorker::Backends { .. } => {
            Err(Broken::Protocol("a message of the start-up after the start-up".to_owned()))
        }
    }
}

fn delivered<T>(id: RequestId, result: Result<T, Undelivered>) -> Result<T, Broken> {
    result.map_err(|undelivered| {
        Broken::Protocol(match undelivered {
            Undelivered::Unknown => format!("an event of request {id}, which does not run"),
            Undelivered::TooMany => format!("more events of request {id} than it can have"),
        })
    })
}
