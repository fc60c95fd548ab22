//! Plans for boards, the catalogue's table and users' own files, as a person
//! and a program see them.

use std::fs;

use serde_json::Value;

use crate::place::{Ended, Place};

fn plan(place: &Place, arguments: &[&str]) -> Ended {
    place.run(&[&["plan"], arguments].concat())
}

#[track_caller]
fn objects(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The default model's file under another id, with its own names.
fn own_file(id: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/smollm2-135m-instruct.toml");
    let text = fs::read_to_string(path).unwrap();
    let names = r#"aliases = ["smollm2:135m", "smollm2-135m", "smollm2"]"#;
    assert!(text.contains(names));
    text.replace("smollm2-135m-instruct", id).replace(names, "aliases = []")
}

#[test]
fn a_plan_for_programs_has_every_command_line_as_a_list() {
    let place = Place::new();
    let board = ["qwen2.5-coder:7b", "--board", "agx-orin-64gb", "--jetpack", "6.2"];
    let planned = objects(&plan(&place, &[&board[..], &["--format", "json"]].concat()));
    let [plan] = planned.as_slice() else { panic!("{planned:?}") };
    assert_eq!(plan["kind"], "plan");
    assert_eq!(plan["backend"], "tensorrt-llm");
    assert_eq!(plan["release"]["l4t"], "36.4.3");
    let steps = plan["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fetch", "convert", "build", "verify", "publish"]);
    let build = steps[2]["argv"].as_array().unwrap();
    assert!(build[0].as_str().unwrap().ends_with("/bin/trtllm-build"));
    let flag = build.iter().position(|argument| argument == "--max_batch_size").unwrap();
    assert_eq!(build[flag + 1], "4");
    assert!(steps[1]["expected_s"].is_null(), "what nobody has published is not a number");
    let need: u64 = ["weights_bytes", "kv_bytes", "working_bytes"]
        .map(|part| plan["memory"][part].as_u64().unwrap())
        .iter()
        .sum();
    assert!(need <= plan["memory"]["budget_bytes"].as_u64().unwrap());
}

