//! Answers that must have a form, and calls of tools: also while the engine is
//! killed.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::answer::{Event, Transcript};
use tests::appliance::{Appliance, Shared};
use tests::engine::Engine;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

static REAL: Shared = Shared::new();

/// Held by whoever uses the real engine: the tests count its deaths.
static TURN: Mutex<()> = Mutex::new(());

fn real() -> (MutexGuard<'static, ()>, Arc<Appliance>) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (turn, REAL.start(&Engine::Real))
}

fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// Long enough to be killed twice in it, and certain to end.
fn recipe_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 20, "maxLength": 60},
            "minutes": {"type": "integer", "minimum": 1, "maximum": 999},
            "kind": {"enum": ["soup", "salad"]},
            "steps": {
                "type": "array", "minItems": 3, "maxItems": 4,
                "items": {"type": "string", "minLength": 20, "maxLength": 50},
            },
        },
        "required": ["title", "minutes", "kind", "steps"],
    })
}

fn assert_recipe(recipe: &Value) {
    let length = |value: &Value| value.as_str().unwrap().chars().count();
    assert!((20..=60).contains(&length(&recipe["title"])), "{recipe}");
    assert!((1..=999).contains(&recipe["minutes"].as_u64().unwrap()), "{recipe}");
    assert!(["soup", "salad"].contains(&recipe["kind"].as_str().unwrap()), "{recipe}");
    let steps = recipe["steps"].as_array().unwrap();
    assert!((3..=4).contains(&steps.len()), "{recipe}");
    assert!(steps.iter().all(|step| (20..=50).contains(&length(step))), "{recipe}");
    assert_eq!(recipe.as_object().unwrap().len(), 4, "{recipe}");
}

fn tools() -> Value {
    json!([
        {"type": "function", "function": {
            "name": "cook", "description": "Cooks a recipe.", "parameters": recipe_schema(),
        }},
        {"type": "function", "function": {"name": "now", "description": "Tells the time."}},
    ])
}

fn request(more: Value) -> Value {
    let messages = json!([{"role": "user", "content": "How do I make a tomato soup?"}]);
    with(json!({"messages": messages, "stream": true, "seed": 5, "temperature": 0.9}), more)
}

/// The calls of one choice, put together as clients do: id, name, arguments.
fn calls(stream: &Transcript) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    let deltas =
        stream.data().filter_map(|data| data["choices"][0]["delta"]["tool_calls"].as_array());
    for call in deltas.flatten() {
        let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
        if let Some(id) = call["id"].as_str() {
            assert_eq!((index, &call["type"]), (calls.len(), &json!("function")));
            let name = call["function"]["name"].as_str().unwrap();
            calls.push((id.to_owned(), name.to_owned(), String::new()));
        }
        calls[index].2 += call["function"]["arguments"].as_str().unwrap();
    }
    calls
}

/// Whether an event has something of the answer in it.
fn carries(document: &Value) -> bool {
    let delta = &document["choices"][0]["delta"];
    let text = delta["content"].as_str().or(document["message"]["content"].as_str());
    let text = text.or(document["response"].as_str());
    delta["tool_calls"].is_array() || text.is_some_and(|text| !text.is_empty())
}

/// A stream whose engine is killed as soon as something came, and once more.
fn across_kills(appliance: &Appliance, body: &Value) -> Transcript {
    let restarts = |status: &Value| status["engine"]["restarts"].as_u64().unwrap();
    let before = restarts(&appliance.status());
    let mut answer = appliance.stream(CHAT, body);
    let mut events = Vec::new();
    for kills in 0..2 {
        let status = appliance.status_when("the next engine is ready", |status| {
            restarts(status) == before + kills && status["engine"]["state"]["name"] == "ready"
        });
        let worker = u32::try_from(status["engine"]["pid"].as_u64().unwrap()).unwrap();
        let mut with_something = 0;
        while with_something < 5 {
            let event = answer.next_event().unwrap();
            if let Event::Data(data) = &event {
                assert!(data.get("error").is_none(), "{data}");
                with_something += u32::from(carries(data));
            }
            events.push(event);
        }
        process::signal(worker, Signal::SIGKILL);
    }
    events.extend(answer.transcript().0);
    appliance.status_when("both kills were heard of", |status| restarts(status) == before + 2);
    Transcript(events)
}

