//! With the real worker and the default model's weights, both found where
//! `scripts/test` leaves them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use engine_api::manifest::Manifest;

use crate::engine::{real_engines as engines, real_weights as weights};
use crate::hub_model::{self, Known};
use crate::hub_server::{Answer, Server};
use crate::place::{Ended, Place};
use crate::sample::Sample;

/// Builds `weights` as the engine `mine`, small enough for any machine.
fn build(place: &Place, weights: &Path, context: &str, users: &str) -> Ended {
    let weights = weights.to_str().unwrap();
    let size = ["--context", context, "--users", users];
    place.run(&[&["build", "--gguf", weights, "--name", "mine"][..], &size].concat())
}

#[track_caller]
fn succeeded(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.clone()
}

#[test]
fn a_model_file_becomes_an_engine_that_is_built_once_and_replaced_when_asked() {
    let place = Place::new();
    assert!(succeeded(&build(&place, &weights(), "512", "1")).starts_with("mine is built: "));

    let manifest = Manifest::read(&place.engine("mine")).unwrap();
    assert_eq!(manifest.model.architecture, "llama");
    assert_eq!((manifest.serving.context, manifest.serving.max_sequences), (512, 1));
    assert!(manifest.capabilities.chat);
    let smoke = manifest.smoke.unwrap();
    assert!(smoke.decode_tokens_per_s > 0.0 && smoke.prefill_tokens_per_s > 0.0);
    assert_eq!(fs::read_link(place.engine("default")).unwrap(), Path::new("mine"));

    assert!(succeeded(&build(&place, &weights(), "512", "1")).starts_with("mine is already built"));
    let sound = succeeded(&place.run(&["verify", "mine"]));
    assert!(sound.starts_with("mine is sound: 1 of 1 files"), "{sound}");
    let answered = succeeded(&place.run(&["verify", "mine", "--smoke"]));
    assert!(answered.contains("answers as when it was built"), "{answered}");

    let rebuilt = succeeded(&build(&place, &weights(), "768", "1"));
    assert!(rebuilt.starts_with("mine is built: "), "{rebuilt}");
    assert_eq!(Manifest::read(&place.engine("mine")).unwrap().serving.context, 768);
    let listed = succeeded(&place.run(&["list"]));
    assert!(listed.contains("engine  mine "), "{listed}");
}

#[test]
fn a_model_from_a_hub_becomes_an_engine_and_is_not_asked_for_again() {
    let place = Place::new();
    let content = Arc::new(fs::read(weights()).unwrap());
    hub_model::put(&place, &content, Known::Yes);
    let hub = Server::new(move |_, _| Answer::File(Arc::clone(&content), "\"1\""));
    let build = || {
        let order = ["build", hub_model::ID, "--context", "512", "--users", "1"];
        Ended::from(place.command(&order).env("STOKER_HUB", hub.url()).output().unwrap())
    };
    assert!(succeeded(&build()).starts_with("small is built: "));
    let asked = hub.seen().len();
    assert!(asked > 1);
    let cached = place.path("cache/stoker/models/small/gguf").join(hub_model::FILE);
    let placed = place.engine("small").join("weights.gguf");
    let inode = |path: &Path| path.metadata().unwrap().ino();
    assert_eq!(inode(&cached), inode(&placed), "the weights take the disk twice");
    assert!(succeeded(&build()).starts_with("small is already built"));
    assert_eq!(hub.seen().len(), asked);
}

#[test]
fn greedy_answers_of_two_builds_are_the_same() {
    let (one, two) = (Place::new(), Place::new());
    let answer = |place: &Place, users: &str| {
        succeeded(&build(place, &weights(), "512", users));
        Manifest::read(&place.engine("mine")).unwrap().smoke.unwrap().answer_sha256
    };
    assert_eq!(answer(&one, "1"), answer(&two, "3"));
}

