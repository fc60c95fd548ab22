//! The bounds of a body, seen from a client's socket.

use std::convert::Infallible;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::api::error::Dialect;
use crate::api::reply::{self, Reply};

fn settings() -> Settings {
    Settings { max_body_bytes: 100_000, ..Settings::default() }
}

/// A connection on which every body is answered with its length.
fn connect(settings: Settings, budget: Budget) -> DuplexStream {
    let (client, server) = duplex(1024);
    let service = service_fn(move |request: Request<Incoming>| {
        let (settings, budget) = (settings.clone(), budget.clone());
        async move { Ok::<_, Infallible>(length_of(request, &settings, &budget).await) }
    });
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));
    client
}

async fn length_of(
    request: Request<Incoming>,
    settings: &Settings,
    budget: &Budget,
) -> Response<Reply> {
    let (head, incoming) = request.into_parts();
    match read(&head.headers, incoming, settings, budget).await {
        Ok(body) => reply::bytes("text/plain", body.bytes.len().to_string()),
        Err(problem) => reply::problem(&problem, Dialect::OpenAi),
    }
}

/// Sends a head and some body, and reads what the server says until it has
/// nothing more to say.
async fn post(mut client: DuplexStream, headers: &str, body: &[u8]) -> String {
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = client.write_all(body).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn post_sized(settings: Settings, body: &[u8]) -> String {
    let headers = format!("content-length: {}\r\n", body.len());
    let budget = Budget::new(settings.max_bodies_bytes);
    post(connect(settings, budget), &headers, body).await
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_read_whole() {
    for length in [0, 1, 99_999, 100_000] {
        let answer = post_sized(settings(), &vec![b'x'; length]).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{length}")), "{answer}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_although_it_is_still_coming() {
    let body = vec![b'x'; 1_000_000];
    let answer = post_sized(settings(), &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("body_too_large"));
}

#[tokio::test]
async fn a_body_of_unknown_length_has_the_same_limit() {
    let mut body = Vec::new();
    for _ in 0..15 {
        body.extend_from_slice(b"2710\r\n");
        body.extend_from_slice(&[b'x'; 0x2710]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let client = connect(settings(), Budget::new(1_000_000));
    let answer = post(client, "transfer-encoding: chunked\r\n", &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_for_permission_is_refused_before_it_sends() {
    let client = connect(settings(), Budget::new(1_000_000));
    let headers = "content-length: 1000000\r\nexpect: 100-continue\r\n";
    let answer = post(client, headers, b"").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_given_up() {
    let answer = post(connect(settings(), Budget::new(1_000_000)), "content-length: 9\r\n", b"x");
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let client = connect(settings(), Budget::new(1_000_000));
    let headers = "content-encoding: zstd\r\ncontent-length: 3\r\n";
    let answer = post(client, headers, b"abc").await;
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
}

#[tokio::test]
async fn all_bodies_together_have_a_limit_and_give_their_share_back() {
    let budget = Budget::new(2 * UNIT);
    let body = vec![b'x'; 2 * UNIT];
    let headers = format!("content-length: {}\r\n", body.len());
    let held = take(&budget, 1).unwrap();
    let answer = post(connect(settings(), budget.clone()), &headers, &body).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    drop(held);
    for _ in 0..3 {
        let answer = post(connect(settings(), budget.clone()), &headers, &body).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
