//! `POST /api/claim`: whoever sends the token that a machine's console shows gets its first
//! key. What is right is [`crate::keys::claim`]'s to say; here is how often somebody may try.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::{Response, StatusCode};
use serde::Deserialize;
use tracing::{info, warn};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::gate::Gate;
use crate::api::keys;
use crate::api::reply::Reply;
use crate::api::wire::json::parse;
use crate::keys::KeysError;
use crate::keys::claim::{self, Token};

/// Tries that one address has at once, and until it has one more.
const OF_ONE: Rate = Rate { at_once: 5, every: Duration::from_secs(10) };
/// The same of all addresses. It also bounds how many are remembered.
const OF_ALL: Rate = Rate { at_once: 50, every: Duration::from_secs(1) };

/// Which name the first key has.
const NAME: &str = "admin";

#[derive(Deserialize)]
struct Sent {
    token: String,
    name: Option<String>,
}

/// `POST /api/claim`.
///
/// # Errors
/// 409 where nobody is waited for, 403 for a wrong token, 429 after too many.
pub(crate) async fn claim(
    gate: &Gate,
    guesses: &Guesses,
    peer: IpAddr,
    body: Body,
) -> Result<Response<Reply>, Problem> {
    let Sent { token, name } = parse(&body.bytes)?;
    let name = keys::key_name(name.as_deref().unwrap_or(NAME))?;
    let Some(state_dir) = gate.state_dir().map(ToOwned::to_owned) else {
        return Err(problem(&KeysError::NotWaiting));
    };
    guesses.one_more(peer.to_canonical(), Instant::now()).map_err(too_many)?;
    let token = Token::parse(&token).ok_or_else(|| problem(&KeysError::WrongToken))?;
    let named = name.clone();
    // It waits for the disk.
    let taking = tokio::task::spawn_blocking(move || claim::take(&state_dir, &token, named));
    let taken = taking.await.map_err(|_| Problem::vanished())?;
    let key = taken.map_err(|error| {
        warn!(%error, "a claim was refused");
        problem(&error)
    })?;
    info!(key = %name, "this machine is claimed");
    Ok(keys::shown_once(&name, &key))
}

fn problem(error: &KeysError) -> Problem {
    let (status, kind) = match error {
        KeysError::NotWaiting => (StatusCode::CONFLICT, "invalid_request_error"),
        KeysError::WrongToken => (StatusCode::FORBIDDEN, "permission_error"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
    };
    Problem::new(status, kind, error.to_string())
}

fn too_many(wait: Duration) -> Problem {
    let message = format!("too many tokens were tried; try again in {} s", wait.as_secs() + 1);
    let status = StatusCode::TOO_MANY_REQUESTS;
    Problem { retry_after: Some(wait), ..Problem::new(status, "rate_limit_error", message) }
}

/// Who has tried a token lately.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<Tries>);

#[derive(Debug, Default)]
struct Tries {
    all: Bucket,
    of: HashMap<IpAddr, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    at_once: u32,
    every: Duration,
}

/// When all that was taken is there again; `None` if it is.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket(Option<Instant>);

impl Bucket {
    /// With one taken.
    ///
    /// # Errors
    /// It is empty, for so long.
    fn less_one(self, rate: Rate, now: Instant) -> Result<Self, Duration> {
        let full_at = self.0.map_or(now, |at| at.max(now));
        let most = rate.every * (rate.at_once - 1);
        match (full_at - now).checked_sub(most) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(Self(Some(full_at + rate.every))),
        }
    }

    fn is_full(self, now: Instant) -> bool {
        self.0.is_none_or(|at| at <= now)
    }
}

impl Guesses {
    /// Counts a try of this address.
    ///
    /// # Errors
    /// It has had too many, or all have; how long to wait.
    fn one_more(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has had too many takes nothing of what the others have.
        let one = tries.of.get(&peer).copied().unwrap_or_default().less_one(OF_ONE, now)?;
        tries.all = tries.all.less_one(OF_ALL, now)?;
        tries.of.retain(|_, bucket| !bucket.is_full(now));
        tries.of.insert(peer, one);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(guesses: &Guesses, last: u8, count: usize, now: Instant) -> usize {
        let peer = IpAddr::from([10, 0, 0, last]);
        (0..count).filter(|_| guesses.one_more(peer, now).is_ok()).count()
    }

    #[test]
    fn an_address_has_some_tries_and_then_one_now_and_then() {
        let (guesses, start) = (Guesses::default(), Instant::now());
        assert_eq!(tries(&guesses, 1, 20, start), 5);
        assert_eq!(tries(&guesses, 2, 20, start), 5, "others have their own");
        let wait = guesses.one_more([10, 0, 0, 1].into(), start).unwrap_err();
        assert_eq!(wait, OF_ONE.every);
        assert_eq!(tries(&guesses, 1, 20, start + OF_ONE.every), 1);
        assert_eq!(tries(&guesses, 1, 20, start + OF_ONE.every * 3), 2);
        assert_eq!(tries(&guesses, 1, 20, start + OF_ONE.every * 60), 5);
    }

    #[test]
    fn all_addresses_together_have_a_bound_and_so_has_what_is_remembered() {
        let (guesses, start) = (Guesses::default(), Instant::now());
        let mut good = 0;
        for second in 0..600 {
            let now = start + OF_ALL.every * second;
            good += (0..=255).map(|last| tries(&guesses, last, 1, now)).sum::<usize>();
            assert!(guesses.0.lock().unwrap().of.len() <= 110);
        }
        assert!((600..=650).contains(&good), "{good}");
    }
}