#[test]
fn a_schema_holds_across_two_kills() {
    let (_turn, appliance) = real();
    let schema = json!({"name": "recipe", "strict": true, "schema": recipe_schema()});
    let form = json!({"response_format": {"type": "json_schema", "json_schema": schema}});
    for more in [json!({}), json!({"temperature": 0}), json!({"logprobs": true})] {
        let body = request(with(form.clone(), more));
        let twin = appliance.stream(CHAT, &body).transcript();
        assert_recipe(&serde_json::from_str(&twin.text(0)).unwrap());
        assert_eq!((twin.finish_reason(0), twin.is_done()), (Some("stop"), true));
        let killed = across_kills(&appliance, &body);
        assert_eq!(killed.text(0), twin.text(0));
        assert_eq!((killed.finish_reason(0), killed.is_done()), (Some("stop"), true));
    }
}

#[test]
fn a_required_call_holds_across_two_kills() {
    let (_turn, appliance) = real();
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "cook"}})] {
        let more = json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false});
        let named = choice.is_object();
        let body = request(more);
        let twin = appliance.stream(CHAT, &body).transcript();
        let called = calls(&twin);
        assert_eq!((called.len(), twin.text(0).as_str()), (1, ""), "{called:?}");
        assert_eq!((twin.finish_reason(0), twin.is_done()), (Some("tool_calls"), true));
        let (_, name, arguments) = &called[0];
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        match name.as_str() {
            "cook" => assert_recipe(&arguments),
            other => assert_eq!((other, named, arguments), ("now", false, json!({}))),
        }
        if named {
            let killed = across_kills(&appliance, &body);
            let again = calls(&killed);
            assert_eq!((&again[0].1, &again[0].2), (&called[0].1, &called[0].2));
            assert_eq!((killed.finish_reason(0), killed.is_done()), (Some("tool_calls"), true));
        }
    }
}

#[test]
fn ollamas_format_holds_across_a_kill_on_both_routes() {
    let (_turn, appliance) = real();
    let options = json!({"seed": 5, "temperature": 0.9});
    let bodies = [
        (
            "/api/chat",
            with(request(json!({})), json!({"format": recipe_schema(), "options": options})),
        ),
        (
            "/api/generate",
            json!({"prompt": "Tomato soup.", "format": recipe_schema(), "options": options}),
        ),
    ];
    for (path, body) in bodies {
        let text = |lines: &[Value]| -> String {
            let piece = |line: &Value| {
                line["message"]["content"].as_str().or(line["response"].as_str()).map(str::to_owned)
            };
            lines.iter().filter_map(piece).collect()
        };
        let twin = appliance.stream(path, &body).documents();
        assert_recipe(&serde_json::from_str(&text(&twin)).unwrap());
        let lines = std::thread::scope(|scope| {
            let before = appliance.status()["engine"]["heartbeat"]["decode_tokens"].as_u64();
            let lines = scope.spawn(|| appliance.stream(path, &body).documents());
            appliance.status_when("it runs", |status| {
                status["queue"]["running"] == 1
                    && status["engine"]["heartbeat"]["decode_tokens"].as_u64() > before
            });
            process::signal(appliance.worker(), Signal::SIGKILL);
            lines.join().unwrap()
        });
        assert_eq!(text(&lines), text(&twin), "{path}");
        assert_eq!(lines.last().unwrap()["done_reason"], "stop");
    }
}

#[test]
fn an_ollama_answer_is_json_where_that_is_all_that_is_asked() {
    let (_turn, appliance) = real();
    let body =
        json!({"format": "json", "stream": false, "options": {"num_predict": 300, "seed": 3}});
    let reply = appliance.post("/api/chat", &with(request(json!({})), body)).good();
    let content = reply["message"]["content"].as_str().unwrap();
    if reply["done_reason"] == "stop" {
        assert!(serde_json::from_str::<Value>(content).unwrap().is_object(), "{content}");
    }
    assert!(content.trim_start().starts_with('{'), "{content}");
}

