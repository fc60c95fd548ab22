//! An appliance whose worker runs TensorRT-LLM's stand-in: answers across deaths
//! of the engine, and what such a runtime cannot do.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::Appliance;
use tests::engine::Engine;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

fn chat(content: &str, more: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": content}], "stream": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn it_says_what_it_is() {
    let appliance = Appliance::start(&Engine::echo());
    let engine = appliance.status()["engine"].clone();
    assert_eq!(engine["backend"], "tensorrt-llm");
    assert_eq!(engine["ready"]["device"], "CUDA GPU, TensorRT-LLM 0.12.0-stand-in");
    assert_eq!(engine["ready"]["reproducible"], false);
}

#[test]
fn an_answer_goes_on_when_the_engine_is_killed() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let said = "once and only once, € and all; ".repeat(6);
    let mut answer = appliance.stream(CHAT, &chat(&said, json!({"temperature": 0})));
    let mut text = String::new();
    for kill in 1..=2 {
        text += &answer.wait_for_text();
        process::signal(appliance.worker(), Signal::SIGKILL);
        appliance.status_when("the next engine is ready", |status| {
            status["engine"]["restarts"] == kill && status["engine"]["state"]["name"] == "ready"
        });
    }
    let rest = answer.transcript();
    assert_eq!((text + &rest.text(0), rest.is_done()), (said, true));
}

#[test]
fn defaults_are_left_out_and_wishes_that_cannot_be_met_are_refused() {
    let appliance = Appliance::start(&Engine::echo());
    let answer = appliance.stream(CHAT, &chat("as usual", json!({"presence_penalty": 0.5})));
    let transcript = answer.transcript();
    assert_eq!((transcript.text(0).as_str(), transcript.is_done()), ("as usual", true));
    for (wish, field) in [
        (json!({"min_p": 0.1}), "min_p"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logit_bias": {"97": 5}}), "logit_bias"),
        (json!({"repeat_penalty": 1.5, "repeat_last_n": 64}), "repeat_last_n"),
        (json!({"cache_prompt": false}), "cache_prompt"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"tools": tools(), "tool_choice": "required"}), "tool_choice"),
    ] {
        let refusal = appliance.post(CHAT, &chat("not today", wish)).refusal(400);
        assert_eq!(refusal["param"], field, "{refusal}");
    }
    let form = json!({"prompt": "not today", "format": "json"});
    assert_eq!(appliance.post("/api/generate", &form).status, 400);
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
}

/// What 0.12 tells of its cache is a sum over all requests.
#[test]
fn how_much_of_one_prompt_was_cached_is_unknown_and_not_zero() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let body = json!({"messages": [{"role": "user", "content": "x".repeat(200)}]});
    for _ in 0..2 {
        let answer = appliance.post(CHAT, &body).good();
        assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 200, "{answer}");
        assert_eq!(answer["usage"]["prompt_tokens_details"], Value::Null, "{answer}");
        assert_eq!(answer["timings"]["cache_n"], Value::Null, "{answer}");
    }
    let status = appliance.status_when("they are counted", |s| s["totals"]["answered"] == 2);
    assert_eq!(status["totals"]["cached_tokens"], Value::Null);
    assert_eq!(status["engine"]["heartbeat"]["kv"]["cached_tokens"], Value::Null);
    appliance.status_when("the sum is told", |status| {
        status["engine"]["heartbeat"]["cached_tokens"].as_u64().is_some_and(|sum| sum >= 192)
    });
}

#[test]
fn the_engine_that_breaks_is_started_again() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let poison = appliance.stream(CHAT, &chat("please !broken@5 now", json!({}))).transcript();
    assert!(poison.error().is_some() && !poison.is_done());
    let transcript = appliance.stream(CHAT, &chat("all is well", json!({}))).transcript();
    assert_eq!(transcript.text(0), "all is well");
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5).with_places(1));
    let body = json!({"prompt": "endless", "stream": true, "max_tokens": 4000});
    let mut answer = appliance.stream("/v1/completions", &body);
    answer.next_data();
    drop(answer);
    let transcript = appliance.stream(CHAT, &chat("next", json!({}))).transcript();
    assert_eq!(transcript.text(0), "next");
}
