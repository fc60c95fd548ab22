//! Our unit under a real systemd: what a restart, a crash, a hang and a stop do
//! to the engine and to those who ask it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

mod fetch;
mod holds;
mod install;
mod package;
mod update;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine_api::manifest::{FILE_NAME, LLAMA_CPP, Manifest};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::client::Client;
use tests::engine::{Engine, REAL, real_engine};
use tests::machine::Machine;
use tests::patience::until;
use tests::process::{self, Stuck};

const CHAT: &str = "/v1/chat/completions";

fn chat(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

fn assert_answers(machine: &Machine) {
    let reply = machine.client().post(CHAT, &chat("hello")).good();
    assert_eq!(reply["choices"][0]["message"]["content"], "hello");
}

/// Asks one question after the other, each on a connection of its own.
struct Asking {
    enough: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Duration>,
}

impl Asking {
    fn start(client: Client) -> Self {
        let (enough, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stop, count) = (Arc::clone(&enough), Arc::clone(&answered));
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let question = format!("question {}", count.load(Ordering::Relaxed));
                let answer = client.post(CHAT, &chat(&question)).good();
                assert_eq!(answer["choices"][0]["message"]["content"], question);
                count.fetch_add(1, Ordering::Relaxed);
                longest = longest.max(asked.elapsed());
            }
            longest
        });
        Self { enough, answered, thread }
    }

    /// Waits until a few more were answered. None may fail.
    fn go_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        until("a few more are answered", || {
            assert!(!self.thread.is_finished(), "a question was not answered");
            (self.answered.load(Ordering::Relaxed) > before + 3).then_some(())
        });
    }

    /// How many were answered, and the longest wait.
    fn end(self) -> (usize, Duration) {
        self.enough.store(true, Ordering::Relaxed);
        let longest = self.thread.join().expect("every question is answered");
        (self.answered.load(Ordering::Relaxed), longest)
    }
}

/// Waits until systemd has started the supervisor again, and it has the engine.
fn wait_for_another(machine: &Machine, before: u32) {
    until("there is another supervisor", || {
        Some(machine.supervisor()).filter(|&pid| pid != 0 && pid != before)
    });
    machine.wait_until_ready();
}

#[test]
fn a_restart_keeps_the_engine_and_answers_everybody() {
    let machine = Machine::boot(&Engine::echo_with_steps_of(2), None);
    assert_eq!(machine.property("NFileDescriptorStore"), "3");
    let worker = machine.worker();
    let asking: Vec<_> = (0..4).map(|_| Asking::start(machine.client())).collect();
    for _ in 0..5 {
        asking.iter().for_each(Asking::go_on);
        let before = machine.supervisor();
        machine.systemctl("restart");
        assert_ne!(machine.supervisor(), before);
        machine.wait_until_ready();
        assert_eq!(machine.worker(), worker);
    }
    for asking in asking {
        let (answered, longest) = asking.end();
        eprintln!("{answered} answered over five restarts, longest wait {longest:?}");
        assert!(longest < Duration::from_secs(10), "{answered} {longest:?}");
    }
    assert_eq!(machine.property("NFileDescriptorStore"), "3");
    assert_eq!(machine.status()["incidents"], json!([]));
}

#[test]
fn a_crash_keeps_the_engine_however_often_it_happens() {
    let machine = Machine::boot(&Engine::echo(), None);
    let worker = machine.worker();
    // More often than systemd's own limit of five in ten seconds.
    for crash in 1..=7 {
        let before = machine.supervisor();
        machine.signal(before, Signal::SIGKILL);
        // Answered by the next one, unless its predecessor was still there to take it.
        wait_for_another(&machine, before);
        assert_eq!(machine.worker(), worker);
        assert_eq!(machine.property("NRestarts"), crash.to_string());
        assert_answers(&machine);
    }
}

#[test]
fn who_connects_while_there_is_no_supervisor_is_answered_by_the_next() {
    let machine = Machine::boot(&Engine::echo(), None);
    let worker = machine.worker();
    let before = machine.supervisor();
    machine.signal(before, Signal::SIGKILL);
    until("it is gone", || (machine.supervisor() != before).then_some(()));
    assert_answers(&machine);
    assert_eq!(machine.worker(), worker);
}

#[test]
fn a_supervisor_of_which_any_part_hangs_is_ended_and_the_engine_kept() {
    let machine = Machine::boot(&Engine::echo(), Some("2s"));
    let worker = machine.worker();
    for (round, thread) in ["stoker", "telemetry", "store"].into_iter().enumerate() {
        let before = machine.supervisor();
        let stuck = Stuck::thread(machine.outside(before), thread);
        let hung = Instant::now();
        wait_for_another(&machine, before);
        eprintln!("{thread} hung: another serves after {:?}", hung.elapsed());
        drop(stuck);
        assert_eq!(machine.worker(), worker, "{thread}");
        assert_eq!(machine.property("NRestarts"), (round + 1).to_string());
        assert_answers(&machine);
    }
    let before = machine.supervisor();
    machine.signal(before, Signal::SIGSTOP);
    wait_for_another(&machine, before);
    assert_eq!(machine.worker(), worker);
    assert!(machine.journal().contains("atchdog"), "{}", machine.journal());
}

