//! An engine that dies, and what its clients and the operator see of it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::answer::{Answer, Event};
use tests::appliance::Appliance;
use tests::engine::Engine;
use tests::patience::until;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

fn chat(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}], "stream": true})
}

/// Enough text for ten seconds at 20 ms a token.
fn long() -> String {
    "x".repeat(500)
}

/// The stream ends with an error that is framed, and not as a finished one.
fn assert_ends_with_an_error(answer: Answer) -> String {
    let stream = answer.transcript();
    assert!(!stream.0.contains(&Event::Done) && !stream.0.contains(&Event::Cut), "{stream:?}");
    let error = stream.error().unwrap_or_else(|| panic!("no error in {stream:?}"));
    assert!(matches!(stream.0.last(), Some(Event::Data(last)) if last.get("error").is_some()));
    assert_eq!(stream.finish_reason(0), None);
    error["message"].as_str().unwrap().to_owned()
}

fn assert_answers(appliance: &Appliance) {
    let stream = appliance.stream(CHAT, &chat("hello")).transcript();
    assert_eq!((stream.text(0).as_str(), stream.is_done()), ("hello", true));
}

#[test]
fn a_request_without_a_stream_that_kills_the_engine_gets_a_503() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let messages = json!([{"role": "user", "content": "please !exit@3 now"}]);
    let reply = appliance.post(CHAT, &json!({"messages": messages}));
    assert!(reply.headers.number("retry-after").is_some());
    assert_eq!(reply.refusal(503)["code"], "engine_failed");
}

#[test]
fn an_ollama_stream_that_kills_the_engine_ends_with_an_error_line() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let lines = appliance.stream("/api/chat", &chat("please !exit@3 now")).documents();
    assert!(lines.last().unwrap()["error"].is_string(), "{lines:?}");
    assert!(lines.iter().all(|line| line["done"] != true), "{lines:?}");
}

#[test]
fn a_failing_request_ends_alone() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let other = appliance.stream(CHAT, &chat(&"y".repeat(200)));
    let _ = assert_ends_with_an_error(appliance.stream(CHAT, &chat("please !logits@3 now")));
    let other = other.transcript();
    assert_eq!((other.text(0), other.is_done()), ("y".repeat(200), true));
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}

#[test]
fn a_client_that_goes_away_frees_its_place_in_the_engine() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20).with_places(1));
    let mut answer = appliance.stream(CHAT, &chat(&long()));
    let _ = answer.wait_for_text();
    appliance.status_when("one runs", |status| status["queue"]["running"] == 1);
    drop(answer);
    let status = appliance
        .status_when("the request is cancelled", |status| status["totals"]["cancelled"] == 1);
    assert_eq!(status["queue"]["running"], 0);
    // The only place is free: this is answered at once, not after ten seconds.
    assert_answers(&appliance);
    appliance.status_when("the engine says so, too", |status| {
        status["engine"]["heartbeat"]["decoding"] == 0
    });
    assert_eq!(appliance.status()["totals"]["failed"], 0);
}

#[test]
fn a_client_that_goes_away_while_it_waits_leaves_the_queue() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20).with_places(1));
    let mut running = appliance.stream(CHAT, &chat(&long()));
    let _ = running.wait_for_text();
    let waiting = appliance.stream(CHAT, &chat("hello"));
    appliance.status_when("one waits", |status| status["queue"]["waiting"] == 1);
    drop(waiting);
    appliance.status_when("none waits", |status| status["queue"]["waiting"] == 0);
    assert_eq!(appliance.status()["queue"]["running"], 1);
}

#[test]
fn an_engine_ends_by_itself_when_its_supervisor_is_killed() {
    let mut appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let worker = appliance.worker();
    let mut answer = appliance.stream(CHAT, &chat(&long()));
    let _ = answer.wait_for_text();
    appliance.signal(Signal::SIGKILL);
    let _ = appliance.wait_for_exit();
    until("the engine is gone", || (!process::is_alive(worker)).then_some(()));
}

#[test]
fn rows_of_finished_requests_survive_a_kill() {
    let appliance = Appliance::start(&Engine::echo());
    for _ in 0..3 {
        assert_answers(&appliance);
    }
    let rows = |appliance: &Appliance| {
        let database = rusqlite::Connection::open(appliance.state_dir().join("stoker.db")).ok()?;
        let query =
            "SELECT count(*) FROM requests WHERE outcome = 'answered' AND completion_tokens > 4";
        database.query_row(query, [], |row| row.get::<_, u32>(0)).ok()
    };
    until("the rows are written", || rows(&appliance).filter(|rows| *rows == 3));
    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    assert_eq!(rows(&appliance), Some(3));
    assert_answers(&appliance);
    until("a fourth row is written", || rows(&appliance).filter(|rows| *rows == 4));
}

#[test]
fn incidents_survive_a_kill() {
    let appliance = Appliance::start(&Engine::echo());
    let _ = assert_ends_with_an_error(appliance.stream(CHAT, &chat("!exit@1")));
    appliance.wait_until_ready();
    let database = rusqlite::Connection::open(appliance.state_dir().join("stoker.db")).unwrap();
    // Three deaths, and the verdict on the request that caused them.
    until("the incidents are written", || {
        let count = database.query_row("SELECT count(*) FROM incidents", [], |row| row.get(0));
        (count == Ok(4)).then_some(())
    });
    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    let incidents = appliance.status()["incidents"].clone();
    assert_eq!(incidents[0]["kind"], "request_quarantined");
    assert_eq!(incidents[1]["kind"], "engine_died");
}
