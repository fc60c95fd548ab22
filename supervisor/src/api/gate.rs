//! Who is let in, where API keys are asked for.
//!
//! ```text
//!  headers ──► Gate::ask ──► Asked ──► may_have(path) ──► the route, or 401
//!                 └ the file of keys, read again when it is another one
//! ```
//!
//! Without a file of keys everybody is let in, and a key only tells clients apart.
//! Where the file cannot be read nobody is. What strangers may have all the same
//! stands in [`paths::is_open`].

use std::error::Error;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{HeaderMap, Method, StatusCode};

use crate::api::error::Problem;
use crate::api::{identity, paths};
use crate::keys::{self, Chats, Keys};
use crate::request::Client;

/// Knows which keys are good now.
#[derive(Debug)]
pub(crate) struct Gate {
    /// `None`: nobody is ever asked.
    state_dir: Option<PathBuf>,
    last: Mutex<Option<(Result<Stamp, io::ErrorKind>, Known)>>,
}

/// By what a file that was replaced is told from the one before; `None` without one.
type Stamp = Option<(u64, i64, i64, u64)>;

/// What is known of the keys.
#[derive(Debug, Clone)]
enum Known {
    NobodyIsAsked,
    These(Arc<Keys>),
    /// They cannot be read.
    Unknown,
}

/// Who asks, and whether they are known.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) client: Client,
    /// What the key's chats have without asking for it.
    pub(crate) chats: Chats,
    refused: Option<Refused>,
}

#[derive(Debug, Clone, Copy)]
enum Refused {
    NoKey,
    WrongKey,
    KeysUnknown,
}

impl Gate {
    pub(crate) fn new(state_dir: Option<PathBuf>) -> Self {
        Self { state_dir, last: Mutex::new(None) }
    }

    /// Whose request this is.
    pub(crate) fn ask(&self, headers: &HeaderMap, peer: IpAddr) -> Asked {
        let unnamed = || identity::client(headers, peer);
        // A key that was guessed is nobody's name.
        let address = || Client::Address(peer.to_canonical());
        let asked = |client, refused| Asked { client, chats: Chats::default(), refused };
        match self.known() {
            Known::NobodyIsAsked => asked(unnamed(), None),
            Known::Unknown => asked(address(), Some(Refused::KeysUnknown)),
            Known::These(keys) => match identity::named(headers, &keys) {
                Some(client) => {
                    let chats = match &client {
                        Client::Named { name, .. } => keys.chats(name),
                        Client::Key(_) | Client::Address(_) => Chats::default(),
                    };
                    Asked { chats, ..asked(client, None) }
                }
                None => {
                    let has_key = matches!(unnamed(), Client::Key(_));
                    let refused = if has_key { Refused::WrongKey } else { Refused::NoKey };
                    asked(address(), Some(refused))
                }
            },
        }
    }

