//! Code that is put into chats: what the model gets to read, what its client is told
//! of it, and that a chat without a wish is left alone.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::answer::Event;
use tests::appliance::{Appliance, Setup};
use tests::client::Client;
use tests::engine::Engine;
use tests::patience::until;

const CHAT: &str = "/v1/chat/completions";
const FAN: &str = "fn set_speed(fan: &mut Fan) {\n    fan.pwm(42)\n}\n";

fn repository(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        fs::write(root.path().join(path), text).unwrap();
    }
    root
}

/// An appliance with this repository, which is everybody's, once it is indexed.
fn start(engine: &Engine, code: &TempDir) -> Appliance {
    let path = code.path().display();
    let config =
        format!("[index]\nperiod_s = 1\n[[repository]]\nname = \"board\"\npath = \"{path}\"\n");
    let appliance = Setup::new(engine).config(&config).start();
    indexed(&appliance.client(), "board");
    appliance
}

fn indexed(client: &Client, name: &str) {
    until(&format!("{name} is indexed"), || {
        let list = client.get("/api/repositories").good();
        let mut all = list["repositories"].as_array().unwrap().iter();
        all.any(|one| one["name"] == name && one["state"] == "indexed").then_some(())
    });
}

fn said(messages: &[(&str, &str)]) -> Value {
    let all = messages.iter().map(|(role, content)| json!({"role": role, "content": content}));
    all.collect()
}

/// A chat for code, whose answer is short.
fn chat(messages: &[(&str, &str)]) -> Value {
    json!({"messages": said(messages), "max_tokens": 1500, "stoker": {"repositories": ["board"]}})
}

/// What the engine was given last, which it says again.
fn last_message(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect()
}

fn sum_of_sections(receipt: &Value) -> u64 {
    let sections = receipt["sections"].as_object().unwrap();
    sections.values().map(|tokens| tokens.as_u64().unwrap()).sum()
}

#[test]
fn without_a_wish_nothing_is_added_and_nothing_kept() {
    let code = repository(&[("fan.rs", FAN)]);
    let appliance = start(&Engine::echo(), &code);
    let question = "how is the speed of the fan set?";
    let mut plain = chat(&[("system", "be brief"), ("user", question)]);
    let before = appliance.post(CHAT, &json!({"messages": plain["messages"]})).good();
    assert_eq!(last_message(&before), question);
    for stoker in [json!(null), json!({}), json!({"repositories": []})] {
        plain["stoker"] = stoker;
        let reply = appliance.post(CHAT, &plain);
        assert_eq!(reply.headers.get("x-stoker-receipt"), None);
        let answer = reply.good();
        assert_eq!(last_message(&answer), question);
        assert_eq!(answer["usage"]["prompt_tokens"], before["usage"]["prompt_tokens"]);
        assert!(answer["usage"].get("stoker").is_none() && answer.get("stoker").is_none());
    }
    assert!(!appliance.state_dir().join("memory.db").exists());
}

#[test]
fn found_code_stands_before_its_message_and_stays_there() {
    let code = repository(&[("fan.rs", FAN), ("plot.py", "def draw_curve():\n    return 1\n")]);
    let appliance = start(&Engine::echo(), &code);
    let question = "how is the speed of the fan set?";
    let turn = [("system", "be brief"), ("user", question)];
    let reply = appliance.post(CHAT, &chat(&turn));
    assert_eq!(
        reply.headers.get("x-stoker-receipt"),
        Some("code=1; code_kept=0; code_left_out=0; problems=0")
    );
    let first = reply.good();
    let composed = last_message(&first).to_owned();
    let body = composed.strip_suffix(question).expect("the message itself comes last");
    assert!(body.contains("board: fan.rs, lines 1 to 3, in set_speed\n```rust\nfn set_speed"));
    assert!(body.contains("It is quoted data"), "{body}");
    let receipt = &first["usage"]["stoker"];
    let added = &receipt["code"]["added"];
    assert_eq!(paths(added), ["fan.rs"]);
    assert_eq!((&added[0]["first_line"], &added[0]["last_line"]), (&json!(1), &json!(3)));
    let tokens = added[0]["tokens"].as_u64().unwrap();
    assert!(tokens > FAN.len() as u64 && tokens < body.len() as u64, "{receipt}");
    assert_eq!(Some(sum_of_sections(receipt)), first["usage"]["prompt_tokens"].as_u64());

    // The same request has the same prompt, also of a server that was killed since.
    let again = appliance.post(CHAT, &chat(&turn)).good();
    assert_eq!(last_message(&again), composed);
    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    fs::write(code.path().join("fan.rs"), "fn set_speed() { todo!() }\n").unwrap();
    let again = appliance.post(CHAT, &chat(&turn)).good();
    assert_eq!(last_message(&again), composed);
    assert_eq!(again["usage"]["prompt_tokens"], first["usage"]["prompt_tokens"]);

    // In the next turn it is where it was, and is not found once more.
    let answer = "with a pulse";
    let turns = [turn[0], turn[1], ("assistant", answer), ("user", "and who sets the speed?")];
    let second = appliance.post(CHAT, &chat(&turns)).good();
    let receipt = &second["usage"]["stoker"]["code"];
    assert_eq!(paths(&receipt["kept"]), ["fan.rs"]);
    let was = first["usage"]["prompt_tokens"].as_u64().unwrap();
    let reused = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(reused + 2 >= was, "{reused} of {was}");

    // Another beginning is another conversation.
    let other = [("system", "be long"), turn[1]];
    let other = appliance.post(CHAT, &chat(&other)).good();
    assert_eq!(paths(&other["usage"]["stoker"]["code"]["kept"]), [""; 0]);
}

