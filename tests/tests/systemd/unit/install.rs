//! `scripts/install` on a system that runs: it serves, doing it again changes
//! nothing, an update keeps the engine, and taking it away leaves what is not ours.

use serde_json::{Value, json};
use tests::engine::Engine;
use tests::machine::Machine;
use tests::patience::until;
use tests::process;

use super::assert_answers;

/// What `systemd-analyze security` may say of the unit.
const EXPOSURE: f64 = 2.0;

/// What it did, as it tells programs.
fn report(machine: &Machine, arguments: &[&str]) -> Value {
    let said = machine.install(&[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

pub(super) fn assert_serves(machine: &Machine) {
    machine.wait_until_ready();
    assert_answers(machine);
}

/// Everything in the machine whose name is ours, but what tests put there.
pub(super) fn ours(machine: &Machine) -> String {
    let found = "find / -xdev -name '*stoker*' ! -path '/run/*' ! -path '/proc/*' \
                 ! -name stoker.service.d | LC_ALL=C sort";
    machine.must(&["sh", "-c", found])
}

#[test]
fn what_is_installed_serves_and_is_updated_under_the_engine() {
    let machine = Machine::boot(&Engine::echo(), None);
    assert_serves(&machine);
    let (supervisor, worker) = (machine.supervisor(), machine.worker());

    let again = report(&machine, &[]);
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(machine.supervisor(), supervisor);

    let newer = "mkdir /opt/new && cd /run/ours/bin && cp stoker engine-worker indexer engine-builder \
                 /opt/new && echo newer >>/opt/new/stoker";
    machine.must(&["sh", "-c", newer]);
    let update = report(&machine, &["--programs", "/opt/new"]);
    assert_eq!(update["files"], json!([{"path": "/usr/bin/stoker", "action": "updated"}]));
    assert_ne!(machine.supervisor(), supervisor);
    assert_serves(&machine);
    assert_eq!(machine.worker(), worker);
}

#[test]
fn the_unit_is_closed_and_the_engine_goes_first_when_memory_runs_out() {
    let machine = Machine::boot(&Engine::echo(), None);
    let said = machine.must(&["systemd-analyze", "security", "--no-pager", "stoker.service"]);
    let figure = said.rsplit("for stoker.service: ").next().and_then(|it| it.split(' ').next());
    let figure: f64 = figure.unwrap().parse().unwrap_or_else(|_| panic!("{said}"));
    assert!(figure <= EXPOSURE, "{said}");

    assert_eq!(machine.property("Slice"), "stoker.slice");
    // Lowering it takes a right that systemd itself may lack in a container, so that
    // only the engine's own is looked at in the kernel.
    assert_eq!(machine.property("OOMScoreAdjust"), "-900");
    let score = format!("/proc/{}/oom_score_adj", machine.worker());
    assert_eq!(machine.must(&["cat", &score]), "500");
}

/// What runs once at each boot of an appliance: a file is taken, and the machine is
/// found well.
fn assert_boots(machine: &Machine) {
    machine.must(&["sh", "-c", "echo \"hostname = 'box'\" >/boot/stoker.toml"]);
    machine.must(&["systemctl", "start", "stoker-firstboot", "stoker-health"]);
    assert_eq!(machine.must(&["sh", "-c", "cat /etc/hostname; hostname"]), "box\nbox");
    machine.must(&["test", "!", "-e", "/boot/stoker.toml"]);
    // It stays for the person who brought the file.
    machine.must(&["rm", "/boot/stoker-result.txt"]);
    let status = ["systemctl", "show", "--value", "--property=ExecMainStatus", "stoker-health"];
    assert_eq!(machine.must(&status), "0");
}

/// Nobody has a key of it: root's own file above the logins has a token, the journal has
/// not, and who sends it gets in from the network.
fn assert_is_claimed(machine: &Machine) {
    let shell = |script: &str| machine.must(&["sh", "-c", script]);
    // As on a disk that has never been started.
    let _ = shell("systemctl stop stoker && rm /var/lib/stoker/stoker.db*");
    let _ = shell("systemctl restart stoker-claim && systemctl start stoker");
    let issue = "/run/issue.d/50-stoker.issue";
    let shown = machine.must(&["cat", issue]);
    let token = shown.split("token:").nth(1).and_then(|it| it.split_whitespace().next()).unwrap();
    assert_eq!(machine.must(&["stat", "--format=%U %a", issue]), "root 600");
    let login = shell("script --quiet --command 'agetty --show-issue' /dev/null");
    assert!(login.contains(token), "{login}");
    let kept = "stat --format='%U %a' /var/lib/stoker/claim.toml";
    assert_eq!(shell(kept), "stoker 600");
    let journal = shell("journalctl --boot --no-pager --output=cat");
    assert!(journal.contains("nobody has claimed this machine"));
    assert!(!journal.contains(token) && !journal.contains(&token.replace('-', "")));

    machine.wait_until_ready();
    let afar = [("x-forwarded-for", "192.168.1.7")];
    let chat = br#"{"messages": [{"role": "user", "content": "hello"}]}"#;
    let send = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        machine.client().send("POST", path, headers, body).whole()
    };
    assert_eq!(send("/v1/chat/completions", &afar, chat).status, 401);
    let claimed = send("/api/claim", &afar, json!({"token": token}).to_string().as_bytes()).good();
    let key = ("x-api-key", claimed["key"].as_str().unwrap());
    assert_eq!(send("/v1/chat/completions", &[afar[0], key], chat).status, 200);
    // The next boot has nobody to wait for.
    let _ = machine.must(&["systemctl", "restart", "stoker-claim"]);
    assert_eq!(shell("ls /run/issue.d /etc/issue.d 2>/dev/null | grep -c stoker || true"), "0");
    let _ = machine.must(&["stoker", "key", "open"]);
}

#[test]
fn taking_it_away_leaves_the_engines_and_what_was_changed_here() {
    let machine = Machine::boot(&Engine::echo(), None);
    let before = "/etc/systemd/system/default.target";
    machine.must(&["ln", "-s", "/lib/systemd/system/graphical.target", before]);
    let worker = machine.outside(machine.worker());
    let _ = machine.install(&["--appliance"]);
    assert_serves(&machine);
    let target = || machine.must(&["systemctl", "get-default"]);
    assert_eq!(target(), "multi-user.target");
    machine.must(&["sh", "-c", "echo '# mine' >>/etc/stoker/stoker.toml"]);
    assert_boots(&machine);
    assert_is_claimed(&machine);
    // The container's disk is none that swap may be on.
    machine.must(&["systemctl", "start", "stoker-swap"]);
    machine.must(&["test", "!", "-e", "/var/lib/stoker-swap"]);
    // What is changed here is not put right, and asked about once.
    assert_eq!(report(&machine, &[])["changed"], false);

    let gone = report(&machine, &["--uninstall"]);
    let kept: Vec<_> = gone["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["action"] == "kept")
        .map(|file| &file["path"])
        .collect();
    assert_eq!(kept, ["/etc/stoker/stoker.toml"], "{gone}");
    until("the engine is gone", || (!process::is_alive(worker)).then_some(()));
    assert_eq!(target(), "graphical.target");
    let boots = "/var/lib/stoker-firstboot\n/var/lib/stoker-health";
    let left = format!("/etc/stoker\n/etc/stoker/stoker.toml\n/var/lib/stoker\n{boots}");
    assert_eq!(ours(&machine), left);
    machine.must(&["ls", "/var/lib/stoker/stoker.db", "/var/lib/stoker/engines/echo"]);
    assert_eq!(report(&machine, &["--uninstall"])["changed"], false);

    let _ = machine.install(&[]);
    assert_serves(&machine);
    let _ = machine.install(&["--uninstall", "--purge"]);
    // The state directory is a mounted disk here.
    assert_eq!(ours(&machine), "/var/lib/stoker");
    assert_eq!(machine.must(&["ls", "--almost-all", "/var/lib/stoker"]), "");
}

#[test]
fn what_cannot_be_done_says_what_to_do() {
    let machine = Machine::boot_bare(&Engine::Absent, None);
    let script = "/run/ours/repository/scripts/install";
    let refused = |command: &str| machine.run(&["sh", "-c", command]).unwrap_err();
    let said = refused(&format!("{script} --programs /usr/bin"));
    assert!(said.contains("no stoker in '/usr/bin'") && said.contains("cargo build"), "{said}");
    let said = refused(&format!("setpriv --reuid=1000 {script} --programs /run/ours/bin"));
    assert!(said.contains("sudo scripts/install"), "{said}");
    // Nothing was begun.
    assert_eq!(ours(&machine), "/etc/stoker\n/var/lib/stoker");

    // Without an engine it is there and says so.
    let _ = machine.install(&[]);
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.client().get("/ready").status, 503);
}
