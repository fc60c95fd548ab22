//! Reads a request's body, bounded in bytes and in time, alone and in sum.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, EXPECT};
use hyper::{HeaderMap, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::api::Settings;
use crate::api::error::Problem;

/// Unit in which all bodies together are counted.
const UNIT: usize = 16 * 1024;

/// Bytes of a body over the limit that are read and thrown away, so that its
/// sender, who may be in the middle of writing, gets to read the refusal.
pub(crate) const MAX_DISCARDED: usize = 64 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Memory that all bodies may take together.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }
}

/// A whole body, and its share of the budget while it is kept.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads all of it.
///
/// # Errors
/// It is too long, too slow, compressed or cut off, or there is no memory for
/// it now.
pub(crate) async fn read(
    headers: &HeaderMap,
    incoming: Incoming,
    settings: &Settings,
    budget: &Budget,
) -> Result<Body, Problem> {
    check_encoding(headers)?;
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > settings.max_body_bytes {
        if !headers.contains_key(EXPECT) && announced <= MAX_DISCARDED {
            discard(incoming, announced).await;
        }
        return Err(too_large(settings.max_body_bytes));
    }
    let reading = collect(incoming, settings.max_body_bytes, budget);
    match timeout(settings.body_timeout, reading).await {
        Ok(body) => body,
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            format!("the body did not arrive within {} s", settings.body_timeout.as_secs()),
        )),
    }
}

async fn collect(mut incoming: Incoming, limit: usize, budget: &Budget) -> Result<Body, Problem> {
    let mut body = Body { bytes: Vec::new(), _share: None };
    let mut counted = 0;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Problem::bad_request("the body was cut off"))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = body.bytes.len() + data.len();
        if length > limit {
            discard(incoming, limit).await;
            return Err(too_large(limit));
        }
        if length > counted {
            let units = (length - counted).div_ceil(UNIT);
            let share = take(budget, units)?;
            match &mut body._share {
                Some(held) => held.merge(share),
                none => *none = Some(share),
            }
            counted += units * UNIT;
        }
        body.bytes.extend_from_slice(&data);
    }
    Ok(body)
}

fn take(Budget(budget): &Budget, units: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let units = u32::try_from(units).ok();
    let share = units.and_then(|units| Arc::clone(budget).try_acquire_many_owned(units).ok());
    share.ok_or_else(|| {
        let message = "too many large requests are being read at once; try again in a second";
        Problem::unavailable(message, Duration::from_secs(1))
    })
}

/// Reads on without keeping anything, within bounds.
pub(crate) async fn discard(mut incoming: Incoming, at_most: usize) {
    let reading = async {
        let mut left = at_most;
        while let Some(Ok(frame)) = incoming.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len());
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether it ended or not, nothing more can be done for this client.
    let _ = timeout(DISCARD_TIME, reading).await;
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"" | b"identity") => Ok(()),
        Some(_) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            "the body is compressed; send it without content-encoding",
        )),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem {
        code: Some("body_too_large"),
        ..Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            format!("the body is longer than {limit} bytes; send a shorter prompt"),
        )
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
