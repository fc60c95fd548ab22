//! The routes for indexed code: search, and the list of repositories.
//!
//! Everybody finds what is shared, and with a key what is that key's. Of other
//! people's repositories not even the names are told. A path of this machine is
//! taken from this machine alone: whoever may name one could read any file that
//! we can. So is a URL: the server reaches what its clients may not. Everybody else
//! sends files.

use std::path::Path;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::reply::{self, Reply};
use crate::api::upload::{self, Seats};
use crate::api::wire::code::{
    Added, Found, FoundChunk, Map, MapQuery, Removed, Repositories, Sent, ToAdd, new_repository,
    question,
};
use crate::api::{Caller, identity};
use crate::index::sources::unpack::Unpacked;
use crate::index::{CodeError, Entry, Index, OrderError, Uploaded, Wish, naming};
use crate::request::Client;
use crate::store::code::search::map::Wanted;
use crate::store::memory::Memory;

/// When to ask again while others search.
const SOON: Duration = Duration::from_secs(1);
/// When to ask again for an index that is out of order.
const LATER: Duration = Duration::from_secs(30);

/// `POST /v1/search`.
pub(crate) async fn search(
    index: &Index,
    caller: &Caller,
    body: Body,
) -> Result<Response<Reply>, Problem> {
    let question = question(&body.bytes, identity::owner(&caller.client))?;
    drop(body);
    let known = index.entries().await;
    let unknown = question.repositories.iter().find(|name| {
        let mut visible = known.iter().filter(|entry| entry.is_visible_to(&question.asker));
        !visible.any(|entry| entry.repository.is.name == **name)
    });
    if let Some(name) = unknown {
        return Err(no_repository(name));
    }
    let began = Instant::now();
    let found = index.find(question).await;
    let found = found.ok_or_else(|| {
        Problem::unavailable("too many searches wait; try again in a second", SOON)
    })?;
    let found = found.map_err(out_of_order)?;
    let data = found.hits.iter().map(FoundChunk::new).collect();
    let words_only = found.words_only.as_deref();
    let took_ms = began.elapsed().as_millis();
    Ok(reply::json(&Found { object: "list", data, words_only, took_ms }))
}

/// `GET /api/repositories`.
pub(crate) async fn repositories(index: &Index, caller: &Caller) -> Response<Reply> {
    let asker = identity::owner(&caller.client);
    let entries = index.entries().await;
    let visible = entries.iter().filter(|entry| entry.is_visible_to(&asker));
    let repositories = visible.map(|entry| entry.shown(true)).collect();
    let (held_because, vectors) = (index.held(), index.vectors().shown());
    let held = held_because.is_some();
    reply::json(&Repositories { held, held_because, repositories, vectors })
}

/// `GET /api/repositories/NAME/map`.
pub(crate) async fn map(
    index: &Index,
    caller: &Caller,
    name: &str,
    query: Option<&str>,
) -> Result<Response<Reply>, Problem> {
    let MapQuery { tokens, focus } = MapQuery::read(query.unwrap_or_default())?;
    let asker = identity::owner(&caller.client);
    let entries = index.entries().await;
    let entry = Entry::named(entries.iter(), &asker, name).ok_or_else(|| no_repository(name))?;
    let repository = entry.repository.id;
    let drawn = index.map(Wanted { repository, tokens, focus }).await;
    let drawn = drawn.ok_or_else(|| {
        Problem::unavailable("another map is being drawn; try again in a second", SOON)
    })?;
    let mapped = drawn.map_err(out_of_order)?;
    Ok(reply::json(&Map::new(name, &mapped)))
}

/// `POST /api/repositories`.
pub(crate) async fn add(
    index: &Index,
    caller: &Caller,
    body: Body,
) -> Result<Response<Reply>, Problem> {
    let ToAdd { origin, name, shared } = new_repository(&body.bytes)?;
    if !caller.is_local {
        return Err(not_from_here(
            "a path or a URL is added on the server itself; from elsewhere send the files, \
             with `stoker index upload`",
        ));
    }
    let owner = owner(caller, shared)?;
    let added = index.add(Wish { origin, name, owner }).await.map_err(refused)?;
    let path = added.origin.to_string();
    Ok(reply::json(&Added { name: &added.name, path, shared: added.owner.is_none() }))
}

