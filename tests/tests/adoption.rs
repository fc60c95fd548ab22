//! A supervisor that ends, and one that comes after it: the engine stays
//! loaded, and nobody who connects meanwhile is turned away. The test plays
//! systemd, which keeps the descriptors; `systemd.rs` has the real one.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use engine_api::handover::control_pair;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::engine::{Engine, install_into};
use tests::notify::Listener;
use tests::patience::until;
use tests::process;

const CHAT: &str = "/v1/chat/completions";

fn chat(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}], "stream": true})
}

fn assert_answers(appliance: &Appliance, content: &str) {
    let stream = appliance.stream(CHAT, &chat(content)).transcript();
    assert_eq!((stream.text(0).as_str(), stream.is_done()), (content, true));
}

/// The next server, after this one was killed, with what systemd kept.
fn next(mut appliance: Appliance, systemd: &mut Listener) -> Setup {
    // What was on its way to systemd has arrived when the process is gone.
    let _ = appliance.wait_for_exit();
    let kept = systemd.kept();
    appliance.again_passed(kept)
}

fn assert_same_engine(appliance: &Appliance, worker: u32) {
    assert_eq!(appliance.worker(), worker);
    let status = appliance.status();
    assert_eq!(status["engine"]["restarts"], 0, "{}", appliance.log());
    assert_eq!(status["incidents"], json!([]));
}

#[test]
fn the_engine_survives_a_supervisor_that_is_killed() {
    let mut systemd = Listener::start();
    let mut appliance = Setup::new(&Engine::echo_with_steps_of(2)).under(&systemd).start();
    let (worker, address) = (appliance.worker(), appliance.address());
    for round in 0..5 {
        // Frames are under way in both directions at the moment of death.
        let mut running = appliance.stream(CHAT, &chat(&"x".repeat(3000)));
        let _ = running.wait_for_text();
        appliance.signal(Signal::SIGKILL);
        appliance = next(appliance, &mut systemd).start();
        assert_same_engine(&appliance, worker);
        assert_eq!(appliance.address(), address);
        // Ids begin anew: what the worker still computed belongs to nobody.
        assert_answers(&appliance, &format!("round {round}"));
    }
    appliance.status_when("the requests of the dead are forgotten", |status| {
        status["engine"]["heartbeat"]["decoding"] == 0
    });
}

#[test]
fn a_restart_finishes_answers_leaves_the_engine_and_lets_newcomers_wait() {
    let mut systemd = Listener::start();
    let mut appliance = Setup::new(&Engine::echo_with_steps_of(10)).under(&systemd).start();
    let worker = appliance.worker();
    let client = appliance.client();
    let mut running = appliance.stream(CHAT, &chat(&"x".repeat(100)));
    let _ = running.wait_for_text();
    appliance.signal(Signal::SIGTERM);
    systemd.wait_for("STOPPING=1");
    let newcomer = client.connect();
    let asking = thread::spawn(move || client.stream(CHAT, &chat("in between")).transcript());
    let rest = running.transcript();
    assert!(rest.is_done(), "{rest:?}");
    assert!(appliance.wait_for_exit().success(), "{}", appliance.log());
    assert!(process::is_alive(worker));
    let mut nothing = [0; 1];
    newcomer.set_nonblocking(true).unwrap();
    let refused = (&newcomer).read(&mut nothing).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock, "it waits");

    let appliance = next(appliance, &mut systemd).start();
    let answer = asking.join().unwrap();
    assert_eq!((answer.text(0).as_str(), answer.is_done()), ("in between", true));
    assert_same_engine(&appliance, worker);
}