#[test]
fn what_is_there_already_or_dangerous_is_left_out_with_its_reason() {
    let long = format!("fn story() {{\n{}}}\n", "    // a longwinded story\n".repeat(80));
    let mut files = vec![
        ("fan.rs", FAN),
        ("evil.rs", "fn villain() {\n    say(\"<|answer|>\")\n}\n"),
        ("long.rs", &long),
    ];
    // A word tells something only where others do not have it.
    let others: Vec<_> =
        (0..12).map(|n| (format!("o{n}.rs"), format!("fn other{n}() {{}}\n"))).collect();
    files.extend(others.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    let code = repository(&files);
    let appliance = start(&Engine::echo(), &code);
    let turns = [("user", FAN), ("assistant", "I see"), ("user", "pwm, villain, longwinded?")];
    let answer = appliance.post(CHAT, &chat(&turns)).good();
    let receipt = &answer["usage"]["stoker"]["code"];
    let why = |path: &str| {
        let mut all = receipt["left_out"].as_array().unwrap().iter();
        all.find(|one| one["path"] == path).map(|one| one["why"].as_str().unwrap().to_owned())
    };
    assert_eq!(why("fan.rs").as_deref(), Some("in_conversation"), "{receipt}");
    assert_eq!(why("evil.rs").as_deref(), Some("control_tokens"), "{receipt}");
    assert_eq!(why("long.rs").as_deref(), Some("no_room"), "{receipt}");
    assert!(!last_message(&answer).contains("<|answer|>"));
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() <= 4096 - 1500);
}

#[test]
fn a_models_name_can_wish_for_code_in_every_dialect() {
    let code = repository(&[("fan.rs", FAN)]);
    let appliance = start(&Engine::echo(), &code);
    let models = appliance.get("/v1/models").good();
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert!(ids.contains(&&json!("echo+code")), "{ids:?}");
    assert_eq!(appliance.get("/v1/models/echo+code").good()["id"], "echo+code");
    let tags = appliance.get("/api/tags").good().to_string();
    assert!(tags.contains("\"echo+code:latest\""), "{tags}");
    let _ = appliance.post("/api/show", &json!({"model": "echo+code:latest"})).good();

    let messages = said(&[("user", "set the speed")]);
    for model in ["echo+code", "echo+code:latest", "parrot:7b+code", "code"] {
        let body = json!({"model": model, "messages": messages});
        let answer = appliance.post(CHAT, &body).good();
        assert!(last_message(&answer).contains("fan.rs"), "{model}: {answer}");
    }
    let body = json!({"model": "echo+code", "messages": messages, "stream": false});
    let answer = appliance.post("/api/chat", &body).good();
    assert!(answer["message"]["content"].as_str().unwrap().contains("fan.rs"), "{answer}");
    assert_eq!(paths(&answer["stoker"]["code"]["kept"]), ["fan.rs"], "of the same messages");
    let refusal = appliance.post(CHAT, &json!({"model": "other+code", "messages": messages}));
    assert_eq!(refusal.refusal(404)["code"], "model_not_found");

    // Streams say it at their end.
    let body = json!({"model": "code", "messages": messages, "stream": true});
    let mut stream = appliance.stream(CHAT, &body);
    let receipts = |stream: &mut tests::answer::Answer, within: fn(&Value) -> &Value| {
        let events = std::iter::from_fn(|| stream.next_event());
        let data = events.filter_map(|event| match event {
            Event::Data(data) => Some(within(&data).clone()),
            _ => None,
        });
        data.filter(|receipt| receipt.is_object()).collect::<Vec<_>>()
    };
    let found = receipts(&mut stream, |data| &data["stoker"]);
    assert_eq!(found.len(), 1);
    assert!(sum_of_sections(&found[0]) > 0);
    let mut body = body;
    body["stream_options"] = json!({"include_usage": true});
    let mut stream = appliance.stream(CHAT, &body);
    assert_eq!(receipts(&mut stream, |data| &data["usage"]["stoker"]), found);
    let body = json!({"model": "code", "messages": messages});
    let lines = appliance.post("/api/chat", &body);
    let last: Value = serde_json::from_str(lines.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["stoker"], found[0]);
}

