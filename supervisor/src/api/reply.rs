//! Responses: a type for their bodies, and the few ways to make one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::api::error::{Dialect, Problem};
use crate::api::job::Told;

/// Server-sent events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// One JSON document a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// Says how many tokens the answer may have: what was asked for, or what the
/// window leaves.
pub(crate) const MAX_TOKENS: HeaderName = HeaderName::from_static("x-stoker-max-tokens");

/// Says in numbers what was done with a chat; the answer says it in full.
pub(crate) const RECEIPT: HeaderName = HeaderName::from_static("x-stoker-receipt");

/// Says the window that is in force, to a client that wished for another.
pub(crate) const NUM_CTX: HeaderName = HeaderName::from_static("x-stoker-num-ctx");

/// The body of every response.
pub(crate) enum Reply {
    Whole(Option<Bytes>),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// A 200 with these bytes.
pub(crate) fn bytes(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Reply> {
    let bytes = Some(bytes.into()).filter(|bytes| !bytes.is_empty());
    let mut response = Response::new(Reply::Whole(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A 200 with this document.
pub(crate) fn json(document: &impl Serialize) -> Response<Reply> {
    let json = serde_json::to_vec(document);
    json_bytes(json.expect("documents have no map with odd keys"))
}

/// A 200 with JSON that is written already.
pub(crate) fn json_bytes(json: Vec<u8>) -> Response<Reply> {
    bytes("application/json", json)
}

/// A 200 whose body comes as it is made. Proxies must neither keep nor batch it.
pub(crate) fn stream(
    content_type: &'static str,
    stream: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Response<Reply> {
    let mut response = Response::new(Reply::Stream(Box::pin(stream)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The same response, saying how many tokens its answer may have.
pub(crate) fn with_max_tokens(response: Response<Reply>, tokens: u32) -> Response<Reply> {
    with_number(response, MAX_TOKENS, tokens)
}

/// The same response, saying what was done with the chat.
pub(crate) fn with_receipt(
    mut response: Response<Reply>,
    receipt: Option<&Told>,
) -> Response<Reply> {
    if let Some(value) = receipt.and_then(|told| HeaderValue::from_str(&told.line).ok()) {
        response.headers_mut().insert(RECEIPT, value);
    }
    response
}

pub(crate) fn with_number(
    mut response: Response<Reply>,
    name: HeaderName,
    number: u32,
) -> Response<Reply> {
    response.headers_mut().insert(name, HeaderValue::from(number));
    response
}

/// The same response with another status.
pub(crate) fn with_status(mut response: Response<Reply>, status: StatusCode) -> Response<Reply> {
    *response.status_mut() = status;
    response
}

/// A refusal in the client's dialect.
pub(crate) fn problem(problem: &Problem, dialect: Dialect) -> Response<Reply> {
    let response = json_bytes(problem.body(dialect));
    let mut response = with_status(response, problem.status(dialect));
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = problem.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
