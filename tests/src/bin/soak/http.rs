//! One request over one connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

/// Receive buffer of a client that reads slowly, so that the server notices.
const SLOW_BUFFER: u32 = 4096;
/// hyper's own buffer for the same client; the least that it takes.
const SLOW_READ: usize = 8192;
/// Longest wait for a small document.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: String,
    pub(crate) last_event_id: Option<&'a str>,
    /// The client will read slowly.
    pub(crate) slow: bool,
}

/// There is nobody to talk to, or he went away before he had heard it all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsent {
    #[error("connect to the server")]
    Connect(#[source] std::io::Error),
    #[error("send the request")]
    Send(#[source] hyper::Error),
}

/// Sends a request and reads the answer's head.
pub(crate) async fn send(
    server: SocketAddr,
    outgoing: Outgoing<'_>,
) -> Result<Response<Incoming>, Unsent> {
    let socket = TcpSocket::new_v4().map_err(Unsent::Connect)?;
    let mut builder = Builder::new();
    if outgoing.slow {
        socket.set_recv_buffer_size(SLOW_BUFFER).map_err(Unsent::Connect)?;
        builder.max_buf_size(SLOW_READ);
    }
    let stream = socket.connect(server).await.map_err(Unsent::Connect)?;
    stream.set_nodelay(true).map_err(Unsent::Connect)?;
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(Unsent::Send)?;
    // Its end is seen by the sender.
    tokio::spawn(connection);
    let mut request = Request::builder().method(outgoing.method).uri(outgoing.path);
    request = request.header("host", "localhost").header("content-type", "application/json");
    if let Some(id) = outgoing.last_event_id {
        request = request.header("last-event-id", id);
    }
    let body = Full::new(Bytes::from(outgoing.body));
    let request = request.body(body).expect("method, path and headers are valid");
    sender.send_request(request).await.map_err(Unsent::Send)
}

/// A small document.
pub(crate) async fn get(server: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let outgoing = Outgoing {
        method: Method::GET,
        path,
        body: String::new(),
        last_event_id: None,
        slow: false,
    };
    let exchange = async {
        let response = send(server, outgoing).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    tokio::time::timeout(DOCUMENT_LIMIT, exchange)
        .await
        .with_context(|| format!("wait {} s for {path}", DOCUMENT_LIMIT.as_secs()))?
        .with_context(|| format!("get {path}"))
}
