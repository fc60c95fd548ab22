//! Clients that are slow, silent or many, and what they cost the others.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::engine::Engine;
use tests::patience::until;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

/// Bounds that a test can wait for.
const SHORT: &str = "[server]\nheader_timeout_s = 1\nbody_timeout_s = 1\nidle_timeout_s = 1\n";

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

fn assert_serves(appliance: &Appliance) {
    let reply = appliance.post(CHAT, &hello()).good();
    assert_eq!(reply["choices"][0]["message"]["content"], "hello");
}

/// Whether the server has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    match stream.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_given_up_and_holds_nobody_up() {
    let appliance = Setup::new(&Engine::echo()).config(SHORT).start();
    let mut slow = appliance.client().connect();
    let begun = Instant::now();
    let head = appliance.client().head("GET", "/api/status", &[("x", &"y".repeat(5000))], 0);
    let mut bytes = head.bytes();
    until("the slow client is given up", || {
        assert_serves(&appliance);
        let sent = slow.write(&[bytes.next().expect("the head is longer than the patience")]);
        (sent.is_err() || is_closed(&mut slow)).then_some(())
    });
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[test]
fn a_body_that_does_not_come_is_answered_with_408() {
    let appliance = Setup::new(&Engine::echo()).config(SHORT).start();
    let reply = appliance.client().send_part(CHAT, b"{\"messages\":", 1000).whole();
    let error = reply.refusal(408);
    assert!(error["message"].as_str().unwrap().contains("within 1 s"), "{error}");
    assert_serves(&appliance);
}

#[test]
fn connections_on_which_nothing_comes_are_closed() {
    let appliance = Setup::new(&Engine::echo()).config(SHORT).start();
    let mut silent: Vec<_> = (0..20).map(|_| appliance.client().connect()).collect();
    let mut used = appliance.client().connect();
    write!(used, "GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", appliance.address()).unwrap();
    assert!(used.read(&mut [0; 1024]).unwrap() > 0);
    silent.push(used);
    assert_serves(&appliance);
    for mut stream in silent {
        until("the connection is closed", || is_closed(&mut stream).then_some(()));
    }
}

#[test]
fn a_client_that_is_cut_off_while_it_sends_costs_nothing() {
    let appliance = Appliance::start(&Engine::echo());
    for length in [0, 10, 100] {
        let mut stream = appliance.client().connect();
        let head = appliance.client().head("POST", CHAT, &[], 1000);
        stream.write_all(&head.as_bytes()[..head.len().min(length * 2)]).unwrap();
        drop(stream);
    }
    assert_serves(&appliance);
    assert_eq!(appliance.status()["queue"]["running"], 0);
}

#[test]
fn a_client_over_the_bound_is_told_so() {
    let appliance = Setup::new(&Engine::echo()).config("[server]\nmax_connections = 4\n").start();
    let held: Vec<_> = (0..4).map(|_| appliance.client().connect()).collect();
    let refused = until("the bound is reached", || {
        let reply = appliance.get("/health");
        (reply.status == 503).then_some(reply)
    });
    assert!(refused.headers.number("retry-after").is_some());
    assert_eq!(refused.json()["error"]["code"], "connections", "{}", refused.text());
    drop(held);
    until("there is room again", || (appliance.get("/health").status == 200).then_some(()));
    assert_serves(&appliance);
}

#[test]
fn ten_thousand_connections_leave_the_others_their_answers() {
    const MANY: usize = 10_000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        hard >= MANY as u64 + 1000,
        "the hard limit of open files is {hard}; this test needs {}: ulimit -Hn",
        MANY + 1000
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let config = "[server]\nmax_connections = 12000\nheader_timeout_s = 300\n";
    let appliance = Setup::new(&Engine::echo()).config(config).start();
    let before = process::resident_bytes(appliance.pid());
    // Each address has its own range of ports.
    let held: Vec<_> = [2, 3, 4, 5]
        .into_iter()
        .cycle()
        .take(MANY)
        .map(|host| appliance.client().from_host(host).connect())
        .collect();
    for _ in 0..5 {
        let asked = Instant::now();
        assert_serves(&appliance);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
    let grown = process::resident_bytes(appliance.pid()).saturating_sub(before);
    assert!(grown < 8 * 1024 * MANY as u64, "{grown} bytes for {} connections", held.len());
    let mut last = held.into_iter().next_back().unwrap();
    write!(last, "GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", appliance.address()).unwrap();
    let mut answer = [0; 12];
    last.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_serves(&appliance);
}