#[test]
fn llama_servers_fields_are_obeyed_and_a_cut_answer_says_so() {
    let (_turn, appliance) = real();
    let grammar = "root ::= \"- \" word (\" \" word)* \"\\n\"\nword ::= [a-z]{3,6}";
    let body =
        json!({"prompt": "A list of animals:\n", "grammar": grammar, "max_tokens": 40, "seed": 2});
    let reply = appliance.post("/v1/completions", &body).good();
    let text = reply["choices"][0]["text"].as_str().unwrap().to_owned();
    let words = text.strip_prefix("- ").unwrap().trim_end_matches('\n').split(' ');
    assert!(words.clone().count() > 0, "{text}");
    assert!(words.rev().skip(1).all(|word| (3..=6).contains(&word.len())), "{text}");

    let body = request(json!({"json_schema": recipe_schema(), "max_tokens": 9, "stream": false}));
    let reply = appliance.post(CHAT, &body).good();
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    let text = reply["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with('{') && serde_json::from_str::<Value>(text).is_err(), "{text}");
}

#[test]
fn a_form_that_cannot_be_enforced_is_refused_before_anything_begins() {
    let appliance = Appliance::start(&Engine::echo());
    let schema = |schema: Value, strict: bool| {
        json!({"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "strict": strict, "schema": schema,
        }}})
    };
    for (more, field, why) in [
        (schema(json!({"type": "strange"}), false), "response_format", "strange"),
        (schema(json!({"not": {}}), true), "response_format", "not"),
        (json!({"grammar": "root ::= missing"}), "grammar", "missing"),
        (json!({"grammar": "%llguidance {}\nstart: missing"}), "grammar", "missing"),
        (json!({"json_schema": {"$ref": "#/nowhere"}}), "json_schema", "nowhere"),
        (
            json!({"tools": [{"function": {"name": "f", "parameters": {"type": 7}}}],
                "tool_choice": "required"}),
            "tools",
            "",
        ),
    ] {
        let reply = appliance.post(CHAT, &with(request(more.clone()), json!({"stream": false})));
        let error = reply.refusal(400);
        assert_eq!(error["param"], field, "{more}: {error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{more}: {error}");
    }
    let ollama = request(json!({"format": {"type": "strange"}, "stream": false}));
    let reply = appliance.post("/api/chat", &ollama);
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}

fn says(content: &str, more: Value) -> Value {
    with(json!({"messages": [{"role": "user", "content": content}], "tools": tools()}), more)
}

#[test]
fn calls_are_told_from_text_in_every_way_to_answer() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(1));
    let text = "Yes.\n<tool_call>\n{\"name\": \"cook\", \"arguments\": {\"b\": 1, \"a\": [\"<x>\"]}}\n</tool_call>\n\
                <tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let whole = appliance.post(CHAT, &says(text, json!({}))).good();
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &json!("Yes."))
    );
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(
        call["function"],
        json!({"name": "cook", "arguments": "{\"b\": 1, \"a\": [\"<x>\"]}"})
    );
    assert_eq!(choice["message"]["tool_calls"][1]["function"]["arguments"], "{}");

    let stream = appliance.stream(CHAT, &says(text, json!({"stream": true}))).transcript();
    let called = calls(&stream);
    assert_eq!((stream.text(0).as_str(), stream.finish_reason(0)), ("Yes.", Some("tool_calls")));
    assert_eq!(called[0].2, "{\"b\": 1, \"a\": [\"<x>\"]}");
    assert_eq!((called[1].1.as_str(), called[1].2.as_str()), ("now", "{}"));
    assert_ne!(called[0].0, called[1].0);

    let ollama = appliance.post("/api/chat", &says(text, json!({"stream": false}))).good();
    let calls = ollama["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls[0]["function"]["arguments"], json!({"b": 1, "a": ["<x>"]}));
    assert_eq!(
        (&calls[1]["function"]["name"], &ollama["done_reason"]),
        (&json!("now"), &json!("stop"))
    );

    let none = appliance.post(CHAT, &says(text, json!({"tool_choice": "none"}))).good();
    assert_eq!(none["choices"][0]["message"]["content"], text);
    assert_eq!(none["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_call_goes_on_after_a_kill_and_after_a_lost_connection_with_the_same_id() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(10));
    let arguments = format!("{{\"text\": \"{}\"}}", "word ".repeat(20));
    let text =
        format!("<tool_call>\n{{\"name\": \"cook\", \"arguments\": {arguments}}}\n</tool_call>");
    let body = says(&text, json!({"stream": true}));
    let mut answer = appliance.stream(CHAT, &body);
    let mut seen = Vec::new();
    while seen.iter().filter(|event| matches!(event, Event::Data(data) if carries(data))).count()
        < 9
    {
        seen.push(answer.next_event().unwrap());
    }
    process::signal(appliance.worker(), Signal::SIGKILL);
    for _ in 0..5 {
        seen.push(answer.next_event().unwrap());
    }
    let last = answer.last_event_id().unwrap().to_owned();
    drop(answer);
    let path = format!("/v1/requests/{}/stream", last.rsplit_once(':').unwrap().0);
    let rest = appliance.client().send("GET", &path, &[("last-event-id", &last)], b"");
    let joined = Transcript(seen.into_iter().chain(rest.transcript().0).collect());
    let again = appliance.client().send("GET", &path, &[], b"").transcript();
    assert_eq!(calls(&joined), calls(&again));
    assert_eq!(calls(&joined)[0].2, arguments);
    assert_eq!((joined.finish_reason(0), joined.is_done()), (Some("tool_calls"), true));
}
