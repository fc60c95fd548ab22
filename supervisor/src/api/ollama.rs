//! Ollama's routes: chat, generate, and what its clients ask before them.

mod catalogue;
pub(crate) mod frames;

use std::time::{Instant, SystemTime};

use engine_api::protocol::Prompt;
use hyper::Response;

use crate::api::body::Body;
use crate::api::deliver::{begin, streamed};
use crate::api::error::{Dialect, Problem};
use crate::api::facts::Facts;
use crate::api::reply::{self, Reply, json};
use crate::api::stream::Frames as _;
use crate::api::wire::ollama_reply::{API_VERSION, Chat, Generated, Loaded, Version};
use crate::api::wire::ollama_request::{self, Ask};
use crate::api::{Caller, collect};
use crate::supervisor::Handle;
pub(crate) use catalogue::{processes, show, tags};
use frames::OllamaFrames;

/// The dialect of everything in this module.
pub(crate) const DIALECT: Dialect = Dialect::Ollama;

/// Which of the two routes an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Generate,
}

/// `GET /api/version`.
pub(crate) fn version() -> Response<Reply> {
    json(&Version { version: API_VERSION })
}

/// `POST /api/chat` and `POST /api/generate`.
pub(crate) async fn generate(
    kind: Kind,
    caller: Caller,
    body: Body,
) -> Result<Response<Reply>, Problem> {
    let arrived = Instant::now();
    let facts = Facts::of(&caller.handle.snapshot()).with_chats(&caller.chats);
    let (ask, endpoint) = match kind {
        Kind::Chat => (ollama_request::chat(&body.bytes, &facts)?, "/api/chat"),
        Kind::Generate => (ollama_request::generate(&body.bytes, &facts)?, "/api/generate"),
    };
    drop(body);
    let Ask { model, job, wish, stream, num_ctx } = ask;
    let Some(job) = job else {
        return loaded(kind, &caller.handle, &model).await;
    };
    let logprobs = job.sampling.logprobs.is_some();
    let span = caller.span.clone();
    let job = job.giving_way(caller.bulk);
    let deciding = begin(caller, endpoint, job, wish);
    let mut frames = OllamaFrames::new(kind, model, arrived, logprobs);
    let response = if stream {
        streamed(deciding, frames, span, reply::NDJSON).await?
    } else {
        let running = deciding.await?.running;
        let (max_tokens, calls) = (running.max_tokens, running.calls.clone());
        let receipt = running.receipt.clone();
        if let Some(told) = &receipt {
            frames.receipt(told);
        }
        let (answers, _) = collect::collect(running).await?;
        let whole = reply::json_bytes(frames.whole(&answers, calls.as_ref()));
        reply::with_receipt(reply::with_max_tokens(whole, max_tokens), receipt.as_ref())
    };
    Ok(match (num_ctx, facts.context) {
        (Some(_), Some(context)) => reply::with_number(response, reply::NUM_CTX, context),
        _ => response,
    })
}

/// Answers a request that only wants the model loaded, once it is.
async fn loaded(kind: Kind, handle: &Handle, model: &str) -> Result<Response<Reply>, Problem> {
    let smallest = Prompt::Text { text: "load".to_owned(), special: false };
    handle.prepare(smallest, None).await?;
    let now = SystemTime::now();
    Ok(match kind {
        Kind::Chat => json(&Loaded::new(model, now, Chat::new(""))),
        Kind::Generate => json(&Loaded::new(model, now, Generated::new(""))),
    })
}