    /// One look at the file's entry for each request, so that a key that was removed
    /// opens nothing from then on.
    fn known(&self) -> Known {
        let Some(state_dir) = &self.state_dir else { return Known::NobodyIsAsked };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&state_dir.join(keys::FILE)).map_err(|error| error.kind());
        match &*last {
            Some((of, known)) if *of == stamp => known.clone(),
            _ => {
                let known = look(state_dir);
                *last = Some((stamp, known.clone()));
                known
            }
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    match fs::symlink_metadata(path) {
        Ok(it) => Ok(Some((it.ino(), it.mtime(), it.mtime_nsec(), it.size()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn look(state_dir: &Path) -> Known {
    match keys::read(state_dir) {
        Ok(None) => Known::NobodyIsAsked,
        Ok(Some(keys)) => {
            tracing::info!(keys = keys.names().len(), "API keys are asked for");
            Known::These(Arc::new(keys))
        }
        Err(error) => {
            let cause = error.source().map(tracing::field::display);
            tracing::error!(%error, cause, "API keys cannot be read; nobody is let in");
            Known::Unknown
        }
    }
}

impl Asked {
    /// Somebody without a good key, where one is asked for.
    pub(crate) fn is_stranger(&self) -> bool {
        self.refused.is_some()
    }

    /// # Errors
    /// 401, or 503 where it is not known which keys are good.
    pub(crate) fn may_have(&self, method: &Method, path: &str) -> Result<(), Problem> {
        // Browsers ask without a key whether they may ask with one.
        if *method == Method::OPTIONS || paths::is_open(path) {
            return Ok(());
        }
        let why = match self.refused {
            None => return Ok(()),
            Some(Refused::KeysUnknown) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let why = "the server cannot read which API keys are good; see its log";
                return Err(Problem::new(status, "server_error", why));
            }
            Some(Refused::NoKey) => {
                "this server asks for an API key; send one as `Authorization: Bearer KEY`"
            }
            Some(Refused::WrongKey) => {
                "this API key is not known here; the server's operator makes one with \
                 `stoker key add NAME`"
            }
        };
        Err(Problem {
            code: Some("invalid_api_key"),
            ..Problem::new(StatusCode::UNAUTHORIZED, "authentication_error", why)
        })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{AUTHORIZATION, HeaderValue};

    use super::*;
    use crate::keys::{Hash, KeyName};

    fn ask(gate: &Gate, key: Option<&str>) -> Asked {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
            headers.insert(AUTHORIZATION, value);
        }
        gate.ask(&headers, "10.0.0.7".parse().unwrap())
    }

    fn status(gate: &Gate, key: Option<&str>) -> u16 {
        let may = ask(gate, key).may_have(&Method::POST, "/v1/chat/completions");
        may.map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    #[test]
    fn a_key_is_good_from_when_it_is_added_until_it_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let gate = Gate::new(Some(place.path().to_owned()));
        let alice = KeyName::new("alice").unwrap();
        let key = keys::make().unwrap();
        assert_eq!((status(&gate, None), status(&gate, Some("any"))), (200, 200));
        let put = |keys: &mut Keys| keys.put(alice.clone(), Hash::of(&key));
        keys::change(place.path(), put).unwrap();
        assert_eq!(
            [None, Some("any"), Some("undefined"), Some(&key)].map(|key| status(&gate, key)),
            [401, 401, 401, 200]
        );
        keys::change(place.path(), |keys| Ok(keys.remove(&alice))).unwrap();
        assert_eq!(status(&gate, Some(&key)), 401);
        keys::forget_all(place.path()).unwrap();
        assert_eq!(status(&gate, None), 200);
    }

    #[test]
    fn the_client_is_the_keys_name_and_a_wrong_key_is_nobody() {
        let place = tempfile::tempdir().unwrap();
        let gate = Gate::new(Some(place.path().to_owned()));
        let key = keys::make().unwrap();
        let unnamed = ask(&gate, Some(&key)).client;
        let put = |keys: &mut Keys| keys.put(KeyName::new("alice").unwrap(), Hash::of(&key));
        keys::change(place.path(), put).unwrap();
        let named = ask(&gate, Some(&key)).client;
        assert_eq!(named.to_string(), "alice");
        // What was kept for the key before it had a name is still its own.
        assert_eq!(identity::owner(&named), identity::owner(&unnamed));
        for wrong in [None, Some("guessed")] {
            assert_eq!(ask(&gate, wrong).client.to_string(), "10.0.0.7");
        }
    }

    #[test]
    fn a_file_that_is_broken_lets_nobody_in() {
        let place = tempfile::tempdir().unwrap();
        let gate = Gate::new(Some(place.path().to_owned()));
        fs::write(place.path().join(keys::FILE), "alice = 'secret'\n").unwrap();
        assert_eq!((status(&gate, None), status(&gate, Some("any"))), (503, 503));
        assert!(ask(&gate, None).may_have(&Method::GET, "/health").is_ok());
        fs::remove_file(place.path().join(keys::FILE)).unwrap();
        assert_eq!(status(&gate, None), 200);
    }
}
