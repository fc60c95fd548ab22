//! What Ollama's clients ask for and read, with the real default model.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::sync::Arc;

use serde_json::{Value, json};
use tests::appliance::{Appliance, Shared};
use tests::engine::{Engine, REAL};

static MODEL: Shared = Shared::new();

fn model() -> Arc<Appliance> {
    MODEL.start(&Engine::Real)
}

fn chat() -> Value {
    json!({
        "model": REAL,
        "messages": [{"role": "user", "content": "Count from 1 to 9."}],
        "options": {"temperature": 0, "num_predict": 10},
    })
}

/// The last line of a stream, or a whole answer.
fn assert_last(line: &Value) {
    assert_eq!(line["done"], true);
    assert!(["stop", "length"].contains(&line["done_reason"].as_str().unwrap()), "{line}");
    for field in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(line[field].is_u64(), "{field}: {line}");
    }
    assert!(line["prompt_eval_count"].as_u64().unwrap() > 0, "{line}");
    assert!((1..=10).contains(&line["eval_count"].as_u64().unwrap()), "{line}");
}

#[test]
fn a_program_at_the_front_door_learns_that_somebody_is_there() {
    let model = model();
    let reply = model.get("/");
    assert_eq!((reply.status, reply.text()), (200, "Ollama is running"));
    let version = model.get("/api/version").good();
    let numbers: Vec<u32> =
        version["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(numbers >= vec![0, 6, 4], "editors ask for 0.6.4: {version}");
}

#[test]
fn the_list_of_models_has_all_that_strict_clients_read() {
    let model = model();
    let models = model.get("/api/tags").good()["models"].clone();
    let models = models.as_array().unwrap();
    let names: Vec<_> = models.iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], format!("{REAL}:latest"));
    assert!(names.contains(&"smollm2:135m"), "{names:?}");
    for listed in models {
        assert_eq!(listed["name"], listed["model"]);
        assert!(listed["size"].as_u64().unwrap() > 50_000_000, "{listed}");
        assert!(listed["digest"].is_string() && listed["modified_at"].is_string(), "{listed}");
        for field in ["format", "family", "parameter_size", "quantization_level"] {
            assert!(!listed["details"][field].as_str().unwrap().is_empty(), "{field}: {listed}");
        }
    }
}

#[test]
fn a_model_is_shown_under_the_old_and_the_new_field() {
    let model = model();
    for field in ["model", "name"] {
        let shown = model.post("/api/show", &json!({field: REAL})).good();
        assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
        let architecture = shown["model_info"]["general.architecture"].as_str().unwrap();
        assert_eq!(shown["model_info"][format!("{architecture}.context_length")], 4096);
        assert!(shown["parameters"].as_str().unwrap().contains("num_ctx"), "{shown}");
        assert!(!shown["template"].as_str().unwrap().contains(".Suffix"), "no infill: {shown}");
    }
    let reply = model.post("/api/show", &json!({"model": "other"}));
    assert_eq!(reply.status, 404);
    assert!(reply.json()["error"].is_string(), "{}", reply.text());
}

#[test]
fn a_chat_is_streamed_a_line_each_and_ends_with_the_counts() {
    let model = model();
    let answer = model.stream("/api/chat", &chat());
    assert_eq!(answer.headers.get("content-type"), Some("application/x-ndjson"));
    let lines = answer.documents();
    let (last, rest) = lines.split_last().unwrap();
    assert_last(last);
    assert!(rest.iter().all(|line| line["done"] == false && line["created_at"].is_string()));
    let text: String =
        lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert!(!text.is_empty());

    let mut body = chat();
    body["stream"] = json!(false);
    let whole = model.post("/api/chat", &body).good();
    assert_last(&whole);
    assert_eq!(whole["message"], json!({"role": "assistant", "content": text}));
}

#[test]
fn a_prompt_is_completed_with_ollamas_options() {
    let model = model();
    let options = json!({"temperature": 0, "num_predict": 10, "stop": ["7,"], "num_ctx": 512});
    let body = json!({"model": REAL, "prompt": "1, 2, 3, 4, 5,", "raw": true, "options": options});
    let answer = model.stream("/api/generate", &body);
    assert_eq!(answer.headers.number("x-stoker-num-ctx"), Some(4096), "the window stays");
    let lines = answer.documents();
    let text: String = lines.iter().map(|line| line["response"].as_str().unwrap()).collect();
    assert_eq!(text, " 6, ");
    assert_eq!(lines.last().unwrap()["done_reason"], "stop");
}

#[test]
fn a_request_without_a_prompt_only_loads_the_model() {
    let model = model();
    let reply = model.post("/api/chat", &json!({"model": REAL, "messages": []})).good();
    assert_eq!((&reply["done"], &reply["done_reason"]), (&json!(true), &json!("load")));
    let reply = model.post("/api/generate", &json!({"model": REAL})).good();
    assert_eq!(reply["done_reason"], "load");
}
