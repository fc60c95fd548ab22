//! Code that is indexed and searched: what a repository's owner, a colleague and a
//! stranger see of it, and what becomes of it when files change and processes die.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::client::Client;
use tests::console::{complaint, said, stoker};
use tests::engine::Engine;
use tests::patience::until;
use tests::process;
use tests::repository::{repository, write};

const SEARCH: &str = "/v1/search";
const REPOSITORIES: &str = "/api/repositories";

/// An appliance that looks at these each second; they are everybody's.
fn setup(repositories: &[(&str, &Path)]) -> Setup {
    let mut config = "[index]\nperiod_s = 1\n".to_owned();
    for (name, path) in repositories {
        let path = path.display();
        config.push_str(&format!("[[repository]]\nname = \"{name}\"\npath = \"{path}\"\n"));
    }
    Setup::new(&Engine::echo()).config(&config)
}

/// Paths and places of what is found.
fn found(client: &Client, query: &Value) -> Vec<String> {
    let answer = client.post(SEARCH, query).good();
    let hits = answer["data"].as_array().unwrap().iter();
    hits.map(|hit| hit["header"].as_str().unwrap().to_owned()).collect()
}

fn find_until(appliance: &Appliance, words: &str, expected: &[&str]) {
    until(&format!("{words:?} finds {expected:?}"), || {
        (found(&appliance.client(), &json!({"query": words})) == expected).then_some(())
    });
}

/// The repository of that name in a list of them, once it is as it was in a whole pass.
fn when_indexed(client: &Client, name: &str) -> Value {
    until(&format!("{name} is indexed"), || {
        let list = client.get(REPOSITORIES).good();
        let mut all = list["repositories"].as_array().unwrap().iter();
        all.find(|one| one["name"] == name && one["state"] == "indexed").cloned()
    })
}

#[test]
fn a_configured_repository_is_found_and_followed() {
    let fan = "struct Fan;\n\nimpl Fan {\n    fn set_speed(&mut self) { pwm() }\n}\n";
    let code = repository(&[
        ("src/fan.rs", fan),
        ("tools/plot.py", "def draw_curve():\n    return temperature\n"),
    ]);
    let appliance = setup(&[("board", code.path())]).start();
    // What has the method, and what that is a method of.
    find_until(&appliance, "how is the speed set", &["src/fan.rs > Fan", "src/fan.rs > Fan"]);
    let client = appliance.client();
    let answer = client.post(SEARCH, &json!({"query": "setSpeed pwm"})).good();
    let hit = &answer["data"][0];
    assert_eq!((&hit["repository"], &hit["language"]), (&json!("board"), &json!("rust")));
    assert!(hit["score"].as_f64().unwrap() > 0.0 && hit["text"].as_str().unwrap().contains("pwm"));
    let why = hit["why"]["in_text"].as_array().unwrap();
    assert!(why.contains(&json!("pwm")) && why.contains(&json!("setspeed")), "{why:?}");
    for (filter, count) in [
        (json!({"languages": ["python"]}), 1),
        (json!({"languages": ["rust"]}), 0),
        (json!({"path": "tools/"}), 1),
        (json!({"path": "*.rs"}), 0),
        (json!({"repositories": ["board"]}), 1),
    ] {
        let mut query = json!({"query": "temperature"});
        query.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        assert_eq!(found(&client, &query).len(), count, "{query}");
    }

    // Changed, renamed, gone: the next passes tell.
    write(code.path(), "src/fan.rs", "fn set_voltage() {}\n");
    fs::rename(code.path().join("tools/plot.py"), code.path().join("plot.py")).unwrap();
    find_until(&appliance, "set voltage", &["src/fan.rs > set_voltage"]);
    find_until(&appliance, "draw curve", &["plot.py > draw_curve"]);
    find_until(&appliance, "pwm", &[]);
    let status = appliance.status_when("both files are counted", |status| {
        let shown = &status["index"]["repositories"][0];
        (shown["files"] == 2) && (shown["chunks"] == 2)
    });
    let shown = &status["index"]["repositories"][0];
    assert_eq!(shown["name"], "board");
    assert!(shown["passed_at"].as_u64().is_some(), "{shown}");
}