/// Whose a new repository is; `None` for everybody.
fn owner(caller: &Caller, shared: bool) -> Result<Option<String>, Problem> {
    match (&caller.client, shared) {
        (_, true) => Ok(None),
        (Client::Key(_) | Client::Named { .. }, false) => Ok(Some(identity::owner(&caller.client))),
        (Client::Address(_), false) => {
            let why = "is false, and there is no key whose it could be; send a key, or `true`";
            Err(Problem::field("shared", why))
        }
    }
}

/// `PUT /api/repositories/NAME/contents`, with `?shared=true` for everybody.
pub(crate) async fn upload(
    index: &Index,
    seats: &Seats,
    caller: &Caller,
    name: &str,
    head: &Parts,
    incoming: Incoming,
) -> Result<Response<Reply>, Problem> {
    let shared = match head.uri.query() {
        None | Some("" | "shared=false") => false,
        Some("shared=true") => true,
        Some(_) => return Err(Problem::field("shared", "can be `true` or `false`, and is all")),
    };
    if shared && !caller.is_local {
        return Err(not_from_here("a shared repository is sent from the server itself"));
    }
    let owner = owner(caller, shared)?;
    let name = naming::of(Some(name), Path::new("")).map_err(OrderError::Name).map_err(refused)?;
    let (part, bounds) = index.begin_upload().map_err(OrderError::Disk).map_err(refused)?;
    let (whole, unpacked) = upload::receive(seats, incoming, part, bounds).await?;
    let Unpacked { files, bytes, links: left_out } = unpacked;
    if files == 0 {
        return Err(Problem::bad_request("the archive has no files"));
    }
    index.upload(Uploaded { name: name.clone(), owner, whole, bytes }).await.map_err(refused)?;
    Ok(reply::json(&Sent { name: &name, shared, files, bytes, left_out }))
}

/// `DELETE /api/repositories/NAME`.
pub(crate) async fn remove(
    index: &Index,
    memory: Option<&Memory>,
    caller: &Caller,
    name: &str,
) -> Result<Response<Reply>, Problem> {
    let asker = identity::owner(&caller.client);
    let entries = index.entries().await;
    let named = || entries.iter().filter(|entry| entry.repository.is.name == name);
    let own = named().any(|entry| entry.repository.is.owner.as_deref() == Some(&asker));
    let shared = named().any(|entry| entry.repository.is.owner.is_none());
    if shared && !own && !caller.is_local {
        return Err(not_from_here("a shared repository is removed on the server itself"));
    }
    index.remove(asker.clone(), name.to_owned()).await.map_err(refused)?;
    if let Some(memory) = memory {
        // Code of it that chats have stays nowhere either.
        let whose = own.then_some(asker);
        if let Err(error) = memory.forget_repository(name, whose).await {
            return Err(Problem::unavailable(
                format!("it is removed, but chats still have code of it: {error}"),
                LATER,
            ));
        }
    }
    Ok(reply::json(&Removed { removed: name }))
}

fn refused(error: OrderError) -> Problem {
    let message = error.to_string();
    match error {
        OrderError::Unknown(_) => not_found(message),
        OrderError::Code(error) => out_of_order(error),
        OrderError::Busy => Problem::unavailable(message, SOON),
        OrderError::Disk(_) => Problem::unavailable(message, LATER),
        OrderError::Full(_) => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "invalid_request_error", message)
        }
        OrderError::Path { .. } | OrderError::Name(_) | OrderError::TooMany => {
            Problem::bad_request(message)
        }
        OrderError::NameTaken(_) | OrderError::Configured(_) => {
            Problem::new(StatusCode::CONFLICT, "invalid_request_error", message)
        }
    }
}

/// The refusal of a name that the asker has no repository of.
pub(crate) fn no_repository(name: &str) -> Problem {
    not_found(format!("there is no repository `{}`", shown(name)))
}

fn out_of_order(error: CodeError) -> Problem {
    Problem::unavailable(format!("the index of code cannot be used now: {error}"), LATER)
}

fn not_found(message: String) -> Problem {
    Problem {
        code: Some("repository_not_found"),
        ..Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }
}

fn not_from_here(message: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "permission_error", message)
}

/// A client's own words, short enough to be said back.
fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}
