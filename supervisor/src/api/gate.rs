//! Who is let in, where API keys are asked for.
//!
//! ```text
//!  headers ──► Gate::ask ──► Asked ──► may_have(path) ──► the route, or 401
//!                 └ the files of keys and of the claim, read again when they are others
//! ```
//!
//! Without a file of keys everybody is let in, and a key only tells clients apart; but of
//! a machine that waits to be claimed only those who ask from the machine itself.
//! Where a file cannot be read nobody is. What strangers may have all the same
//! stands in [`paths::is_open`].

use std::error::Error;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{HeaderMap, Method, StatusCode};
use serde::Serialize;

use crate::api::error::Problem;
use crate::api::{identity, paths};
use crate::keys::claim::{self, Claim};
use crate::keys::{self, Chats, Keys, KeysError};
use crate::request::Client;

/// Knows which keys are good now.
#[derive(Debug)]
pub(crate) struct Gate {
    /// `None`: nobody is ever asked.
    state_dir: Option<PathBuf>,
    last: Mutex<Option<([Stamp; 2], Known)>>,
}

/// By what a file that was replaced is told from the one before; `None` without one.
type Stamp = Result<Option<(u64, i64, i64, u64)>, io::ErrorKind>;

/// What is known of the keys.
#[derive(Debug, Clone)]
enum Known {
    NobodyIsAsked,
    /// It waits for whoever has the token.
    Unclaimed,
    These(Arc<Keys>),
    /// They cannot be read.
    Unknown,
}

/// Who is let in, as the status says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Who asks from the machine itself, until somebody claims it.
    Unclaimed,
    /// Who has a key.
    Keys,
    /// Nobody, since the files cannot be read.
    Closed,
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
    Unclaimed,
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
            // Whoever is on the machine could read its console, too.
            Known::Unclaimed if identity::is_local(headers, peer) => asked(unnamed(), None),
            Known::Unclaimed => asked(address(), Some(Refused::Unclaimed)),
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

    /// Who is let in, as the status says it.
    pub(crate) fn access(&self) -> Access {
        match self.known() {
            Known::NobodyIsAsked => Access::Open,
            Known::Unclaimed => Access::Unclaimed,
            Known::These(_) => Access::Keys,
            Known::Unknown => Access::Closed,
        }
    }

    /// Where the files are.
    pub(crate) fn state_dir(&self) -> Option<&Path> {
        self.state_dir.as_deref()
    }

    /// One look at the files' entries for each request, so that a key that was removed
    /// opens nothing from then on.
    fn known(&self) -> Known {
        let Some(state_dir) = &self.state_dir else { return Known::NobodyIsAsked };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [keys::FILE, claim::FILE].map(|name| stamp(&state_dir.join(name)));
        match &*last {
            Some((of, known)) if *of == stamps => known.clone(),
            _ => {
                let known = look(state_dir).unwrap_or_else(|error| {
                    let cause = error.source().map(tracing::field::display);
                    tracing::error!(%error, cause, "API keys cannot be read; nobody is let in");
                    Known::Unknown
                });
                *last = Some((stamps, known.clone()));
                known
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    match fs::symlink_metadata(path) {
        Ok(it) => Ok(Some((it.ino(), it.mtime(), it.mtime_nsec(), it.size()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.kind()),
    }
}

fn look(state_dir: &Path) -> Result<Known, KeysError> {
    if let Some(keys) = keys::read(state_dir)? {
        tracing::info!(keys = keys.names().len(), "API keys are asked for");
        return Ok(Known::These(Arc::new(keys)));
    }
    Ok(match claim::read(state_dir)? {
        Some(Claim::Waiting(_)) => {
            tracing::info!("nobody has claimed this machine; the network is not let in");
            Known::Unclaimed
        }
        Some(Claim::Over(_)) | None => Known::NobodyIsAsked,
    })
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
        let mut code = "invalid_api_key";
        let why = match self.refused {
            None => return Ok(()),
            Some(Refused::Unclaimed) => {
                code = "unclaimed";
                "nobody has claimed this server yet; open its status page and enter the token \
                 that its console shows"
            }
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
            code: Some(code),
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
        let _ = keys::removed::remove(place.path(), &alice).unwrap();
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
    fn until_somebody_claims_it_only_the_machine_itself_is_let_in() {
        let place = tempfile::tempdir().unwrap();
        let gate = Gate::new(Some(place.path().to_owned()));
        assert_eq!(gate.access(), Access::Open);
        let token = claim::offer(place.path()).unwrap().unwrap();
        assert_eq!(gate.access(), Access::Unclaimed);
        assert_eq!((status(&gate, None), status(&gate, Some("any"))), (401, 401));
        assert!(ask(&gate, None).may_have(&Method::GET, "/api/status").is_ok());
        assert!(ask(&gate, None).may_have(&Method::POST, paths::CLAIM).is_ok());
        let local = |headers| gate.ask(&headers, "127.0.0.1".parse().unwrap()).is_stranger();
        assert!(!local(HeaderMap::new()));
        let proxied = HeaderValue::from_static("10.0.0.7");
        assert!(local([(hyper::header::FORWARDED, proxied)].into_iter().collect()));
        let key = claim::take(place.path(), &token, KeyName::new("admin").unwrap()).unwrap();
        assert_eq!(gate.access(), Access::Keys);
        assert_eq!((status(&gate, None), status(&gate, Some(&key))), (401, 200));
        fs::write(place.path().join(claim::FILE), "").unwrap();
        fs::remove_file(place.path().join(keys::FILE)).unwrap();
        assert_eq!((gate.access(), status(&gate, None)), (Access::Closed, 503));
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
