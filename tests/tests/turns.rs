//! Many clients at once: who goes next, and who is asked to come back.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::thread;

use serde_json::{Value, json};
use tests::answer::Answer;
use tests::appliance::{Appliance, Setup};
use tests::client::Client;
use tests::engine::Engine;

const CHAT: &str = "/v1/chat/completions";

fn chat(tokens: usize) -> Value {
    json!({"messages": [{"role": "user", "content": "x".repeat(tokens)}], "stream": true})
}

/// A stream that runs, so that the only place is taken.
fn occupy(appliance: &Appliance) -> Answer {
    let mut answer = appliance.stream(CHAT, &chat(1000));
    let _ = answer.wait_for_text();
    answer
}

#[test]
fn a_full_queue_refuses_with_the_time_to_come_back() {
    let engine = Engine::echo_with_steps_of(20).with_places(1);
    let appliance = Setup::new(&engine).config("[admission]\nqueue = 1\n").start();
    let _running = occupy(&appliance);
    let _waiting = appliance.stream(CHAT, &chat(5));
    appliance.status_when("one waits", |status| status["queue"]["waiting"] == 1);

    let reply = appliance.post(CHAT, &chat(5));
    assert!(reply.headers.number("retry-after").is_some_and(|seconds| seconds >= 1));
    let error = reply.refusal(429);
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("queue_full"), &json!("rate_limit_error"))
    );

    let reply = appliance.post("/api/chat", &chat(5));
    assert_eq!(reply.status, 503, "Ollama's clients know no 429");
    assert!(reply.headers.number("retry-after").is_some());
    assert!(reply.json()["error"].is_string());
    appliance.status_when("both are counted", |status| status["totals"]["refused"] == 2);
}

/// `greedy` asks ten times, then `modest` once: it waits for one turn, not ten.
fn assert_fair(greedy: impl Fn(&Appliance) -> Client, modest: impl Fn(&Appliance) -> Client) {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(10).with_places(1));
    let streams: Vec<_> = (0..10).map(|_| greedy(&appliance).stream(CHAT, &chat(40))).collect();
    appliance.status_when("nine wait", |status| status["queue"]["waiting"] == 9);
    let modest = modest(&appliance).stream(CHAT, &chat(40));
    let waits = appliance.status_when("ten wait", |status| status["queue"]["waiting"] == 10);
    assert_eq!(waits["queue"]["clients"].as_array().unwrap().len(), 2, "{}", waits["queue"]);

    // Streams wait in their sockets meanwhile, so reading one after the other is fine.
    assert!(modest.transcript().is_done());
    let left = appliance.status()["queue"]["waiting"].as_u64().unwrap();
    assert!(left >= 6, "{left} of the greedy client's requests were made to wait");
    let all = streams.into_iter().map(|stream| thread::spawn(|| stream.transcript().is_done()));
    assert!(all.collect::<Vec<_>>().into_iter().all(|stream| stream.join().unwrap()));
}

#[test]
fn a_client_with_many_requests_does_not_starve_one_at_another_address() {
    assert_fair(
        |appliance| appliance.client().from_host(2),
        |appliance| appliance.client().from_host(3),
    );
}

#[test]
fn a_client_with_many_requests_does_not_starve_one_with_another_key() {
    assert_fair(
        |appliance| appliance.client().with_key("alice"),
        |appliance| appliance.client().with_key("bob"),
    );
}

#[test]
fn a_request_that_can_wait_lets_everybody_else_go_first() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(10).with_places(1));
    let running = occupy(&appliance);
    let header = |word: &'static str| [("x-stoker-priority", word)];
    let body = |tokens| serde_json::to_vec(&chat(tokens)).unwrap();
    let patient = |path: &str| appliance.client().send("POST", path, &header("bulk"), &body(40));
    let bulk = [patient(CHAT), patient(CHAT), patient("/api/chat")];
    appliance.status_when("three wait", |status| status["queue"]["waiting"] == 3);
    let urgent = appliance.stream(CHAT, &chat(40));
    appliance.status_when("four wait", |status| status["queue"]["waiting"] == 4);
    drop(running);
    assert!(urgent.transcript().is_done());
    // At most the first of those who came before it has begun meanwhile.
    assert!(appliance.status()["queue"]["waiting"].as_u64().unwrap() >= 2);
    let [first, second, ollama] = bulk;
    assert!(first.transcript().is_done() && second.transcript().is_done());
    assert_eq!(ollama.whole().status, 200);

    let refused = appliance.client().send("POST", CHAT, &header("urgent"), &body(5)).whole();
    let error = refused.refusal(400);
    assert_eq!(error["param"], "X-Stoker-Priority", "nobody makes himself more urgent");
}

#[test]
fn keys_are_never_shown() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(10));
    let key = "sk-secret-of-alice";
    let mut answer = appliance.client().with_key(key).stream(CHAT, &chat(200));
    let _ = answer.wait_for_text();
    let status = appliance.status_when("it runs", |status| status["queue"]["running"] == 1);
    let label = status["queue"]["clients"][0]["client"].as_str().unwrap();
    assert!(label.starts_with("key ") && !status.to_string().contains("secret"), "{label}");
    assert!(!appliance.log().contains("secret"));
}

#[test]
fn prompts_and_answers_are_not_in_the_log() {
    let appliance = Setup::new(&Engine::echo()).variable("STOKER_LOG", "debug").start();
    let body = json!({"messages": [{"role": "user", "content": "zanzibar quokka"}]});
    let _ = appliance.post(CHAT, &body).good();
    let _ = appliance.stream(CHAT, &chat(3)).transcript();
    let log = appliance.log();
    assert!(log.contains("answered") && !log.contains("zanzibar"), "{log}");
}
