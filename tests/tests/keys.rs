//! API keys: from the first one on everybody is asked, a running server notices, and
//! a key's name stands for it wherever somebody looks.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::client::Client;
use tests::console::{said, stoker};
use tests::engine::Engine;
use tests::patience::until;
use tests::process::program;

const CHAT: &str = "/v1/chat/completions";

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

/// Runs `stoker key` and gives what it printed.
fn key(state_dir: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program("stoker"))
        .arg("key")
        .args(arguments)
        .arg("--state-dir")
        .arg(state_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that takes no input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

/// An appliance that asks for keys, and alice's.
fn asking() -> (Appliance, String) {
    let appliance = Appliance::start(&Engine::echo());
    let alice = key(appliance.state_dir(), &["add", "alice"], "").unwrap();
    (appliance, alice.trim_end().to_owned())
}

fn status_with(appliance: &Appliance, header: (&str, &str)) -> u16 {
    let body = chat().to_string();
    appliance.client().send("POST", CHAT, &[header], body.as_bytes()).whole().status
}

#[test]
fn a_running_server_asks_from_the_first_key_on_and_forgets_a_removed_one() {
    let appliance = Appliance::start(&Engine::echo());
    assert_eq!(appliance.post(CHAT, &chat()).status, 200, "nobody is asked");
    let state_dir = appliance.state_dir();
    let alice = key(state_dir, &["add", "alice"], "").unwrap();
    let bearer = format!("Bearer {}", alice.trim_end());
    assert_eq!(appliance.post(CHAT, &chat()).status, 401);
    for header in [
        ("authorization", bearer.as_str()),
        ("x-api-key", alice.trim_end()),
        ("api-key", alice.trim_end()),
    ] {
        assert_eq!(status_with(&appliance, header), 200, "{}", header.0);
    }
    assert_eq!(status_with(&appliance, ("authorization", "Bearer undefined")), 401);
    assert_eq!(status_with(&appliance, ("authorization", &alice)), 401, "not a bearer");

    let own = "0123456789abcdef0123456789abcdef";
    key(state_dir, &["add", "bob", "--stdin"], &format!("{own}\n")).unwrap();
    assert_eq!(key(state_dir, &["list"], "").unwrap(), "alice\nbob\n");
    let weak = key(state_dir, &["add", "eve", "--stdin"], "hunter2\n").unwrap_err();
    assert!(weak.contains("32 to 512 characters") && !weak.contains("hunter2"), "{weak}");
    key(state_dir, &["remove", "alice"], "").unwrap();
    assert_eq!(status_with(&appliance, ("authorization", &bearer)), 401);
    assert_eq!(status_with(&appliance, ("x-api-key", own)), 200);

    appliance.signal(Signal::SIGTERM);
    let appliance = appliance.again();
    assert_eq!(appliance.post(CHAT, &chat()).status, 401, "after a restart as before");
    key(appliance.state_dir(), &["remove", "bob"], "").unwrap();
    assert_eq!(appliance.post(CHAT, &chat()).status, 401, "none is left, and nobody comes in");
    key(appliance.state_dir(), &["open"], "").unwrap();
    assert_eq!(appliance.post(CHAT, &chat()).status, 200);
}

#[test]
fn strangers_are_told_so_in_their_own_dialect() {
    let (appliance, _) = asking();
    let reply = appliance.post(CHAT, &chat());
    assert_eq!(reply.headers.get("www-authenticate"), Some("Bearer"));
    let message = "this server asks for an API key; send one as `Authorization: Bearer KEY`";
    let expected = json!({"error": {
        "message": message, "type": "authentication_error", "param": null, "code": "invalid_api_key"
    }});
    assert_eq!((reply.status, reply.json()), (401, expected));
    let reply = appliance.post("/api/chat", &chat());
    let expected = json!({"error": message, "code": "invalid_api_key"});
    assert_eq!((reply.status, reply.json()), (401, expected));
    let wrong = appliance.client().with_key("sk-0123456789").post(CHAT, &chat());
    assert!(wrong.text().contains("stoker key add NAME"), "{}", wrong.text());
}

#[test]
fn strangers_have_the_page_probes_and_the_catalogue_and_nothing_else() {
    let (appliance, alice) = asking();
    let known = appliance.client().with_key(&alice);
    let code = tempfile::tempdir().unwrap();
    let wish = json!({"path": code.path(), "name": "quetzal", "shared": true});
    assert_eq!(known.post("/api/repositories", &wish).good()["name"], "quetzal");
    let listed = |status: &Value| !status["index"]["repositories"].as_array().unwrap().is_empty();
    appliance.status_when("the repository is there", listed);

    for path in ["/", "/assets/page.js", "/health", "/ready", "/metrics", "/api/history"] {
        assert_eq!(appliance.get(path).status, 200, "{path}");
    }
    assert_eq!(appliance.get("/v1/models").good()["data"][0]["object"], "model");
    assert_eq!(appliance.get("/api/tags").status, 200);
    for path in ["/api/repositories", "/props", "/v1/requests/a/stream", "/not/served"] {
        assert_eq!(appliance.get(path).status, 401, "{path}");
    }
    let repository = |status: &Value| status["index"]["repositories"][0]["name"].clone();
    assert_eq!(repository(&appliance.status()), Value::Null);
    assert_eq!(repository(&known.get("/api/status").good()), "quetzal");
}

#[test]
fn a_name_stands_for_the_key_wherever_somebody_looks() {
    let place = Setup::new(&Engine::echo_with_steps_of(20)).variable("STOKER_LOG", "debug");
    let appliance = place.start();
    let alice = key(appliance.state_dir(), &["add", "alice"], "").unwrap();
    let alice = alice.trim_end();
    let known = appliance.client().with_key(alice);
    let long =
        json!({"messages": [{"role": "user", "content": "hello ".repeat(40)}], "stream": true});
    let answer = known.stream(CHAT, &long);
    let clients = |status: &Value| status["queue"]["clients"][0]["client"].clone();
    until("the queue shows who asks", || {
        (clients(&known.get("/api/status").good()) == "alice").then_some(())
    });
    assert_eq!(clients(&appliance.status()), "client 1", "strangers are not told who");
    assert!(answer.transcript().is_done());

    let database = Connection::open(appliance.state_dir().join("stoker.db")).unwrap();
    until("the request is in the history", || {
        let client: Option<String> =
            database.query_row("SELECT client FROM requests", [], |row| row.get(0)).ok();
        (client? == "alice").then_some(())
    });
    let log = appliance.log();
    assert!(log.contains("client=alice"), "{log}");
    let secret = alice.trim_start_matches("stoker-");
    assert!(!log.contains(secret));
    for file in fs::read_dir(appliance.state_dir()).unwrap().flatten() {
        let bytes = fs::read(file.path()).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{} has the key", file.path().display());
    }
}

#[test]
fn a_keys_chats_have_code_and_memory_without_asking_and_off_wins() {
    let code = tempfile::tempdir().unwrap();
    fs::write(code.path().join("fan.rs"), "fn set_speed(fan: &mut Fan) {}\n").unwrap();
    let path = code.path().display();
    let config = format!("[[repository]]\nname = \"board\"\npath = \"{path}\"\n");
    let appliance = Setup::new(&Engine::echo()).config(&config).start();
    let made = |arguments: &[&str]| {
        key(appliance.state_dir(), arguments, "").unwrap().trim_end().to_owned()
    };
    let alice = made(&["add", "alice", "--memory", "--code", "board"]);
    let bob = made(&["add", "bob"]);
    let (alice, bob) = (appliance.client().with_key(&alice), appliance.client().with_key(&bob));
    until("the repository is indexed", || {
        let list = alice.get("/api/repositories").good();
        (list["repositories"][0]["state"] == "indexed").then_some(())
    });
    let question = "how is the speed of the fan set?";
    let mut body = json!({"messages": [{"role": "user", "content": question}], "max_tokens": 900});
    let plain = bob.post(CHAT, &body).good();
    assert!(plain["usage"].get("stoker").is_none());
    let with_both = alice.post(CHAT, &body).good();
    let receipt = &with_both["usage"]["stoker"];
    assert_eq!(receipt["code"]["added"][0]["path"], "fan.rs", "{receipt}");
    assert_eq!(receipt["memory"]["messages"], 1);
    let ollama = json!({"messages": body["messages"], "stream": false});
    let told = alice.post("/api/chat", &ollama).good();
    assert_eq!(told["stoker"]["code"]["kept"][0]["path"], "fan.rs", "{told}");

    body["stoker"] = json!({"memory": "off", "repositories": []});
    let reply = alice.post(CHAT, &body);
    assert_eq!(reply.headers.get("x-stoker-receipt"), None);
    let off = reply.good();
    assert_eq!(off["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"]);
    assert_eq!(off["choices"][0]["message"], plain["choices"][0]["message"]);

    // A repository that is not there costs the code, and the receipt says so.
    let set = made(&["chats", "alice", "--code", "nowhere"]);
    assert_eq!(set, "chats of alice have code of nowhere without asking for it");
    let _ = body.as_object_mut().unwrap().remove("stoker");
    let answer = alice.post(CHAT, &body).good();
    let problem = answer["usage"]["stoker"]["problems"][0].as_str().unwrap();
    assert!(problem.contains("`nowhere`, which is not there"), "{problem}");
    assert_eq!(answer["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"]);
    assert_eq!(made(&["list"]), "alice  chats have code of nowhere\nbob");
    let _ = made(&["chats", "alice"]);
    assert!(alice.post(CHAT, &body).good()["usage"].get("stoker").is_none());
}

#[test]
fn health_asks_with_a_key_of_its_own_that_is_gone_afterwards() {
    let (appliance, alice) = asking();
    let config = appliance.state_dir().join("health.toml");
    fs::write(&config, format!("[server]\nlisten = \"{}\"\n", appliance.address())).unwrap();
    let health = Command::new(program("stoker"))
        .args(["health", "--patience-s", "20", "--config"])
        .arg(&config)
        .arg("--state-dir")
        .arg(appliance.state_dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&health.stdout);
    assert!(health.status.success(), "{said}");
    assert_eq!(key(appliance.state_dir(), &["list"], "").unwrap(), "alice\n");
    assert_eq!(status_with(&appliance, ("x-api-key", &alice)), 200);
}

#[test]
fn what_is_kept_for_a_key_goes_with_it_and_nothing_of_others() {
    let (appliance, alice) = asking();
    let bob = key(appliance.state_dir(), &["add", "bob"], "").unwrap().trim_end().to_owned();
    for (name, key) in [("balloon", &alice), ("zeppelin", &bob)] {
        let client = appliance.client().with_key(key);
        let messages = json!([{"role": "user", "content": format!("The {name} leaves at noon.")}]);
        let chat = json!({"model": "memory", "messages": messages, "stream": true});
        let _ = client.stream(CHAT, &chat).whole();
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("lift.rs"), format!("fn lift_{name}() {{}}\n")).unwrap();
        let from = files.path().to_str().unwrap();
        let _ = said(&stoker(&appliance, &["index", "upload", "yard", from, "--key", key]));
        until("it is indexed", || is_found(&client, name).then_some(()));
    }
    assert_eq!([kept(&appliance, "balloon"), kept(&appliance, "zeppelin")], [3, 3]);

    // Nobody is there to forget anything; whoever comes next is.
    appliance.signal(Signal::SIGKILL);
    key(appliance.state_dir(), &["remove", "alice"], "").unwrap();
    let appliance = appliance.again();
    until("hers is forgotten", || (kept(&appliance, "balloon") == 0).then_some(()));
    assert_eq!(kept(&appliance, "zeppelin"), 3);
    let client = appliance.client().with_key(&bob);
    assert!(is_found(&client, "zeppelin"));
    // A key that is added again before that keeps what is left of it.
    let waits = || fs::read_to_string(appliance.state_dir().join("removed-keys")).unwrap();
    until("nothing is left to be done", || waits().is_empty().then_some(()));
    key(appliance.state_dir(), &["add", "again", "--stdin"], &alice).unwrap();
    let client = appliance.client().with_key(&alice);
    assert_eq!(client.get("/api/repositories").good()["repositories"], json!([]));

    // And with a server that runs.
    key(appliance.state_dir(), &["remove", "bob"], "").unwrap();
    until("his is forgotten", || (kept(&appliance, "zeppelin") == 0).then_some(()));
}

fn is_found(client: &Client, word: &str) -> bool {
    let found = client.post("/v1/search", &json!({"query": word})).good();
    !found["data"].as_array().unwrap().is_empty()
}

/// How many of these hold a word: the memory of chats, the answers, and the index or its files.
fn kept(appliance: &Appliance, word: &str) -> usize {
    let holds = |begins: &str| {
        let all = files_below(appliance.state_dir());
        let mut named = all.iter().filter(|path| {
            path.strip_prefix(appliance.state_dir()).unwrap().to_string_lossy().starts_with(begins)
        });
        named.any(|path| {
            let bytes = fs::read(path).unwrap_or_default();
            bytes.windows(word.len()).any(|part| part == word.as_bytes())
        })
    };
    ["memory.db", "answers.db", "code"].into_iter().filter(|begins| holds(begins)).count()
}

fn files_below(from: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(from).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
