//! The whole appliance on a board that is not there: heat arrives, answers slow
//! down and finish, heat leaves.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tests::appliance::Appliance;
use tests::virtual_board::VirtualBoard;

/// The kernel lowers clocks from here on.
const THROTTLE_CELSIUS: f64 = 99.0;

fn words(user: usize) -> String {
    format!("user {user} wants this again ").repeat(8)
}

/// Asks once and checks that every word came.
fn ask(appliance: &Appliance, user: usize) {
    let body = json!({
        "messages": [{"role": "user", "content": words(user)}],
        "max_tokens": 4000,
        "stream": true,
    });
    let transcript = appliance.stream("/v1/chat/completions", &body).transcript();
    assert_eq!(transcript.text(0), words(user));
    assert!(transcript.is_done());
}

/// Ends what goes on until it is true, also where the test fails.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn zone(status: &Value, name: &str) -> Value {
    let zones = status["machine"]["zones"].as_array();
    let found = zones.into_iter().flatten().find(|zone| zone["name"] == name);
    found.cloned().unwrap_or_default()
}

fn junction(status: &Value) -> Option<f64> {
    zone(status, "tj-thermal")["celsius"].as_f64()
}

#[test]
fn heat_slows_the_answers_which_finish_and_it_leaves_again() {
    let board = VirtualBoard::start(&["--ambient", "30", "--speed", "120"]);
    let appliance = board.appliance().start();
    let cool = board.pace().stream_us;
    assert!(junction(&appliance.status()).is_some_and(|celsius| celsius < 60.0));

    board.faults("fan stuck");
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let until_enough = Enough(&enough);
        for user in 0..4 {
            let (appliance, enough) = (&appliance, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    ask(appliance, user);
                }
            });
        }
        let _ = appliance.status_when("the board is hot", |status| {
            junction(status).is_some_and(|celsius| celsius >= THROTTLE_CELSIUS)
        });
        drop(until_enough);
    });
    assert!(board.pace().stream_us > cool, "the clocks were never lowered");

    board.faults("");
    let _ = appliance.status_when("the board is cool again", |status| {
        junction(status).is_some_and(|celsius| celsius < 70.0)
    });
    assert_eq!(board.pace().stream_us, cool);
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}

#[test]
fn a_sensor_that_dies_is_absent_and_answers_go_on() {
    let board = VirtualBoard::start(&[]);
    let appliance = board.appliance().start();
    board.faults("sensor tj-thermal dead\nsensor VDD_IN dead");
    let status = appliance.status_when("the sensors are gone", |status| {
        junction(status).is_none() && status["machine"]["power_watts"].is_null()
    });
    assert!(zone(&status, "tj-thermal")["absent"].is_string(), "{status}");
    ask(&appliance, 1);
    board.faults("");
    let _ = appliance.status_when("the sensors are back", |status| junction(status).is_some());
}

#[test]
fn what_is_asked_heats_the_board_and_fills_its_memory() {
    let board = VirtualBoard::start(&["--speed", "20"]);
    let appliance = board.appliance().start();
    let memory = |status: &Value| status["machine"]["memory"]["available_bytes"].as_u64();
    let idle = appliance.status_when("the weights are there", |status| {
        // Without them there are 6.5 GB.
        memory(status).is_some_and(|bytes| bytes < 6_000_000_000)
    });
    let watts = |status: &Value| status["machine"]["power_watts"].as_f64();
    let rest = watts(&idle).unwrap();
    thread::scope(|scope| {
        let user = scope.spawn(|| (0..8).for_each(|_| ask(&appliance, 1)));
        let busy = appliance.status_when("work takes power", |status| {
            watts(status).is_some_and(|watts| watts > rest + 3.0)
        });
        assert!(memory(&busy) < memory(&idle), "{:?} {:?}", memory(&busy), memory(&idle));
        user.join().unwrap();
    });
    let _ = appliance.status_when("rest takes less", |status| {
        watts(status).is_some_and(|watts| watts < rest + 1.0)
    });
}
