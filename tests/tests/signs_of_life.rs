//! The watchdog above the supervisor: each of its threads is really made to
//! stand still, and no sign of life is given until it moves again. A sensor that
//! hangs is no reason to be ended.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::time::Duration;

use serde_json::json;
use tests::appliance::{Appliance, Setup};
use tests::engine::Engine;
use tests::notify::Listener;
use tests::process::Stuck;

/// Twice the time in which systemd would lose patience.
const LONG: Duration = Duration::from_millis(1200);

fn start(systemd: &Listener) -> Appliance {
    let setup = Setup::new(&Engine::echo()).under(systemd);
    setup.variable("WATCHDOG_USEC", "600000").start()
}

fn assert_silent_while(systemd: &mut Listener, thread: &str) {
    let appliance = start(systemd);
    systemd.wait_for("WATCHDOG=1");
    let stuck = Stuck::thread(appliance.pid(), thread);
    systemd.forget();
    // One may have been on its way.
    let _ = systemd.hear("WATCHDOG=1", LONG / 4);
    assert_eq!(systemd.hear("WATCHDOG=1", LONG), None, "{thread} stands still");
    drop(stuck);
    systemd.wait_for("WATCHDOG=1");
}

#[test]
fn a_main_loop_that_stands_still_gives_no_sign_of_life() {
    assert_silent_while(&mut Listener::start(), "stoker");
}

#[test]
fn a_telemetry_thread_that_stands_still_gives_no_sign_of_life() {
    assert_silent_while(&mut Listener::start(), "telemetry");
}

#[test]
fn a_store_thread_that_stands_still_gives_no_sign_of_life() {
    assert_silent_while(&mut Listener::start(), "store");
}

#[test]
fn a_sensor_that_never_answers_silences_itself_alone() {
    let mut systemd = Listener::start();
    let root = tempfile::tempdir().unwrap();
    let zone = root.path().join("sys/class/thermal/thermal_zone0");
    fs::create_dir_all(&zone).unwrap();
    fs::write(zone.join("type"), "cpu-thermal\n").unwrap();
    fs::write(zone.join("temp"), "41000\n").unwrap();
    let root_variable = root.path().to_str().unwrap();
    let appliance = Setup::new(&Engine::echo())
        .under(&systemd)
        .variable("WATCHDOG_USEC", "600000")
        .variable("STOKER_ROOT", root_variable)
        .config("[telemetry]\nperiod_ms = 100\n")
        .start();
    systemd.wait_for("WATCHDOG=1");
    // Whoever opens it waits for somebody to write.
    let sensor = zone.join("temp");
    nix::unistd::mkfifo(&zone.join("stuck"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::rename(zone.join("stuck"), &sensor).unwrap();
    appliance.status_when("the sensor is silent", |status| {
        let absent = status["machine"]["zones"][0]["absent"].as_str();
        absent.is_some_and(|why| why.contains("has not answered"))
    });
    systemd.forget();
    systemd.wait_for("WATCHDOG=1");
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let answer = appliance.post("/v1/chat/completions", &body).good();
    assert_eq!(answer["choices"][0]["message"]["content"], "hello", "answers go on");
}
