//! `scripts/install` below a directory: what it places is the repository's units and
//! overlay and nothing else, it replaces only what is its own, and it says what was
//! told to it wrongly.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tests::machine::repository;

const CONFIGURATION: &str = "etc/stoker/stoker.toml";
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/stoker.service";

/// One version of us, with programs that are only looked at, and a directory that
/// becomes a machine.
struct Release {
    place: TempDir,
}

impl Release {
    fn new() -> Self {
        let release = Self { place: tempfile::tempdir().unwrap() };
        for part in ["scripts", "systemd", "rootfs-overlay"] {
            let copied = Command::new("cp")
                .arg("--archive")
                .arg(repository().join(part))
                .arg(release.place.path())
                .status()
                .unwrap();
            assert!(copied.success());
        }
        fs::create_dir(release.path("programs")).unwrap();
        for name in ["stoker", "engine-worker", "indexer", "engine-builder"] {
            let program = release.path("programs").join(name);
            fs::write(&program, name).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        }
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A file of the machine.
    fn placed(&self, name: &str) -> PathBuf {
        self.path("machine").join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(self.path("scripts/install"))
            .args(arguments)
            .env("DESTDIR", self.path("machine"))
            .output()
            .unwrap()
    }

    /// What it did, as `ACTION PATH`.
    fn done(&self, arguments: &[&str]) -> Vec<String> {
        let programs = self.path("programs");
        let common = ["--format", "json", "--programs", programs.to_str().unwrap()];
        let output = self.run(&[&common, arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let files = report["files"].as_array().unwrap();
        assert_eq!(report["changed"], !files.is_empty());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        files.iter().map(|file| text(&file["action"]) + " " + &text(&file["path"])).collect()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// Everything below a directory that is none.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let list = if entry.file_type().unwrap().is_dir() { &mut open } else { &mut files };
            list.push(entry.path());
        }
    }
    files
}

#[test]
fn every_unit_and_every_file_of_the_overlay_is_placed_and_nothing_is_left() {
    let release = Release::new();
    release.done(&["--appliance"]);
    let below = |part: &str, to: &str| {
        let part = release.path(part);
        let moved = |file: PathBuf| {
            let name = file.strip_prefix(&part).unwrap().to_owned();
            (file, release.placed(to).join(name))
        };
        files_below(&part).into_iter().map(moved).collect::<Vec<_>>()
    };
    let mut expected = below("rootfs-overlay", "");
    expected.extend(below("systemd", "usr/lib/systemd/system"));
    let programs = below("programs", "usr/bin");
    for (from, to) in expected.iter().chain(&programs) {
        match fs::read_link(from) {
            Ok(target) => assert_eq!(fs::read_link(to).unwrap(), target, "{}", to.display()),
            Err(_) => assert_eq!(fs::read(to).unwrap(), fs::read(from).unwrap()),
        }
    }
    for (_, to) in &programs {
        assert_eq!(fs::metadata(to).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    // The record, and a link for each unit that starts by itself.
    let starts = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("\nWantedBy=");
    let links = files_below(&release.path("systemd")).iter().filter(|file| starts(file)).count();
    assert!(release.placed(ENABLED).is_symlink());
    let count = files_below(&release.path("machine")).len();
    assert_eq!(count, expected.len() + programs.len() + 1 + links);

    assert_eq!(release.done(&["--appliance"]), [""; 0]);
    // What was asked for once needs no asking again.
    assert_eq!(release.done(&[]), [""; 0]);
    release.done(&["--uninstall"]);
    assert!(files_below(&release.path("machine")).is_empty());
}

#[test]
fn a_machine_gets_its_own_settings_only_if_it_is_an_appliance() {
    let release = Release::new();
    release.done(&[]);
    for absent in [
        "usr/lib/systemd/system.conf.d",
        "usr/lib/stoker/stoker.toml",
        "etc/avahi",
        "usr/lib/systemd/system/stoker-health.service",
        "usr/lib/systemd/system/nv-l4t-bootloader-config.service.d",
        "usr/lib/systemd/system/ssh.service.d",
        "etc/systemd/system/multi-user.target.wants/stoker-firstboot.service",
    ] {
        assert!(!release.placed(absent).exists(), "{absent}");
    }
    assert!(!release.placed("etc/systemd/system/default.target").is_symlink());
}

#[test]
fn an_update_replaces_what_is_ours_and_keeps_what_is_theirs() {
    let release = Release::new();
    release.done(&["--appliance"]);
    let shipped = release.path("rootfs-overlay").join(CONFIGURATION);
    let announced = "etc/avahi/services/stoker.service";

    fs::write(&shipped, "# second\n").unwrap();
    fs::remove_file(release.path("rootfs-overlay/usr/lib/sysctl.d/90-stoker.conf")).unwrap();
    fs::remove_file(release.placed(ENABLED)).unwrap();
    let update = ["updated /etc/stoker/stoker.toml", "removed /usr/lib/sysctl.d/90-stoker.conf"];
    assert_eq!(release.done(&[]), update);
    // Whoever has disabled the service wants it so. A unit that is new starts.
    assert!(!release.placed(ENABLED).is_symlink());
    let timer = "[Timer]\nOnBootSec=1h\n\n[Install]\nWantedBy=timers.target\n";
    fs::write(release.path("systemd/stoker-new.timer"), timer).unwrap();
    let link = "etc/systemd/system/timers.target.wants/stoker-new.timer";
    let new = ["new /usr/lib/systemd/system/stoker-new.timer".into(), format!("new /{link}")];
    assert_eq!(release.done(&[]), new);
    fs::remove_file(release.path("systemd/stoker-new.timer")).unwrap();
    let gone =
        ["removed /usr/lib/systemd/system/stoker-new.timer".into(), format!("removed /{link}")];
    assert_eq!(release.done(&[]), gone);

    fs::write(release.placed(CONFIGURATION), "# theirs\n").unwrap();
    fs::write(release.placed("usr/lib/stoker/stoker.toml"), "# not theirs to change\n").unwrap();
    assert_eq!(release.done(&[]), ["updated /usr/lib/stoker/stoker.toml"]);
    fs::write(&shipped, "# third\n").unwrap();
    assert_eq!(release.done(&[]), ["kept /etc/stoker/stoker.toml"]);
    assert_eq!(fs::read_to_string(release.placed(CONFIGURATION)).unwrap(), "# theirs\n");
    let beside = release.placed(&format!("{CONFIGURATION}.stoker-new"));
    assert_eq!(fs::read_to_string(beside).unwrap(), "# third\n");
    assert_eq!(release.done(&[]), [""; 0]);

    fs::remove_file(release.path("rootfs-overlay").join(announced)).unwrap();
    fs::write(release.placed(announced), "theirs").unwrap();
    assert_eq!(release.done(&[]), [format!("kept /{announced}")]);
}

#[test]
fn a_default_target_comes_back_unless_it_was_changed_again() {
    let release = Release::new();
    let link = release.placed("etc/systemd/system/default.target");
    let points_to = |target: &str| fs::read_link(&link).is_ok_and(|it| it == Path::new(target));
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink("graphical.target", &link).unwrap();
    release.done(&["--appliance"]);
    assert!(points_to("/lib/systemd/system/multi-user.target"));
    release.done(&["--uninstall"]);
    assert!(points_to("graphical.target"));

    release.done(&["--appliance"]);
    fs::remove_file(&link).unwrap();
    symlink("rescue.target", &link).unwrap();
    assert_eq!(release.done(&[]), [""; 0]);
    let gone = release.done(&["--uninstall"]);
    assert!(gone.contains(&"kept /etc/systemd/system/default.target".into()), "{gone:?}");
    assert!(points_to("rescue.target"));
}

#[test]
fn purging_takes_the_data_and_uninstalling_does_not() {
    let release = Release::new();
    release.done(&[]);
    let engine = release.placed("var/lib/stoker/engines/echo");
    fs::create_dir_all(&engine).unwrap();
    release.done(&["--uninstall"]);
    assert!(engine.exists());
    assert_eq!(release.done(&["--uninstall", "--purge"]), ["removed /var/lib/stoker"]);
    assert!(!release.placed("var/lib/stoker").exists());
    assert_eq!(release.done(&["--uninstall", "--purge"]), [""; 0]);
}

#[test]
fn what_was_told_wrongly_is_explained_before_anything_is_done() {
    let release = Release::new();
    for (arguments, said) in [
        (&["--apliance"][..], "unknown argument '--apliance'"),
        (&["--format", "yaml"], "--format takes text or json, not 'yaml'"),
        (&["--programs"], "--programs needs a value"),
        (&["--programs", "/none"], "there is no stoker in '/none'; build with"),
        (&["--purge"], "--purge goes with --uninstall"),
    ] {
        let refusal = release.refused(arguments);
        assert!(refusal.contains(said), "{refusal}");
    }
    assert!(!release.placed("usr").exists());

    let list = release.placed("var/lib/dpkg/info/stoker.list");
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    fs::write(list, "/.\n/usr/bin\n/usr/bin/stoker\n").unwrap();
    assert!(release.refused(&[]).contains("the Debian package 'stoker' is installed here"));
}
