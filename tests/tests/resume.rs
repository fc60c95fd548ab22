//! Answers that outlive their engine: it is killed while they stream, and they
//! go on in the same response as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::answer::Transcript;
use tests::appliance::{Appliance, Shared};
use tests::engine::Engine;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

static REAL: Shared = Shared::new();

fn real() -> std::sync::Arc<Appliance> {
    REAL.start(&Engine::Real)
}

/// What must be equal: text, end and count of tokens of each choice, and the
/// log-probabilities.
#[derive(Debug, PartialEq)]
struct Said {
    choices: Vec<(String, Option<String>)>,
    logprobs: Vec<Value>,
    completion_tokens: Value,
    prompt_tokens: Value,
    is_done: bool,
}

impl Said {
    fn of(transcript: &Transcript, choices: u64) -> Self {
        let reason = |at| transcript.finish_reason(at).map(str::to_owned);
        let logprobs = |data: &Value| {
            data["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default()
        };
        let usage = transcript.data().map(|data| &data["usage"]).find(|usage| usage.is_object());
        let usage = usage.cloned().unwrap_or_default();
        Self {
            choices: (0..choices).map(|at| (transcript.text(at), reason(at))).collect(),
            logprobs: transcript.data().flat_map(logprobs).collect(),
            completion_tokens: usage["completion_tokens"].clone(),
            prompt_tokens: usage["prompt_tokens"].clone(),
            is_done: transcript.is_done(),
        }
    }
}

fn request(content: &str, more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": content}],
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 60,
        "seed": 7,
        // The model's own end would make some answers short.
        "ignore_eos": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn answered(appliance: &Appliance, body: &Value) -> Said {
    let choices = body["n"].as_u64().unwrap_or(1);
    Said::of(&appliance.stream(CHAT, body).transcript(), choices)
}

/// The same, with the engine killed as soon as text came, and once more after it.
fn answered_across_kills(appliance: &Appliance, body: &Value) -> Said {
    let mut answer = appliance.stream(CHAT, body);
    let mut events = Vec::new();
    let restarts = |status: &Value| status["engine"]["restarts"].as_u64().unwrap();
    let before = restarts(&appliance.status());
    for kills in 0..2 {
        let status = appliance.status_when("the next engine is ready", |status| {
            restarts(status) == before + kills && status["engine"]["state"]["name"] == "ready"
        });
        let worker = u32::try_from(status["engine"]["pid"].as_u64().unwrap()).unwrap();
        let mut with_text = 0;
        while with_text < 3 {
            let event = answer.next_event().unwrap();
            if let tests::answer::Event::Data(data) = &event {
                assert!(data.get("error").is_none(), "{data}");
                let content = data["choices"][0]["delta"]["content"].as_str();
                with_text += u32::from(content.is_some_and(|text| !text.is_empty()));
            }
            events.push(event);
        }
        process::signal(worker, Signal::SIGKILL);
    }
    events.extend(answer.transcript().0);
    Said::of(&Transcript(events), body["n"].as_u64().unwrap_or(1))
}

#[test]
fn an_answer_across_two_kills_equals_the_one_without() {
    let appliance = real();
    let requests = [
        request("Write a story about a fan.", json!({"temperature": 0})),
        request("Write a story about a ship.", json!({"temperature": 1.2})),
        request("Say something in Greek and Chinese.", json!({"temperature": 0.9, "n": 2})),
        request("List some colours.", json!({"logprobs": true, "top_logprobs": 3})),
        request("Count to a hundred.", json!({"stop": ["never said by anybody"], "top_k": 0})),
        request("Repeat: a a a a a a", json!({"repeat_penalty": 1.3, "presence_penalty": 0.5})),
    ];
    for body in requests {
        let twin = answered(&appliance, &body);
        assert!(twin.is_done, "{twin:?}");
        let before = appliance.status()["engine"]["restarts"].as_u64().unwrap();
        assert_eq!(answered_across_kills(&appliance, &body), twin, "{body}");
        let after = appliance.status()["engine"]["restarts"].as_u64().unwrap();
        assert_eq!(after, before + 2, "both kills were heard of");
    }
}

#[test]
fn a_stop_string_is_found_although_the_engine_died_in_the_middle_of_it() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(30));
    let body = json!({
        "messages": [{"role": "user", "content": "one two three STOP four"}],
        "stream": true, "stop": ["STOP"],
    });
    let mut answer = appliance.stream(CHAT, &body);
    // `one two three ` is shown at once, the beginning of the stop string never.
    let mut text = String::new();
    while !text.ends_with("three ") {
        text += &answer.wait_for_text();
    }
    process::signal(appliance.worker(), Signal::SIGKILL);
    let rest = answer.transcript();
    assert_eq!((text + &rest.text(0)).as_str(), "one two three ");
    assert_eq!((rest.finish_reason(0), rest.is_done()), (Some("stop"), true));
}

#[test]
fn a_request_without_a_stream_only_takes_longer() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let said = "z".repeat(100);
    let body = json!({"messages": [{"role": "user", "content": said}]});
    let reply = thread::scope(|scope| {
        let reply = scope.spawn(|| appliance.post(CHAT, &body).good());
        appliance.status_when("it runs", |status| {
            status["engine"]["heartbeat"]["decode_tokens"].as_u64() > Some(10)
        });
        process::signal(appliance.worker(), Signal::SIGKILL);
        reply.join().unwrap()
    });
    assert_eq!(reply["choices"][0]["message"]["content"], said);
    assert_eq!(reply["usage"]["completion_tokens"], 100);
}

#[test]
fn an_ollama_stream_and_a_completion_go_on_too() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let chat = json!({"messages": [{"role": "user", "content": "w".repeat(100)}]});
    let plain = json!({"prompt": "abc", "max_tokens": 100, "stream": true});
    thread::scope(|scope| {
        let lines = scope.spawn(|| appliance.stream("/api/chat", &chat).documents());
        let stream = scope.spawn(|| appliance.stream("/v1/completions", &plain).transcript());
        appliance.status_when("both run", |status| {
            status["queue"]["running"] == 2
                && status["engine"]["heartbeat"]["decode_tokens"].as_u64() > Some(10)
        });
        process::signal(appliance.worker(), Signal::SIGKILL);
        let lines = lines.join().unwrap();
        let text: String =
            lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
        assert_eq!(text, "w".repeat(100));
        assert_eq!(lines.last().unwrap()["done"], true);
        let stream = stream.join().unwrap();
        let alphabet: String = (3..103u8).map(|at| char::from(b'a' + at % 26)).collect();
        assert_eq!((stream.text(0), stream.is_done()), (alphabet, true));
    });
}

#[test]
fn answers_are_the_same_alone_and_beside_seven_others() {
    let appliance = real();
    let body = |number: u64| {
        let content = format!("Tell me about the number {number}. {}", "Be brief. ".repeat(9));
        request(&content, json!({"temperature": 0.8, "seed": number, "max_tokens": 40}))
    };
    let alone: Vec<Said> = (0..8).map(|number| answered(&appliance, &body(number))).collect();
    let together: Vec<Said> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn({
                    let body = body(number);
                    let appliance = &appliance;
                    move || answered(appliance, &body)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone, together);
    }
}
