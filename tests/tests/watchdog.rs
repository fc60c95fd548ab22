//! Engines that hang, requests that kill, and what is tried before giving up.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::engine::{Engine, real_engine};
use tests::patience::until;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

fn chat(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}], "stream": true})
}

fn incidents(appliance: &Appliance) -> Vec<Value> {
    appliance.status()["incidents"].as_array().unwrap().clone()
}

fn state(appliance: &Appliance) -> String {
    appliance.status()["engine"]["state"]["name"].as_str().unwrap().to_owned()
}

#[test]
fn an_engine_that_is_stopped_is_killed_and_its_answers_go_on() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let said = "q".repeat(200);
    let mut answer = appliance.stream(CHAT, &chat(&said));
    let first = answer.wait_for_text();
    let stopped = Instant::now();
    process::signal(appliance.worker(), Signal::SIGSTOP);
    let rest = answer.transcript();
    assert_eq!((first + &rest.text(0), rest.is_done()), (said, true));
    let incident = &incidents(&appliance)[0];
    assert_eq!(incident["kind"], "engine_stalled", "{incident}");
    // Steps of 20 ms, four times that as the floor, three of those and a second,
    // then the rest of the answer. The bound is wide because others compute too.
    assert!(stopped.elapsed() < Duration::from_secs(15), "{:?}", stopped.elapsed());
}

#[test]
fn an_engine_that_stands_still_while_its_heart_beats_is_killed() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let body = json!({"messages": [{"role": "user", "content": "please !stall@9 now"}]});
    let refusal = appliance.post(CHAT, &body).refusal(503);
    assert_eq!(refusal["code"], "engine_failed");
    let kinds: Vec<_> = incidents(&appliance).iter().map(|i| i["kind"].clone()).collect();
    assert_eq!(
        kinds,
        ["request_quarantined", "engine_stalled", "engine_stalled", "engine_stalled"]
    );
}

#[test]
fn a_prompt_whose_computing_never_ends_costs_nobody_else_his_answer() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let said = "w".repeat(300);
    let mut other = appliance.stream(CHAT, &chat(&said));
    let first = other.wait_for_text();
    // The first token is due when the prompt has been computed.
    let refusal = appliance.stream(CHAT, &chat("please !stall@1 now")).transcript();
    assert_eq!(refusal.text(0), "");
    let message = refusal.error().unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("taken out (incident "), "{message}");
    let rest = other.transcript();
    assert_eq!((first + &rest.text(0), rest.is_done()), (said, true));
}

#[test]
fn of_eight_requests_only_the_one_that_kills_fails() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let innocent = |number: u8| char::from(b'a' + number).to_string().repeat(150);
    thread::scope(|scope| {
        let others: Vec<_> = (0..7)
            .map(|number| {
                let appliance = &appliance;
                scope.spawn(move || appliance.stream(CHAT, &chat(&innocent(number))).transcript())
            })
            .collect();
        let poison =
            scope.spawn(|| appliance.stream(CHAT, &chat("please !exit@12 now")).transcript());
        let poison = poison.join().unwrap();
        let message = poison.error().unwrap()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("taken out (incident "), "{message}");
        assert!(!poison.is_done());
        assert_eq!(poison.text(0), "please !exi");
        for (number, other) in (0..).zip(others) {
            let other = other.join().unwrap();
            assert_eq!((other.text(0), other.is_done()), (innocent(number), true));
        }
    });
    let status = appliance.status_when("all are counted", |status| {
        status["totals"]["failed"] == 1 && status["totals"]["answered"] == 7
    });
    assert!(status["engine"]["restarts"].as_u64().unwrap() <= 6, "{}", status["engine"]);
}

#[test]
fn a_step_that_fails_for_all_is_the_end_of_one_request_only() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    thread::scope(|scope| {
        let others: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| appliance.stream(CHAT, &chat(&"k".repeat(150))).transcript()))
            .collect();
        let poison = appliance.stream(CHAT, &chat("please !fail@12 now")).transcript();
        assert!(poison.error().is_some() && !poison.is_done());
        for other in others {
            let other = other.join().unwrap();
            assert_eq!((other.text(0), other.is_done()), ("k".repeat(150), true));
        }
    });
}

