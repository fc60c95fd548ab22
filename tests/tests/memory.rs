//! Conversations that outgrow their window: what stays of them, that it can be found
//! again after a crash, and that it is gone when it is forgotten.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::appliance::Appliance;
use tests::client::Client;
use tests::console::{said, stoker};
use tests::engine::Engine;

const CHAT: &str = "/v1/chat/completions";
const WINDOW: u64 = 4096;
const ANSWER: u64 = 300;

/// A conversation as an editor keeps it: all of it is sent each time.
struct Editor {
    messages: Vec<Value>,
    model: &'static str,
}

impl Editor {
    fn new(model: &'static str) -> Self {
        Self { messages: vec![message("system", "Be brief.")], model }
    }

    fn body(&self) -> Value {
        json!({"model": self.model, "messages": self.messages, "max_tokens": ANSWER})
    }

    /// Says something and takes the answer into the conversation.
    fn say(&mut self, client: &Client, text: &str) -> Value {
        self.messages.push(message("user", text));
        let answer = client.post(CHAT, &self.body()).good();
        self.messages.push(message("assistant", "Noted, and what else is there to be done?"));
        answer
    }
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// What the engine was given last, which it says again.
fn last_message(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn prompt_tokens(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens"].as_u64().unwrap()
}

fn memory(answer: &Value) -> &Value {
    &answer["usage"]["stoker"]["memory"]
}

fn filler(turn: usize) -> String {
    format!("Step {turn}: {}", "and we go on with the next part of the work. ".repeat(4))
}

/// What stands in the place of what was left out, the newest last.
fn blocks(appliance: &Appliance) -> Vec<String> {
    let database = Connection::open(appliance.state_dir().join("memory.db")).unwrap();
    let mut select = database
        .prepare(
            "SELECT block FROM resets JOIN turns USING (conversation, link)
             WHERE masked = 0 ORDER BY turns.id",
        )
        .unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn on_disk(appliance: &Appliance, text: &str) -> bool {
    ["memory.db", "memory.db-wal", "memory.db-shm"].iter().any(|name| {
        let bytes = fs::read(appliance.state_dir().join(name)).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn a_conversation_outgrows_its_window_and_nothing_that_matters_is_lost() {
    let appliance = Appliance::start(&Engine::echo());
    let client = appliance.client();
    let mut editor = Editor::new("memory");
    let _ = editor.say(&client, "The zeppelin port is 8443. Never paint the zeppelin red.");
    let _ = editor.say(&client, "The zeppelin port is now 9000.");
    let (mut resets, mut before, mut reused, mut computed) = (0, 0, 0, 0);
    for turn in 0..60 {
        let answer = editor.say(&client, &filler(turn));
        let tokens = prompt_tokens(&answer);
        assert!(tokens <= WINDOW - ANSWER, "{tokens} in turn {turn}");
        let receipt = memory(&answer);
        assert_eq!(receipt["messages"].as_u64().unwrap(), editor.messages.len() as u64 - 1);
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        if receipt["reset"] == true {
            resets += 1;
            let share = tokens * 100 / WINDOW;
            assert!((15..=36).contains(&share), "{share} % are left in turn {turn}");
        } else if turn > 0 {
            // All but what ended the prompt before is there already.
            assert!(cached + 2 >= before, "{cached} of {before} in turn {turn}: {receipt}");
        }
        (before, reused, computed) = (tokens, reused + cached, computed + tokens);
    }
    assert!(resets >= 2, "{resets}");
    // In a window of a dozen turns each reset weighs much.
    assert!(reused * 100 >= computed * 60, "{reused} of {computed} tokens were there");
    for block in blocks(&appliance) {
        assert!(block.contains("- zeppelin port: 9000 (was 8443)\n"), "{block}");
        assert!(block.contains("- Never paint the zeppelin red.\n"), "{block}");
    }
    // What is asked for is found again, word for word.
    let answer = editor.say(&client, "Which port did the zeppelin have?");
    assert!(last_message(&answer).contains("The zeppelin port is now 9000."), "{answer}");
    assert!(memory(&answer)["recalled"][0]["tokens"].as_u64().unwrap() > 10);

    // The same again is the same prompt, also of a server that was killed since.
    editor.messages.pop();
    let killed = |appliance: Appliance| {
        appliance.signal(Signal::SIGKILL);
        appliance.again()
    };
    let again = client.post(CHAT, &editor.body()).good();
    let appliance = killed(appliance);
    let after = appliance.post(CHAT, &editor.body()).good();
    for same in [&again, &after] {
        assert_eq!(last_message(same), last_message(&answer));
        assert_eq!(prompt_tokens(same), prompt_tokens(&answer));
    }
    // An edit far back leads to another branch, which has what was decided before it.
    editor.messages.truncate(7);
    editor.messages.push(message("user", "Something else."));
    let branch = appliance.post(CHAT, &editor.body()).good();
    assert_eq!(memory(&branch)["replaced"], 0);
    assert_eq!(memory(&branch)["conversation"], memory(&answer)["conversation"]);
}

/// Until so many requests were done between turns, and none runs.
fn wait_for_idle(appliance: &Appliance, done: u64) -> Value {
    appliance.status_when("the engine did what nobody waits for", |status| {
        status["idle"]["done"].as_u64().unwrap() >= done && status["idle"]["running"] == false
    })
}

fn cached_tokens(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

/// All summaries of blocks, the oldest first; `None` for one that is not made.
fn summaries(appliance: &Appliance) -> Vec<Option<String>> {
    let database = Connection::open(appliance.state_dir().join("memory.db")).unwrap();
    let mut select = database
        .prepare(
            "SELECT text FROM summaries JOIN turns USING (conversation, link) ORDER BY turns.id",
        )
        .unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn between_turns_old_messages_are_summed_up_and_the_next_prompt_is_computed() {
    let appliance = Appliance::start(&Engine::echo());
    let client = appliance.client();
    let mut editor = Editor::new("memory");
    let _ = editor.say(&client, "We build a zeppelin with the crew in src/hull.rs today.");
    for turn in 0..8 {
        let _ = editor.say(&client, &filler(turn));
    }
    // The ninth message of the user ended a block. What is computed then is a summary, and
    // the prompt's beginning again.
    let status = wait_for_idle(&appliance, 2);
    let made = summaries(&appliance);
    assert_eq!(made.len(), 1, "{made:?}");
    let text = made[0].clone().unwrap();
    assert!(text.contains("zeppelin") && text.contains("src/hull.rs"), "{text}");
    let totals = &status["totals"];
    assert_eq!((&totals["requests"], &totals["answered"]), (&json!(9), &json!(9)), "{totals}");
    assert_eq!(status["queue"]["running"], 0);

    // It is no part of a prompt before a reset; then its receipt says so.
    let mut before = None;
    for turn in 8..40 {
        let done = appliance.status()["idle"]["done"].as_u64().unwrap();
        let answer = editor.say(&client, &filler(turn));
        if memory(&answer)["replaced"] != 0 {
            // It was decided before the message came, whose prompt was there.
            assert_eq!(memory(&answer)["reset"], true, "{answer}");
            assert_eq!(memory(&answer)["summaries"], 1, "{answer}");
            assert!(memory(&answer)["summary_tokens"].as_u64().unwrap() > 20, "{answer}");
            assert!(cached_tokens(&answer) * 2 >= prompt_tokens(&answer), "{answer}");
            let block = blocks(&appliance).pop().unwrap();
            assert!(block.contains(&format!("- {text}\n")), "{block}");
            return;
        }
        let tokens = prompt_tokens(&answer);
        let grown = before.replace(tokens).map_or(0, |before| tokens - before);
        if tokens + grown > WINDOW * 7 / 10 {
            wait_for_idle(&appliance, done + 1);
        }
    }
    panic!("no reset in 40 turns");
}

#[test]
fn what_is_done_between_turns_gives_way_to_everybody() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(10).with_places(1));
    let client = appliance.client();
    let mut editor = Editor::new("memory");
    editor.messages.extend(
        (0..9).flat_map(|turn| [message("user", &filler(turn)), message("assistant", "Noted.")]),
    );
    let body = |editor: &Editor| {
        let mut body = editor.body();
        body["max_tokens"] = json!(4);
        body
    };
    editor.messages.push(message("user", "And now?"));
    let _ = client.post(CHAT, &body(&editor)).good();
    // A summary takes two seconds here.
    appliance.status_when("a summary is made", |status| status["idle"]["running"] == true);
    let answer = client.post(CHAT, &json!({"messages": [message("user", "hello")]})).good();
    assert_eq!(last_message(&answer), "hello");
    let status = appliance.status_when("it gave way", |status| status["idle"]["gave_way"] == 1);
    assert_eq!(status["totals"]["cancelled"], 0, "it is nobody's request");
    // It is tried again, and nothing of it was kept; nor is it when the server is killed.
    appliance.status_when("it is tried again", |status| status["idle"]["running"] == true);
    assert_eq!(summaries(&appliance), [None]);
    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    let same = appliance.post(CHAT, &body(&editor)).good();
    assert_eq!(last_message(&same), "And ");
    wait_for_idle(&appliance, 2);
    assert!(summaries(&appliance)[0].as_ref().is_some_and(|text| !text.is_empty()));
}

#[test]
fn without_memory_a_conversation_that_is_too_long_is_refused() {
    let appliance = Appliance::start(&Engine::echo());
    let mut editor = Editor::new("echo");
    editor.messages.extend((0..40).map(|turn| message("user", &filler(turn))));
    let refusal = appliance.post(CHAT, &editor.body()).refusal(400);
    assert_eq!(refusal["code"], "context_length_exceeded");
    let mut body = editor.body();
    body["model"] = json!("memory");
    body["stoker"] = json!({"memory": "off"});
    let _ = appliance.post(CHAT, &body).refusal(400);
    assert!(!appliance.state_dir().join("memory.db").exists());
    // At once, and with a message that alone is too long, too.
    body["stoker"] = json!({"memory": "auto"});
    let answer = appliance.post(CHAT, &body).good();
    assert!(memory(&answer)["replaced"].as_u64().unwrap() > 20, "{answer}");
    editor.messages.push(message("user", &"x".repeat(5000)));
    editor.model = "memory";
    let refusal = appliance.post(CHAT, &editor.body()).refusal(400);
    assert_eq!(refusal["code"], "context_length_exceeded");
}

#[test]
fn old_tool_output_goes_first_and_is_found_again() {
    let appliance = Appliance::start(&Engine::echo());
    let mut editor = Editor::new("memory");
    editor.messages.push(message("user", "Find out why the test fails."));
    for number in 0..4 {
        let command = format!("cargo test part{number}");
        let arguments = json!({"command": command}).to_string();
        let calls = json!([{"id": format!("c{number}"), "type": "function",
            "function": {"name": "bash", "arguments": arguments}}]);
        editor.messages.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
        let output = format!(
            "running part{number}\n{}\nthe culprit{number} is in gearbox{number}.rs\n",
            "a line of no use\n".repeat(if number < 3 { 45 } else { 5 })
        );
        let id = format!("c{number}");
        editor.messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
    }
    let answer = appliance.post(CHAT, &editor.body()).good();
    let receipt = memory(&answer);
    assert_eq!((&receipt["masked"], &receipt["replaced"]), (&json!(3), &json!(0)), "{receipt}");
    assert!(last_message(&answer).contains("running part3\na line of no use\n"), "{answer}");
    editor.messages.push(message("assistant", "I see."));
    let question = "Where was culprit1, in which gearbox1?";
    let answer = editor.say(&appliance.client(), question);
    assert!(last_message(&answer).contains("the culprit1 is in gearbox1.rs"), "{answer}");
}

#[test]
fn a_named_conversation_is_remembered_for_a_client_that_sends_its_end_only() {
    let appliance = Appliance::start(&Engine::echo());
    let client = appliance.client();
    let say = |name: &str, text: &str| {
        let body = json!({"messages": [message("user", text)], "stoker": {"memory": "auto"}});
        let headers = [("x-conversation-id", name)];
        client.send("POST", CHAT, &headers, body.to_string().as_bytes()).whole()
    };
    let _ = say("plans", "The zeppelin port is 8443.").good();
    let answer = say("plans", "Which port has the zeppelin?").good();
    assert!(last_message(&answer).contains("8443"), "{answer}");
    let answer = say("other", "Which port has the zeppelin?").good();
    assert_eq!(last_message(&answer), "Which port has the zeppelin?");
    let _ = say(&"x".repeat(300), "hello").refusal(400);
}

#[test]
fn what_the_engine_has_computed_is_forgotten_as_well_and_nothing_of_others() {
    let appliance = Appliance::start(&Engine::echo());
    // Of two prompts that begin alike one would find the other's beginning.
    let prompt = |text: &str| {
        let messages = [message("user", text)];
        json!({"model": "memory", "messages": messages, "max_tokens": 8})
    };
    let (balloon, zeppelin) =
        (prompt("The balloon leaves at seven."), prompt("At noon the zeppelin goes."));
    let (client, alice) = (appliance.client(), appliance.client().with_key("alice"));
    let cached = |client: &Client, body: &Value| cached_tokens(&client.post(CHAT, body).good());
    for (client, body) in [(&client, &balloon), (&alice, &zeppelin)] {
        assert_eq!(cached(client, body), 0);
        assert!(cached(client, body) > 20);
    }
    let _ = said(&stoker(&appliance, &["memory", "forget", "--all"]));
    assert_eq!(cached(&client, &balloon), 0);
    assert!(cached(&alice, &zeppelin) > 20);
}

#[test]
fn what_is_kept_can_be_seen_taken_away_and_forgotten_by_its_owner_alone() {
    let appliance = Appliance::start(&Engine::echo());
    let alice = appliance.client().with_key("alice");
    let _ = Editor::new("memory").say(&alice, "The zeppelin leaves at noon.");
    let mut editor = Editor::new("memory");
    let _ = editor.say(&appliance.client(), "The balloon leaves at seven.");
    let _ = Editor::new("memory").say(&appliance.client(), "The kite stays.");

    let shown = said(&stoker(&appliance, &["memory", "show"]));
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains(": 2 messages, "), "{shown}");
    let exported = said(&stoker(&appliance, &["memory", "export"]));
    assert!(exported.contains("The balloon leaves at seven.") && !exported.contains("zeppelin"));
    let shown = appliance.get("/api/memory").good();
    let id = &shown["conversations"][1]["id"];
    let path = format!("/api/memory/{id}");
    let one = appliance.get(&path).good();
    assert_eq!(one["messages"][1]["content"], "The balloon leaves at seven.");
    let refusal = alice.get(&path).refusal(404);
    assert_eq!(refusal["code"], "conversation_not_found");
    assert_eq!(alice.send("DELETE", &path, &[], b"").whole().refusal(404), refusal);

    // A stream is kept for who loses its connection, and goes as well.
    let kept = || -> u64 {
        let database = Connection::open(appliance.state_dir().join("answers.db")).unwrap();
        let count = "SELECT count(*) FROM answers WHERE owner = '127.0.0.1'";
        database.query_row(count, [], |row| row.get(0)).unwrap()
    };
    let body = json!({"messages": [message("user", "balloon")], "stream": true});
    let _ = appliance.stream(CHAT, &body).whole();
    assert_eq!(kept(), 1);

    assert!(on_disk(&appliance, "balloon"));
    let forgotten = said(&stoker(&appliance, &["memory", "forget", &id.to_string()]));
    assert!(forgotten.starts_with("1 conversations"), "{forgotten}");
    assert!(!on_disk(&appliance, "balloon") && on_disk(&appliance, "kite"));
    assert_eq!(kept(), 0);
    let counted = &appliance.status()["memory"];
    assert_eq!((&counted["conversations"], &counted["messages"]), (&json!(2), &json!(4)));
    let nothing = stoker(&appliance, &["memory", "forget"]);
    assert!(!nothing.status.success(), "everything has to be said");
    let _ = said(&stoker(&appliance, &["memory", "forget", "--all"]));
    assert!(!on_disk(&appliance, "kite") && on_disk(&appliance, "zeppelin"));
    let shown = said(&stoker(&appliance, &["memory", "show"]));
    assert!(shown.starts_with("nothing is remembered"), "{shown}");
}
