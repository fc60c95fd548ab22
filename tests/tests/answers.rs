//! Answers of the real default model in OpenAI's dialect, streamed and not.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tests::answer::{Event, Transcript};
use tests::appliance::{Appliance, Shared};
use tests::engine::{Engine, REAL};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

static MODEL: Shared = Shared::new();

fn model() -> Arc<Appliance> {
    MODEL.start(&Engine::Real)
}

/// A chat of one message, greedy and short, with other fields.
fn chat(content: &str, fields: &Value) -> Value {
    let messages = json!([{"role": "user", "content": content}]);
    with(json!({"messages": messages, "temperature": 0, "max_tokens": 10}), fields)
}

/// A plain prompt, greedy and short, with other fields.
fn plain(prompt: &str, fields: &Value) -> Value {
    with(json!({"prompt": prompt, "temperature": 0, "max_tokens": 10}), fields)
}

fn with(mut body: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn text_of(reply: &Value) -> &str {
    let choice = &reply["choices"][0];
    choice["message"]["content"].as_str().or(choice["text"].as_str()).unwrap()
}

fn tokens(usage: &Value, name: &str) -> u64 {
    usage[name].as_u64().unwrap_or_else(|| panic!("no {name} in {usage}"))
}

/// Every document of one stream says the same about itself.
fn assert_one_answer(stream: &Transcript, object: &str) {
    for field in ["id", "created", "model", "object"] {
        let said: BTreeSet<_> = stream.data().map(|data| data[field].to_string()).collect();
        assert_eq!(said.len(), 1, "{field}: {said:?}");
    }
    assert!(stream.data().all(|data| data["object"] == object && data["model"] == REAL));
}

#[test]
fn a_streamed_chat_begins_with_the_role_and_ends_with_done() {
    let model = model();
    let answer = model.stream(CHAT, &chat("Name a colour.", &json!({"stream": true})));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get("content-type"), Some("text/event-stream"));
    let stream = answer.transcript();
    assert_one_answer(&stream, "chat.completion.chunk");
    let choices: Vec<_> = stream.data().map(|data| &data["choices"][0]).collect();
    let role = json!({"role": "assistant", "content": ""});
    assert_eq!((&choices[0]["delta"], &choices[0]["finish_reason"]), (&role, &Value::Null));
    let last = choices.last().unwrap();
    assert_eq!(last["delta"], json!({}));
    assert!(["stop", "length"].contains(&last["finish_reason"].as_str().unwrap()), "{last}");
    assert!(!stream.text(0).is_empty());
    assert!(stream.is_done());
    assert!(stream.data().all(|data| data.get("usage").is_none()), "usage was not asked for");
}

#[test]
fn a_stream_ends_with_the_usage_where_it_is_asked_for() {
    let model = model();
    let fields = json!({"stream": true, "stream_options": {"include_usage": true}});
    let stream = model.stream(CHAT, &chat("Name a colour.", &fields)).transcript();
    let usages: Vec<_> = stream.data().filter(|data| data["usage"].is_object()).collect();
    assert_eq!(usages.len(), 1);
    assert_eq!(usages[0], stream.data().last().unwrap());
    assert_eq!(usages[0]["choices"], json!([]));
    assert!(stream.is_done());
}

#[test]
fn a_chat_says_the_same_streamed_and_whole() {
    let model = model();
    let whole = model.post(CHAT, &chat("What is the capital of France?", &json!({}))).good();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["message"]["role"], "assistant");
    let fields = json!({"stream": true, "cache_prompt": false});
    let stream = model.stream(CHAT, &chat("What is the capital of France?", &fields));
    let stream = stream.transcript();
    assert_eq!(stream.text(0), text_of(&whole));
    assert_eq!(stream.finish_reason(0), whole["choices"][0]["finish_reason"].as_str());
    assert!(!text_of(&whole).is_empty());
}

#[test]
fn usage_adds_up() {
    let model = model();
    let usage = &model.post(CHAT, &chat("Count to nine.", &json!({}))).good()["usage"];
    let (prompt, completion) = (tokens(usage, "prompt_tokens"), tokens(usage, "completion_tokens"));
    assert!(prompt > 5 && (1..=10).contains(&completion), "{usage}");
    assert_eq!(tokens(usage, "total_tokens"), prompt + completion);
    assert!(tokens(&usage["prompt_tokens_details"], "cached_tokens") < prompt, "{usage}");
}

