//! The governor over HTTP on a board that is not there, beyond heat: memory that
//! runs short, over-current, what the operator asked for, and a supervisor that is
//! killed while it holds the clock down. Heat itself is in `heat.rs`.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::Appliance;
use tests::virtual_board::{HELD_WHILE_IT_GETS_HOT, VirtualBoard, ask, held, wait, with_users};

const CHAT: &str = "/v1/chat/completions";

/// Lets others hold so much that the board has about so many megabytes left, with an
/// engine of 1B weights loaded.
fn leaves(board: &VirtualBoard, appliance: &Appliance, megabytes: u64) {
    board.faults("");
    // Of 8.0 GB the system takes 1.4 and the weights 0.8: a reading from before the
    // engine was loaded says more.
    let idle = wait(appliance, "the weights are loaded and others let go", |status| {
        (5_000_000_000..6_200_000_000).contains(&available(status))
    });
    let others = available(&idle) / 1_000_000 - megabytes;
    board.faults(&format!("memory {others}"));
}

fn available(status: &Value) -> u64 {
    status["machine"]["memory"]["available_bytes"].as_u64().unwrap_or(0)
}

fn admission(status: &Value) -> &str {
    status["governor"]["admission"].as_str().unwrap_or("unknown")
}

fn limiting(status: &Value) -> &str {
    status["governor"]["limiting"].as_str().unwrap_or("unknown")
}

fn queue(status: &Value) -> (Option<u64>, Option<u64>) {
    (status["queue"]["running"].as_u64(), status["queue"]["waiting"].as_u64())
}

fn chat(content: &str, max_tokens: u32) -> Value {
    json!({
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "stream": true,
    })
}

#[test]
fn when_memory_is_short_one_goes_on_and_others_wait_or_are_refused() {
    let board = VirtualBoard::start(&[]);
    let appliance = board.appliance().start();
    leaves(&board, &appliance, 390);
    let short = wait(&appliance, "memory is short", |status| admission(status) == "waits");
    let reason = short["governor"]["reason"].as_str().unwrap();
    assert_eq!(limiting(&short), "memory");
    assert!(reason.contains("the next request waits until one has ended"), "{reason}");

    // An answer of half a minute runs; the next one has a place in the engine and waits
    // all the same.
    let long = "runs ".repeat(380);
    let mut first = appliance.stream(CHAT, &chat(&long, 4000));
    let _ = first.wait_for_text();
    thread::scope(|scope| {
        let second = scope.spawn(|| ask(&appliance, 2));
        let both = appliance
            .status_when("the second one waits", |status| queue(status) == (Some(1), Some(1)));
        assert_eq!(admission(&both), "waits", "{both}");

        leaves_less(&board, &both, 90);
        wait(&appliance, "nobody is taken", |status| admission(status) == "shut");
        let refused = appliance.post(CHAT, &chat("too late", 10));
        assert!(refused.headers.number("retry-after").is_some_and(|s| s > 0), "{refused:?}");
        let error = refused.refusal(503);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("of memory left"), "{message}");
        assert_eq!(queue(&appliance.status()), (Some(1), Some(1)), "who is there stays");

        board.faults("");
        wait(&appliance, "there is memory again", |status| admission(status) == "open");
        second.join().unwrap();
    });
    let rest = first.transcript();
    assert!(rest.is_done(), "the long answer ends as if nothing had been");
    assert_eq!(appliance.status()["totals"]["failed"], 0);
}

/// As [`leaves`], from a status in which others hold something already.
fn leaves_less(board: &VirtualBoard, status: &Value, megabytes: u64) {
    let held = fs::read_to_string(board.root().join("run/virtual/faults")).unwrap();
    let held: u64 = held.trim().strip_prefix("memory ").unwrap().parse().unwrap();
    let others = held + available(status) / 1_000_000 - megabytes;
    board.faults(&format!("memory {others}"));
}

#[test]
fn a_cache_that_grows_into_the_last_memory_closes_the_door_before_the_end() {
    let board = VirtualBoard::start(&[]);
    let appliance = board.appliance().start();
    leaves(&board, &appliance, 800);
    let start = wait(&appliance, "others hold it", |status| available(status) < 900_000_000);
    assert_eq!(admission(&start), "open");
    // Each prompt is another one and leaves 3900 tokens of 32 kB as a prefix.
    let mut answered: u64 = 0;
    for user in 0..12 {
        let prompt = format!("user {user} says ") + &"x".repeat(3900);
        let body = json!({"messages": [{"role": "user", "content": prompt}], "max_tokens": 4});
        let reply = appliance.post(CHAT, &body);
        if reply.status == 503 {
            break;
        }
        let _ = reply.good();
        answered += 1;
        // What it took shows with a later reading; the governor looks then.
        let held = answered * 3900 * 32_768;
        wait(&appliance, "the cache shows in the board's memory", |status| {
            available(status) + held < 830_000_000
        });
    }
    let status = wait(&appliance, "nobody is taken", |status| admission(status) == "shut");
    assert!((3..=6).contains(&answered), "{answered} prompts were let in: {status}");
    assert!(available(&status) > 100_000_000, "there is enough for the others: {status}");
}