#[test]
fn a_plan_for_people_leaves_nothing_behind() {
    let place = Place::new();
    let ended = plan(&place, &["qwen3:4b", "--board", "orin-nx-16gb", "--users", "2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("qwen3-4b on orin-nx-16gb with JetPack 6.2.2 (L4T 36.5.0)\n"));
    for part in ["2 at once, 32768 tokens each", "(estimate", "rejected\n", "steps\n  1 fetch"] {
        assert!(ended.stdout.contains(part), "{part:?} is not in {}", ended.stdout);
    }
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

#[test]
fn this_machine_is_planned_for_when_no_board_is_named() {
    let ended = plan(&Place::new(), &["smollm2", "--format", "json"]);
    let planned = objects(&ended);
    assert_eq!(planned[0]["board"]["memory_is"], "measured");
}

#[test]
fn a_captured_board_is_planned_for_with_what_it_has() {
    let place = Place::new();
    place.file("board/proc/device-tree/compatible", b"nvidia,p3701-0005\0nvidia,tegra234\0");
    place.file("board/etc/nv_tegra_release", b"# R36 (release), REVISION: 4.3, GCID: 1\n");
    let meminfo =
        "MemTotal: 64349016 kB\nMemAvailable: 60000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
    place.file("board/proc/meminfo", meminfo.as_bytes());
    let board = place.path("board");
    let board = board.to_str().unwrap();
    let planned = objects(&plan(&place, &["llama3", "--board", board, "--format", "json"]));
    assert_eq!(planned[0]["board"]["name"], "agx-orin-64gb");
    assert_eq!(planned[0]["board"]["memory_is"], "measured");
    assert_eq!(planned[0]["release"]["jetpack"], "6.2");
    fs::remove_file(place.path("board/etc/nv_tegra_release")).unwrap();
    plan(&place, &["llama3", "--board", board]).failed(2, &["name its release with --jetpack"]);
    let gone = format!("{board}/nowhere");
    plan(&place, &["llama3", "--board", &gone]).failed(2, &["there is no directory"]);
}

#[test]
fn what_cannot_be_is_refused_with_what_can() {
    let place = Place::new();
    let refused = |arguments: &[&str], code, parts: &[&str]| {
        plan(&place, arguments).failed(code, parts);
    };
    refused(&["qwen3-80b"], 3, &["there is no model", "qwen3-8b"]);
    refused(&["phi3", "--board", "orin-nano-8"], 2, &["there is no board", "orin-nano-8gb"]);
    refused(&["phi3", "--board", "orin-nano-8gb", "--jetpack", "5.1"], 2, &["there are 6.0, 6.1"]);
    refused(&["phi3", "--board", "orin-nano-8gb", "--context", "9000"], 2, &["the 4096 tokens"]);
    let bad = ["phi3", "--board", "orin-nano-8gb", "--jetpack", "36.4.7"];
    refused(&bad, 9, &["NvMap error 12", "36.5.0"]);
    let qwen3 = ["qwen3:8b", "--board", "agx-orin-64gb", "--backend", "tensorrt-llm"];
    refused(&qwen3, 9, &["does not know the Qwen3 architecture", "what would fit: "]);
    let large = ["llama3", "--board", "orin-nano-4gb"];
    refused(&large, 4, &["more than the board can give", "what would fit: llama-3.2-1b"]);
}

#[test]
fn an_embedder_is_planned_like_any_model() {
    let place = Place::new();
    let board = ["all-minilm", "--board", "orin-nano-4gb", "--jetpack", "6.0"];
    let planned = objects(&plan(&place, &[&board[..], &["--format", "json"]].concat()));
    assert_eq!((&planned[0]["kind"], &planned[0]["backend"]), (&"plan".into(), &"rten".into()));
    assert_eq!(planned[0]["steps"].as_array().unwrap().len(), 4);
    let text = plan(&place, &board).stdout;
    assert!(text.starts_with("all-minilm-l6-v2 on orin-nano-4gb with JetPack 6.0"), "{text}");
    let other = [&board[..], &["--backend", "llama-cpp"]].concat();
    plan(&place, &other).failed(2, &["all-minilm-l6-v2 runs by rten"]);
}

#[test]
fn a_users_own_model_is_listed_and_planned() {
    let place = Place::new();
    place.file("models.d/mine.toml", own_file("mine").as_bytes());
    let listed = objects(&place.run(&["list", "--format", "json"]));
    let mine = listed.iter().find(|item| item["id"] == "mine").unwrap();
    assert_eq!(mine["kv_bytes_per_token"], 23040);
    let planned = plan(&place, &["mine", "--board", "orin-nano-8gb"]);
    assert!(planned.stdout.starts_with("mine on orin-nano-8gb"), "{planned:?}");
}

#[test]
fn a_users_file_that_is_wrong_stops_every_command_with_its_place() {
    let place = Place::new();
    let wrong = own_file("mine").replace("licence", "license");
    place.file("models.d/mine.toml", wrong.as_bytes());
    for arguments in [&["list"][..], &["plan", "smollm2"], &["build", "smollm2"]] {
        let parts = ["models.d/mine.toml:5: license: unknown key; did you mean licence?"];
        place.run(arguments).failed(2, &parts);
    }
}

#[test]
fn the_catalogue_is_a_table_with_headings() {
    let ended = Place::new().run(&["list"]);
    assert_eq!(ended.code, Some(0));
    let mut lines = ended.stdout.lines();
    let heading = lines.next().unwrap();
    let first = lines.next().unwrap();
    for (name, value) in
        [("parameters", "135 M"), ("licence", "Apache-2.0"), ("backends", "llama-cpp")]
    {
        assert_eq!(heading.find(name), first.find(value), "{heading}\n{first}");
    }
}

#[test]
fn what_this_machine_cannot_build_is_refused_with_the_reason() {
    let place = Place::new();
    let build = |arguments: &[&str]| place.run(&[&["build"], arguments].concat());
    place.file(
        "pc/proc/meminfo",
        b"MemTotal: 64000000 kB\nMemAvailable: 60000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    );
    let pc = place.path("pc");
    build(&["llama3", "--backend", "tensorrt-llm", "--root", pc.to_str().unwrap()])
        .failed(9, &["tensorrt-llm: 0.12.0-jetson runs on Jetson Orin only"]);
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1, "only the staged machine");
}
