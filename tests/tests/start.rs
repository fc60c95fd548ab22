//! Places where a server cannot start, or not wholly, and what it says.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::json;
use tests::appliance::{Appliance, Ended, Setup};
use tests::engine::{ECHO, Engine};

const ANY: &str = "127.0.0.1:0";

fn assert_refused(ended: &Ended, words: &[&str]) {
    assert!(!ended.status.success());
    for word in words {
        assert!(ended.said.contains(word), "{word:?} is not in {:?}", ended.said);
    }
    assert_eq!(ended.said.lines().count(), 1, "one sentence, no trace: {}", ended.said);
}

fn assert_answers(appliance: &Appliance) {
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let reply = appliance.post("/v1/chat/completions", &body).good();
    assert_eq!(reply["choices"][0]["message"]["content"], "hello");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Setup::new(&Engine::echo()).run_to_its_end(&address);
    assert_refused(
        &ended,
        &[&taken.local_addr().unwrap().port().to_string(), "in use", "--listen"],
    );
}

#[test]
fn a_state_directory_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let ended = Setup::new(&Engine::echo()).state_dir(file.path()).run_to_its_end(ANY);
    assert_refused(&ended, &[file.path().to_str().unwrap(), "--state-dir"]);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_refused() {
    let below_nothing = std::path::Path::new("/proc/no/such/place");
    let ended = Setup::new(&Engine::echo()).state_dir(below_nothing).run_to_its_end(ANY);
    assert_refused(&ended, &["/proc/no/such/place", "--state-dir"]);
}

#[test]
fn with_a_read_only_state_directory_it_answers_and_says_that_nothing_is_kept() {
    let setup = Setup::new(&Engine::echo());
    let state_dir = setup.state_path().to_owned();
    // Root writes everywhere unless it gives up the right to.
    let setup = match fs::metadata(&state_dir).unwrap().uid() == 0 {
        true => setup.through(&["setpriv", "--inh-caps=-all", "--bounding-set=-all"]),
        false => setup,
    };
    fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o555)).unwrap();
    let appliance = setup.start();
    assert_answers(&appliance);
    let status = appliance.status_when("the problem is seen", |status| {
        status["problems"].as_array().is_some_and(|problems| !problems.is_empty())
    });
    let problem = &status["problems"][0];
    assert!(problem["problem"].as_str().unwrap().contains("stoker.db"), "{problem}");
    assert!(!problem["advice"].as_str().unwrap().is_empty(), "{problem}");
    fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A file system of 256 KiB in place of the state directory, with the engine
/// in it and filled to its end. Seen by the server alone.
const FULL_DISK: &str = r#"
set -e
state=$1
shift
mkdir "$state.full"
mount -t tmpfs -o size=256k stoker "$state.full"
cp -a "$state/." "$state.full"
mount --move "$state.full" "$state"
dd if=/dev/zero of="$state/filling" bs=4k status=none 2>/dev/null || true
exec "$@"
"#;

#[test]
fn with_a_full_disk_it_answers_and_says_that_the_disk_is_full() {
    let setup = Setup::new(&Engine::echo());
    let state_dir = setup.state_path().to_str().unwrap().to_owned();
    let own_mounts = ["unshare", "--mount", "--map-root-user"];
    let script = ["sh", "-c", FULL_DISK, "full-disk", &state_dir];
    let appliance = setup.through(&[&own_mounts[..], &script[..]].concat()).start();
    for _ in 0..3 {
        assert_answers(&appliance);
    }
    let status = appliance.status_when("the problem is seen", |status| {
        status["problems"].as_array().is_some_and(|problems| !problems.is_empty())
    });
    let problem = &status["problems"][0];
    assert_eq!(problem["kind"], "state_dir_full", "{problem}");
    assert_answers(&appliance);
    // Nobody is told to come back for what cannot be kept.
    let body = json!({"messages": [{"role": "user", "content": "hello"}], "stream": true});
    let reply = appliance.post("/v1/chat/completions", &body);
    assert!(reply.text().contains("data: [DONE]"), "{}", reply.text());
    assert!(!reply.text().contains("id: "), "{}", reply.text());
    assert_eq!(appliance.status()["engine"]["restarts"], 0);
}

#[test]
fn a_database_that_is_not_one_is_set_aside() {
    let setup = Setup::new(&Engine::echo());
    fs::write(setup.state_path().join("stoker.db"), "not a database ".repeat(1000)).unwrap();
    let appliance = setup.start();
    assert_answers(&appliance);
    let names =
        fs::read_dir(appliance.state_dir()).unwrap().flatten().map(|entry| entry.file_name());
    let aside = names.map(|name| name.into_string().unwrap()).find(|name| name.contains("corrupt"));
    assert!(aside.is_some());
    appliance.status_when("it is an incident", |status| {
        status["incidents"].as_array().is_some_and(|incidents| !incidents.is_empty())
    });
}

#[test]
fn a_bad_configuration_is_refused_with_file_line_key_and_what_was_expected() {
    for (text, line, words) in [
        ("[server]\nlisten = 7\n", ":2", &["server.listen", "expected text"][..]),
        ("\n\n[admission]\nqueue = -1\n", ":4", &["queue", "expected"]),
        ("[telemetry]\nperiod_ms = 5\n", ":2", &["telemetry.period_ms", "expected", "100"]),
        ("[server\n", ":1", &["expected"]),
        ("[server]\nlisten = \"here\"\nmax_body_bytes = 1\n", ":3", &["max_body_bytes"]),
        ("[engine]\nthread = 2\n", ":2", &["thread", "threads"]),
        ("[sever]\nlisten = \"x\"\n", ":1", &["sever", "server"]),
    ] {
        let setup = Setup::new(&Engine::echo()).config(text);
        let path = setup.config_path().to_str().unwrap().to_owned() + line;
        let ended = setup.run_to_its_end(ANY);
        assert!(!ended.status.success(), "{text}");
        for word in [path.as_str()].iter().chain(words) {
            assert!(ended.said.contains(word), "{word:?} is not in {:?}", ended.said);
        }
    }
}

#[test]
fn a_bad_variable_is_refused_by_its_name() {
    let setup = Setup::new(&Engine::echo()).variable("STOKER_ADMISSION__QUEUE", "many");
    assert_refused(&setup.run_to_its_end(ANY), &["STOKER_ADMISSION__QUEUE", "expected"]);
}

#[test]
fn a_configuration_file_that_is_not_there_is_refused() {
    let setup = Setup::new(&Engine::echo());
    fs::remove_file(setup.config_path()).unwrap();
    assert_refused(&setup.run_to_its_end(ANY), &["stoker.toml", "no such file"]);
}

#[test]
fn an_engine_that_is_not_there_is_named_with_those_that_are() {
    let config = "[engine]\nmodel = \"other\"\n";
    let appliance = Setup::new(&Engine::echo()).config(config).listen();
    let state = appliance.status()["engine"]["state"].clone();
    assert_eq!(state["name"], "absent");
    let reason = state["reason"].as_str().unwrap();
    assert!(reason.contains("other") && reason.contains(ECHO), "{reason}");
}
