//! How a server starts and ends under systemd, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::engine::Engine;
use tests::notify::Listener;
use tests::patience::until;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

fn chat(tokens: usize) -> Value {
    json!({"messages": [{"role": "user", "content": "x".repeat(tokens)}], "stream": true})
}

fn wait_until_draining(appliance: &Appliance) {
    appliance.status_when("the drain has begun", |status| {
        status["engine"]["state"]["name"] == "draining"
    });
}

#[test]
fn a_drain_finishes_what_runs_and_refuses_what_comes() {
    let mut appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let worker = appliance.worker();
    let mut running = appliance.stream(CHAT, &chat(100));
    let _ = running.wait_for_text();
    appliance.signal(Signal::SIGTERM);
    wait_until_draining(&appliance);
    let error = appliance.post(CHAT, &chat(5)).refusal(503);
    assert!(error["message"].as_str().unwrap().contains("shutting down"), "{error}");
    let rest = running.transcript();
    assert!(rest.is_done(), "{rest:?}");
    assert_eq!(rest.finish_reason(0), Some("stop"));
    assert!(appliance.wait_for_exit().success(), "{}", appliance.log());
    assert!(!process::is_alive(worker));
}

#[test]
fn a_drain_gives_those_who_wait_their_turn() {
    let mut appliance = Appliance::start(&Engine::echo_with_steps_of(10).with_places(1));
    let mut running = appliance.stream(CHAT, &chat(100));
    let _ = running.wait_for_text();
    let waiting: Vec<_> = (0..3).map(|_| appliance.stream(CHAT, &chat(10))).collect();
    appliance.status_when("three wait", |status| status["queue"]["waiting"] == 3);
    appliance.signal(Signal::SIGTERM);
    for stream in waiting.into_iter().chain([running]) {
        let rest = stream.transcript();
        assert!(rest.is_done(), "{rest:?}");
    }
    assert!(appliance.wait_for_exit().success(), "{}", appliance.log());
}

#[test]
fn an_engine_that_dies_in_the_drain_is_replaced_and_answers_go_on() {
    let mut appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let mut running = appliance.stream(CHAT, &chat(100));
    let _ = running.wait_for_text();
    appliance.signal(Signal::SIGTERM);
    wait_until_draining(&appliance);
    process::signal(appliance.worker(), Signal::SIGKILL);
    let rest = running.transcript();
    assert!(rest.is_done() && rest.finish_reason(0) == Some("stop"), "{rest:?}");
    assert!(appliance.wait_for_exit().success(), "{}", appliance.log());
}

#[test]
fn an_idle_server_ends_cleanly_on_sigterm_and_sigint() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut appliance = Appliance::start(&Engine::echo());
        let worker = appliance.worker();
        // A connection that idles does not hold it up.
        let _idle = appliance.client().connect();
        appliance.signal(signal);
        assert!(appliance.wait_for_exit().success(), "{signal}: {}", appliance.log());
        assert!(!process::is_alive(worker), "{signal}");
    }
}

#[test]
fn a_server_whose_engine_loads_ends_cleanly() {
    let mut appliance = Setup::new(&Engine::echo_that_loads_for(60_000)).listen();
    let worker = until("the engine has a process", || appliance.status()["engine"]["pid"].as_u64());
    appliance.signal(Signal::SIGTERM);
    assert!(appliance.wait_for_exit().success(), "{}", appliance.log());
    until("the engine is gone", || {
        (!process::is_alive(u32::try_from(worker).unwrap())).then_some(())
    });
}

#[test]
fn a_drain_has_an_end_and_a_second_signal_a_sooner_one() {
    let mut appliance = Appliance::start(&Engine::echo_with_steps_of(50));
    let worker = appliance.worker();
    let mut running = appliance.stream(CHAT, &chat(2000));
    let _ = running.wait_for_text();
    appliance.signal(Signal::SIGTERM);
    wait_until_draining(&appliance);
    appliance.signal(Signal::SIGTERM);
    let _ = appliance.wait_for_exit();
    until("the engine is gone", || (!process::is_alive(worker)).then_some(()));
    assert!(!running.transcript().is_done(), "an answer that was cut off must not look finished");
}

#[test]
fn a_stream_that_outlasts_the_drain_ends_with_an_error() {
    let setup = Setup::new(&Engine::echo_with_steps_of(50));
    let mut appliance = setup.config("[server]\ndrain_timeout_s = 1\n").start();
    let mut running = appliance.stream(CHAT, &chat(2000));
    let _ = running.wait_for_text();
    appliance.signal(Signal::SIGTERM);
    let rest = running.transcript();
    let error = rest.error().expect("an answer that was cut off must not look finished");
    assert!(error["code"] == "shutting_down" && !rest.is_done(), "{rest:?}");
    let _ = appliance.wait_for_exit();
}

#[test]
fn systemd_hears_of_readiness_status_life_and_the_end() {
    let mut systemd = Listener::start();
    let socket = systemd.path();
    let mut appliance = Setup::new(&Engine::echo())
        .variable("NOTIFY_SOCKET", socket.to_str().unwrap())
        .variable("WATCHDOG_USEC", "400000")
        .start();
    systemd.wait_for("READY=1");
    let status = std::iter::repeat_with(|| systemd.wait_for("STATUS="));
    let ready = status.take(20).find(|status| status == "echo: ready");
    assert!(ready.is_some());
    for _ in 0..3 {
        systemd.wait_for("WATCHDOG=1");
    }
    appliance.signal(Signal::SIGTERM);
    systemd.wait_for("STOPPING=1");
    assert!(appliance.wait_for_exit().success());
}

#[test]
fn a_supervisor_that_stands_still_gives_no_sign_of_life() {
    let mut systemd = Listener::start();
    let socket = systemd.path();
    let appliance = Setup::new(&Engine::echo())
        .variable("NOTIFY_SOCKET", socket.to_str().unwrap())
        .variable("WATCHDOG_USEC", "400000")
        .start();
    systemd.wait_for("WATCHDOG=1");
    appliance.signal(Signal::SIGSTOP);
    systemd.forget();
    assert_eq!(systemd.hear("WATCHDOG=1", Duration::from_secs(1)), None);
    appliance.signal(Signal::SIGCONT);
    systemd.wait_for("WATCHDOG=1");
}
