//! A machine that came up without any key: its consoles show a token, the network is let
//! in no further than the status page, and who sends the token gets the first key.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::browser::{Browser, Screen};
use tests::client::Reply;
use tests::engine::Engine;
use tests::patience::until;
use tests::process::program;

const CHAT: &str = "/v1/chat/completions";
/// How a request looks that does not come from the machine itself.
const FROM_AFAR: (&str, &str) = ("x-forwarded-for", "192.168.1.7");

/// A machine's console, and what its boots say.
struct Front(tempfile::TempDir);

impl Front {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("sys/class/tty/console/active", "tty0 ttyTCU0\n"),
            ("dev/ttyTCU0", ""),
            ("etc/hostname", "box\n"),
        ] {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self(place)
    }

    /// What `stoker-claim.service` does at each boot; what it says.
    fn boot(&self, state_dir: &Path) -> String {
        let done = Command::new(program("stoker"))
            .arg("claim")
            .arg("--root")
            .arg(self.0.path())
            .arg("--state-dir")
            .arg(state_dir)
            .output()
            .unwrap();
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(done.status.success(), "{said}");
        said
    }

    fn console(&self) -> String {
        fs::read_to_string(self.0.path().join("dev/ttyTCU0")).unwrap()
    }

    /// The newest token on it.
    fn token(&self) -> String {
        let console = self.console();
        let after = console.rsplit("token:").next().unwrap();
        after.split_whitespace().next().unwrap().to_owned()
    }
}

fn claim(appliance: &Appliance, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let body = body.to_string();
    appliance.client().send("POST", "/api/claim", headers, body.as_bytes()).whole()
}

fn chat_from_afar(appliance: &Appliance, key: Option<&str>) -> Reply {
    let chat = json!({"messages": [{"role": "user", "content": "hello"}]}).to_string();
    let mut headers = vec![FROM_AFAR];
    headers.extend(key.map(|key| ("x-api-key", key)));
    appliance.client().send("POST", CHAT, &headers, chat.as_bytes()).whole()
}

fn every_file(directory: &Path) -> Vec<u8> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.is_dir() {
        true => every_file(&path),
        false => fs::read(path).unwrap_or_default(),
    };
    entries.flat_map(read).collect()
}

#[test]
fn the_token_on_the_console_opens_it_once() {
    let (front, setup) = (Front::new(), Setup::new(&Engine::echo()));
    let said = front.boot(setup.state_path());
    assert!(said.contains("on ttyTCU0"), "{said}");
    let void = front.token();
    let _ = front.boot(setup.state_path());
    let token = front.token();
    assert_ne!(token, void, "each boot has its own");
    let appliance = setup.start();

    assert_eq!(appliance.get("/api/status").good()["access"], "unclaimed");
    let refused = chat_from_afar(&appliance, None);
    assert_eq!(refused.refusal(401)["code"], "unclaimed");
    assert!(refused.text().contains("its console shows"), "{}", refused.text());
    for (path, expected) in [("/", 200), ("/health", 200), ("/v1/models", 200), ("/props", 401)] {
        let reply = appliance.client().send("GET", path, &[FROM_AFAR], b"").whole();
        assert_eq!(reply.status, expected, "{path}");
    }
    // The machine itself is answered: its health is looked at so.
    let local = json!({"messages": [{"role": "user", "content": "hello"}]});
    assert_eq!(appliance.post(CHAT, &local).status, 200);

    for wrong in ["", "0000-0000-0000-0000", &void] {
        let reply = claim(&appliance, &json!({"token": wrong}), &[FROM_AFAR]);
        assert!(reply.refusal(403)["message"].as_str().unwrap().contains("not the token"));
    }
    // As somebody types it.
    let typed = token.to_uppercase().replace('-', " ");
    let reply = claim(&appliance, &json!({"token": typed}), &[FROM_AFAR]);
    assert_eq!(reply.headers.get("cache-control"), Some("no-store"));
    let (name, key) = (reply.good()["name"].clone(), reply.good()["key"].clone());
    let key = key.as_str().unwrap();
    assert_eq!(name, "admin");
    assert_eq!(chat_from_afar(&appliance, Some(key)).status, 200);
    assert_eq!(chat_from_afar(&appliance, None).refusal(401)["code"], "invalid_api_key");
    assert_eq!(appliance.post(CHAT, &local).status, 401, "here as well, from now on");
    assert_eq!(claim(&appliance, &json!({"token": token}), &[]).status, 409, "it is void");
    assert_eq!(appliance.get("/api/status").good()["access"], "keys");

    // Neither of them stands where anybody could read it afterwards.
    appliance.signal(Signal::SIGTERM);
    let appliance = appliance.again();
    let kept =
        String::from_utf8_lossy(&every_file(appliance.state_dir().parent().unwrap())).into_owned();
    for secret in [&token, &token.replace('-', ""), key, key.trim_start_matches("stoker-")] {
        assert!(!kept.contains(secret), "the state or the log has it");
    }
    assert_eq!(chat_from_afar(&appliance, Some(key)).status, 200);
    let before = front.console();
    assert_eq!(
        front.boot(appliance.state_dir()),
        "nobody is waited for: this machine is claimed\n"
    );
    assert_eq!(front.console(), before, "the next boot shows none");
}

