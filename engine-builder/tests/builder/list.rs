//! `engine-builder fetch --list`: what to bring to a box without a network.

use std::fs;

use expect_test::expect;

use crate::place::Place;

#[test]
fn a_known_file_is_listed_with_its_place_size_and_hash() {
    let ended = Place::new().run(&["fetch", "--list", "qwen3:4b"]);
    let listed = ended.stdout.split(" (0.").next().unwrap();
    expect![[r#"
        qwen3-4b (gguf, Apache-2.0) from Qwen/Qwen3-4B-GGUF at bc640142c66e1fdd12af0bd68f40445458f3869b
          qwen3-4b/gguf/Qwen3-4B-Q4_K_M.gguf
              2497280256 bytes (2.3 GiB), sha256 7485fe6f11af29433bc51cab58009521f205840f5b4ae3a32fa7f92e8534fdf5
        1 models; bring the files in these directories and use `build MODEL --from DIR`"#]]
    .assert_eq(listed);
}

#[test]
fn what_nobody_knows_is_said_to_be_unknown() {
    let ended = Place::new().run(&["fetch", "--list", "meta-llama-3-8b-instruct"]);
    assert!(ended.stdout.contains("at a revision that is unknown"), "{ended:?}");
    assert!(ended.stdout.contains("size unknown, sha256 unknown"), "{ended:?}");
    assert!(ended.stdout.contains("terms to be accepted at the hub"), "{ended:?}");
}

#[test]
fn a_checkpoint_is_a_directory_of_files() {
    let list = ["fetch", "--list", "qwen3-4b", "--form", "checkpoint"];
    let ended = Place::new().run(&list);
    for line in [
        "qwen3-4b/checkpoint/config.json\n",
        "qwen3-4b/checkpoint/tokenizer.json (either of the two",
        "qwen3-4b/checkpoint/model.safetensors (or, in its place, model.safetensors.index.json",
    ] {
        assert!(ended.stdout.contains(line), "{ended:?}");
    }
    Place::new()
        .run(&["fetch", "--list", "qwen3-4b", "--form", "gptq"])
        .failed(2, &["is not published as gptq, only as gguf, checkpoint, awq"]);
}

#[test]
fn programs_get_every_model_and_null_for_what_is_unknown() {
    let place = Place::new();
    let ended = place.run(&["fetch", "--list", "--format", "json"]);
    let lines = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let (files, result) = lines.split_at(lines.len() - 1);
    assert_eq!(files.len(), 16, "{ended:?}");
    assert_eq!(result[0]["models"], 16);
    let of = |model: &str| files.iter().find(|file| file["model"] == model).unwrap();
    assert_eq!(of("smollm2-135m-instruct")["bytes"], 98_362_432);
    assert!(of("phi-3-mini-4k-instruct")["revision"].is_null());
    assert!(of("meta-llama-3-8b-instruct")["sha256"].is_null());
    assert!(!place.path("state").exists() && fs::read_dir(place.dir.path()).unwrap().count() == 0);
}