#[test]
fn an_engine_that_answers_otherwise_than_when_it_was_built_does_not_verify() {
    let place = Place::new();
    succeeded(&build(&place, &weights(), "512", "1"));
    let path = place.engine("mine").join("engine.toml");
    let mut manifest = Manifest::read(&place.engine("mine")).unwrap();
    manifest.smoke.as_mut().unwrap().answer_sha256 = "0".repeat(64);
    fs::write(path, toml::to_string(&manifest).unwrap()).unwrap();
    let ended = place.run(&["verify", "mine", "--smoke"]);
    ended.failed(7, &["it answers otherwise than when it was built"]);
}

#[test]
fn weights_that_changed_since_the_build_do_not_verify() {
    let place = Place::new();
    // A private copy: the engine's file may be a link to the one it came from.
    let copy = place.path("copy.gguf");
    fs::copy(weights(), &copy).unwrap();
    succeeded(&build(&place, &copy, "512", "1"));
    let placed = place.engine("mine").join("weights.gguf");
    assert_eq!(placed.metadata().unwrap().ino(), copy.metadata().unwrap().ino());
    let file = OpenOptions::new().write(true).open(&placed).unwrap();
    file.write_all_at(&[0x5a; 7], 50_000_000).unwrap();
    place.run(&["verify", "mine"]).failed(6, &["engine mine is damaged: weights.gguf has the"]);
}

#[test]
fn an_architecture_that_the_worker_does_not_know_is_refused_in_its_words() {
    let place = Place::new();
    let file = place.file("odd.gguf", &Sample::of("no-such-architecture").bytes());
    let ended = place.run(&["build", "--gguf", file.to_str().unwrap()]);
    ended.failed(7, &["the worker cannot load this model: ", "no-such-architecture"]);
    assert!(!place.engine("sample-model").exists());
}

#[test]
fn a_model_without_its_tensors_is_refused() {
    let place = Place::new();
    let file = place.file("hollow.gguf", &Sample::of("llama").bytes());
    let ended = place.run(&["build", "--gguf", file.to_str().unwrap()]);
    ended.failed(7, &["the worker cannot load this model: "]);
}

/// The small embedder's two files stand where a cache or a stick would have them.
fn build_embedder(place: &Place, from: &Path) -> Ended {
    place.run(&["build", "all-minilm", "--from", from.to_str().unwrap()])
}

#[test]
fn an_embedder_is_built_beside_the_default_and_never_becomes_it() {
    let place = Place::new();
    let built = succeeded(&build_embedder(&place, &engines()));
    assert!(built.starts_with("all-minilm-l6-v2 is built: "), "{built}");
    let manifest = Manifest::read(&place.engine("all-minilm-l6-v2")).unwrap();
    assert_eq!(manifest.embedding.as_ref().unwrap().dimension, 384);
    assert!(manifest.smoke.unwrap().prefill_tokens_per_s > 0.0);
    assert!(fs::symlink_metadata(place.engine("default")).is_err());
    let again = succeeded(&build_embedder(&place, &engines()));
    assert!(again.starts_with("all-minilm-l6-v2 is already built"), "{again}");
    let answered = succeeded(&place.run(&["verify", "all-minilm-l6-v2", "--smoke"]));
    assert!(answered.contains("2 of 2 files"), "{answered}");
    let kept = succeeded(&place.run(&["gc"]));
    assert!(kept.contains("all-minilm-l6-v2 stays"), "{kept}");
    place.run(&["use", "all-minilm-l6-v2"]).failed(2, &["makes embeddings and no answers"]);
    let wish = ["build", "all-minilm", "--users", "2"];
    place.run(&wish).failed(2, &["an embedder has neither users"]);
}

#[test]
fn an_embedder_of_other_files_is_refused_before_it_is_tried() {
    let (place, brought) = (Place::new(), tempfile::tempdir().unwrap());
    let dir = brought.path().join("all-minilm-l6-v2");
    fs::create_dir(&dir).unwrap();
    fs::copy(engines().join("all-minilm-l6-v2/model.onnx"), dir.join("model.onnx")).unwrap();
    fs::write(dir.join("tokenizer.json"), vec![b' '; 466_247]).unwrap();
    let ended = build_embedder(&place, brought.path());
    ended.failed(6, &["tokenizer.json has the sha256", "the catalogue says be50c3628f2b"]);
    assert!(!place.engine("all-minilm-l6-v2").exists());
}