#[test]
fn a_restart_of_an_idle_server_takes_no_time_and_loads_nothing() {
    let mut systemd = Listener::start();
    let mut appliance = Setup::new(&Engine::echo_that_loads_for(3000)).under(&systemd).start();
    let worker = appliance.worker();
    let begun = Instant::now();
    for _ in 0..3 {
        appliance.signal(Signal::SIGTERM);
        assert!(appliance.wait_for_exit().success());
        appliance = next(appliance, &mut systemd).start();
        assert_same_engine(&appliance, worker);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_answers(&appliance, "hello");
}

#[test]
fn an_engine_that_was_loading_goes_on_loading() {
    let mut systemd = Listener::start();
    let setup = Setup::new(&Engine::echo_that_loads_for(4000)).under(&systemd);
    let appliance = setup.listen();
    let pid = until("the engine has a process", || appliance.status()["engine"]["pid"].as_u64());
    appliance.status_when("it loads", |status| status["engine"]["state"]["name"] == "loading");
    appliance.signal(Signal::SIGKILL);
    let appliance = next(appliance, &mut systemd).start();
    assert_same_engine(&appliance, u32::try_from(pid).unwrap());
    assert_answers(&appliance, "hello");
}

#[test]
fn the_engine_ends_when_systemd_keeps_it_no_longer() {
    let mut systemd = Listener::start();
    let mut appliance = Setup::new(&Engine::echo()).under(&systemd).start();
    let worker = appliance.worker();
    appliance.signal(Signal::SIGTERM);
    assert!(appliance.wait_for_exit().success());
    assert!(process::is_alive(worker));
    systemd.drop_kept();
    until("the engine is gone", || (!process::is_alive(worker)).then_some(()));
}

#[test]
fn an_adopted_engine_that_dies_is_started_again_and_its_status_said_to_be_unknown() {
    let mut systemd = Listener::start();
    let appliance = Setup::new(&Engine::echo()).under(&systemd).start();
    let worker = appliance.worker();
    appliance.signal(Signal::SIGKILL);
    let appliance = next(appliance, &mut systemd).start();
    assert_same_engine(&appliance, worker);
    process::signal(worker, Signal::SIGKILL);
    appliance.status_when("another runs", |status| {
        status["engine"]["restarts"] == 1 && status["engine"]["state"]["name"] == "ready"
    });
    let log = appliance.log();
    assert!(log.contains("exit status unknown: an earlier supervisor started it"), "{log}");
    assert_answers(&appliance, "hello");
}

#[test]
fn an_engine_that_died_meanwhile_is_replaced() {
    let mut systemd = Listener::start();
    let mut appliance = Setup::new(&Engine::echo()).under(&systemd).start();
    let worker = appliance.worker();
    appliance.signal(Signal::SIGKILL);
    let _ = appliance.wait_for_exit();
    process::signal(worker, Signal::SIGKILL);
    until("the engine is gone", || (!process::is_alive(worker)).then_some(()));
    let appliance = next(appliance, &mut systemd).start();
    assert_ne!(appliance.worker(), worker);
    let status = appliance.status();
    assert_eq!(status["incidents"][0]["kind"], "engine_not_adopted");
    assert_eq!(status["engine"]["restarts"], 0);
    assert_answers(&appliance, "hello");
}

#[test]
fn an_engine_that_hangs_is_not_taken_over_but_ended_and_replaced() {
    let mut systemd = Listener::start();
    let mut appliance = Setup::new(&Engine::echo()).under(&systemd).start();
    let worker = appliance.worker();
    appliance.signal(Signal::SIGKILL);
    // Before, the kernel would end a stopped child with its parent.
    let _ = appliance.wait_for_exit();
    process::signal(worker, Signal::SIGSTOP);
    let appliance = next(appliance, &mut systemd).start();
    assert_ne!(appliance.worker(), worker);
    until("the engine is gone", || (!process::is_alive(worker)).then_some(()));
    assert_eq!(appliance.status()["incidents"][0]["kind"], "engine_not_adopted");
    assert!(appliance.log().contains("did not say hello"), "{}", appliance.log());
    assert_answers(&appliance, "hello");
}

#[test]
fn a_supervisor_that_wants_another_engine_replaces_the_one_that_runs() {
    let mut systemd = Listener::start();
    let appliance = Setup::new(&Engine::echo()).under(&systemd).start();
    let worker = appliance.worker();
    appliance.signal(Signal::SIGKILL);
    let setup = next(appliance, &mut systemd).config("[engine]\nthreads = 1\n");
    let appliance = setup.start();
    assert_ne!(appliance.worker(), worker);
    assert!(!process::is_alive(worker), "{}", appliance.log());
    assert_eq!(appliance.status()["incidents"], json!([]), "nothing went wrong");
    assert_answers(&appliance, "hello");
}

#[test]
fn an_engine_that_was_built_again_meanwhile_is_loaded_again() {
    let mut systemd = Listener::start();
    let appliance = Setup::new(&Engine::echo()).under(&systemd).start();
    let worker = appliance.worker();
    appliance.signal(Signal::SIGKILL);
    let setup = next(appliance, &mut systemd);
    fs::remove_dir_all(setup.state_path().join("engines")).unwrap();
    install_into(setup.state_path(), &Engine::echo().with_context(2048));
    let appliance = setup.start();
    assert_ne!(appliance.worker(), worker);
    assert_answers(&appliance, "hello");
}

#[test]
fn what_a_real_engine_computed_for_a_dead_supervisor_serves_the_next_one() {
    let mut systemd = Listener::start();
    let appliance = Setup::new(&Engine::Real).under(&systemd).start();
    let worker = appliance.worker();
    let mut body = chat(&"The fan turns and the stove is warm. ".repeat(12));
    body["max_tokens"] = json!(500);
    let mut running = appliance.stream(CHAT, &body);
    let _ = running.wait_for_text();
    appliance.signal(Signal::SIGKILL);
    let appliance = next(appliance, &mut systemd).start();
    assert_same_engine(&appliance, worker);
    body["stream"] = json!(false);
    body["max_tokens"] = json!(1);
    let usage = appliance.post(CHAT, &body).good()["usage"].clone();
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached + 8 >= prompt, "almost nothing is computed again: {usage}");
}

