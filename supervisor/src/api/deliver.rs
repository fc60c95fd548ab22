//! How an accepted job becomes a response, whatever the dialect.

use std::time::Duration;

use hyper::Response;
use tracing::Span;

use crate::api::error::Problem;
use crate::api::job::{self, Job};
use crate::api::reply::{self, Reply};
use crate::api::stream::{AnswerStream, Deciding, Frames};
use crate::api::wire::stoker::Wish;
use crate::api::{Caller, adding};

/// How long a client waits for the status line while the engine decides. After
/// that the stream begins, and a refusal comes inside it.
const DECISION: Duration = Duration::from_secs(1);

/// The future that hands `job` to the engine, for an answer that is not kept.
pub(crate) fn begin(caller: Caller, endpoint: &'static str, job: Job, wish: Wish) -> Deciding {
    Box::pin(async move {
        let Caller { handle, sources, client, conversation, .. } = caller;
        let wish = Wish { conversation, ..wish };
        let plan = adding::plan(&sources, &handle, &client, job, &wish).await?;
        Ok(job::start(&handle, &client, endpoint, &plan).await?.into())
    })
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
        Ok(begun) => {
            let begun = begun?;
            let (max_tokens, receipt) = (begun.running.max_tokens, begun.running.receipt.clone());
            let stream = AnswerStream::running(begun, frames, span);
            let response = reply::with_max_tokens(reply::stream(content_type, stream), max_tokens);
            Ok(reply::with_receipt(response, receipt.as_ref()))
        }
        Err(_) => {
            let stream = AnswerStream::deciding(deciding, frames, span);
            Ok(reply::stream(content_type, stream))
        }
    }
}