#[test]
fn a_plain_prompt_is_continued_streamed_and_whole() {
    let model = model();
    let whole = model.post(COMPLETIONS, &plain("1, 2, 3, 4, 5,", &json!({}))).good();
    assert_eq!(whole["object"], "text_completion");
    assert!(text_of(&whole).starts_with(" 6, 7"), "{whole}");
    let body = plain("1, 2, 3, 4, 5,", &json!({"stream": true}));
    let stream = model.stream(COMPLETIONS, &body).transcript();
    assert_one_answer(&stream, "text_completion");
    assert_eq!(stream.text(0), text_of(&whole));
    assert_eq!(stream.finish_reason(0), Some("length"));
    assert!(stream.is_done());
}

#[test]
fn an_answer_ends_before_a_stop_string_no_part_of_which_is_shown() {
    let model = model();
    let free = model.post(COMPLETIONS, &plain("1, 2, 3, 4, 5,", &json!({}))).good();
    let stop = "7,";
    let expected = text_of(&free).split(stop).next().unwrap().to_owned();
    for stops in [json!(stop), json!(["never", stop])] {
        let body = plain("1, 2, 3, 4, 5,", &json!({"stop": stops}));
        let stopped = model.post(COMPLETIONS, &body).good();
        assert_eq!(text_of(&stopped), expected);
        assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
        let body = with(body, &json!({"stream": true}));
        let stream = model.stream(COMPLETIONS, &body).transcript();
        assert_eq!((stream.text(0), stream.finish_reason(0)), (expected.clone(), Some("stop")));
    }
}

#[test]
fn max_tokens_in_each_of_its_names_ends_an_answer() {
    let model = model();
    for name in ["max_tokens", "max_completion_tokens", "n_predict"] {
        let messages = json!([{"role": "user", "content": "Tell me a long story."}]);
        let body = json!({"messages": messages, name: 4});
        let reply = model.post(CHAT, &body).good();
        assert_eq!(reply["usage"]["completion_tokens"], 4, "{name}");
        assert_eq!(reply["choices"][0]["finish_reason"], "length", "{name}");
    }
}

#[test]
fn several_choices_are_numbered_and_counted_together() {
    let model = model();
    let fields = json!({"n": 2, "max_tokens": 5, "temperature": 1.5, "seed": 3});
    let reply = model.post(CHAT, &chat("Invent a name.", &fields)).good();
    let choices = reply["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|c| c["index"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1)]);
    let completion = tokens(&reply["usage"], "completion_tokens");
    assert!((2..=10).contains(&completion), "{reply}");
    let fields = with(fields, &json!({"stream": true}));
    let stream = model.stream(CHAT, &chat("Invent a name.", &fields)).transcript();
    for (index, choice) in (0..).zip(choices) {
        assert_eq!(stream.text(index), choice["message"]["content"]);
        assert!(stream.finish_reason(index).is_some());
    }
    assert!(stream.is_done());
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_one_another() {
    let model = model();
    let answer = |seed: u64| {
        let fields = json!({"seed": seed, "temperature": 1.2, "max_tokens": 12});
        text_of(&model.post(CHAT, &chat("Invent a strange word.", &fields)).good()).to_owned()
    };
    let first = answer(42);
    assert_eq!(answer(42), first);
    assert!((43..47).any(|seed| answer(seed) != first), "every seed says {first:?}");
}

#[test]
fn log_probabilities_come_with_their_rivals() {
    let model = model();
    let fields = json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 6});
    let reply = model.post(CHAT, &chat("Tell me a long story.", &fields)).good();
    let scored = reply["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(scored.len() as u64, tokens(&reply["usage"], "completion_tokens"));
    let said: String = scored.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(said, text_of(&reply));
    for token in scored {
        let rivals = token["top_logprobs"].as_array().unwrap();
        assert_eq!(rivals.len(), 3);
        // Greedy: the chosen one is the likeliest.
        assert_eq!(
            (&rivals[0]["token"], &rivals[0]["logprob"]),
            (&token["token"], &token["logprob"])
        );
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["bytes"].is_array(), "{token}");
    }
    let body = plain("1, 2, 3,", &json!({"logprobs": 2, "max_tokens": 3}));
    let logprobs = &model.post(COMPLETIONS, &body).good()["choices"][0]["logprobs"];
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().unwrap().len(), 3, "{list}");
    }
}

#[test]
fn a_bias_decides_which_token_comes() {
    let model = model();
    let fields = json!({"logit_bias": {"500": 100}, "logprobs": 0, "max_tokens": 4});
    let reply = model.post(COMPLETIONS, &plain("The sky is", &fields)).good();
    let chosen = reply["choices"][0]["logprobs"]["tokens"].as_array().unwrap().clone();
    assert_eq!(chosen.len(), 4);
    assert!(chosen.iter().all(|token| *token == chosen[0]), "{chosen:?}");
    let fields = json!({"logit_bias": [[500, false]], "max_tokens": 4});
    let _ = model.post(COMPLETIONS, &plain("The sky is", &fields)).good();
}

