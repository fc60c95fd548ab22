//! An embedder that llama.cpp runs behaves as the one that rten runs.
//!
//! Both have the same model, in 32 bits here and in eight there; what another
//! implementation makes of the latter is in `embeddings/all-minilm-l6-v2.json`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use engine_api::embedding::{Embedding, Pooling};
use engine_api::manifest::{Capabilities, FILE_NAME, Manifest};
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup, Shared};
use tests::engine::{Engine, GGUF_EMBEDDER, install_gguf_embedder, real_engine};

const EMBEDDINGS: &str = "/v1/embeddings";

/// Least cosine to the vector of the weights in eight bits.
const NEAR: f64 = 0.99;

static APPLIANCE: Shared = Shared::new();

fn appliance() -> std::sync::Arc<Appliance> {
    APPLIANCE.start_with(|| {
        let setup = Setup::new(&Engine::echo());
        install_gguf_embedder(setup.state_path());
        setup
    })
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn embed(appliance: &Appliance, input: &Value) -> Vec<Vec<f64>> {
    let reply = appliance.post(EMBEDDINGS, &json!({ "input": input })).good();
    reply["data"].as_array().unwrap().iter().map(|one| numbers(&one["embedding"])).collect()
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
fn its_vectors_are_those_of_the_same_model_in_another_runtime() {
    let appliance = appliance();
    let known = known();
    let texts: Vec<_> = known.iter().map(|(text, ..)| text).collect();
    let reply = appliance.post(EMBEDDINGS, &json!({ "model": GGUF_EMBEDDER, "input": texts }));
    let reply = reply.good();
    // With the two tokens around each text: it is cut into the same ones.
    let tokens: usize = known.iter().map(|(_, ids, _)| ids.as_array().unwrap().len() + 2).sum();
    assert_eq!(reply["usage"]["prompt_tokens"], tokens);
    for (one, (text, _, theirs)) in reply["data"].as_array().unwrap().iter().zip(&known) {
        let ours = numbers(&one["embedding"]);
        assert!((product(&ours, &ours).sqrt() - 1.0).abs() < 1e-5, "{text}");
        let cosine = product(&ours, theirs) / product(theirs, theirs).sqrt();
        assert!(cosine >= NEAR, "{text}: {cosine}");
    }
}

#[test]
fn a_vector_is_the_same_alone_in_a_list_and_as_ids() {
    let appliance = appliance();
    let known = known();
    // More than one part, of very different lengths.
    let mut texts: Vec<String> = known.iter().map(|(text, ..)| text.clone()).collect();
    texts.extend((1..40).map(|words| "fan speed ".repeat(words)));
    let together = embed(&appliance, &json!(texts));
    for at in [0, 1, 2, 15, 16, 41] {
        assert_eq!(embed(&appliance, &json!(texts[at])), [together[at].clone()], "{}", texts[at]);
    }
    let ids: Vec<_> = known.iter().map(|(_, ids, _)| ids).collect();
    assert_eq!(embed(&appliance, &json!(ids)), together[..ids.len()]);
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers() {
    let appliance = appliance();
    let long = "fan ".repeat(700);
    let error = appliance.post(EMBEDDINGS, &json!({ "input": ["fan", long] })).refusal(400);
    assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(702), &json!(512)));
    let longest = "fan ".repeat(510);
    assert_eq!(embed(&appliance, &json!(longest)).len(), 1);
    let status = appliance.status();
    assert_eq!(
        (&status["embedder"]["backend"], &status["embedder"]["restarts"]),
        (&json!("llama-cpp"), &json!(0))
    );
}

/// The default model, a decoder, as an embedder.
fn install_decoder(state_dir: &Path) {
    let built = real_engine();
    let mut manifest = Manifest::read(&built).unwrap();
    manifest.id = "decoder".into();
    manifest.capabilities = Capabilities { embedding: true, ..Capabilities::default() };
    manifest.serving.max_sequences = 1;
    manifest.serving.cached_sequences = 0;
    manifest.embedding = Some(Embedding {
        dimension: 576,
        pooling: Pooling::Last,
        normalise: true,
        query_prefix: "Query: ".into(),
        document_prefix: String::new(),
    });
    let placed = state_dir.join("engines/decoder");
    fs::create_dir(&placed).unwrap();
    for file in &manifest.files {
        symlink(built.join(&file.path).canonicalize().unwrap(), placed.join(&file.path)).unwrap();
    }
    fs::write(placed.join(FILE_NAME), toml::to_string(&manifest).unwrap()).unwrap();
}

#[test]
fn a_decoder_makes_its_vector_of_the_last_token_of_a_text_of_any_length() {
    let setup = Setup::new(&Engine::echo());
    install_decoder(setup.state_path());
    let appliance = setup.start();
    // More than one step of the model computes.
    let long = "the fan turns and turns ".repeat(50);
    let texts = json!(["fan", long, format!("{long} slowly"), long]);
    let made = embed(&appliance, &texts);
    for vector in &made {
        assert_eq!(vector.len(), 576);
        assert!((product(vector, vector).sqrt() - 1.0).abs() < 1e-5);
    }
    // Nothing of the text before it is left, and all of a text counts.
    assert_eq!(made[1], made[3]);
    assert_eq!(embed(&appliance, &texts[0])[0], made[0]);
    assert!(product(&made[1], &made[2]) < 0.999);
}