#[test]
fn a_stop_ends_the_engine_and_a_start_loads_it_again() {
    let machine = Machine::boot(&Engine::echo(), None);
    let worker = machine.worker();
    let outside = machine.outside(worker);
    machine.systemctl("stop");
    until("the engine is gone", || (!process::is_alive(outside)).then_some(()));
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(machine.property("NFileDescriptorStore"), "0");
    machine.systemctl("start");
    machine.wait_until_ready();
    assert_ne!(machine.worker(), worker);
    assert_answers(&machine);
}

#[test]
fn a_stop_ends_an_engine_that_hears_nothing_too() {
    let machine = Machine::boot(&Engine::echo(), None);
    let worker = machine.worker();
    let outside = machine.outside(worker);
    machine.signal(worker, Signal::SIGSTOP);
    machine.systemctl("stop");
    until("the engine is gone", || (!process::is_alive(outside)).then_some(()));
    assert_eq!(machine.property("Result"), "success");
}

#[test]
fn a_kill_by_hand_is_no_stop() {
    let machine = Machine::boot(&Engine::echo(), None);
    let (before, worker) = (machine.supervisor(), machine.worker());
    machine.signal(before, Signal::SIGTERM);
    wait_for_another(&machine, before);
    assert_eq!(machine.worker(), worker);
}

#[test]
fn an_upgraded_program_takes_the_engine_over() {
    let machine = Machine::boot(&Engine::echo(), None);
    let worker = machine.worker();
    let upgrade = "cp /usr/bin/stoker /usr/bin/stoker.new && echo upgraded >>/usr/bin/stoker.new \
                   && mv /usr/bin/stoker.new /usr/bin/stoker && cp /usr/bin/engine-worker \
                   /usr/bin/engine-worker.new && mv /usr/bin/engine-worker.new \
                   /usr/bin/engine-worker";
    machine.must(&["sh", "-c", upgrade]);
    machine.systemctl("restart");
    machine.wait_until_ready();
    assert_eq!(machine.worker(), worker);
    let program = format!("/proc/{}/exe", machine.supervisor());
    assert_eq!(machine.must(&["tail", "--bytes=9", &program]), "upgraded");
    assert_answers(&machine);
}

#[test]
fn an_engine_that_dies_under_systemd_is_started_again_and_kept_in_its_place() {
    let machine = Machine::boot(&Engine::echo(), None);
    let first = machine.worker();
    machine.signal(first, Signal::SIGKILL);
    let second = until("another runs", || {
        let engine = machine.status()["engine"].clone();
        let pid = engine["pid"].as_u64().filter(|pid| *pid != u64::from(first))?;
        (engine["state"]["name"] == "ready").then_some(pid)
    });
    until("the dead one's sockets are dropped", || {
        (machine.property("NFileDescriptorStore") == "3").then_some(())
    });
    machine.systemctl("restart");
    machine.wait_until_ready();
    assert_eq!(u64::from(machine.worker()), second);
}

#[test]
fn the_timer_is_there_and_its_unit_builds_again_what_is_stale() {
    let machine = Machine::boot(&Engine::echo(), None);
    let worker = machine.worker();
    let dir = machine.engines().join(REAL);
    fs::create_dir(&dir).unwrap();
    fs::copy(real_engine().join("weights.gguf"), dir.join("weights.gguf")).unwrap();
    let mut manifest = Manifest::read(&real_engine()).unwrap();
    manifest.backend.version = "llama-cpp-2 0.0.1".into();
    fs::write(dir.join(FILE_NAME), toml::to_string(&manifest).unwrap()).unwrap();
    // Where other tests run, who comes last of all would never get on.
    let hurry = "[Service]\nNice=0\nCPUWeight=100\nIOSchedulingClass=best-effort\n";
    let drop_in = "/etc/systemd/system/stoker-rebuild.service.d";
    let write = format!("mkdir {drop_in} && printf '%s' '{hurry}' >{drop_in}/test.conf");
    machine.must(&["sh", "-c", &write]);
    machine.must(&["systemctl", "daemon-reload"]);
    let url = format!("STOKER_URL=http://{}", machine.address());
    machine.must(&["systemctl", "set-environment", &url]);
    machine.must(&["systemctl", "start", "stoker-rebuild.timer"]);
    let built = machine.run(&["systemctl", "start", "stoker-rebuild.service"]);
    let journal = machine.must(&["journalctl", "--no-pager", "--unit=stoker-rebuild"]);
    assert!(built.is_ok() && journal.contains(&format!("built again: {REAL}")), "{journal}");
    assert_eq!(Manifest::read(&dir).unwrap().backend.version, LLAMA_CPP);
    assert_eq!(machine.worker(), worker, "what serves is not disturbed");
    assert_answers(&machine);
}
