//! Code that comes from elsewhere: fetched from a git server on loopback, or sent by
//! whom it belongs to; and what becomes of it when servers go away and processes die.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::client::{Client, Reply};
use tests::console::{complaint, said, stoker};
use tests::engine::Engine;
use tests::git::GitHost;
use tests::patience::until;
use tests::process;

const REPOSITORIES: &str = "/api/repositories";

/// Everything is looked at each second.
fn setup(more: &str) -> Setup {
    let config = format!("[index]\nperiod_s = 1\nfetch_period_s = 1\n{more}");
    Setup::new(&Engine::echo()).config(&config)
}

fn found(client: &Client, words: &str) -> Vec<String> {
    let answer = client.post("/v1/search", &json!({"query": words})).good();
    let hits = answer["data"].as_array().unwrap().iter();
    hits.map(|hit| hit["header"].as_str().unwrap().to_owned()).collect()
}

fn find_until(client: &Client, words: &str, expected: &[&str]) {
    until(&format!("{words:?} finds {expected:?}"), || {
        (found(client, words) == expected).then_some(())
    });
}

/// The repository of that name, once it is so.
fn when(client: &Client, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    until(&format!("{name} {what}"), || {
        let list = client.get(REPOSITORIES).good();
        let all = list["repositories"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["name"] == name && is(one))
    })
}

/// What lies in the directory of trees: parts, and repositories.
fn brought(appliance: &Appliance) -> Vec<PathBuf> {
    let entries = fs::read_dir(appliance.state_dir().join("code"));
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn is_part(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with(".part-")
}

/// Whether a git is there that was started for this URL.
fn is_fetched(url: &str) -> bool {
    process::all().any(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|part| part == url.as_bytes())
    })
}

#[test]
fn a_repository_by_url_is_fetched_and_followed_and_serves_on_without_its_host() {
    let host = GitHost::start();
    let first =
        host.commit("fans", &[("fan.rs", b"fn set_speed() {}\n"), ("old.rs", b"fn gone() {}\n")]);
    let appliance = setup("").start();
    let client = appliance.client();
    let url = host.url("fans");
    let added = said(&stoker(&appliance, &["index", "add", &url, "--shared"]));
    assert!(added.starts_with(&format!("fans: {url}, for everybody; it is fetched")), "{added}");
    find_until(&client, "set speed", &["fan.rs > set_speed"]);
    let shown = when(&client, "fans", "is indexed", |one| one["state"] == "indexed");
    assert_eq!((&shown["from"], &shown["path"]), (&json!("git"), &json!(url)));
    assert_eq!((&shown["revision"], &shown["not_fetched"]), (&json!(first), &Value::Null));

    let second = host.commit("fans", &[("fan.rs", b"fn set_voltage() {}\n")]);
    find_until(&client, "voltage", &["fan.rs > set_voltage"]);
    assert_eq!((found(&client, "speed").len(), found(&client, "gone").len()), (0, 1));
    let _ = when(&client, "fans", "has the second commit", |one| one["revision"] == second);
    let _ = appliance.status_when("it is in the status, too", |status| {
        status["index"]["repositories"][0]["revision"] == second
    });

    drop(host);
    let shown = when(&client, "fans", "is not fetched", |one| one["not_fetched"].is_string());
    assert_eq!(shown["state"], "indexed");
    let why = shown["not_fetched"].as_str().unwrap();
    assert!(why.starts_with("its host does not answer"), "{why}");
    let status = said(&stoker(&appliance, &["index", "status"]));
    assert!(status.contains("the newest commit was not fetched: its host"), "{status}");
    assert!(status.contains(&format!("commit {} fetched", &second[..12])), "{status}");

    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    find_until(&appliance.client(), "voltage", &["fan.rs > set_voltage"]);
    let _ = said(&stoker(&appliance, &["index", "remove", "fans"]));
    assert_eq!(brought(&appliance), Vec::<PathBuf>::new());
}

#[test]
fn killed_while_it_fetches_it_has_the_old_files_and_then_the_new_ones() {
    let host = GitHost::start();
    let _ = host.commit("fans", &[("fan.rs", b"fn set_speed() {}\n")]);
    let url = host.url("fans");
    let config = format!("[[repository]]\nurl = \"{url}\"\n");
    let appliance = setup(&config).start();
    find_until(&appliance.client(), "set speed", &["fan.rs > set_speed"]);

    host.hold();
    let newest = host.commit("fans", &[("fan.rs", b"fn set_voltage() {}\n")]);
    let part = until("a fetch has begun", || {
        brought(&appliance).into_iter().find(|path| is_part(path) && is_fetched(&url))
    });
    assert_eq!(found(&appliance.client(), "speed"), ["fan.rs > set_speed"]);
    appliance.signal(Signal::SIGKILL);
    until("git has ended with its server", || (!is_fetched(&url)).then_some(()));
    let appliance = appliance.again();
    let client = appliance.client();
    find_until(&client, "speed", &["fan.rs > set_speed"]);
    host.release();
    find_until(&client, "voltage", &["fan.rs > set_voltage"]);
    let _ = when(&client, "fans", "is indexed as of it", |one| {
        one["revision"] == newest && one["state"] == "indexed"
    });
    assert!(!part.exists());
}

