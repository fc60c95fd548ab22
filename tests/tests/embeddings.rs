//! Vectors of texts, from a real embedder beside an engine that answers.
//!
//! `embeddings/all-minilm-l6-v2.json` holds what another implementation makes of the
//! same two files that the embedder is built from: ONNX Runtime 1.32.0 for Python on
//! one thread, token ids by `tokenizers` 0.23.3 without truncation or padding, a mask
//! of ones and types of zero, the mean of all tokens' states, divided by its length.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup, Shared};
use tests::engine::{EMBEDDER, Engine, install_embedder};
use tests::process;

const EMBEDDINGS: &str = "/v1/embeddings";

/// Least cosine to the other implementation's vector. Both compute in int8, and round
/// activations at other places.
const NEAR: f64 = 0.999;

static WITH_EMBEDDER: Shared = Shared::new();

fn setup() -> Setup {
    let setup = Setup::new(&Engine::echo_with_steps_of(20));
    install_embedder(setup.state_path());
    setup
}

fn appliance() -> std::sync::Arc<Appliance> {
    WITH_EMBEDDER.start_with(setup)
}

fn vectors(reply: &Value) -> Vec<Vec<f64>> {
    let data = reply["data"].as_array().unwrap();
    data.iter().map(|one| numbers(&one["embedding"])).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn embed(appliance: &Appliance, input: &Value) -> Vec<Vec<f64>> {
    vectors(&appliance.post(EMBEDDINGS, &json!({ "input": input })).good())
}

fn product(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// Text, its token ids and the other implementation's vector.
fn known() -> Vec<(String, Value, Vec<f64>)> {
    let known: Value =
        serde_json::from_str(include_str!("embeddings/all-minilm-l6-v2.json")).unwrap();
    let one = |it: &Value| {
        (it["text"].as_str().unwrap().to_owned(), it["tokens"].clone(), numbers(&it["vector"]))
    };
    known.as_array().unwrap().iter().map(one).collect()
}

#[test]
fn vectors_are_what_another_implementation_makes_of_the_same_model() {
    let appliance = appliance();
    let known = known();
    let texts: Vec<_> = known.iter().map(|(text, ..)| text).collect();
    let body = json!({ "model": EMBEDDER, "input": texts, "encoding_format": "float" });
    let reply = appliance.post(EMBEDDINGS, &body).good();
    assert_eq!(reply["model"], EMBEDDER);
    // With the two tokens around each text.
    let tokens: usize = known.iter().map(|(_, ids, _)| ids.as_array().unwrap().len() + 2).sum();
    assert_eq!(reply["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
    for (ours, (text, _, theirs)) in vectors(&reply).iter().zip(&known) {
        assert_eq!(ours.len(), 384);
        let length = product(ours, ours).sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{text}: length {length}");
        let cosine = product(ours, theirs) / product(theirs, theirs).sqrt();
        assert!(cosine >= NEAR, "{text}: {cosine}");
    }
}

#[test]
fn a_vector_is_the_same_alone_in_a_list_as_ids_and_in_base64() {
    let appliance = appliance();
    let known = known();
    // More than one part, of very different lengths.
    let mut texts: Vec<String> = known.iter().map(|(text, ..)| text.clone()).collect();
    texts.extend((1..40).map(|words| "fan speed ".repeat(words)));
    let together = embed(&appliance, &json!(texts));
    assert_eq!(together.len(), texts.len());
    for at in [0, 1, 2, 3, 15, 16, 41] {
        assert_eq!(embed(&appliance, &json!(texts[at])), [together[at].clone()], "{}", texts[at]);
    }
    let ids: Vec<_> = known.iter().map(|(_, ids, _)| ids).collect();
    assert_eq!(embed(&appliance, &json!(ids)), together[..3]);
    assert_eq!(embed(&appliance, ids[0]), together[..1]);
    let body = json!({ "input": texts[0], "encoding_format": "base64" });
    let reply = appliance.post(EMBEDDINGS, &body).good();
    let floats = decoded(reply["data"][0]["embedding"].as_str().unwrap());
    assert_eq!(floats, singles(&together[0]));
}

/// What was written with the digits of a single is one.
fn singles(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| value.to_string().parse().unwrap()).collect()
}

/// Base64 as any client reads it.
fn decoded(text: &str) -> Vec<f32> {
    let python = "import base64,struct,sys; b=base64.b64decode(sys.argv[1],validate=True); \
                  print(*struct.unpack('<%df' % (len(b)//4), b))";
    let output = std::process::Command::new("python3").args(["-c", python, text]).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers_or_cut_aloud() {
    let appliance = appliance();
    let long = "fan ".repeat(700);
    let error = appliance.post(EMBEDDINGS, &json!({ "input": ["fan", long] })).refusal(400);
    assert_eq!(error["code"], "context_length_exceeded");
    assert_eq!(error["param"], "input[1]");
    assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(702), &json!(512)));
    let body = json!({ "model": EMBEDDER, "input": ["fan", long] });
    let reply = appliance.post("/api/embed", &body).good();
    assert_eq!(reply["truncated"], json!([1]));
    assert_eq!(reply["prompt_eval_count"], 3 + 512);
    let cut = numbers(&reply["embeddings"][1]);
    assert_eq!(embed(&appliance, &json!("fan ".repeat(510))), [cut]);
    let body = json!({ "model": EMBEDDER, "input": long, "truncate": false });
    let refused = appliance.post("/api/embed", &body);
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].as_str().unwrap().contains("512"));
    for (body, status, param) in [
        (json!({ "input": "a", "dimensions": 256 }), 400, "dimensions"),
        (json!({ "input": [30522] }), 400, "input"),
        (json!({ "input": "" }), 400, "input"),
        (json!({ "input": "a", "model": "text-embedding-3-small" }), 404, "model"),
    ] {
        assert_eq!(appliance.post(EMBEDDINGS, &body).refusal(status)["param"], param);
    }
}

