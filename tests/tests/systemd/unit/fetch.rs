//! Repositories that our unit fetches from real hosts, as its own user and within its
//! bounds: what is missing is said, and once it is there the next look takes the code.

use serde_json::{Value, json};
use tests::client::Client;
use tests::engine::Engine;
use tests::git::GitHost;
use tests::machine::{Machine, free_address};
use tests::patience::until;

const REPOSITORIES: &str = "/api/repositories";
const HOSTS: &str = "/run/ours/repository/tests/machine/serve-code";

// What an operator does, in the machine.
const TRUST: &str = "cp /srv/git/certificate.pem /usr/local/share/ca-certificates/host.crt
update-ca-certificates >&2";
const LOGIN: &str = "cd /var/lib/stoker
echo 'machine 127.0.0.1 login ada password hunter2' >.netrc
chmod 600 .netrc; chown stoker: .netrc";
const SSH_KEY: &str = "install --directory --owner=stoker --group=stoker --mode=700 \
/var/lib/stoker/.ssh; cd /var/lib/stoker/.ssh
ssh-keygen -q -t ed25519 -N '' -f id_ed25519; chown stoker: id_ed25519*";
const ALLOW: &str = "cp /var/lib/stoker/.ssh/id_ed25519.pub /srv/git/keys; chown git /srv/git/keys";

fn sh(machine: &Machine, script: &str) {
    let _ = machine.must(&["sh", "-euc", script]);
}

/// Why it has no code yet, once that begins so.
fn is_refused(client: &Client, name: &str, begins: &str) {
    until(&format!("{name}: {begins}"), || {
        let one = repository(client, name);
        one["reason"].as_str().is_some_and(|why| why.starts_with(begins)).then_some(())
    });
}

fn repository(client: &Client, name: &str) -> Value {
    let list = client.get(REPOSITORIES).good();
    let all = list["repositories"].as_array().unwrap().iter();
    all.clone().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

fn is_found(client: &Client, name: &str) {
    until(&format!("{name} is found"), || {
        let wish = json!({"query": "set speed", "repositories": [name]});
        let found = client.post("/v1/search", &wish).good();
        (found["data"][0]["header"] == "fan.rs > set_speed").then_some(())
    });
}

#[test]
fn code_is_fetched_and_indexed_within_the_bounds_of_the_unit() {
    let host = GitHost::start();
    let _ = host.commit("fans", &[("fan.rs", b"fn set_speed() {}\n")]);
    let machine = Machine::boot(&Engine::echo(), None);
    let client = machine.client();
    let wish = json!({"url": host.url("fans"), "shared": true});
    let _ = client.post(REPOSITORIES, &wish).good();
    is_found(&client, "fans");
}

#[test]
fn a_host_by_https_needs_trust_and_a_login_and_one_by_ssh_is_known_and_knows_us() {
    let machine = Machine::boot_bare(&Engine::echo(), None);
    sh(&machine, "printf '[index]\nfetch_period_s = 1\n' >/etc/stoker/conf.d/fetch.toml");
    let _ = machine.install(&[]);
    machine.wait_until_ready();
    let [https, ssh] = [free_address(), free_address()].map(|address| address.port());
    let _ = machine.must(&[HOSTS, &https.to_string(), &ssh.to_string()]);
    let client = machine.client();
    for (name, url) in [
        ("by-https", format!("https://127.0.0.1:{https}/git/fans.git")),
        ("by-ssh", format!("ssh://git@127.0.0.1:{ssh}/srv/git/fans.git")),
    ] {
        let wish = json!({"url": url, "name": name, "shared": true});
        let _ = client.post(REPOSITORIES, &wish).good();
    }

    is_refused(&client, "by-https", "its certificate is not trusted here");
    sh(&machine, TRUST);
    is_refused(&client, "by-https", "it asks for a login");
    sh(&machine, LOGIN);
    is_found(&client, "by-https");

    is_refused(&client, "by-ssh", "its host key is not known here");
    sh(&machine, SSH_KEY);
    let known = format!(
        "echo \"[127.0.0.1]:{ssh} $(cat /srv/git/host_key.pub)\" >/var/lib/stoker/.ssh/known_hosts"
    );
    sh(&machine, &known);
    is_refused(&client, "by-ssh", "it asks for a login");
    sh(&machine, ALLOW);
    is_found(&client, "by-ssh");
    assert!(!machine.journal().contains("hunter2"), "a password is in the journal");
}