#[test]
fn over_current_that_costs_speed_lowers_the_clock_and_events_alone_do_not() {
    // MAXN_SUPER counts events all the time; that is how it works.
    let board = VirtualBoard::start(&["--mode", "2", "--speed", "4"]);
    let appliance = board.appliance().start();
    let events = |status: &Value| -> u64 {
        let counters = status["machine"]["throttle"]["over_current"].as_array();
        counters.into_iter().flatten().filter_map(|it| it["events"].as_u64()).sum()
    };
    with_users(&appliance, || {
        let some = wait(&appliance, "events are counted", |status| events(status) > 50);
        assert_eq!((limiting(&some), &some["governor"]["notch"]), ("nothing", &json!(0)));
        board.faults("supply weak\nload 6\n");
        let slow = wait(&appliance, "the clock is lowered", |status| {
            limiting(status) == "over_current" && !status["governor"]["gpu_cap_hertz"].is_null()
        });
        let reason = slow["governor"]["reason"].as_str().unwrap();
        assert!(reason.contains("over-current events a second make steps"), "{reason}");
    });
    assert_eq!(appliance.status()["totals"]["failed"], 0);
}

/// A board with these arguments, under an appliance with this profile.
fn with_profile(profile: &str, board: &[&str]) -> (VirtualBoard, Appliance) {
    let board = VirtualBoard::start(&[&["--speed", "10"], board].concat());
    let appliance = board.appliance().variable("STOKER_GOVERNOR__PROFILE", profile).start();
    let read = appliance.status_when("the board is read", |it| it["governor"].is_object());
    assert_eq!(read["governor"]["profile"], profile);
    (board, appliance)
}

#[test]
fn each_profile_holds_the_temperature_that_it_promises() {
    for (profile, warm, promised) in
        [("quiet", "60", 70.0..=70.0), ("balanced", "84", HELD_WHILE_IT_GETS_HOT)]
    {
        let (_board, appliance) = with_profile(profile, &["--fan", "stuck", "--warm", warm]);
        with_users(&appliance, || {
            let hot = wait(&appliance, "heat limits", |status| limiting(status) == "heat");
            let reason = hot["governor"]["reason"].as_str().unwrap();
            assert!(promised.contains(&held(reason)), "{profile}: {reason}");
        });
        assert_eq!(appliance.status()["totals"]["failed"], 0, "{profile}");
    }
}

#[test]
fn a_budget_of_watts_is_kept() {
    let (_board, appliance) = with_profile("watts:9", &[]);
    let watts = |status: &Value| status["machine"]["power_watts"].as_f64();
    with_users(&appliance, || {
        let lower = wait(&appliance, "the budget limits", |status| limiting(status) == "budget");
        let reason = lower["governor"]["reason"].as_str().unwrap();
        assert!(reason.contains("of a budget of 9 W"), "{reason}");
        wait(&appliance, "the machine keeps to it", |status| {
            limiting(status) == "budget" && watts(status).is_some_and(|watts| watts <= 9.3)
        });
    });
}

#[test]
fn a_cap_does_not_outlast_the_supervisor_that_was_killed() {
    let (board, appliance) = with_profile("watts:7", &[]);
    let cap = || board.gpu_cap();
    let usual = cap();
    with_users(&appliance, || {
        wait(&appliance, "the clock is capped", |_| cap() < usual);
    });
    appliance.signal(Signal::SIGKILL);
    let setup = appliance.ended();
    assert!(cap() < usual, "whoever is killed can put nothing back");

    // With a budget that nothing exceeds, the next one puts it back.
    let appliance = setup.variable("STOKER_GOVERNOR__PROFILE", "watts:20").start();
    wait(&appliance, "the usual clock is back", |_| cap() == usual);
    let mode = fs::read_to_string(board.root().join("var/lib/nvpmodel/status")).unwrap();
    assert_eq!(mode.trim(), "pmode:0001", "no power mode was changed");
    ask(&appliance, 1);
    assert_eq!(cap(), usual);
}