#[test]
fn a_person_adds_searches_and_forgets() {
    let code = repository(&[("thermal.c", "int read_junction(void) { return 1; }\n")]);
    let path = code.path().to_str().unwrap();
    let appliance = setup(&[]).start();
    let nothing = said(&stoker(&appliance, &["index", "status"]));
    assert!(nothing.contains("no repositories"), "{nothing}");

    let unowned = complaint(&stoker(&appliance, &["index", "add", path, "--name", "board"]));
    assert!(unowned.contains("`shared`"), "{unowned}");
    let added = said(&stoker(&appliance, &["index", "add", path, "--name", "board", "--shared"]));
    assert!(added.starts_with("board: ") && added.contains("everybody"), "{added}");
    let _ = when_indexed(&appliance.client(), "board");
    let twice =
        complaint(&stoker(&appliance, &["index", "add", path, "--name", "board", "--shared"]));
    assert!(twice.contains("`board` already"), "{twice}");
    let nowhere = complaint(&stoker(&appliance, &["index", "add", "/nowhere/at/all", "--shared"]));
    assert!(nowhere.contains("/nowhere/at/all cannot be used"), "{nowhere}");

    let status = said(&stoker(&appliance, &["index", "status"]));
    assert!(status.contains("1 files, 1 chunks, 0 passed over"), "{status}");
    let status = said(&stoker(&appliance, &["index", "status", "--format", "json"]));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        status["repositories"][0]["path"],
        fs::canonicalize(path).unwrap().to_str().unwrap()
    );
    let hits = said(&stoker(&appliance, &["search", "read", "the", "junction"]));
    assert!(hits.contains("board: thermal.c > read_junction:1-1"), "{hits}");

    // It is there after a restart, although it stands in no file of settings.
    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    find_until(&appliance, "junction", &["thermal.c > read_junction"]);
    let _ = said(&stoker(&appliance, &["index", "remove", "board"]));
    assert_eq!(found(&appliance.client(), &json!({"query": "junction"})), [""; 0]);
    let again = complaint(&stoker(&appliance, &["index", "remove", "board"]));
    assert!(again.contains("no repository `board`"), "{again}");
}

#[test]
fn a_private_repository_is_its_keys_alone() {
    let code = repository(&[("plan.md", "# Takeover\n\nThe takeover of the zeppelin yard.\n")]);
    let appliance = setup(&[]).start();
    let alice = appliance.client().with_key("alice");
    let path = code.path().to_str().unwrap();
    let added = alice.post(REPOSITORIES, &json!({"path": path, "name": "plans"})).good();
    assert_eq!(added["shared"], false);
    let _ = when_indexed(&alice, "plans");
    let query = json!({"query": "zeppelin"});
    assert_eq!(found(&alice, &query), ["plan.md > Takeover"]);
    for stranger in [appliance.client(), appliance.client().with_key("bob")] {
        assert_eq!(found(&stranger, &query), [""; 0]);
        assert_eq!(stranger.get(REPOSITORIES).good()["repositories"], json!([]));
        // Whether there is one of that name is not told either.
        let named = json!({"query": "zeppelin", "repositories": ["plans"]});
        let refusal = stranger.post(SEARCH, &named).refusal(404);
        assert_eq!(refusal["code"], "repository_not_found");
        let gone = stranger.send("DELETE", "/api/repositories/plans", &[], b"").whole();
        assert_eq!(gone.refusal(404)["code"], "repository_not_found");
    }
    let status = appliance
        .status_when("it is counted", |status| status["index"]["repositories"][0]["chunks"] == 1);
    assert!(
        !status.to_string().contains("plans") && !status.to_string().contains(path),
        "{status}"
    );
    assert_eq!(found(&alice, &query), ["plan.md > Takeover"]);
    let gone = alice.send("DELETE", "/api/repositories/plans", &[], b"").whole();
    assert_eq!(gone.good()["removed"], "plans");
    assert_eq!(found(&alice, &query), [""; 0]);
}

#[test]
fn paths_are_taken_from_this_machine_alone() {
    let code = repository(&[("a.rs", "fn a() {}\n")]);
    let appliance = setup(&[("configured", code.path())]).start();
    let client = appliance.client();
    let body = json!({"path": code.path(), "name": "other", "shared": true}).to_string();
    let passed_on = [("x-forwarded-for", "10.0.0.9")];
    let send = |method, path, headers: &[(&str, &str)], body: &str| {
        client.send(method, path, headers, body.as_bytes()).whole()
    };
    let _ = send("POST", REPOSITORIES, &passed_on, &body).refusal(403);
    let _ = send("DELETE", "/api/repositories/configured", &passed_on, "").refusal(403);
    let _ = send("DELETE", "/api/repositories/configured", &[], "").refusal(409);
    let own = json!({"path": appliance.state_dir(), "shared": true, "name": "own"});
    let refusal = client.post(REPOSITORIES, &own).refusal(400);
    assert!(refusal["message"].as_str().unwrap().contains("state directory"), "{refusal}");
    assert_eq!(client.get(REPOSITORIES).good()["repositories"].as_array().unwrap().len(), 1);
}

