//! The life of one connection.
//!
//! ```text
//! Waiting ──(a whole head has come)──► Serving ──(closed)──► over
//!    ▲  └──(nothing, or too slowly)──► over        │
//!    └───────────(idle for a moment)───────────────┘
//! ```
//!
//! hyper keeps some 20 KiB for a connection from its first byte to its end.
//! Thousands of clients that only might ask something would fill a small
//! board, so hyper gets a connection when a request's head is there and gives
//! it back when no other one follows at once. Waiting costs about 1 KiB.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::activity::{Activity, Phase, Stretch};
use super::alarm::Alarm;
use super::socket::Socket;
use crate::api::Settings;
use crate::api::reply::Reply;

/// Longest head of a request, in bytes; hyper answers 431 beyond it.
const MAX_HEAD: usize = 32 * 1024;

/// Bytes of a head that are gathered before hyper gets them in any case.
const GATHERED: usize = 4 * 1024;

/// What is set aside at first for a head.
const FIRST_READ: usize = 512;

/// How long a head may take that was under way when we were told to stop: what a
/// client sent before it could know is still answered. Who has just connected is about
/// to send one, over a network that may lose it once, and would see an empty answer; who
/// was answered before may never.
const FIRST_HEAD: Duration = Duration::from_secs(2);
const LAST_HEAD: Duration = Duration::from_millis(100);

/// How long hyper keeps an idle connection: long enough for a client that
/// sends one request after another.
const KEPT: Duration = Duration::from_secs(1);

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) settings: Arc<Settings>,
    /// True once no further request is to be taken.
    pub(super) stop: watch::Receiver<bool>,
}

/// How a stretch of serving ended.
enum Served {
    /// Nobody will say anything more.
    Closed,
    Idle(TcpStream, Bytes),
}

impl Connection {
    /// Serves until either side is done with it.
    pub(super) async fn serve<S, F>(mut self, mut stream: TcpStream, service: S)
    where
        S: Fn(SocketAddr, Request<Incoming>) -> F + Clone,
        F: Future<Output = Response<Reply>>,
    {
        // Tokens are small and each is waited for.
        if let Err(error) = stream.set_nodelay(true) {
            return debug!(peer = %self.peer, %error, "connection lost");
        }
        let mut first = BytesMut::new();
        let mut patience = self.settings.header_timeout;
        let mut at_the_end = FIRST_HEAD;
        while self.wait(&mut stream, &mut first, patience, at_the_end).await {
            let serving = Box::pin(self.serve_some(stream, first.split().freeze(), &service));
            match serving.await {
                Served::Closed => return,
                Served::Idle(idle, left) => (stream, first) = (idle, left.into()),
            }
            patience = self.settings.idle_timeout.saturating_sub(KEPT);
            at_the_end = LAST_HEAD;
        }
    }

    /// Gathers a head in `first`, within `at_the_end` once no further one is to be taken.
    /// False if the client is gone, silent or too slow.
    async fn wait(
        &mut self,
        stream: &mut TcpStream,
        first: &mut BytesMut,
        patience: Duration,
        at_the_end: Duration,
    ) -> bool {
        let header_timeout = self.settings.header_timeout;
        let gathering = async {
            if first.is_empty() && !timeout(patience, is_there(stream)).await.unwrap_or(false) {
                return false;
            }
            timeout(header_timeout, gather(stream, first)).await.unwrap_or(false)
        };
        tokio::pin!(gathering);
        tokio::select! {
            gathered = &mut gathering => gathered,
            () = told_to_stop(&mut self.stop) => {
                timeout(at_the_end, gathering).await.unwrap_or(false)
            }
        }
    }

    /// Lets hyper serve requests until the connection idles.
    async fn serve_some<S, F>(&mut self, stream: TcpStream, first: Bytes, service: &S) -> Served
    where
        S: Fn(SocketAddr, Request<Incoming>) -> F,
        F: Future<Output = Response<Reply>>,
    {
        let peer = self.peer;
        let activity = Arc::new(Activity::default());
        let counted = Arc::clone(&activity);
        let service = service_fn(move |request| {
            let busy = counted.begin();
            let response = service(peer, request);
            async move { Ok::<_, Infallible>(response.await.map(|body| busy.until_sent(body))) }
        });
        let stall_timeout = self.settings.stall_timeout;
        let socket = Socket::new(first, stream, Arc::clone(&activity), stall_timeout);
        let mut serving = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(socket), service);
        let mut watch = Watch::new(activity, self.settings.header_timeout);
        let mut stopping = false;
        loop {
            let turn = poll_fn(|cx| match Pin::new(&mut serving).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Turn::Ended(ended)),
                Poll::Pending => watch.poll(cx).map(Turn::Waited),
            });
            let turn = tokio::select! {
                // First, so that hyper has seen the head that is there: told to stop before
                // that, it closes without an answer.
                biased;
                turn = turn => turn,
                () = told_to_stop(&mut self.stop), if !stopping => Turn::Stop,
            };
            match turn {
                Turn::Ended(Ok(())) | Turn::Waited(Phase::Head | Phase::Busy) => {
                    return Served::Closed;
                }
                Turn::Ended(Err(error)) => {
                    debug!(%peer, %error, "connection lost");
                    return Served::Closed;
                }
                Turn::Waited(Phase::Idle) => {
                    let parts = serving.into_parts();
                    return Served::Idle(parts.io.into_inner().into_stream(), parts.read_buf);
                }
                Turn::Stop => {
                    stopping = true;
                    Pin::new(&mut serving).graceful_shutdown();
                }
            }
        }
    }
}

enum Turn {
    Ended(hyper::Result<()>),
    /// The phase has lasted too long.
    Waited(Phase),
    Stop,
}

/// Watches how long a connection stays in a phase.
struct Watch {
    activity: Arc<Activity>,
    header_timeout: Duration,
    alarm: Alarm,
    /// The stretch that the alarm is set for.
    stretch: Option<Stretch>,
}

impl Watch {
    fn new(activity: Arc<Activity>, header_timeout: Duration) -> Self {
        Self { activity, header_timeout, alarm: Alarm::default(), stretch: None }
    }

    /// Ready when the present phase has lasted too long. Busy may last.
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Phase> {
        let stretch = self.activity.now();
        let allowed = match stretch.phase() {
            Phase::Idle => KEPT,
            Phase::Head => self.header_timeout,
            Phase::Busy => return Poll::Pending,
        };
        if self.stretch != Some(stretch) {
            self.stretch = Some(stretch);
            self.alarm.set(allowed);
        }
        ready!(self.alarm.poll(cx));
        Poll::Ready(stretch.phase())
    }
}

/// Waits for a first byte without taking it. False at the end of the stream.
async fn is_there(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]).await, Ok(1))
}

/// Reads into `first` until a head is in it, or enough that hyper may see to
/// it. False at the end of the stream.
async fn gather(stream: &mut TcpStream, first: &mut BytesMut) -> bool {
    while !is_head(first) && first.len() < GATHERED {
        first.reserve(FIRST_READ);
        if !matches!(stream.read_buf(first).await, Ok(1..)) {
            return false;
        }
    }
    true
}

/// Whether a head ends somewhere in `bytes`.
fn is_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the accept loop, so this only ends by its word.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for (bytes, ends) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\n\n", true),
            ("POST / HTTP/1.1\r\nhost: a\r\n\r\n{}", true),
            ("GET / HTTP/1.1\r\nhost: a\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_head(bytes.as_bytes()), ends, "{bytes:?}");
        }
    }
}