#[test]
fn a_host_that_hangs_holds_up_nobody_else() {
    let host = GitHost::start();
    let _ = host.commit("fans", &[("fan.rs", b"fn set_speed() {}\n")]);
    host.answer_nobody();
    let url = host.url("fans");
    let code = tempfile::tempdir().unwrap();
    fs::write(code.path().join("plot.py"), "def draw_curve():\n    pass\n").unwrap();
    let path = code.path().display();
    let config = format!(
        "[[repository]]\nurl = \"{url}\"\n[[repository]]\nname = \"plot\"\npath = \"{path}\"\n"
    );
    let appliance = setup(&config).start();
    until("git is at it", || is_fetched(&url).then_some(()));
    find_until(&appliance.client(), "draw curve", &["plot.py > draw_curve"]);
    let shown = when(&appliance.client(), "fans", "is fetched", |one| one["state"] == "fetching");
    assert_eq!(shown["files"], 0);
    appliance.signal(Signal::SIGTERM);
    drop(appliance.ended());
    until("git is gone", || (!is_fetched(&url)).then_some(()));
}

#[test]
fn what_cannot_be_fetched_says_why() {
    let host = GitHost::start();
    // Nothing makes this smaller.
    let mut noise = 1_u64;
    let noise: Vec<u8> = (0..2_000_000)
        .map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.to_be_bytes()[0]
        })
        .collect();
    let _ = host.commit("large", &[("noise.bin", &noise)]);
    let config = format!(
        "source_bytes = 1048576\n[[repository]]\nurl = \"{}\"\n[[repository]]\nurl = \"{}\"\n",
        host.url("large"),
        host.url("nowhere"),
    );
    let appliance = setup(&config).start();
    let client = appliance.client();
    let failed = |one: &Value| one["state"] == "failed";
    let nowhere = when(&client, "nowhere", "failed", failed);
    let why = nowhere["reason"].as_str().unwrap();
    assert!(why.starts_with("there is no git repository at that URL"), "{why}");
    let large = when(&client, "large", "failed", failed);
    let why = large["reason"].as_str().unwrap();
    assert!(why.contains("too large") || why.contains("more than 1 MiB"), "{why}");
    until("no part is left", || {
        (!brought(&appliance).iter().any(|path| is_part(path))).then_some(())
    });

    for url in ["https://ada:hunter2@git.lan/fans", "file:///srv/hunter2", "ext::sh://hunter2/x"] {
        let refusal = client.post(REPOSITORIES, &json!({"url": url, "shared": true})).refusal(400);
        assert_eq!(refusal["param"], "url");
        assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
    }
    let body = json!({"url": host.url("large"), "name": "other", "shared": true}).to_string();
    let passed_on = [("x-forwarded-for", "10.0.0.9")];
    let refusal =
        client.send("POST", REPOSITORIES, &passed_on, body.as_bytes()).whole().refusal(403);
    assert!(refusal["message"].as_str().unwrap().contains("stoker index upload"), "{refusal}");
    assert!(!appliance.log().contains("hunter2"));
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn put(client: &Client, name: &str, body: &[u8]) -> Reply {
    client.send("PUT", &format!("{REPOSITORIES}/{name}/contents"), &[], body).whole()
}

#[test]
fn a_directory_is_sent_and_replaced_and_belongs_to_its_key() {
    let laptop = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = laptop.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/zeppelin.rs", "fn lift_zeppelin() {}\n");
    write("secret.env", "zeppelin_password\n");
    write("target/zeppelin.rs", "fn built_zeppelin() {}\n");
    write(".gitignore", "target/\n");
    write(".stokerignore", "*.env\n");
    write(".git/config", "zeppelin\n");
    let appliance = setup("").start();
    let directory = laptop.path().to_str().unwrap();
    let send = ["index", "upload", "yard", directory];
    let unowned = complaint(&stoker(&appliance, &send));
    assert!(unowned.contains("`shared`"), "{unowned}");
    let with_key = [&send[..], &["--key", "alice-has-a-long-key"]].concat();
    let sent = said(&stoker(&appliance, &with_key));
    assert!(sent.starts_with("yard: 3 files, ") && sent.contains("this key alone"), "{sent}");
    let alice = appliance.client().with_key("alice-has-a-long-key");
    find_until(&alice, "zeppelin", &["src/zeppelin.rs > lift_zeppelin"]);
    let shown = when(&alice, "yard", "is indexed", |one| one["state"] == "indexed");
    assert_eq!((&shown["from"], &shown["files"]), (&json!("upload"), &json!(3)));
    for stranger in [appliance.client(), appliance.client().with_key("bob")] {
        assert_eq!(found(&stranger, "zeppelin"), [""; 0]);
        assert_eq!(stranger.get(REPOSITORIES).good()["repositories"], json!([]));
    }
    // Another's of that name is another one.
    let bob = appliance.client().with_key("bob");
    let _ = put(&bob, "yard", &archive(&[("a.rs", "fn bobs_zeppelin() {}\n")])).good();
    find_until(&bob, "zeppelin", &["a.rs > bobs_zeppelin"]);

    fs::remove_file(laptop.path().join("src/zeppelin.rs")).unwrap();
    write("src/airship.rs", "fn lift_airship() {}\n");
    let _ = said(&stoker(&appliance, &with_key));
    find_until(&alice, "lift", &["src/airship.rs > lift_airship"]);
    assert_eq!(found(&alice, "zeppelin"), [""; 0]);
    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    let alice = appliance.client().with_key("alice-has-a-long-key");
    find_until(&alice, "lift", &["src/airship.rs > lift_airship"]);
    let gone = alice.send("DELETE", "/api/repositories/yard", &[], b"").whole();
    assert_eq!(gone.good()["removed"], "yard");
    assert_eq!(brought(&appliance).len(), 1, "bob's stays");
}