/// A worker whose hello says version 4711: a frame of four bytes, which are the
/// first variant, the version as a varint and the process id 1.
const FROM_THE_FUTURE: &str = r"import socket, time
control = socket.socket(fileno=0)
_, (connection,), _, _ = socket.recv_fds(control, 1, 1)
socket.socket(fileno=connection).send(bytes([4, 0, 0, 0, 0, 0xe7, 0x24, 1]))
time.sleep(600)";

#[test]
fn a_worker_of_another_protocol_version_is_replaced() {
    let (control, stdin) = control_pair().unwrap();
    let (log, output) = UnixStream::pair().unwrap();
    let mut worker = Reaped(
        Command::new("python3")
            .args(["-c", FROM_THE_FUTURE])
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::from(std::os::fd::OwnedFd::from(output)))
            .spawn()
            .unwrap(),
    );
    let pid = worker.0.id();
    let passed =
        vec![(format!("worker-control.{pid}"), control), (format!("worker-log.{pid}"), log.into())];
    let appliance = Setup::new(&Engine::echo()).passed(passed).start();
    assert_ne!(appliance.worker(), pid);
    until("it is ended", || worker.0.try_wait().unwrap());
    assert_eq!(appliance.status()["incidents"], json!([]), "an upgrade is nothing bad");
    assert!(appliance.log().contains("version 4711"), "{}", appliance.log());
    assert_answers(&appliance, "hello");
}

#[test]
fn descriptors_of_no_use_do_not_keep_a_server_from_starting() {
    let (one, other) = UnixStream::pair().unwrap();
    let passed = vec![
        ("listen".to_owned(), one.into()),
        ("worker-control.1".to_owned(), other.into()),
        ("worker-control.4000000000".to_owned(), control_pair().unwrap().0),
    ];
    let appliance = Setup::new(&Engine::echo()).passed(passed).start();
    assert_answers(&appliance, "hello");
}

/// A child that is gone when the test is.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
