//! Whether the server on this machine is at work, asked over HTTP as anybody
//! could ask it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::error::Error;
use crate::interrupt::Interrupt;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between the two looks, in which nobody may have asked for anything.
const QUIET: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// Longest answer that is read, in bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What a server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Nothing, or there is no server.
    Idle,
    /// This, in words.
    Busy(String),
}

/// Looks twice whether the server at `url` has anything to do.
///
/// # Errors
/// [`Error::Usage`] if `url` is no address, [`Error::Interrupted`].
pub fn look(url: &str, interrupt: &Interrupt) -> Result<Work, Error> {
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let host = host.filter(|host| host.contains(':') && !host.contains(['/', '@', ' ']));
    let Some(host) = host else {
        return Err(Error::Usage(format!(
            "{url} is not an address such as http://127.0.0.1:11434"
        )));
    };
    let before = match ask(host) {
        Ok(status) => status,
        Err(said) => return Ok(said),
    };
    let until = Instant::now() + QUIET;
    while Instant::now() < until {
        interrupt.check()?;
        std::thread::sleep(LOOK);
    }
    Ok(ask(host).map_or_else(|said| said, |after| judge(&before, &after)))
}

/// A server whose words make no sense is not disturbed.
fn judge(before: &Value, after: &Value) -> Work {
    let count = |status: &Value, name: &str| status.pointer(name).and_then(Value::as_u64);
    let (running, waiting) = (count(after, "/queue/running"), count(after, "/queue/waiting"));
    let asked = |status: &Value| count(status, "/totals/requests");
    match (running, waiting) {
        (Some(0), Some(0)) if asked(before).is_some() && asked(before) == asked(after) => {
            Work::Idle
        }
        (Some(0), Some(0)) => Work::Busy("the server has just been asked something".into()),
        (Some(running), Some(waiting)) => {
            Work::Busy(format!("the server runs {running} requests, and {waiting} wait"))
        }
        _ => Work::Busy("the server does not say what it does".into()),
    }
}

/// The server's status, or what follows from there being none.
fn ask(host: &str) -> Result<Value, Work> {
    let busy = Work::Busy;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| busy(format!("the server cannot be asked: {error}")))?;
    runtime.block_on(async {
        let Ok(stream) = tokio::time::timeout(PATIENCE, TcpStream::connect(host)).await else {
            return Err(busy("the server does not answer".into()));
        };
        // Nobody serves, so nobody is disturbed.
        let stream = stream.map_err(|_| Work::Idle)?;
        match tokio::time::timeout(PATIENCE, status(stream, host)).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(what)) => Err(busy(what)),
            Err(_) => Err(busy("the server does not answer".into())),
        }
    })
}

async fn status(stream: TcpStream, host: &str) -> Result<Value, String> {
    let said = |error: hyper::Error| format!("the server cannot be asked: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    // It ends with the sender; what was wrong with it is told by the answer.
    tokio::spawn(connection);
    let request = Request::get("/api/status")
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(said)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the server answers with status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
    let body = body.map_err(|error| format!("the server cannot be heard: {error}"))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|_| "the server does not say what it does".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(running: u64, waiting: u64, requests: u64) -> Value {
        json!({"queue": {"running": running, "waiting": waiting}, "totals": {"requests": requests}})
    }

    #[test]
    fn a_server_is_idle_when_nobody_asks_or_waits() {
        assert_eq!(judge(&status(3, 0, 7), &status(0, 0, 7)), Work::Idle);
        for (before, after) in [
            (status(0, 0, 7), status(1, 0, 7)),
            (status(0, 0, 7), status(0, 1, 7)),
            (status(0, 0, 7), status(0, 0, 8)),
            (status(0, 0, 7), json!({})),
            (json!({}), status(0, 0, 7)),
        ] {
            assert!(matches!(judge(&before, &after), Work::Busy(_)), "{before} {after}");
        }
    }

    #[test]
    fn where_nobody_serves_nobody_is_disturbed() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let idle = look(&format!("http://{free}/"), &Interrupt::default()).unwrap();
        assert_eq!(idle, Work::Idle);
        for url in ["", "https://127.0.0.1:1", "http://", "http://a/b:1"] {
            assert!(matches!(look(url, &Interrupt::default()), Err(Error::Usage(_))), "{url}");
        }
    }
}
