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
    ] {
        let refusal = appliance.post(CHAT, &chat("not today", wish)).refusal(400);
        assert_eq!(refusal["param"], field, "{refusal}");
    }
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