#[test]
fn ignore_eos_goes_on_after_the_models_end_token() {
    let model = model();
    // The bias makes the model end at once.
    let ends = json!({"logit_bias": {"2": 100}, "max_tokens": 6});
    let reply = model.post(CHAT, &chat("Hello.", &ends)).good();
    assert_eq!((text_of(&reply), &reply["choices"][0]["finish_reason"]), ("", &json!("stop")));
    let goes_on = with(ends, &json!({"ignore_eos": true}));
    let reply = model.post(CHAT, &chat("Hello.", &goes_on)).good();
    assert_eq!(reply["usage"]["completion_tokens"], 6);
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
}

#[test]
fn every_name_of_the_model_means_it() {
    let model = model();
    let names = [REAL, "default", "", "smollm2:135m", "smollm2", "smollm2-135m-instruct:latest"];
    for name in names.map(Value::from).into_iter().chain([Value::Null]) {
        let fields = json!({"model": name, "max_tokens": 1});
        assert_eq!(model.post(CHAT, &chat("Hello.", &fields)).good()["model"], REAL, "{name}");
    }
    let listed = model.get("/v1/models").good();
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(listed["object"], "list");
    assert_eq!(ids[0], REAL);
    assert!(ids.contains(&&json!("smollm2:135m")), "{ids:?}");
    assert_eq!(listed["data"][0]["max_model_len"], 4096);
    assert_eq!(model.get("/v1/models/smollm2").good()["id"], "smollm2");
}

#[test]
fn the_second_turn_of_a_chat_reuses_the_first() {
    let model = model();
    let mut messages = json!([
        {"role": "system", "content": "You are a lighthouse keeper on a small northern island."},
        {"role": "user", "content": "Which bird comes first in spring?"},
    ]);
    let turn = |messages: &Value, fields: &Value| {
        let body = json!({"messages": messages, "temperature": 0, "max_tokens": 8});
        model.post(CHAT, &with(body, fields)).good()
    };
    let cached = |reply: &Value| tokens(&reply["usage"]["prompt_tokens_details"], "cached_tokens");
    let first = turn(&messages, &json!({}));
    let list = messages.as_array_mut().unwrap();
    list.push(first["choices"][0]["message"].clone());
    list.push(json!({"role": "user", "content": "And then?"}));
    let second = turn(&messages, &json!({}));
    assert!(cached(&second) + 8 >= tokens(&first["usage"], "prompt_tokens"), "{second}");
    assert_eq!(cached(&turn(&messages, &json!({"cache_prompt": false}))), 0);
}

#[test]
fn several_prompts_and_prompts_of_token_ids_are_answered() {
    let model = model();
    let body = json!({"prompt": ["1, 2, 3,", "a, b, c,"], "temperature": 0, "max_tokens": 3});
    let reply = model.post(COMPLETIONS, &body).good();
    let choices = reply["choices"].as_array().unwrap();
    assert!(choices[0]["text"].as_str().unwrap().contains('4'), "{reply}");
    assert!(choices[1]["text"].as_str().unwrap().contains('d'), "{reply}");
    let body = json!({"prompt": [504, 253, 2, 1], "max_tokens": 2});
    assert_eq!(model.post(COMPLETIONS, &body).good()["usage"]["prompt_tokens"], 4);
    let body = json!({"prompt": [4_000_000], "max_tokens": 2});
    let error = model.post(COMPLETIONS, &body).refusal(400);
    assert!(error["message"].as_str().unwrap().contains("4000000"), "{error}");
}

#[test]
fn a_suffix_is_refused_by_a_model_that_cannot_fill_in() {
    let model = model();
    let reply = model.post(COMPLETIONS, &plain("fn main", &json!({"suffix": "}"})));
    let error = reply.refusal(400);
    assert!(error["message"].as_str().unwrap().contains("fill in the middle"), "{error}");
}

#[test]
fn many_at_once_are_each_answered() {
    let model = model();
    let body = chat("Tell me a story.", &json!({"stream": true, "max_tokens": 6}));
    let streams: Vec<_> = (0..6).map(|_| model.stream(CHAT, &body)).collect();
    for stream in streams {
        let stream = stream.transcript();
        assert!(stream.is_done() && !stream.0.contains(&Event::Cut), "{stream:?}");
    }
}
