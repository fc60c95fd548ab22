//! Updates on a system that runs: one whose program ends at once and one whose program
//! hangs go back by themselves, and one that is well stays, under the engine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::engine::Engine;
use tests::machine::{Machine, repository};
use tests::process;

use super::install::assert_serves;
use super::package::build;

const KEYS: &str = "/etc/stoker/update-keys.d";

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An update to this version, as the machine sees it. Its `stoker` is that script, or the
/// one that was built.
fn update(place: &Path, version: &str, script: Option<&str>) -> String {
    let directory = place.join("packages").join(version);
    let deb = |name: &str| directory.join(format!("{name}_{version}_{}.deb", architecture(name)));
    if let Some(script) = script {
        // The packages that are installed, with another number and another program.
        fs::create_dir_all(&directory).unwrap();
        for name in ["stoker", "stoker-appliance"] {
            let tree = directory.join(name);
            let from =
                place.join(format!("packages/0.1.0/{name}_0.1.0_{}.deb", architecture(name)));
            must(Command::new("dpkg-deb").arg("--raw-extract").args([&from, &tree]));
            let control = tree.join("DEBIAN/control");
            let text = fs::read_to_string(&control).unwrap().replace("0.1.0", version);
            fs::write(control, text).unwrap();
            if name == "stoker" {
                fs::write(tree.join("usr/bin/stoker"), script).unwrap();
            }
            let build = ["--root-owner-group", "-Znone", "--build"];
            must(Command::new("dpkg-deb").args(build).args([&tree, &deb(name)]));
        }
    } else {
        build(&place.join("programs"), version, &directory);
    }
    let file: PathBuf = place.join(format!("{version}.update"));
    let mut make = Command::new(repository().join("scripts/make-update"));
    make.arg("--key").arg(place.join("ours.key")).arg("--output").arg(&file);
    must(make.args([deb("stoker"), deb("stoker-appliance")]));
    format!("/run/ours/place/{version}.update")
}

/// What an answer takes. The other programs are large, and any will do.
fn programs(directory: &Path) {
    fs::create_dir(directory).unwrap();
    for name in ["stoker", "engine-worker"] {
        symlink(process::program(name), directory.join(name)).unwrap();
    }
    for name in ["indexer", "engine-builder"] {
        symlink("/bin/true", directory.join(name)).unwrap();
    }
}

fn architecture(package: &str) -> String {
    match package {
        "stoker" => must(Command::new("dpkg").arg("--print-architecture")),
        _ => "all".to_owned(),
    }
}

/// The phase in which it ended, as the server shows it.
fn ended(machine: &Machine) -> String {
    let status = machine.status_when("the update is shown", |status| status["update"].is_object());
    status["update"]["phase"]["name"].as_str().unwrap().to_owned()
}

#[test]
fn an_update_stays_if_it_is_well_and_goes_back_if_not() {
    let machine = Machine::boot_bare(&Engine::echo(), None);
    let place = machine.place();
    programs(&place.join("programs"));
    build(&place.join("programs"), "0.1.0", &place.join("packages/0.1.0"));
    let (public, secret) = (place.join("ours.pub"), place.join("ours.key"));
    must(Command::new("minisign").args(["-G", "-W", "-p"]).arg(&public).arg("-s").arg(&secret));
    machine.must(&["sh", "-c", "dpkg --install /run/ours/place/packages/0.1.0/*.deb"]);
    assert_serves(&machine);
    let set_up = format!(
        "mkdir {KEYS} && cp /run/ours/place/ours.pub {KEYS}/ && echo '# mine' >>/etc/stoker/stoker.toml \
         && printf '[Service]\\nTimeoutStartSec=1\\n' >/etc/systemd/system/stoker.service.d/start.conf \
         && systemctl daemon-reload"
    );
    machine.must(&["sh", "-c", &set_up]);
    let bounds = ["--patience-s", "1", "--steady-s", "1", "--format", "json"];

    for (version, script) in
        [("0.1.1", "#!/bin/sh\nexit 1\n"), ("0.1.2", "#!/bin/sh\nexec sleep infinity\n")]
    {
        let file = update(place, version, Some(script));
        let failure =
            machine.run(&[&["stoker", "update", &file][..], &bounds].concat()).unwrap_err();
        assert!(failure.contains("exit status: 5") && failure.contains("went_back"), "{failure}");
        assert_serves(&machine);
        assert_eq!(machine.must(&["dpkg-query", "--show", "stoker"]), "stoker\t0.1.0");
        let status = machine.status_when("it is told", |status| {
            let told = status["incidents"][0]["problem"].as_str().unwrap_or_default();
            told == format!("version {version} was not well and was given up")
        });
        assert_eq!(status["update"]["to"], version, "{status}");
        assert_eq!(ended(&machine), "went_back");
    }

    let worker = machine.worker();
    let file = update(place, "0.2.0", None);
    let patient = ["--patience-s", "60", "--steady-s", "1", "--format", "json"];
    let said = machine.must(&[&["stoker", "update", &file][..], &patient].concat());
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["phase"]["name"], "committed", "{said}");
    assert_serves(&machine);
    assert_eq!(machine.must(&["dpkg-query", "--show", "stoker"]), "stoker\t0.2.0");
    assert_eq!(machine.worker(), worker);
    assert!(machine.must(&["cat", "/etc/stoker/stoker.toml"]).ends_with("# mine"));
    machine.must(&["test", "!", "-e", "/etc/systemd/system/stoker-update.service"]);
    assert_eq!(machine.must(&["ls", "/var/lib/stoker-update"]), "update.json");
}
