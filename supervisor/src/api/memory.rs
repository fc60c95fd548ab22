//! The routes for what is remembered of chats. Everybody sees, takes away and forgets
//! what is kept for the own key or address, and nothing of others.

use std::time::Duration;

use hyper::{Response, StatusCode};

use crate::api::error::Problem;
use crate::api::kept::Keeper;
use crate::api::reply::{self, Reply};
use crate::api::wire::memory::{Conversations, Export, Forgotten};
use crate::api::{Caller, identity};
use crate::request::Client;
use crate::store::memory::{Memory, MemoryError};
use crate::supervisor::Handle;

/// When to ask again for memory that is out of order.
const SOON: Duration = Duration::from_secs(5);

/// `GET /api/memory`.
pub(crate) async fn show(caller: &Caller) -> Result<Response<Reply>, Problem> {
    let owner = identity::owner(&caller.client);
    let conversations = match &caller.sources.memory {
        Some(memory) => memory.list(&owner).await.map_err(out_of_order)?,
        None => Vec::new(),
    };
    let kept = caller.sources.memory.is_some();
    Ok(reply::json(&Conversations { owner: &owner, kept, conversations: &conversations }))
}

/// `GET /api/memory/export`, and of one conversation `GET /api/memory/ID`.
pub(crate) async fn export(
    caller: &Caller,
    conversation: Option<&str>,
) -> Result<Response<Reply>, Problem> {
    let owner = identity::owner(&caller.client);
    let id = conversation.map(id).transpose()?;
    let messages = match &caller.sources.memory {
        Some(memory) => memory.export(&owner, id).await.map_err(out_of_order)?,
        None => Vec::new(),
    };
    if let Some(named) = conversation
        && messages.is_empty()
    {
        return Err(not_found(named));
    }
    Ok(reply::json(&Export { messages: &messages }))
}

/// `DELETE /api/memory`, and of one conversation `DELETE /api/memory/ID`.
pub(crate) async fn forget(
    caller: &Caller,
    conversation: Option<&str>,
) -> Result<Response<Reply>, Problem> {
    let owner = identity::owner(&caller.client);
    let id = conversation.map(id).transpose()?;
    let forgotten = match &caller.sources.memory {
        Some(memory) => forget_in(memory, &owner, id).await?,
        None => 0,
    };
    if conversation.is_none() || forgotten > 0 {
        // Which answers and which of the engine's prefixes are of which conversation is not
        // known, so all of this owner go.
        let gone = forget_computed(&caller.keeper, &caller.handle, &caller.client).await;
        gone.map_err(|still| Problem::unavailable(format!("it is forgotten, but {still}"), SOON))?;
    }
    match conversation {
        Some(named) if forgotten == 0 => Err(not_found(named)),
        _ => Ok(reply::json(&Forgotten { forgotten })),
    }
}

/// Forgets a client's answers, and what the engine has computed for it.
///
/// # Errors
/// What is still there.
pub(super) async fn forget_computed(
    keeper: &Keeper,
    handle: &Handle,
    client: &Client,
) -> Result<(), &'static str> {
    let owner = identity::owner(client);
    match tokio::join!(keeper.forget(&owner), handle.forget(client)) {
        (true, Ok(())) => Ok(()),
        (false, _) => Err("streamed answers of the last minutes are still kept"),
        (true, Err(_)) => Err("what the engine has computed is still in its memory"),
    }
}

async fn forget_in(memory: &Memory, owner: &str, id: Option<i64>) -> Result<usize, Problem> {
    memory.forget(owner, id).await.map_err(out_of_order)
}

fn id(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| not_found(text))
}

fn not_found(named: &str) -> Problem {
    let named: String = named.chars().take(100).collect();
    Problem {
        code: Some("conversation_not_found"),
        ..Problem::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            format!("no conversation `{named}` is kept for this key or address"),
        )
    }
}

fn out_of_order(error: MemoryError) -> Problem {
    Problem::unavailable(error.to_string(), SOON)
}
