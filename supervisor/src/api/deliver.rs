//! How an accepted job becomes a response, whatever the dialect.

use std::time::Duration;

use hyper::Response;
use tracing::Span;

use crate::api::Caller;
use crate::api::error::Problem;
use crate::api::job::{Job, start};
use crate::api::reply::{self, Reply};
use crate::api::stream::{AnswerStream, Deciding, Frames};

/// How long a client waits for the status line while the engine decides. After
/// that the stream begins, and a refusal comes inside it.
const DECISION: Duration = Duration::from_secs(1);

/// The future that hands `job` to the engine.
pub(crate) fn begin(caller: Caller, endpoint: &'static str, job: Job) -> Deciding {
    Box::pin(start(caller.handle, caller.client, endpoint, job))
}

/// The answer as a stream.
///
/// # Errors
/// The refusal, if it comes soon enough to have a status of its own.
pub(crate) async fn streamed(
    mut deciding: Deciding,
    frames: impl Frames,
    span: Span,
    content_type: &'static str,
) -> Result<Response<Reply>, Problem> {
    match tokio::time::timeout(DECISION, &mut deciding).await {
        Ok(running) => {
            let running = running?;
            let max_tokens = running.max_tokens;
            let stream = AnswerStream::running(running, frames, span);
            Ok(reply::with_max_tokens(reply::stream(content_type, stream), max_tokens))
        }
        Err(_) => {
            let stream = AnswerStream::deciding(deciding, frames, span);
            Ok(reply::stream(content_type, stream))
        }
    }
}
