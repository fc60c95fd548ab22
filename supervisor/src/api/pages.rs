//! The status page and what it is made of, compiled in.
//!
//! The page may load only what this server serves, run no script of anyone
//! else's, and be shown inside no other page.

use hyper::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response};

use crate::api::reply::{self, Reply};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// `GET /`: the page for a browser, and for everyone else the sentence by which
/// Ollama's clients know that somebody is there.
pub(crate) fn front(headers: &HeaderMap) -> Response<Reply> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        asset("text/html; charset=utf-8", include_str!("../../assets/index.html"))
    } else {
        reply::bytes("text/plain; charset=utf-8", "Ollama is running")
    }
}

/// `GET /assets/page.css`.
pub(crate) fn style() -> Response<Reply> {
    asset("text/css; charset=utf-8", include_str!("../../assets/page.css"))
}

/// `GET /assets/page.js`.
pub(crate) fn script() -> Response<Reply> {
    asset("text/javascript; charset=utf-8", include_str!("../../assets/page.js"))
}

/// `GET /assets/build.js`.
pub(crate) fn build_script() -> Response<Reply> {
    asset("text/javascript; charset=utf-8", include_str!("../../assets/build.js"))
}

/// `GET /assets/code.js`.
pub(crate) fn code_script() -> Response<Reply> {
    asset("text/javascript; charset=utf-8", include_str!("../../assets/code.js"))
}

/// `GET /assets/claim.js`.
pub(crate) fn claim_script() -> Response<Reply> {
    asset("text/javascript; charset=utf-8", include_str!("../../assets/claim.js"))
}

/// `GET /assets/chats.js`.
pub(crate) fn chats_script() -> Response<Reply> {
    asset("text/javascript; charset=utf-8", include_str!("../../assets/chats.js"))
}

fn asset(content_type: &'static str, text: &'static str) -> Response<Reply> {
    let mut response = reply::bytes(content_type, text);
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // A new version of the program is a new page.
        (hyper::header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(hyper::header::VARY, HeaderValue::from_static("accept"));
    response
}