#[test]
fn who_claimed_it_makes_keys_for_others_and_they_do_not() {
    let (front, setup) = (Front::new(), Setup::new(&Engine::echo()));
    let _ = front.boot(setup.state_path());
    let appliance = setup.start();
    let client = || appliance.client();
    assert_eq!(client().post("/api/keys", &json!({"name": "eve"})).status, 403);
    let own = claim(&appliance, &json!({"token": front.token(), "name": "ann"}), &[]).good();
    let ann = own["key"].as_str().unwrap();
    let of_ann = || client().with_key(ann);
    let bob = of_ann().post("/api/keys", &json!({"name": "bob"})).good()["key"].clone();
    let bob = bob.as_str().unwrap();
    assert_eq!(chat_from_afar(&appliance, Some(bob)).status, 200);
    assert_eq!(of_ann().post("/api/keys", &json!({"name": "bob"})).status, 409);
    assert_eq!(of_ann().get("/api/keys").good(), json!({"keys": ["ann", "bob"]}));
    for (key, expected) in [(Some(bob), 403), (None, 401)] {
        let client = key.map_or_else(client, |key| client().with_key(key));
        assert_eq!(client.post("/api/keys", &json!({"name": "eve"})).status, expected);
    }
    let remove = |name: &str| {
        let key = ("x-api-key", ann);
        client().send("DELETE", &format!("/api/keys/{name}"), &[key], b"").whole().status
    };
    assert_eq!((remove("ann"), remove("carol"), remove("bob")), (409, 404, 200));
    assert_eq!(chat_from_afar(&appliance, Some(bob)).status, 401);
}

#[test]
fn guesses_are_few_and_do_not_keep_the_owner_out() {
    let (front, setup) = (Front::new(), Setup::new(&Engine::echo()));
    let _ = front.boot(setup.state_path());
    let appliance = setup.start();
    let from = |last: u8, token: &str| {
        let body = json!({"token": token}).to_string();
        appliance.client().from_host(last).post_bytes("/api/claim", body.as_bytes())
    };
    let statuses: Vec<_> = (0..20).map(|_| from(2, "0000-0000-0000-0000").status).collect();
    assert_eq!(statuses[..5], [403; 5]);
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(refused >= 10, "{statuses:?}");
    let last = from(2, &front.token());
    // On a machine so slow that a guess came back, the token is right.
    assert!(last.status == 200 || last.headers.number("retry-after").unwrap() >= 1);
    if last.status != 200 {
        assert_eq!(from(3, &front.token()).status, 200, "another address has its own");
    }
}

#[test]
fn the_status_page_asks_for_it() {
    let (front, setup) = (Front::new(), Setup::new(&Engine::echo()));
    let _ = front.boot(setup.state_path());
    let appliance = setup.start();
    let browser = Browser::start(Screen::Phone);
    browser.open(&format!("http://{}/", appliance.address()));
    let wait_for = |words: &str| {
        until(words, || browser.text().to_lowercase().contains(words).then_some(()));
    };
    wait_for("nobody has claimed this machine");
    wait_for("claim this machine first");
    let width = browser.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(width <= 360, "the page is {width} points wide");
    let send = format!(
        "(document.getElementById('token').value = '{}', \
         document.getElementById('claim-form').requestSubmit(), true)",
        front.token()
    );
    assert_eq!(browser.evaluate(&send), true);
    wait_for("this machine is yours");
    let key = browser.evaluate("document.getElementById('claimed-key').innerText");
    assert_eq!(chat_from_afar(&appliance, key.as_str()).status, 200);
    wait_for("yours");
    assert_eq!(browser.complaints(), [""; 0]);
}
