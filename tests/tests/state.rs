//! What an appliance says about itself: probes, the status document, metrics.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::answer::Event;
use tests::appliance::{Appliance, Setup};
use tests::engine::{Engine, install_into};
use tests::process;

const CHAT: &str = "/v1/chat/completions";

fn chat(fields: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hello"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn probes_say_loading_until_the_engine_is_ready() {
    let appliance = Setup::new(&Engine::echo_that_loads_for(1500)).listen();
    for path in ["/health", "/ready"] {
        let reply = appliance.get(path);
        assert_eq!(reply.status, 503, "{path}");
        let expected = json!({
            "error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}
        });
        assert_eq!(reply.json(), expected, "{path}");
    }
    let status = appliance.status();
    assert!(["starting", "loading"].contains(&status["engine"]["state"]["name"].as_str().unwrap()));
    appliance.wait_until_ready();
    assert_eq!(appliance.get("/health").good(), json!({"status": "ok"}));
    assert_eq!(appliance.get("/ready").status, 200);
    assert_eq!(appliance.status()["engine"]["state"]["name"], "ready");
}

#[test]
fn a_stream_asked_for_while_the_engine_loads_is_kept_alive_and_then_answered() {
    let appliance = Setup::new(&Engine::echo_that_loads_for(4000)).listen();
    let asked = Instant::now();
    let mut answer = appliance.stream(CHAT, &chat(&json!({"stream": true})));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.next_event(), Some(Event::Comment(" keep-alive".into())));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let rest = answer.transcript();
    assert_eq!((rest.text(0).as_str(), rest.is_done()), ("hello", true));
}

#[test]
fn a_request_without_a_stream_waits_for_the_engine() {
    let appliance = Setup::new(&Engine::echo_that_loads_for(1000)).listen();
    let reply = appliance.post(CHAT, &chat(&json!({}))).good();
    assert_eq!(reply["choices"][0]["message"]["content"], "hello");
}

#[test]
fn without_an_engine_it_says_what_to_run_and_serves_once_that_was_done() {
    let config = "[telemetry]\nperiod_ms = 200\n";
    let appliance = Setup::new(&Engine::Absent).config(config).listen();
    let error = appliance.post(CHAT, &chat(&json!({}))).refusal(503);
    assert!(error["message"].as_str().unwrap().contains("engine-builder build"), "{error}");
    let status = appliance.status();
    assert_eq!(status["engine"]["state"]["name"], "absent");
    assert!(
        appliance.get("/health").json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("engine-builder")
    );
    assert_eq!(appliance.get("/v1/models").good()["data"], json!([]));

    install_into(appliance.state_dir(), &Engine::echo());
    appliance.wait_until_ready();
    assert_eq!(appliance.post(CHAT, &chat(&json!({}))).good()["model"], "echo");
}

#[test]
fn the_status_document_has_every_documented_field() {
    let appliance = Appliance::start(&Engine::echo());
    let _ = appliance.post(CHAT, &chat(&json!({}))).good();
    let status = appliance.status_when("all was measured", |status| {
        status["totals"]["answered"] == 1
            && status["machine"].is_object()
            && status["engine"]["heartbeat"].is_object()
    });
    let names = |value: &Value| {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let fields = [
        "access",
        "at",
        "build",
        "embedder",
        "engine",
        "former_embedder",
        "governor",
        "idle",
        "incidents",
        "index",
        "limits",
        "machine",
        "memory",
        "problems",
        "queue",
        "rates",
        "schema",
        "supervisor_resident_bytes",
        "totals",
        "update",
        "uptime_s",
        "version",
    ];
    assert_eq!(names(&status), fields);
    let fields = [
        "aliases",
        "backend",
        "heartbeat",
        "heartbeat_age_ms",
        "model",
        "pid",
        "ready",
        "resident_bytes",
        "restarts",
        "state",
    ];
    assert_eq!(names(&status["engine"]), fields);
    assert_eq!(names(&status["queue"]), ["capacity", "clients", "running", "waiting"]);
    assert_eq!(status["schema"], 1);
    assert_eq!(
        (&status["engine"]["model"], &status["engine"]["aliases"]),
        (&json!("echo"), &json!(["parrot:7b"]))
    );
    let totals = &status["totals"];
    assert_eq!((&totals["requests"], &totals["completion_tokens"]), (&json!(1), &json!(5)));
    assert!(status["supervisor_resident_bytes"].as_u64().unwrap() > 0);
    assert!(appliance.get("/api/history").good().is_array());
}

/// Name, labels and value of each sample.
fn samples(page: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    lines.map(sample).collect()
}

#[test]
fn metrics_can_be_scraped() {
    let appliance = Appliance::start(&Engine::echo());
    let _ = appliance.post(CHAT, &chat(&json!({}))).good();
    appliance.status_when("all was measured", |status| {
        status["totals"]["answered"] == 1
            && status["machine"].is_object()
            && status["engine"]["heartbeat"].is_object()
    });
    let reply = appliance.get("/metrics");
    assert!(reply.headers.get("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let page = reply.text();
    let samples = samples(page);
    let mut series: Vec<_> = samples.iter().map(|(series, _)| series).collect();
    series.sort();
    series.dedup();
    assert_eq!(series.len(), samples.len(), "a series is there twice:\n{page}");
    for (series, _) in &samples {
        let family = series.split('{').next().unwrap();
        assert!(page.contains(&format!("# TYPE {family} ")), "{family} has no type");
        assert!(page.contains(&format!("# HELP {family} ")), "{family} has no help");
    }
    let value = |name: &str| {
        let found = samples.iter().find(|(series, _)| series == name);
        found.unwrap_or_else(|| panic!("no {name} in\n{page}")).1
    };
    assert_eq!(value("stoker_engine_up{model=\"echo\"}"), 1.0);
    assert_eq!(value("stoker_requests_ended_total{outcome=\"answered\"}"), 1.0);
    assert_eq!(value("stoker_completion_tokens_total"), 5.0);
    assert_eq!(value("stoker_requests_active"), 0.0);
    for name in [
        "stoker_queue_waiting",
        "stoker_prompt_tokens_total",
        "stoker_cached_prompt_tokens_total",
        "stoker_engine_step_seconds",
        "stoker_engine_restarts_total",
        "stoker_memory_used_bytes",
    ] {
        assert!(value(name) >= 0.0);
    }
}

#[test]
fn the_command_line_shows_the_status() {
    let appliance = Appliance::start(&Engine::echo());
    let url = format!("http://{}", appliance.address());
    let status = |format: &str| {
        let output = Command::new(process::program("stoker"))
            .args(["status", "--url", &url, "--format", format])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = status("text");
    assert!(text.contains("echo") && text.contains("ready"), "{text}");
    let json: Value = serde_json::from_str(&status("json")).unwrap();
    assert_eq!(json["engine"]["model"], "echo");
}
