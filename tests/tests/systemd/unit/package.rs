//! The Debian packages on a system that runs: installed, upgraded over a changed
//! setting, removed and purged.

use std::path::Path;
use std::process::Command;

use tests::engine::Engine;
use tests::machine::{Machine, repository};
use tests::process;

use super::install::{assert_serves, ours};

/// Both packages, of this version and with these programs.
pub(super) fn build(programs: &Path, version: &str, output: &Path) {
    let built = Command::new(repository().join("scripts/package-deb"))
        .arg("--programs")
        .arg(programs)
        .arg("--output")
        .arg(output)
        // Good compression takes half a minute.
        .args(["--compression", "none", "--version", version])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(String::from_utf8_lossy(&built.stdout).lines().count(), 2);
}

#[test]
fn a_package_serves_is_upgraded_and_goes() {
    let machine = Machine::boot_bare(&Engine::echo(), None);
    let packages = machine.place().join("packages");
    build(&process::binaries(), "0.1.0", &packages.join("old"));
    build(&process::binaries(), "0.1.1", &packages.join("new"));
    let install = |which: &str| {
        machine.must(&["sh", "-c", &format!("dpkg --install /run/ours/place/packages/{which}/*")])
    };

    install("old");
    assert_serves(&machine);
    assert_eq!(machine.must(&["systemctl", "is-enabled", "stoker.service"]), "enabled");
    let (supervisor, worker) = (machine.supervisor(), machine.worker());
    let refused = machine.run(&["/run/ours/repository/scripts/install"]).unwrap_err();
    assert!(refused.contains("the Debian package 'stoker' is installed"), "{refused}");

    machine.must(&["sh", "-c", "echo '# mine' >>/etc/stoker/stoker.toml"]);
    install("new");
    assert_serves(&machine);
    assert_ne!(machine.supervisor(), supervisor);
    assert_eq!(machine.worker(), worker);
    assert!(machine.must(&["cat", "/etc/stoker/stoker.toml"]).ends_with("# mine"));

    machine.must(&["dpkg", "--remove", "stoker-appliance", "stoker"]);
    let left = ours(&machine);
    assert!(!left.contains("/usr/bin") && left.contains("/etc/stoker/stoker.toml"), "{left}");
    machine.must(&["ls", "/var/lib/stoker/stoker.db", "/var/lib/stoker/engines/echo"]);

    machine.must(&["rm", "--recursive", "/etc/stoker/conf.d"]);
    machine.must(&["dpkg", "--purge", "stoker-appliance", "stoker"]);
    assert_eq!(ours(&machine), "/var/lib/stoker");
    assert_eq!(machine.must(&["ls", "--almost-all", "/var/lib/stoker"]), "");
}
