//! Requests that cannot be answered as they stand: what the client is told.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::engine::Engine;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

/// `hello` with other fields.
fn hello_with(fields: &Value) -> Value {
    let mut body = hello();
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn message_of(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

/// After everything that a test did, somebody else is still served.
fn assert_serves(appliance: &Appliance) {
    let reply = appliance.post(CHAT, &hello()).good();
    assert_eq!(reply["choices"][0]["message"]["content"], "hello");
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}

#[test]
fn broken_json_is_refused_with_the_place_where_it_breaks() {
    let appliance = Appliance::start(&Engine::echo());
    for (body, why) in [
        (&b"{\"messages\": [{\"role\""[..], "line 1 column"),
        (b"", "the body is empty"),
        (
            b"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"prompt\": \"x\"} x",
            "trailing",
        ),
        (b"[1, 2]", "is wrong"),
        (b"hello", "not valid JSON"),
    ] {
        for path in [CHAT, COMPLETIONS] {
            let error = appliance.client().post_bytes(path, body).refusal(400);
            assert!(message_of(&error).contains(why), "{path}: {error}");
        }
    }
    let nested = "[".repeat(200_000);
    let _ = appliance.client().post_bytes(CHAT, nested.as_bytes()).refusal(400);
    assert_serves(&appliance);
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let appliance = Appliance::start(&Engine::echo());
    for (fields, param) in [
        (json!({"messages": "hello"}), "messages"),
        (json!({"messages": [{"role": "king", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"temperature": -1}), "temperature"),
        (json!({"max_tokens": "many"}), "max_tokens"),
        (json!({"stop": 3}), "stop"),
        (json!({"n": 0}), "n"),
        (json!({"n": 1000}), "n"),
        (json!({"logit_bias": {"1000000": 1}}), "logit_bias"),
        (json!({"stream": "yes"}), "stream"),
    ] {
        let error = appliance.post(CHAT, &hello_with(&fields)).refusal(400);
        let named = error["param"].as_str().unwrap_or_default();
        assert!(
            named.starts_with(param) || message_of(&error).contains(param),
            "{fields}: {error}"
        );
    }
    assert_serves(&appliance);
}

#[test]
fn an_unknown_model_is_refused_with_the_names_that_exist() {
    let appliance = Appliance::start(&Engine::echo());
    let asked = hello_with(&json!({"model": "gpt-9"}));
    let error = appliance.post(CHAT, &asked).refusal(404);
    assert_eq!(error["code"], "model_not_found");
    for name in ["gpt-9", "echo", "parrot:7b"] {
        assert!(message_of(&error).contains(name), "{error}");
    }
    let _ = appliance.get("/v1/models/gpt-9").refusal(404);
    let asked = json!({"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]});
    let reply = appliance.post("/api/chat", &asked);
    assert_eq!(reply.status, 404);
    assert!(reply.json()["error"].as_str().unwrap().contains("parrot:7b"), "{}", reply.text());
}

#[test]
fn no_messages_are_refused() {
    let appliance = Appliance::start(&Engine::echo());
    let error = appliance.post(CHAT, &json!({"messages": []})).refusal(400);
    assert_eq!(error["param"], "messages");
    let error = appliance.post(CHAT, &json!({})).refusal(400);
    assert!(message_of(&error).contains("messages"), "{error}");
    let error = appliance.post(COMPLETIONS, &json!({"prompt": ""})).refusal(400);
    assert!(message_of(&error).contains("empty"), "{error}");
}

#[test]
fn a_prompt_longer_than_the_window_is_refused_with_the_numbers_and_never_cut() {
    let appliance = Appliance::start(&Engine::echo().with_context(64));
    let long = "x".repeat(200);
    for stream in [false, true] {
        let body = json!({"prompt": long, "stream": stream});
        let error = appliance.post(COMPLETIONS, &body).refusal(400);
        assert_eq!(error["code"], "context_length_exceeded");
        assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(200), &json!(64)));
    }
    let reply = appliance.post("/api/generate", &json!({"prompt": long, "raw": true}));
    assert_eq!(reply.status, 400);
    assert!(reply.json()["error"].as_str().unwrap().contains("64"), "{}", reply.text());
    assert_serves(&appliance);
}

#[test]
fn max_tokens_beyond_the_window_is_bounded_and_the_bound_is_said() {
    let appliance = Appliance::start(&Engine::echo().with_context(64));
    let body = json!({"prompt": "x".repeat(24), "max_tokens": 1_000_000});
    let reply = appliance.post(COMPLETIONS, &body);
    assert_eq!(reply.headers.number("x-stoker-max-tokens"), Some(40));
    let reply = reply.good();
    assert_eq!(reply["usage"]["completion_tokens"], 40);
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_body_over_the_limit_is_refused_whether_its_length_was_announced_or_not() {
    let config = "[server]\nmax_body_bytes = 4096\n";
    let appliance = Setup::new(&Engine::echo()).config(config).start();
    let long = format!("{{\"prompt\": \"{}\"}}", "x".repeat(1_000_000));
    let error = appliance.client().post_bytes(COMPLETIONS, long.as_bytes()).refusal(413);
    assert!(message_of(&error).contains("4096"), "{error}");

    let mut chunk = format!("{:x}\r\n", long.len()).into_bytes();
    chunk.extend_from_slice(long.as_bytes());
    chunk.extend_from_slice(b"\r\n0\r\n\r\n");
    let reply = appliance.client().send_chunks(COMPLETIONS, &chunk).whole();
    let _ = reply.refusal(413);
    assert_serves(&appliance);
}

#[test]
fn a_body_that_is_not_utf_8_is_refused() {
    let appliance = Appliance::start(&Engine::echo());
    let body = b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}";
    let error = appliance.client().post_bytes(CHAT, body).refusal(400);
    assert!(message_of(&error).contains("UTF-8"), "{error}");
    assert_serves(&appliance);
}

#[test]
fn errors_have_the_shape_of_the_clients_dialect() {
    let appliance = Appliance::start(&Engine::echo());
    let reply = appliance.client().post_bytes("/api/chat", b"{");
    assert_eq!(reply.status, 400);
    assert!(reply.json()["error"].is_string(), "{}", reply.text());
    let error = appliance.get("/v1/chat/completion").refusal(404);
    assert!(message_of(&error).contains(CHAT), "{error}");
    let reply = appliance.get(CHAT);
    assert_eq!(reply.headers.get("allow"), Some("POST, OPTIONS"));
    let _ = reply.refusal(405);
}

#[test]
fn what_is_unknown_in_a_request_is_ignored() {
    let appliance = Appliance::start(&Engine::echo());
    let fields =
        json!({"user": "alice", "id_slot": 7, "keep_alive": "5m", "store": null, "zzz": {}});
    let reply = appliance.post(CHAT, &hello_with(&fields)).good();
    assert_eq!(reply["choices"][0]["message"]["content"], "hello");
}

#[test]
fn a_form_that_no_answer_can_be_held_to_is_refused() {
    let appliance = Appliance::start(&Engine::echo());
    let strange = json!({"name": "x", "schema": {"type": "strange"}});
    for fields in [
        json!({"response_format": {"type": "json_schema", "json_schema": strange}}),
        json!({"grammar": "root ::= \"a"}),
        json!({"tool_choice": "required"}),
    ] {
        let _ = appliance.post(CHAT, &hello_with(&fields)).refusal(400);
    }
}
