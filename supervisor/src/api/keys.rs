//! `/api/keys`: whoever claimed the machine makes keys for others and takes them away,
//! without a login on it. On the machine itself `stoker key` does that, for everybody who
//! may.

use std::path::{Path, PathBuf};

use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::api::Caller;
use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::gate::Gate;
use crate::api::reply::{self, Reply};
use crate::api::wire::json::parse;
use crate::keys::claim::{self, Claim};
use crate::keys::{self, Hash, KeyName, KeysError};
use crate::request::Client;

#[derive(Serialize)]
struct Listed {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
}

#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    key: &'a str,
}

#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a str,
}

/// `GET /api/keys`.
///
/// # Errors
/// 403, here and below, for every other key than the one that claimed the machine.
pub(crate) async fn list(gate: &Gate, caller: &Caller) -> Result<Response<Reply>, Problem> {
    let (state_dir, _) = admitted(gate, caller).await?;
    let keys = aside(state_dir, keys::read).await?.unwrap_or_default();
    Ok(reply::json(&Listed { keys: keys.names().map(ToString::to_string).collect() }))
}

/// `POST /api/keys`: shows the key, this once.
pub(crate) async fn add(
    gate: &Gate,
    caller: &Caller,
    body: Body,
) -> Result<Response<Reply>, Problem> {
    let (state_dir, _) = admitted(gate, caller).await?;
    let Wanted { name } = parse(&body.bytes)?;
    let name = key_name(&name)?;
    let named = name.clone();
    let key = aside(state_dir, move |at| {
        let key = keys::make()?;
        keys::change(at, |keys| match keys.has(&named) {
            true => Err(KeysError::There(named.clone())),
            false => keys.put(named.clone(), Hash::of(&key)),
        })?;
        Ok(key)
    });
    let key = key.await?;
    info!(key = %name, "an API key was made");
    Ok(shown_once(&name, &key))
}

/// A key's name as somebody sent it.
pub(super) fn key_name(text: &str) -> Result<KeyName, Problem> {
    KeyName::new(text).ok_or_else(|| {
        Problem::field("name", "is a word of letters, digits, `.`, `_` and `-`, at most 64")
    })
}

/// A new key, which nobody on the way may keep.
pub(super) fn shown_once(name: &KeyName, key: &str) -> Response<Reply> {
    let mut response = reply::json(&Made { name: name.as_str(), key });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `DELETE /api/keys/NAME`.
pub(crate) async fn remove(
    gate: &Gate,
    caller: &Caller,
    name: &str,
) -> Result<Response<Reply>, Problem> {
    let (state_dir, own) = admitted(gate, caller).await?;
    let unknown =
        || Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", "there is no such key");
    let name = KeyName::new(name).ok_or_else(unknown)?;
    if name == own {
        let why = "this key would lock itself out; on the machine `stoker key remove` can";
        return Err(Problem::new(StatusCode::CONFLICT, "invalid_request_error", why));
    }
    let named = name.clone();
    let left = aside(state_dir, move |at| keys::removed::remove(at, &named));
    if left.await?.is_none() {
        return Err(unknown());
    }
    info!(key = %name, "an API key was removed");
    Ok(reply::json(&Removed { removed: name.as_str() }))
}

/// Where the keys are, and the name of the caller's, which claimed the machine.
async fn admitted(gate: &Gate, caller: &Caller) -> Result<(PathBuf, KeyName), Problem> {
    if let (Some(state_dir), Client::Named { name, .. }) = (gate.state_dir(), &caller.client) {
        let state_dir = state_dir.to_owned();
        let claim = aside(state_dir.clone(), claim::read).await?;
        if matches!(claim, Some(Claim::Over(Some(by))) if by == *name) {
            return Ok((state_dir, name.clone()));
        }
    }
    let why = "only the key that claimed this machine makes others; on the machine itself \
               `stoker key add NAME` does";
    Err(Problem::new(StatusCode::FORBIDDEN, "permission_error", why))
}

/// Does what waits for the disk beside everything else.
async fn aside<T: Send + 'static>(
    state_dir: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, KeysError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(move || work(&state_dir)).await;
    done.map_err(|_| Problem::vanished())?.map_err(|problem| match problem {
        KeysError::There(_) | KeysError::TooMany => {
            Problem::new(StatusCode::CONFLICT, "invalid_request_error", problem.to_string())
        }
        other => {
            error!(error = %other, "API keys cannot be changed");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "server_error", "the keys cannot be changed; see the server's log")
        }
    })
}