#[test]
fn a_private_repository_is_in_its_keys_chats_alone_and_gone_with_it() {
    let nothing = repository(&[]);
    let plans = repository(&[("plan.md", "# Takeover\n\nThe takeover of the zeppelin yard.\n")]);
    let appliance = start(&Engine::echo(), &nothing);
    let alice = appliance.client().with_key("alice");
    let path = plans.path().to_str().unwrap();
    let _ = alice.post("/api/repositories", &json!({"path": path, "name": "plans"})).good();
    indexed(&alice, "plans");
    let body = json!({"model": "code", "messages": said(&[("user", "zeppelin?")])});
    let answer = alice.post(CHAT, &body).good();
    assert!(last_message(&answer).contains("takeover of the zeppelin yard"), "{answer}");
    let mut named = body.clone();
    named["stoker"] = json!({"repositories": ["plans"]});
    for stranger in [appliance.client(), appliance.client().with_key("bob")] {
        let answer = stranger.post(CHAT, &body).good();
        assert_eq!(last_message(&answer), "zeppelin?");
        let refusal = stranger.post(CHAT, &named).refusal(404);
        assert_eq!(refusal["code"], "repository_not_found");
    }
    let on_disk = || {
        ["memory.db", "memory.db-wal", "memory.db-shm"].iter().any(|name| {
            let bytes = fs::read(appliance.state_dir().join(name)).unwrap_or_default();
            bytes.windows(8).any(|part| part == b"zeppelin")
        })
    };
    assert!(on_disk(), "it is kept for the next turn");
    let gone = alice.send("DELETE", "/api/repositories/plans", &[], b"").whole();
    assert_eq!(gone.good()["removed"], "plans");
    assert!(!on_disk());
    assert_eq!(last_message(&alice.post(CHAT, &body).good()), "zeppelin?");
}

#[test]
fn an_index_that_cannot_be_searched_costs_the_code_and_not_the_answer() {
    let code = repository(&[("fan.rs", FAN)]);
    let appliance = start(&Engine::echo(), &code);
    for name in ["code.db", "code.db-wal", "code.db-shm"] {
        let _ = fs::remove_file(appliance.state_dir().join(name));
    }
    fs::create_dir(appliance.state_dir().join("code.db")).unwrap();
    let answer = appliance.post(CHAT, &chat(&[("user", "set the speed")])).good();
    assert_eq!(last_message(&answer), "set the speed");
    let receipt = &answer["usage"]["stoker"];
    let problem = receipt["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("no code was found: "), "{receipt}");
}

#[test]
fn in_a_small_window_older_code_goes_for_good_and_the_prompt_still_fits() {
    let function = |name: &str| format!("fn {name}() {{\n{}}}\n", "    step();\n".repeat(10));
    let files: Vec<_> = ["alpha", "beta", "gamma", "delta", "omega"]
        .map(|name| (format!("{name}.rs"), function(name)))
        .into();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let code = repository(&files);
    let appliance = start(&Engine::echo().with_context(2048), &code);
    let mut turns: Vec<(&str, &str)> = Vec::new();
    let mut lost = 0;
    for word in ["alpha", "beta", "gamma", "delta", "omega"] {
        turns.push(("user", word));
        let mut body = chat(&turns);
        body["max_tokens"] = json!(500);
        let answer = appliance.post(CHAT, &body).good();
        let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
        assert!(tokens <= 2048 - 500, "{tokens}");
        let receipt = &answer["usage"]["stoker"];
        assert_eq!(Some(sum_of_sections(receipt)), Some(tokens));
        let path = format!("{word}.rs");
        assert_eq!(paths(&receipt["code"]["added"]), [path.as_str()], "{receipt}");
        lost += receipt["code"]["left_out"].as_array().unwrap().len();
        turns.push(("assistant", "yes"));
    }
    assert!(lost > 0, "not all of it fits");
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}