#[test]
fn what_is_tried_gets_less_until_only_the_status_is_served() {
    let appliance = Appliance::start(&Engine::echo_that_loads_for(1500));
    let mut last = 0;
    let mut reduced = false;
    while state(&appliance) != "failed" {
        let status = appliance.status();
        let worker = status["engine"]["pid"].as_u64().unwrap_or(0);
        if worker != 0 && worker != last {
            last = worker;
            process::signal(u32::try_from(worker).unwrap(), Signal::SIGKILL);
        }
        let problems = status["problems"].as_array().unwrap();
        reduced |= problems.iter().any(|problem| problem["kind"] == "engine_reduced");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(reduced, "smaller limits were tried and shown");
    let done: Vec<String> = incidents(&appliance)
        .iter()
        .rev()
        .map(|i| i["done"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "it is started again at once",
        "it is started again in 1 s",
        "it is started again in 2 s, with smaller limits",
        "it is started again in 4 s, with smaller limits",
        "it is started again in 8 s, with smaller limits",
        "after 6 tries only the status is served; it is tried again every 5 minutes",
    ];
    assert_eq!(done, expected);
    let refusal = appliance.post(CHAT, &chat("hello")).refusal(503);
    assert!(refusal["message"].as_str().unwrap().contains("signal: 9"), "{refusal}");
    assert_eq!(appliance.get("/health").status, 503);
    assert_eq!(appliance.get("/").status, 200);
}

#[test]
fn another_engine_is_served_when_the_chosen_one_cannot_be_loaded() {
    let setup = Setup::new(&Engine::echo());
    let engines = setup.state_path().join("engines");
    let manifest = fs::read_to_string(real_engine().join("engine.toml")).unwrap();
    let broken = engines.join("broken");
    fs::create_dir(&broken).unwrap();
    let manifest = manifest.replace("id = \"smollm2-135m-instruct\"", "id = \"broken\"");
    fs::write(broken.join("engine.toml"), manifest).unwrap();
    fs::write(broken.join("weights.gguf"), "GGUF and then nothing").unwrap();
    symlink(&broken, engines.join("default")).unwrap();

    let appliance = setup.start();
    // By the name of the engine that is broken.
    let mut body = chat("hello");
    body["model"] = json!("broken");
    let answer = appliance.stream(CHAT, &body).transcript();
    assert_eq!((answer.text(0).as_str(), answer.is_done()), ("hello", true));
    let status = appliance.status();
    assert_eq!(status["problems"][0]["kind"], "engine_fallback", "{}", status["problems"]);
    let kinds: Vec<_> = incidents(&appliance).iter().map(|i| i["kind"].clone()).collect();
    assert_eq!(kinds, ["engine_load_failed", "engine_load_failed"]);
    let told = appliance.log();
    assert!(told.contains("weights.gguf has 21 bytes, not "), "{told}");
    assert!(told.contains("`engine-builder build broken` builds it again"), "{told}");
}

#[test]
fn a_load_that_stands_still_is_ended_and_tried_again() {
    let appliance = Appliance::start(&Engine::echo_that_loads_for(3000));
    let first = appliance.worker();
    // `Appliance::start` waits until it is ready, so the next load is stopped.
    process::signal(first, Signal::SIGKILL);
    let second = until("the next one loads", || {
        let status = appliance.status();
        let pid = status["engine"]["pid"].as_u64()?;
        let loads = status["engine"]["state"]["name"] == "loading";
        (pid != u64::from(first) && loads).then_some(u32::try_from(pid).unwrap())
    });
    process::signal(second, Signal::SIGSTOP);
    tests::patience::within(Duration::from_secs(60), || {
        (incidents(&appliance)[0]["kind"] == "engine_stalled").then_some(())
    })
    .expect("the load is found to stand still");
    appliance.wait_until_ready();
    let answer = appliance.stream(CHAT, &chat("hello")).transcript();
    assert_eq!((answer.text(0).as_str(), answer.is_done()), ("hello", true));
}
