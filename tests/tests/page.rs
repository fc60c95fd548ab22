//! The status page in a real browser.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use nix::sys::signal::Signal;
use serde_json::json;
use tests::appliance::{Appliance, Setup};
use tests::browser::{Browser, Screen};
use tests::engine::Engine;
use tests::patience::until;
use tests::process;

fn open(appliance: &Appliance, screen: Screen) -> Browser {
    let browser = Browser::start(screen);
    browser.open(&format!("http://{}/", appliance.address()));
    browser
}

/// Waits until the page says all of `words`.
fn wait_for(browser: &Browser, words: &[&str]) {
    until(&format!("the page says {words:?}"), || {
        let text = browser.text().to_lowercase();
        words.iter().all(|word| text.contains(&word.to_lowercase())).then_some(())
    });
}

/// Nothing went wrong in it, and it asked nobody but its own server.
fn assert_clean(browser: &Browser, appliance: &Appliance) {
    assert_eq!(browser.complaints(), [""; 0]);
    let own = format!("http://{}/", appliance.address());
    let asked = browser.requests();
    assert!(asked.iter().any(|url| url.ends_with("/api/status")), "{asked:?}");
    let foreign: Vec<_> =
        asked.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn it_shows_the_model_and_that_it_is_ready() {
    let appliance = Appliance::start(&Engine::echo());
    let browser = open(&appliance, Screen::Desk);
    wait_for(&browser, &["echo", "ready", "queue", "temperature", "memory", "incidents"]);
    assert_eq!(browser.evaluate("document.title.includes('Stoker')"), true);
    assert_clean(&browser, &appliance);
}

#[test]
fn it_follows_what_happens() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20).with_places(1));
    let browser = open(&appliance, Screen::Desk);
    wait_for(&browser, &["ready"]);
    let chat = json!({"messages": [{"role": "user", "content": "x".repeat(1000)}], "stream": true});
    let stream = |last| appliance.client().from_host(last).stream("/v1/chat/completions", &chat);
    let mut running = stream(2);
    let _ = running.wait_for_text();
    let _waiting = stream(3);
    wait_for(&browser, &["127.0.0.2", "127.0.0.3"]);
    process::signal(appliance.worker(), Signal::SIGKILL);
    wait_for(&browser, &["the engine stopped while it ran a request"]);
    assert!(
        browser.evaluate("document.querySelectorAll('svg polyline').length").as_u64().unwrap() > 0
    );
    assert_clean(&browser, &appliance);
}

#[test]
fn it_shows_repositories_of_code_and_conversations_in_numbers() {
    let code = tempfile::tempdir().unwrap();
    std::fs::write(code.path().join("a.rs"), "fn a() {}\n").unwrap();
    let path = code.path().display();
    let config = format!(
        "[[repository]]\nname = \"fans\"\npath = \"{path}\"\n\
         [[repository]]\nname = \"nowhere\"\npath = \"/nowhere/at/all\"\n\
         [[repository]]\nurl = \"git://127.0.0.1:1/lan\"\n"
    );
    let appliance = Setup::new(&Engine::echo()).config(&config).start();
    let browser = open(&appliance, Screen::Phone);
    wait_for(&browser, &["No chat had code or memory since the start."]);
    let said = "the zeppelin leaves at noon";
    let chat = json!({
        "messages": [{"role": "user", "content": said}],
        "stoker": {"memory": "auto", "repositories": ["*"]},
    });
    let _ = appliance.post("/v1/chat/completions", &chat).good();
    wait_for(
        &browser,
        &[
            "fans is indexed",
            "1 file · 1 chunk",
            "nowhere failed: look at /nowhere/at/all: no such file",
            "No embedder is installed, so search goes by words alone.",
            "lan failed: its host does not answer",
            "tokens: system 0, ledger 0,",
        ],
    );
    let chats = "document.getElementById('chats').innerText.replace(/\\s+/g, ' ').toLowerCase()";
    let chats = browser.evaluate(chats);
    assert!(chats.as_str().unwrap().contains("conversations 1 messages 1 "), "{chats}");
    let width = browser.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(width <= 360, "the page is {width} points wide");
    assert!(!browser.text().contains("zeppelin"), "what was said is nobody's business");
    assert_clean(&browser, &appliance);
}

#[test]
fn it_fits_a_phone() {
    let appliance = Appliance::start(&Engine::echo());
    let browser = open(&appliance, Screen::Phone);
    wait_for(&browser, &["echo", "ready"]);
    assert_eq!(browser.evaluate("window.innerWidth"), 360);
    let width = browser.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(width <= 360, "the page is {width} points wide");
    assert_clean(&browser, &appliance);
}

#[test]
fn it_says_why_there_is_no_engine() {
    let appliance = Setup::new(&Engine::Absent).listen();
    let browser = open(&appliance, Screen::Phone);
    wait_for(&browser, &["there is no engine", "engine-builder build"]);
    let width = browser.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(width <= 360, "the page is {width} points wide");
    assert_clean(&browser, &appliance);
}

#[test]
fn it_says_when_the_server_is_gone() {
    let mut appliance = Appliance::start(&Engine::echo());
    let browser = open(&appliance, Screen::Desk);
    wait_for(&browser, &["ready"]);
    appliance.signal(Signal::SIGKILL);
    let _ = appliance.wait_for_exit();
    wait_for(&browser, &["connection lost", "trying again"]);
}
