//! The bounds of a connection, seen from a client's socket.

use std::convert::Infallible;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::api::reply;

/// Short enough for a test, long enough for a busy machine.
const SHORT: Duration = Duration::from_millis(300);

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        header_timeout: LONG,
        idle_timeout: LONG,
        stall_timeout: LONG,
        drain_timeout: LONG,
        ..Settings::default()
    }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    gone: tokio::sync::mpsc::UnboundedReceiver<()>,
}

/// Answers `GET /` at once and `GET /endless` without end.
async fn server(settings: Settings) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let (leave, gone) = tokio::sync::mpsc::unbounded_channel();
    let service = move |_, request: Request<Incoming>| {
        let leave = leave.clone();
        async move {
            match request.uri().path() {
                "/endless" => reply::stream("text/plain", Endless(leave)),
                _ => reply::bytes("text/plain", "hello"),
            }
        }
    };
    let stopped = async { stopped.await.unwrap_or_default() };
    let task = tokio::spawn(run(listener, Arc::new(settings), service, stopped));
    Server { address, stop, task, gone }
}

/// More than any socket buffers, and a word when it is dropped.
struct Endless(tokio::sync::mpsc::UnboundedSender<()>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const PIECE: &[u8] = &[b'x'; 64 * 1024];
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Reads one whole answer to `HELLO`.
async fn read_hello(client: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("hello") {
        let mut bytes = [0; 1024];
        let count = client.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    text
}

/// Waits until the server has closed the connection; says what came before.
async fn read_to_close(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let closed = timeout(LONG, client.read_to_end(&mut bytes)).await;
    // A reset is a close, too.
    let _ = closed.expect("the server closes the connection");
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let server = server(settings()).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.write_all(HELLO).await.unwrap();
        assert!(read_hello(&mut client).await.starts_with("HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn a_client_that_never_sends_a_head_is_closed() {
    for sent in ["", "GET / HTTP/1.1\r\nhost: loc"] {
        let server = server(Settings { header_timeout: SHORT, ..settings() }).await;
        let mut client = server.connect().await;
        let start = Instant::now();
        client.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(read_to_close(&mut client).await, "", "{sent:?}");
        assert!(start.elapsed() >= SHORT);
    }
}

#[tokio::test]
async fn a_head_that_comes_in_drops_is_closed_all_the_same() {
    let server = server(Settings { header_timeout: SHORT, ..settings() }).await;
    let (mut read, mut write) = server.connect().await.into_split();
    let dripping = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            sleep(SHORT / 10).await;
        }
    });
    let mut bytes = Vec::new();
    let closed = timeout(LONG, read.read_to_end(&mut bytes)).await;
    assert!(closed.is_ok(), "a byte now and then does not keep a connection");
    dripping.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let server = server(Settings { idle_timeout: SHORT, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(HELLO).await.unwrap();
    read_hello(&mut client).await;
    let start = Instant::now();
    assert_eq!(read_to_close(&mut client).await, "");
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_connection_that_idled_for_a_while_serves_again() {
    let server = server(settings()).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.write_all(HELLO).await.unwrap();
        assert!(read_hello(&mut client).await.starts_with("HTTP/1.1 200 OK"));
        // hyper gives an idle connection back after a second.
        sleep(Duration::from_millis(1200)).await;
    }
    // One and a half requests in one piece, and the rest later.
    let (begin, end) = HELLO.split_at(20);
    client.write_all(&[HELLO, begin].concat()).await.unwrap();
    read_hello(&mut client).await;
    sleep(Duration::from_millis(1200)).await;
    client.write_all(end).await.unwrap();
    read_hello(&mut client).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped() {
    let mut server = server(Settings { stall_timeout: SHORT, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    timeout(LONG, server.gone.recv()).await.expect("the body is dropped").unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_body() {
    let mut server = server(settings()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    client.read_exact(&mut [0; 1024]).await.unwrap();
    drop(client);
    timeout(LONG, server.gone.recv()).await.expect("the body is dropped").unwrap();
}

#[tokio::test]
async fn a_connection_over_the_bound_is_told_so() {
    let server = server(Settings { max_connections: 2, ..settings() }).await;
    let mut clients = [server.connect().await, server.connect().await];
    for client in &mut clients {
        client.write_all(HELLO).await.unwrap();
        read_hello(client).await;
    }
    let mut third = server.connect().await;
    third.write_all(HELLO).await.unwrap();
    let told = read_to_close(&mut third).await;
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 5"));
    assert!(head.contains(&format!("content-length: {}", body.len())), "{told}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "connections");
    // A place that is free again is given again.
    drop(clients);
    let asked = async {
        loop {
            let mut client = server.connect().await;
            if client.write_all(HELLO).await.is_ok() {
                let mut bytes = [0; 12];
                if client.read_exact(&mut bytes).await.is_ok() && &bytes == b"HTTP/1.1 200" {
                    break;
                }
            }
        }
    };
    timeout(LONG, asked).await.unwrap();
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_lets_answers_finish() {
    let mut server = server(settings()).await;
    let mut idle = server.connect().await;
    let mut used = server.connect().await;
    used.write_all(HELLO).await.unwrap();
    read_hello(&mut used).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    busy.read_exact(&mut [0; 1024]).await.unwrap();

    server.stop.send(()).unwrap();
    assert_eq!(read_to_close(&mut idle).await, "");
    assert_eq!(read_to_close(&mut used).await, "");
    assert!(TcpStream::connect(server.address).await.is_err(), "no new connections");
    busy.read_exact(&mut vec![0; 1024 * 1024]).await.unwrap();
    assert!(!server.task.is_finished());
    drop(busy);
    timeout(LONG, server.task).await.expect("the last connection ends it").unwrap();
    server.gone.recv().await.unwrap();
}

#[tokio::test]
async fn who_connected_before_the_stop_is_answered_though_its_head_comes_later() {
    let server = server(settings()).await;
    let mut early = server.connect().await;
    let mut used = server.connect().await;
    used.write_all(HELLO).await.unwrap();
    read_hello(&mut used).await;
    // They are accepted in their order, so both are.
    server.stop.send(()).unwrap();
    assert_eq!(read_to_close(&mut used).await, "", "who was answered is not waited for");
    // As after a packet that was lost.
    sleep(SHORT).await;
    early.write_all(HELLO).await.unwrap();
    read_hello(&mut early).await;
    timeout(LONG, server.task).await.expect("it is the last").unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_forever() {
    let server = server(Settings { drain_timeout: SHORT, ..settings() }).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    busy.read_exact(&mut [0; 1024]).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(LONG, server.task).await.expect("it gives up").unwrap();
}
