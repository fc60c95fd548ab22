//! OpenAI's routes: chat, completions, models, and answers taken up again.

pub(crate) mod frames;
mod whole;

use std::time::Duration;

use hyper::Response;
use serde::{Deserialize, Serialize};

use crate::api::body::Body;
use crate::api::deliver::streamed;
use crate::api::error::{Dialect, Problem};
use crate::api::facts::{Facts, same};
use crate::api::job;
use crate::api::kept::{Found, Past, Position, Recipe};
use crate::api::reply::{Reply, json};
use crate::api::stream::{AnswerStream, Begun};
use crate::api::wire::openai_reply::{Model, ModelMeta, Models, Stamp};
use crate::api::wire::openai_request::{self, Ask};
use crate::api::wire::stoker::Wish;
use crate::api::{Caller, adding, collect, reply};
use crate::snapshot::{Embedder, Snapshot};
use crate::store::unix_s;
use frames::OpenAiFrames;

/// Which of the two routes an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// `POST /v1/chat/completions` and `POST /v1/completions`. With the last event
/// that a client has seen it is the rest of a stream.
pub(crate) async fn generate(
    kind: Kind,
    caller: Caller,
    body: Body,
    last_event: Option<&str>,
) -> Result<Response<Reply>, Problem> {
    if let Some(last_event) = last_event {
        return post_again(kind, caller, last_event).await;
    }
    let facts = Facts::of(&caller.handle.snapshot()).with_chats(&caller.chats);
    let ask = match kind {
        Kind::Chat => openai_request::chat(&body.bytes, &facts)?,
        Kind::Completion => openai_request::completion(&body.bytes, &facts)?,
    };
    drop(body);
    let Ask { job, wish, stream, include_usage, echo } = ask;
    let model = facts.serving().to_owned();
    let stamp = Stamp::new(kind.id_prefix(), unix_s(), &model);
    let logprobs = job.sampling.logprobs.is_some();
    let Caller { handle, sources, client, span, keeper, bulk, conversation, .. } = caller;
    let (job, wish) = (job.giving_way(bulk), Wish { conversation, ..wish });
    if stream {
        let frames = OpenAiFrames::new(kind, stamp.clone(), include_usage, logprobs, echo.clone());
        let deciding = Box::pin(async move {
            let plan = adding::plan(&sources, &handle, &client, job, &wish).await?;
            let running = job::start(&handle, &client, kind.endpoint(), &plan).await?;
            let recipe = Recipe { kind, stamp, model, include_usage, logprobs, echo, plan };
            let (seat, recording) = keeper.begin(&client, &recipe).await;
            Ok(Begun { running, past: Vec::new(), recording, seat })
        });
        return streamed(deciding, frames, span, reply::EVENT_STREAM).await;
    }
    let plan = adding::plan(&sources, &handle, &client, job, &wish).await?;
    let running = job::start(&handle, &client, kind.endpoint(), &plan).await?;
    let max_tokens = running.max_tokens;
    let (answers, tally) = collect::collect(running).await?;
    let body = whole::document(kind, &stamp, &answers, &tally, logprobs, &echo, &plan);
    let response = reply::with_max_tokens(reply::json_bytes(body), max_tokens);
    Ok(reply::with_receipt(response, plan.receipt.as_ref()))
}

/// `GET /v1/requests/{id}/stream`: the rest of a stream, after the event that
/// `Last-Event-ID` names, or all of it.
pub(crate) async fn stream_again(
    caller: Caller,
    id: &str,
    last_event: Option<&str>,
) -> Result<Response<Reply>, Problem> {
    let position = match last_event.map(|last| last.rsplit_once(':')) {
        None => None,
        Some(Some((answer, position))) if answer == id => Some(position),
        Some(_) => return Err(not_an_event("is not of this answer")),
    };
    rest(caller, id, position, None).await
}

/// The same for a client that sends its request again, with `Last-Event-ID`.
/// Its body says nothing that is not known.
async fn post_again(
    kind: Kind,
    caller: Caller,
    last_event: &str,
) -> Result<Response<Reply>, Problem> {
    let event = last_event.rsplit_once(':');
    let (id, position) = event.ok_or_else(|| not_an_event("is none of this server"))?;
    rest(caller, id, Some(position), Some(kind)).await
}

async fn rest(
    caller: Caller,
    id: &str,
    position: Option<&str>,
    kind: Option<Kind>,
) -> Result<Response<Reply>, Problem> {
    let Caller { handle, client, span, keeper, .. } = caller;
    let Found { past, seat, recording } = keeper.take_over(&client, id).await?;
    let Past { recipe, .. } = &past;
    if kind.is_some_and(|kind| kind != recipe.kind) {
        return Err(Problem::answer_not_found());
    }
    let choices = recipe.plan.answers();
    let seen = match position {
        None => Position::start(choices),
        Some(text) => {
            Position::parse(text, choices).ok_or_else(|| not_an_event("is none of this answer"))?
        }
    };
    if !past.is_finished() && Facts::of(&handle.snapshot()).serving() != recipe.model {
        return Err(Problem::engine_changed(&recipe.model));
    }
    let endpoint = recipe.kind.endpoint();
    let generated = |index| past.generated(index);
    let running = job::resume(&handle, &client, endpoint, &recipe.plan, generated).await?;
    let max_tokens = running.max_tokens;
    let Past { recipe, said, .. } = past;
    let Recipe { kind, stamp, include_usage, logprobs, echo, .. } = recipe;
    let frames = OpenAiFrames::new(kind, stamp, include_usage, logprobs, echo).after(seen);
    let begun = Begun { running, past: said, recording: Some(recording), seat };
    let stream = AnswerStream::running(begun, frames, span);
    Ok(reply::with_max_tokens(reply::stream(reply::EVENT_STREAM, stream), max_tokens))
}

fn not_an_event(why: &str) -> Problem {
    Problem::bad_request(format!("`Last-Event-ID` {why}; send it as it stood in the stream"))
}

/// `GET /v1/models`.
pub(crate) fn models(snapshot: &Snapshot) -> Response<Reply> {
    let facts = Facts::of(snapshot);
    let embedder = snapshot.embedder.as_ref();
    let embedders = embedder.into_iter().flat_map(|embedder| {
        let names = std::iter::once(&embedder.model).chain(&embedder.aliases);
        names.map(move |name| embedding_model(name, embedder, snapshot))
    });
    let wishes = facts.wishes();
    let names = facts.names().chain(wishes.iter().map(String::as_str));
    let data = names.map(|name| model(name, snapshot)).chain(embedders).collect();
    json(&Models { object: "list", data })
}

/// `GET /v1/models/{id}`.
pub(crate) fn one_model(snapshot: &Snapshot, id: &str) -> Result<Response<Reply>, Problem> {
    if let Some(embedder) = &snapshot.embedder
        && std::iter::once(&embedder.model).chain(&embedder.aliases).any(|name| same(name, id))
    {
        return Ok(json(&embedding_model(id, embedder, snapshot)));
    }
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

fn embedding_model<'a>(id: &'a str, embedder: &Embedder, snapshot: &Snapshot) -> Model<'a> {
    Model {
        id,
        object: "model",
        created: snapshot.at.saturating_sub(snapshot.uptime_s),
        owned_by: "stoker",
        max_model_len: Some(embedder.context),
        // What is in there is what engines that answer say of themselves.
        meta: None,
    }
}

/// The dialect of everything in this module.
pub(crate) const DIALECT: Dialect = Dialect::OpenAi;
