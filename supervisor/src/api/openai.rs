//! OpenAI's routes: chat, completions, models.

pub(crate) mod frames;
mod whole;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Response;

use crate::api::body::Body;
use crate::api::deliver::{begin, streamed};
use crate::api::error::{Dialect, Problem};
use crate::api::facts::Facts;
use crate::api::reply::{Reply, json};
use crate::api::wire::openai_reply::{Model, ModelMeta, Models, Stamp};
use crate::api::wire::openai_request::{self, Ask};
use crate::api::{Caller, collect, reply};
use crate::snapshot::Snapshot;
use frames::OpenAiFrames;

/// Which of the two routes an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Completion,
}

impl Kind {
    fn endpoint(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completion => "/v1/completions",
        }
    }

    fn id_prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl",
            Self::Completion => "cmpl",
        }
    }
}

/// `POST /v1/chat/completions` and `POST /v1/completions`.
pub(crate) async fn generate(
    kind: Kind,
    caller: Caller,
    body: Body,
) -> Result<Response<Reply>, Problem> {
    let facts = Facts::of(&caller.handle.snapshot());
    let ask = match kind {
        Kind::Chat => openai_request::chat(&body.bytes, &facts)?,
        Kind::Completion => openai_request::completion(&body.bytes, &facts)?,
    };
    drop(body);
    let Ask { job, stream, include_usage, echo } = ask;
    let stamp = Stamp::new(kind.id_prefix(), now_s(), facts.serving());
    let logprobs = job.sampling.logprobs.is_some();
    let span = caller.span.clone();
    let deciding = begin(caller, kind.endpoint(), job);
    if stream {
        let frames = OpenAiFrames::new(kind, stamp, include_usage, logprobs, echo);
        return streamed(deciding, frames, span, reply::EVENT_STREAM).await;
    }
    let running = deciding.await?;
    let max_tokens = running.max_tokens;
    let (answers, tally) = collect::collect(running).await?;
    let body = whole::document(kind, &stamp, &answers, &tally, logprobs, &echo);
    Ok(reply::with_max_tokens(reply::json_bytes(body), max_tokens))
}

/// `GET /v1/models`.
pub(crate) fn models(snapshot: &Snapshot) -> Response<Reply> {
    let facts = Facts::of(snapshot);
    let data = facts.names().map(|name| model(name, snapshot)).collect();
    json(&Models { object: "list", data })
}

/// `GET /v1/models/{id}`.
pub(crate) fn one_model(snapshot: &Snapshot, id: &str) -> Result<Response<Reply>, Problem> {
    let facts = Facts::of(snapshot);
    facts.resolve(Some(id))?;
    if facts.model.is_none() {
        return Err(Problem::unavailable("there is no engine yet", Duration::from_secs(10)));
    }
    Ok(json(&model(id, snapshot)))
}

fn model<'a>(id: &'a str, snapshot: &Snapshot) -> Model<'a> {
    let ready = snapshot.engine.ready.as_deref();
    Model {
        id,
        object: "model",
        created: snapshot.at.saturating_sub(snapshot.uptime_s),
        owned_by: "stoker",
        max_model_len: ready.map(|ready| ready.context),
        meta: ready.map(|ready| ModelMeta {
            n_ctx: ready.context,
            n_ctx_train: ready.model.trained_context,
            n_vocab: ready.vocabulary,
            n_params: ready.model.parameters,
            size: ready.model.weights_bytes,
        }),
    }
}

/// Seconds since 1970.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The dialect of everything in this module.
pub(crate) const DIALECT: Dialect = Dialect::OpenAi;