#[test]
fn what_is_refused_or_cut_off_leaves_what_was_sent_before() {
    let appliance = setup("source_bytes = 1048576\nuploads_bytes = 1500000\n").start();
    let client = appliance.client().with_key("alice");
    let fine = archive(&[("a.rs", "fn lift_airship() {}\n")]);
    let _ = put(&client, "yard", &fine).good();
    find_until(&client, "airship", &["a.rs > lift_airship"]);
    let large = "x".repeat(1_200_000);
    for (body, status, why) in [
        (archive(&[("../outside.rs", "fn x() {}")]), 400, "`..`"),
        (archive(&[("/etc/outside", "x")]), 400, "absolute"),
        (archive(&[("a.rs", "x"), ("a.rs", "y")]), 400, "place of another"),
        (archive(&[("large.rs", &large)]), 413, "too large"),
        (b"what is this".repeat(100), 400, "no tar archive"),
        (archive(&[]), 400, "no files"),
        (fine[..600].to_vec(), 400, "the archive"),
    ] {
        let refusal = put(&client, "yard", &body).refusal(status);
        assert!(refusal["message"].as_str().unwrap().contains(why), "{refusal}");
    }
    let _ = put(&client, "a%20b", &fine).refusal(400);
    let _ = put(&client, ".git", &fine).refusal(400);
    let half = archive(&[("b.rs", &large[..800_000])]);
    let _ = put(&client, "second", &half).good();
    let refusal = put(&client, "third", &half).refusal(507);
    assert!(refusal["message"].as_str().unwrap().contains("all uploads together"), "{refusal}");
    let _ = put(&client, "second", &half).good();

    // The connection breaks in the middle; then the server dies in the middle.
    let begin = |client: &Client| {
        let mut stream = client.connect();
        let path = format!("{REPOSITORIES}/yard/contents");
        let head = client.head("PUT", &path, &[], half.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&half[..400_000]).unwrap();
        until("a part is there", || {
            let mut parts = brought(&appliance).into_iter().filter(|path| is_part(path));
            parts.find(|part| part.join("tree/b.rs").exists())
        });
        stream
    };
    let stream = begin(&client);
    drop(stream);
    until("the part is gone", || {
        (!brought(&appliance).iter().any(|path| is_part(path))).then_some(())
    });
    let stream = begin(&client);
    appliance.signal(Signal::SIGKILL);
    drop(stream);
    let appliance = appliance.again();
    let client = appliance.client().with_key("alice");
    find_until(&client, "airship", &["a.rs > lift_airship"]);
    assert!(!brought(&appliance).iter().any(|path| is_part(path)));
    assert_eq!(brought(&appliance).len(), 2);
}

#[test]
fn an_upload_is_forgotten_when_its_time_is_over() {
    let appliance = setup("uploads_kept_days = 1\n").start();
    let client = appliance.client().with_key("alice");
    let _ = put(&client, "old", &archive(&[("a.rs", "fn lift_airship() {}\n")])).good();
    let _ = put(&client, "new", &archive(&[("b.rs", "fn lift_balloon() {}\n")])).good();
    find_until(&client, "airship", &["a.rs > lift_airship"]);
    let old = brought(&appliance).into_iter().find_map(|own| {
        let tree = fs::read_dir(own).unwrap().next().unwrap().unwrap().path();
        tree.join("a.rs").exists().then_some(tree)
    });
    // As if it had been sent two days ago.
    let old = old.unwrap();
    let name = old.file_name().unwrap().to_str().unwrap();
    let mut parts: Vec<_> = name.split('.').map(str::to_owned).collect();
    parts[1] = (parts[1].parse::<u64>().unwrap() - 2 * 86_400).to_string();
    fs::rename(&old, old.with_file_name(parts.join("."))).unwrap();
    find_until(&client, "airship", &[]);
    until("its files are gone", || (brought(&appliance).len() == 1).then_some(()));
    assert_eq!(client.get(REPOSITORIES).good()["repositories"].as_array().unwrap().len(), 1);
    find_until(&client, "balloon", &["b.rs > lift_balloon"]);
}
