//! Whose request this is: an API key's digest, or the peer's address. And whether
//! it says of itself that it can wait.
//!
//! Keys only tell clients apart here; what they open, [`super::gate`] knows.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::api::error::Problem;
use crate::hexadecimal::Hexadecimal;
use crate::keys::{Hash, Keys};
use crate::request::{Client, KeyDigest};

/// How a request says that it is not urgent.
const PRIORITY: &str = "x-stoker-priority";

/// How a client names its conversation.
const CONVERSATION: &str = "x-conversation-id";
/// Characters of such a name.
const LONGEST_NAME: usize = 200;

/// What editors send when nobody entered a key. A whole team would share one
/// turn if these counted as keys.
const PLACEHOLDERS: [&str; 13] = [
    "undefined",
    "null",
    "none",
    "ollama",
    "empty",
    "dummy",
    "no-key",
    "no-key-required",
    "sk-no-key-required",
    "not-needed",
    "lm-studio",
    "api-key",
    "sk-xxx",
];

/// The client behind a request from `peer`.
pub(crate) fn client(headers: &HeaderMap, peer: IpAddr) -> Client {
    match presented(headers).next() {
        Some(key) => Client::Key(KeyDigest(Hash::of(key).beginning())),
        None => Client::Address(peer.to_canonical()),
    }
}

/// Whether the request gives way to all others: `X-Stoker-Priority: bulk`. None can
/// make itself more urgent than its route is.
///
/// # Errors
/// The header says something else.
pub(crate) fn is_bulk(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(PRIORITY).map(|value| value.to_str().unwrap_or_default().trim()) {
        None => Ok(false),
        Some(word) if word.eq_ignore_ascii_case("bulk") => Ok(true),
        Some(_) => Err(Problem::field("X-Stoker-Priority", "can only be `bulk`")),
    }
}

/// What a client calls its conversation, if it does.
///
/// # Errors
/// It is no plain text, or too long.
pub(crate) fn conversation(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(name) = headers.get(CONVERSATION) else { return Ok(None) };
    let name = name.to_str().ok().map(str::trim).filter(|name| name.len() <= LONGEST_NAME);
    match name {
        Some("") => Ok(None),
        Some(name) => Ok(Some(name.to_owned())),
        None => {
            let why = format!("must be plain text of at most {LONGEST_NAME} characters");
            Err(Problem::field("X-Conversation-Id", why))
        }
    }
}

/// Whether a request comes from this machine, and was not passed on by a proxy
/// on it.
pub(crate) fn is_local(headers: &HeaderMap, peer: IpAddr) -> bool {
    let passed_on = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    peer.to_canonical().is_loopback() && !passed_on.iter().any(|name| headers.contains_key(*name))
}

/// The client as it stands beside what is kept for it.
pub(crate) fn owner(client: &Client) -> String {
    match client {
        Client::Key(KeyDigest(digest)) | Client::Named { digest: KeyDigest(digest), .. } => {
            format!("key {}", Hexadecimal(digest))
        }
        Client::Address(address) => address.to_string(),
    }
}

/// The client by a key that has a name, if the request has one of these.
pub(crate) fn named(headers: &HeaderMap, keys: &Keys) -> Option<Client> {
    presented(headers).find_map(|key| {
        let hash = Hash::of(key);
        let name = keys.owner(&hash)?.clone();
        Some(Client::Named { name, digest: KeyDigest(hash.beginning()) })
    })
}

/// What was sent in the place of a key, whichever header it is in.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    [bearer, text("x-api-key"), text("api-key")]
        .into_iter()
        .flatten()
        .map(str::trim)
        .filter(|key| !key.is_empty() && !PLACEHOLDERS.iter().any(|p| key.eq_ignore_ascii_case(p)))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn of(headers: &[(&str, &str)]) -> Client {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect();
        client(&headers, "::ffff:10.0.0.7".parse().unwrap())
    }

    fn address() -> Client {
        Client::Address("10.0.0.7".parse().unwrap())
    }

    #[test]
    fn the_same_key_is_the_same_client_in_every_header() {
        let key = Client::Key(KeyDigest([0x0b, 0x05, 0xa1, 0x5e, 0x39, 0xa2, 0x6e, 0xbc]));
        let bearer = of(&[("authorization", "Bearer alice")]);
        assert!(matches!(bearer, Client::Key(_)));
        assert_ne!(bearer, key, "the digest is of the key, not a constant");
        assert_eq!(of(&[("authorization", "bearer  alice")]), bearer);
        assert_eq!(of(&[("x-api-key", "alice")]), bearer);
        assert_eq!(of(&[("api-key", "alice")]), bearer);
        assert_ne!(of(&[("api-key", "bob")]), bearer);
    }

    #[test]
    fn a_request_can_only_give_way() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(PRIORITY, HeaderValue::from_static(value));
            is_bulk(&headers).map_err(|problem| problem.param)
        };
        assert_eq!((of("bulk"), of(" Bulk ")), (Ok(true), Ok(true)));
        assert!(of("completion").is_err() && of("").is_err());
        assert!(!is_bulk(&HeaderMap::new()).unwrap());
    }

    #[test]
    fn no_key_and_placeholder_keys_count_by_address() {
        for headers in [
            &[][..],
            &[("authorization", "Bearer undefined")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic YTpi")],
            &[("x-api-key", "OLLAMA")],
        ] {
            assert_eq!(of(headers), address(), "{headers:?}");
        }
    }
}