#[test]
fn hostile_files_cost_themselves() {
    let code = repository(&[
        ("fine.rs", "fn fine() {}\n"),
        ("huge.rs", &"x".repeat(900_000)),
        ("deep.md", &"> ".repeat(20_000)),
        ("deep.json", &"[\n".repeat(20_000)),
        ("zero.c", "int a;\0"),
    ]);
    mkfifo(&code.path().join("pipe.rs"), Mode::from_bits_truncate(0o600)).unwrap();
    symlink("..", code.path().join("loop")).unwrap();
    fs::write(code.path().join("latin1.c"), b"int caf\xe9_count;\n").unwrap();
    let appliance = setup(&[("odd", code.path())]).start();
    let shown = when_indexed(&appliance.client(), "odd");
    // huge.rs and deep.md have lines that nobody wrote; zero.c, the pipe and the link.
    assert_eq!((&shown["files"], &shown["skipped"]), (&json!(3), &json!(5)), "{shown}");
    find_until(&appliance, "fine", &["fine.rs > fine"]);
    let database = Connection::open(appliance.state_dir().join("code.db")).unwrap();
    let mut select =
        database.prepare("SELECT path, skipped FROM files WHERE skipped NOT NULL").unwrap();
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    for (path, reason) in rows.unwrap().map(Result::unwrap) {
        assert!(reason.starts_with("it"), "{path}: {reason}");
    }
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}

/// Every row that says something, without numbers that depend on the order of passes.
fn contents(state_dir: &Path) -> Vec<String> {
    let database = Connection::open(state_dir.join("code.db")).unwrap();
    let verdict: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    database.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)", []).unwrap();
    let mut select = database
        .prepare(
            "SELECT path || ' ' || place || ' ' || first_line || ' ' || header || ' ' || body
             FROM chunks JOIN files ON files.id = file JOIN texts ON texts.id = chunks.text
                  JOIN words ON words.rowid = chunks.id ORDER BY 1",
        )
        .unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    let rows: Vec<String> = rows.map(Result::unwrap).collect();
    let count = |table: &str| -> usize {
        let select = format!("SELECT count(*) FROM {table}");
        database.query_row(&select, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((rows.len(), rows.len()), (count("chunks"), count("words")));
    rows
}

#[test]
fn killed_in_the_middle_the_index_stays_whole_and_ends_as_if_nothing_was() {
    let function = |file: usize, number: usize| {
        let body = format!("    let value_{number} = compute(\"{file} {number}\");\n").repeat(6);
        format!("fn task_{file}_{number}() {{\n{body}}}\n\n")
    };
    let texts: Vec<_> = (0..400)
        .map(|file| {
            let text: String = (0..12).map(|number| function(file, number)).collect();
            (format!("src/part_{file}.rs"), text)
        })
        .collect();
    let files: Vec<_> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let code = repository(&files);
    let undisturbed = setup(&[("parts", code.path())]).start();
    let _ = when_indexed(&undisturbed.client(), "parts");

    let mut appliance = setup(&[("parts", code.path())]).listen();
    let chunks = |appliance: &Appliance| {
        let path = appliance.state_dir().join("code.db");
        let database = Connection::open(path).ok()?;
        database.query_row("SELECT count(*) FROM chunks", [], |row| row.get::<_, i64>(0)).ok()
    };
    let mut kept = 0;
    for _ in 0..3 {
        // Somewhere behind what was there before, or the pass has come to its end.
        until("some more is indexed", || {
            chunks(&appliance).filter(|now| *now > kept || kept >= 4000)
        });
        appliance.signal(Signal::SIGKILL);
        let setup = appliance.ended();
        kept = i64::try_from(contents(setup.state_path()).len()).unwrap();
        appliance = setup.listen();
    }
    let _ = when_indexed(&appliance.client(), "parts");
    assert_eq!(contents(appliance.state_dir()), contents(undisturbed.state_dir()));
    assert_eq!(chunks(&appliance), Some(4800));
    // No indexer outlives the supervisor that it tells.
    let indexers =
        || process::all().filter(|pid| process::name(*pid).as_deref() == Some("indexer"));
    let ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let path = code.path().as_os_str().as_encoded_bytes();
        line.windows(path.len()).any(|part| part == path)
    };
    appliance.signal(Signal::SIGKILL);
    undisturbed.signal(Signal::SIGKILL);
    drop((appliance.ended(), undisturbed.ended()));
    until("the indexers are gone", || (!indexers().any(|pid| ours(&pid))).then_some(()));
}

#[test]
fn without_an_indexer_it_says_so_and_answers() {
    let code = repository(&[("a.rs", "fn a() {}\n")]);
    let appliance =
        setup(&[("a", code.path())]).variable("STOKER_INDEX__INDEXER", "/nowhere/indexer").start();
    let status = appliance.status_when("the repository failed", |status| {
        status["index"]["repositories"][0]["state"] == "failed"
    });
    let reason = status["index"]["repositories"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("/nowhere/indexer") && reason.contains("No such file"), "{reason}");
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let answer = appliance.post("/v1/chat/completions", &body).good();
    assert_eq!(answer["choices"][0]["message"]["content"], "hello");
}