#[test]
fn clients_find_the_embedder_where_they_look_for_it() {
    let appliance = appliance();
    let old = appliance.post("/api/embeddings", &json!({ "model": "all-minilm", "prompt": "a" }));
    assert_eq!(vec![numbers(&old.good()["embedding"])], embed(&appliance, &json!("a")));
    let has = |list: &Value, key: &str, name: &str| {
        list.as_array().unwrap().iter().any(|one| one[key] == name)
    };
    assert!(has(&appliance.get("/v1/models").good()["data"], "id", EMBEDDER));
    let tags = appliance.get("/api/tags").good();
    assert!(has(&tags["models"], "name", "all-minilm-l6-v2:latest"));
    let show = appliance.post("/api/show", &json!({ "model": "all-minilm" })).good();
    assert_eq!(show["capabilities"], json!(["embedding"]));
    assert_eq!(show["model_info"]["bert.embedding_length"], 384);
    // And the engine that answers is still the one that answers.
    assert_eq!(appliance.status()["engine"]["model"], "echo");
    let chat = json!({ "messages": [{ "role": "user", "content": "a" }], "model": EMBEDDER });
    assert_eq!(appliance.post("/v1/chat/completions", &chat).refusal(404)["param"], "model");
}

#[test]
fn a_killed_embedder_loses_nothing_and_no_answer_notices() {
    let appliance = setup().start();
    assert_eq!(appliance.status()["embedder"]["state"]["name"], "idle");
    let texts: Vec<_> = (0..250).map(|at| format!("{at} {}", "fan speed ".repeat(12))).collect();
    let before = appliance.worker();
    let chat = json!({
        "messages": [{ "role": "user", "content": "the answer goes on".repeat(20) }],
        "stream": true,
    });
    let (made, said) = thread::scope(|scope| {
        let said = scope.spawn(|| appliance.stream("/v1/chat/completions", &chat).transcript());
        let made = scope.spawn(|| embed(&appliance, &json!(texts)));
        let status = appliance.status_when("the embedder is ready", |status| {
            status["embedder"]["state"]["name"] == "ready"
        });
        let first = u32::try_from(status["embedder"]["pid"].as_u64().unwrap()).unwrap();
        process::signal(first, Signal::SIGKILL);
        (made.join().unwrap(), said.join().unwrap())
    });
    assert_eq!(said.text(0), "the answer goes on".repeat(20));
    assert!(said.is_done());
    assert_eq!(made.len(), texts.len());
    // The second life made what the first had not: it is there, and the vectors too.
    let status = appliance.status();
    assert_eq!(status["embedder"]["restarts"], 1);
    assert_eq!(status["embedder"]["state"]["name"], "ready");
    assert_eq!(embed(&appliance, &json!(texts[249])), made[249..]);
    assert_eq!(status["incidents"][0]["kind"], "embedder_died");
    assert_eq!((appliance.worker(), &status["engine"]["restarts"]), (before, &json!(0)));
}

#[test]
fn without_an_embedder_it_is_said_what_to_run_and_one_that_is_built_is_found() {
    let appliance = Appliance::start(&Engine::echo());
    let error = appliance.post(EMBEDDINGS, &json!({ "input": "a" })).refusal(404);
    assert_eq!(error["code"], "no_embedder");
    assert!(error["message"].as_str().unwrap().contains("engine-builder build"));
    install_embedder(appliance.state_dir());
    appliance.status_when("the embedder is found", |status| status["embedder"].is_object());
    assert_eq!(embed(&appliance, &json!("a")).len(), 1);
}

#[test]
fn a_server_that_ends_takes_its_embedder_along() {
    let mut appliance = setup().start();
    embed(&appliance, &json!("a"));
    let pid = appliance.status()["embedder"]["pid"].as_u64().unwrap();
    appliance.signal(Signal::SIGTERM);
    assert!(appliance.wait_for_exit().success());
    assert!(!process::is_alive(u32::try_from(pid).unwrap()));
}
