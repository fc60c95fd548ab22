//! The governor over the whole appliance, on a board that is not there: limits
//! fall before the board slows itself down, nobody is dropped, limits recover.

use serde_json::{Value, json};
use tests::console::{said, stoker};
use tests::engine::install_embedder;
use tests::patience::until;
use tests::virtual_board::{HELD_WHILE_IT_GETS_HOT, VirtualBoard, held, wait, with_users};

fn notch(status: &Value) -> Option<u64> {
    status["governor"]["notch"].as_u64()
}

fn is_at_full_power(status: &Value) -> bool {
    notch(status) == Some(0) && status["limits"]["pace_us"] == 0
}

/// Warm already, with a fan that is stuck, and eight times as fast as a real one.
fn hot_board() -> VirtualBoard {
    VirtualBoard::start(&[
        "--ambient",
        "42",
        "--warm",
        "84",
        "--speed",
        "8",
        "--fault",
        "fan stuck",
    ])
}

#[test]
fn limits_fall_with_heat_and_rise_when_it_leaves() {
    let board = hot_board();
    let appliance = board.appliance().start();
    wait(&appliance, "the clock may be capped", |status| {
        status["governor"]["gpu_clock_may_be_capped"] == true
    });
    let usual = board.gpu_cap();
    with_users(&appliance, || {
        let hot = wait(&appliance, "limits fall", |status| {
            // The first notch is half of the step to the next clock: a pause alone.
            let capped = !status["governor"]["gpu_cap_hertz"].is_null();
            status["governor"]["limiting"] == "heat" && capped
        });
        let reason = hot["governor"]["reason"].as_str().unwrap();
        assert!(HELD_WHILE_IT_GETS_HOT.contains(&held(reason)), "{reason}");
        assert!(!hot["governor"]["changes"].as_array().unwrap().is_empty());
        until("the clock is capped", || (board.gpu_cap() < usual).then_some(()));
        board.faults("ambient 20");
        wait(&appliance, "limits recover", is_at_full_power);
    });
    // It is another thread that gives the clock back.
    until("the clock is given back", || (board.gpu_cap() == usual).then_some(()));
    let status = appliance.status();
    assert_eq!(
        (&status["engine"]["restarts"], &status["totals"]["failed"]),
        (&json!(0), &json!(0))
    );
    let metrics = appliance.get("/metrics");
    let metrics = metrics.text();
    assert!(metrics.contains("stoker_governor_notch 0"), "{metrics}");
}

#[test]
fn indexing_stands_still_in_the_heat_and_goes_on_afterwards() {
    let board = hot_board();
    let code = tempfile::tempdir().unwrap();
    std::fs::write(code.path().join("fan.rs"), "fn set_speed(duty: u8) { write(duty); }").unwrap();
    let path = code.path().display();
    let setup = board.appliance();
    let config = std::fs::read_to_string(setup.config_path()).unwrap();
    let appliance = setup
        .config(&format!("{config}[[repository]]\nname = \"fans\"\npath = \"{path}\"\n"))
        .start();
    let chunks = |status: &Value| status["index"]["repositories"][0]["chunks"] == 1;
    wait(&appliance, "it is cut into chunks", chunks);
    with_users(&appliance, || {
        let is_hot = |status: &Value| status["governor"]["limiting"] == "heat";
        wait(&appliance, "limits fall", is_hot);
        // Its one text now waits for its vector.
        install_embedder(appliance.state_dir());
        let held = wait(&appliance, "the vectors are held", |status| {
            status["index"]["vectors"]["state"] == "held"
        });
        let (index, vectors) = (&held["index"], &held["index"]["vectors"]);
        assert_eq!((&index["held"], &vectors["made"]), (&json!(true), &json!(0)), "{index}");
        for reason in [&index["held_because"], &vectors["reason"]] {
            assert!(reason.as_str().unwrap().contains("°C"), "{reason}");
        }
        // The embedder is not even started.
        assert_eq!(held["embedder"]["state"]["name"], "idle");
        let shown = said(&stoker(&appliance, &["index", "status"]));
        let still = "indexing stands still while the board is held back: ";
        assert!(!is_hot(&appliance.status()) || shown.contains(still), "{shown}");
        board.faults("ambient 20");
        wait(&appliance, "limits recover", is_at_full_power);
    });
    let made =
        wait(&appliance, "its text has a vector", |status| status["index"]["vectors"]["made"] == 1);
    assert_eq!(
        (&made["index"]["held"], &made["index"]["held_because"]),
        (&json!(false), &Value::Null)
    );
}

#[test]
fn limits_fall_when_no_temperature_can_be_read() {
    let board = VirtualBoard::start(&[]);
    let appliance = board.appliance().start();
    let zones = ["cpu", "gpu", "soc0", "soc1", "soc2", "tj"];
    let dead: String = zones.iter().map(|zone| format!("sensor {zone}-thermal dead\n")).collect();
    with_users(&appliance, || {
        wait(&appliance, "the board is seen", is_at_full_power);
        board.faults(&dead);
        wait(&appliance, "limits fall", |status| {
            status["governor"]["limiting"] == "blind" && status["limits"]["pace_us"] != 0
        });
        board.faults("");
        wait(&appliance, "limits recover", is_at_full_power);
    });
    let status = appliance.status();
    assert_eq!(
        (&status["engine"]["restarts"], &status["totals"]["failed"]),
        (&json!(0), &json!(0))
    );
}
