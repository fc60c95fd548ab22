//! How the server is: for probes, for the status page and for monitoring.

use std::time::Duration;

use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::api::Shared;
use crate::api::adding::Sources;
use crate::api::error::Problem;
use crate::api::gate::Access;
use crate::api::reply::{Reply, json, with_status};
use crate::api::wire::llama_server::{Healthy, Props, Unhealthy};
use crate::api::wire::memory::Chats;
use crate::snapshot::{EngineState, HistoryPoint, Snapshot};
use crate::store::memory::Counts;

/// Seconds.
const DAY_S: u64 = 86_400;

/// `GET /health`, as llama-server answers it.
pub(crate) fn health(snapshot: &Snapshot) -> Response<Reply> {
    match why_not(&snapshot.engine.state) {
        None => json(&Healthy::OK),
        Some(reason) => with_status(json(&Unhealthy::new(reason)), StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// `GET /ready`: 200 only when a chat engine can answer.
pub(crate) fn ready(snapshot: &Snapshot) -> Response<Reply> {
    let engine = &snapshot.engine;
    let chats = engine.ready.as_ref().is_some_and(|ready| ready.chat);
    let reason = why_not(&engine.state)
        .or_else(|| (!chats).then(|| "the model has no chat template".to_owned()));
    match reason {
        None => json(&Healthy::OK),
        Some(reason) => with_status(json(&Unhealthy::new(reason)), StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Why the engine cannot answer; `None` if it can.
fn why_not(state: &EngineState) -> Option<String> {
    match state {
        EngineState::Ready => None,
        // The words that llama-server's clients wait on.
        EngineState::Starting | EngineState::Loading { .. } => Some("Loading model".to_owned()),
        EngineState::Restarting { reason, .. } => {
            Some(format!("Loading model again after a failure: {reason}"))
        }
        EngineState::Absent { reason } | EngineState::Failed { reason } => Some(reason.clone()),
        EngineState::Draining => Some("shutting down".to_owned()),
    }
}

/// `GET /props`, as llama-server's clients read it.
///
/// # Errors
/// Nothing is loaded yet.
pub(crate) fn props(snapshot: &Snapshot) -> Result<Response<Reply>, Problem> {
    let engine = &snapshot.engine;
    match (&engine.model, &engine.ready) {
        (Some(model), Some(ready)) => Ok(json(&Props::new(model, ready))),
        _ => Err(Problem::unavailable("Loading model", Duration::from_secs(1))),
    }
}

/// `GET /api/status`: the whole [`Snapshot`], whose types are its schema.
///
/// In short: `schema`, `version`, `at`, `uptime_s`; `engine` with its `state`,
/// what it said when it was `ready`, and its last `heartbeat`; the `limits` in
/// force; the `governor` with what limits now and why, and its last `changes`;
/// the `build` that engine-builder is at, or its last one; the `queue`; `totals`
/// since the start; `rates` of the last seconds; the `machine`'s last sample;
/// `incidents`, newest first; and `problems` of the appliance itself. Beside it stands
/// `memory`, which the HTTP side knows: what is remembered of chats and was added to
/// them, in numbers; and `access`, who is let in. `null` is unknown. A stranger, who has no
/// key where one is asked for, sees how the machine is, and not who uses it for what.
pub(crate) async fn status(shared: &Shared, to_a_stranger: bool) -> Response<Reply> {
    let mut snapshot = shared.handle.snapshot();
    if to_a_stranger {
        let mut shown = Snapshot::clone(&snapshot);
        hide_who_asks(&mut shown);
        snapshot = shown.into();
    }
    let (memory, access) = (chats(shared).await, shared.gate.access());
    json(&Status { snapshot: &snapshot, memory, access })
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    memory: Chats,
    access: Access,
}

/// What is remembered of chats, in numbers.
async fn chats(shared: &Shared) -> Chats {
    let Sources { memory, receipts, .. } = &shared.sources;
    let receipts = receipts.last();
    let Some(memory) = memory else { return Chats { receipts, ..Chats::default() } };
    let bounds = memory.bounds();
    let shown = Chats {
        kept: true,
        kept_days: Some(bounds.kept.as_secs() / DAY_S),
        most_bytes: Some(bounds.bytes),
        receipts,
        ..Chats::default()
    };
    match memory.counts().await {
        Ok(Counts { conversations, messages, bytes }) => Chats {
            conversations: Some(conversations),
            messages: Some(messages),
            bytes: Some(bytes),
            ..shown
        },
        Err(error) => Chats { reason: Some(error.to_string()), ..shown },
    }
}

fn hide_who_asks(shown: &mut Snapshot) {
    for (at, client) in shown.queue.clients.iter_mut().enumerate() {
        client.client = format!("client {}", at + 1);
    }
    for repository in &mut shown.index.repositories {
        (repository.name, repository.path, repository.reason) = (None, None, None);
        (repository.revision, repository.not_fetched) = (None, None);
    }
}

/// `GET /api/history`: points of the recent past, oldest first.
pub(crate) fn history(points: &[HistoryPoint]) -> Response<Reply> {
    json(&points)
}
