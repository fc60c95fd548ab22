//! The whole appliance on a board that is not there: what it computes heats the
//! board and fills its memory. What heat does to it is in `heat.rs`.

use std::thread;

use serde_json::Value;
use tests::virtual_board::{VirtualBoard, ask};

fn zone(status: &Value, name: &str) -> Value {
    let zones = status["machine"]["zones"].as_array();
    let found = zones.into_iter().flatten().find(|zone| zone["name"] == name);
    found.cloned().unwrap_or_default()
}

fn junction(status: &Value) -> Option<f64> {
    zone(status, "tj-thermal")["celsius"].as_f64()
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
