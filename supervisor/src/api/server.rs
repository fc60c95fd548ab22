//! Accepts connections and serves HTTP/1.1 on them, each within its bounds.
//!
//! | bound | what happens at it |
//! |---|---|
//! | connections | a short 503, then closed |
//! | time for a request's head | closed |
//! | time for a body | 408 |
//! | idle between requests | closed |
//! | a client that takes nothing of its answer | closed, its answer cancelled |
//!
//! Shutting down ends idle connections at once and lets running answers finish. Who has
//! connected and not asked yet has a moment to do so.

mod connection;

mod activity;
mod alarm;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::api::Settings;
use crate::api::reply::Reply;
use connection::Connection;

/// Connections over the bound that are told so before they are closed; further
/// ones are only closed.
const MAX_TURNED_AWAY: usize = 64;
const TURN_AWAY_TIME: Duration = Duration::from_millis(500);
const TURN_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    retry-after: 5\r\n\
    connection: close\r\n\
    content-length: 105\r\n\r\n\
    {\"error\":{\"message\":\"too many connections\",\"type\":\"unavailable_error\",\"param\":null,\"code\":\"connections\"}}";

/// Pause after the system could not give us a connection, which mostly means
/// that file descriptors are short and some must be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then until every connection has ended or
/// `settings.drain_timeout` is over.
pub(crate) async fn run<S, F>(
    listener: TcpListener,
    settings: Arc<Settings>,
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let (stopping, stop) = watch::channel(false);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let settings = Arc::clone(&settings);
            let connection = Connection { peer, settings, stop: stop.clone() };
            let service = service.clone();
            tokio::spawn(async move {
                connection.serve(stream, service).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
            tokio::spawn(async move {
                // Nothing hinges on whether the client reads it.
                let _ = timeout(TURN_AWAY_TIME, turn_away(stream)).await;
                drop(place);
            });
        }
    }
    drop(listener);
    stopping.send_replace(true);
    drained(&places, &settings).await;
}

async fn drained(places: &Semaphore, settings: &Settings) {
    let all = u32::try_from(settings.max_connections).unwrap_or(u32::MAX);
    let open = settings.max_connections - places.available_permits();
    info!(open, "no new connections");
    if timeout(settings.drain_timeout, places.acquire_many(all)).await.is_err() {
        let open = settings.max_connections - places.available_permits();
        warn!(open, "connections cut off");
    }
}

/// Says why, and waits until the client has read it: closing with unread bytes
/// in our buffer would take the words back.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(TURN_AWAY).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
#[path = "server/tests.rs"]
mod tests;
