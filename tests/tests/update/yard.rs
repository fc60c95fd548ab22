//! A machine below a directory, with stand-ins for what an update calls, each of which can
//! cut the power.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;
use tests::machine::repository;
use tests::patience::until;
use tests::place::Place;
use tests::process::program;

/// Nothing listens there.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

pub(crate) const RECORD: &str = "var/lib/stoker-update/update.json";
pub(crate) const UNIT: &str = "etc/systemd/system/stoker-update.service";

/// What every stand-in begins with. Twice in a call, before it does anything and after, is
/// a moment in which the power can fail: whoever called it is killed, and it does no more.
pub(crate) const STAND_IN: &str = r#"#!/bin/sh
root=$(cd "$(dirname "$0")/.." && pwd)
case $root in */usr) root=${root%/usr} ;; esac
cd "$root/fake" || exit 1
moment() {
    echo >>moments
    if [ "$(wc -l <moments)" = "$(cat cut)" ]; then
        kill -9 $PPID
        exit 1
    fi
}
moment
"#;

const DPKG: &str = r#"
case $1 in
--print-architecture) echo amd64 ;;
--force-confold)
    # Neither of them is there while it is at work.
    echo neither >version
    for file in "$@"; do
        case $file in *.deb) version=$(dpkg-deb --field "$file" Version) || exit 1 ;; esac
    done
    moment
    echo "$version" >version
    # A new version runs, and brings the database to its own schema.
    if [ "$version" = 0.2.0 ]; then cp newer.db ../state/stoker.db; fi
    ;;
esac
moment
"#;

const DPKG_QUERY: &str = r#"
case " $* " in *" stoker "*) ;; *) exit 1 ;; esac
case "$*" in
*Status-Status*) printf 'installed %s' "$(cat version)" ;;
*Conffiles*) printf ' /etc/kept 0123\n' ;;
--listfiles*) printf '/.\n/usr\n/usr/share\n/usr/share/file\n/etc/kept\n' ;;
--control-list*) echo conffiles ;;
--control-show*) echo /etc/kept ;;
--status*)
    printf 'Package: stoker\nStatus: install ok installed\nVersion: %s\n' "$(cat version)"
    printf 'Architecture: amd64\nMaintainer: x <x@y>\nDescription: z\n'
    ;;
esac
moment
"#;

const SYSTEMCTL: &str = r#"
[ "$1" != show ] || echo 0
echo "$*" >>systemctl
moment
"#;

/// A machine with version 0.1.0, whose packages are two numbers.
pub(crate) struct Yard {
    pub(crate) place: Place,
}

impl Yard {
    pub(crate) fn new() -> Self {
        let yard = Self { place: Place::new() };
        for (name, text) in [
            ("usr/bin/dpkg", [STAND_IN, DPKG].concat()),
            ("usr/bin/dpkg-query", [STAND_IN, DPKG_QUERY].concat()),
            ("bin/systemctl", [STAND_IN, SYSTEMCTL].concat()),
        ] {
            yard.place.program(name, &text);
        }
        for tool in ["dpkg-deb", "md5sum"] {
            symlink(Path::new("/usr/bin").join(tool), yard.place.path("usr/bin").join(tool))
                .unwrap();
        }
        yard.place.write("usr/share/file", "of the package");
        yard.place.write("etc/kept", "changed by somebody");
        yard.place.write("fake/version", "0.1.0\n");
        yard.place.write("fake/cut", "0\n");
        yard.place.write("state/.keep", "");
        yard.database("state/stoker.db", 1, "old");
        yard.database("fake/newer.db", 99, "new");
        yard.place.write("keys/secret", "");
        yard.sign_with("ours");
        fs::create_dir_all(yard.place.path("etc/stoker/update-keys.d")).unwrap();
        fs::copy(
            yard.place.path("keys/ours.pub"),
            yard.place.path("etc/stoker/update-keys.d/ours.pub"),
        )
        .unwrap();
        yard
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.place.path(name)).unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn database(&self, name: &str, schema: u32, row: &str) {
        let connection = Connection::open(self.place.path(name)).unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        connection.execute("INSERT INTO t VALUES (?1)", [row]).unwrap();
        connection.pragma_update(None, "user_version", schema).unwrap();
    }

    pub(crate) fn row(&self) -> String {
        let connection = Connection::open(self.place.path("state/stoker.db")).unwrap();
        connection.query_one("SELECT x FROM t", [], |row| row.get(0)).unwrap()
    }

    /// Makes a pair of keys.
    pub(crate) fn sign_with(&self, name: &str) {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
        let made = Command::new("minisign")
            .args(["-G", "-W", "-p", &public, "-s", &secret])
            .current_dir(self.place.path("keys"))
            .output()
            .expect("minisign is there; `scripts/test` installs it");
        assert!(made.status.success(), "{made:?}");
    }

    /// An update to that version, signed by this key.
    pub(crate) fn update(&self, version: &str, architecture: &str, key: &str) -> PathBuf {
        let control = format!(
            "Package: stoker\nVersion: {version}\nArchitecture: {architecture}\n\
             Maintainer: x <x@y>\nDescription: z\n"
        );
        self.place.write("package/DEBIAN/control", &control);
        let package = self.place.path(&format!("stoker_{version}_{architecture}.deb"));
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Znone", "--build"])
            .args([&self.place.path("package"), &package])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        let output = self.place.path(&format!("{version}-{architecture}-{key}.update"));
        let made = Command::new(repository().join("scripts/make-update"))
            .arg("--key")
            .arg(self.place.path(&format!("keys/{key}.key")))
            .arg("--output")
            .args([&output, &package])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), output.to_str().unwrap());
        output
    }

    pub(crate) fn command(&self, file: &Path, server: &str) -> Command {
        self.place.write("test.toml", &format!("[server]\nlisten = \"{server}\"\n"));
        let mut command = Command::new(program("stoker"));
        command.arg("update").arg(file).arg("--root").arg(self.place.root());
        command.arg("--config").arg(self.place.path("test.toml"));
        command.arg("--state-dir").arg(self.place.path("state"));
        command.args(["--patience-s", "0", "--steady-s", "0"]);
        command
    }

    /// What `stoker update FILE` says that only looks, or does not begin.
    pub(crate) fn looked(&self, file: &Path, arguments: &[&str]) -> Output {
        self.command(file, NOBODY).args(arguments).output().unwrap()
    }

    pub(crate) fn refusal(&self, file: &Path) -> String {
        let output = self.looked(file, &["--dry-run"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).trim().to_owned()
    }

    /// Begins an update: everything is there, and the keeper has been asked for.
    pub(crate) fn stage(&self, file: &Path, server: &str) {
        self.place.write("fake/systemctl", "");
        let mut command = self.command(file, server);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        until("the keeper is asked for", || {
            if child.try_wait().unwrap().is_some() {
                let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
                panic!("it ended by itself: {said}");
            }
            self.read("fake/systemctl").contains("start stoker-update.service").then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A copy of 50 MB becomes a link.
    pub(crate) fn link_keeper(&self) {
        assert_eq!(self.phase(), "ready");
        let keeper = self.place.path("var/lib/stoker-update/keeper");
        assert!(fs::metadata(&keeper).unwrap().permissions().mode() & 0o100 != 0);
        fs::remove_file(&keeper).unwrap();
        symlink(program("stoker"), keeper).unwrap();
    }

    pub(crate) fn phase(&self) -> String {
        let record: Value = serde_json::from_str(&self.read(RECORD)).unwrap_or_default();
        record["phase"]["name"].as_str().unwrap_or_default().to_owned()
    }

    /// The firmware starts one of two systems, if there are two. A new one brings the
    /// database to its own schema.
    fn boot(&self) {
        let status = self.place.path(super::system::STATUS_B);
        let Ok(status) = fs::read(status) else { return };
        if self.read("fake/active") == "B" && status[4] == 0xff {
            self.place.write("fake/active", "A\n");
        }
        self.place.write("fake/running", &self.read("fake/active"));
        if self.read("fake/running") == "B" {
            fs::copy(self.place.path("fake/newer.db"), self.place.path("state/stoker.db")).unwrap();
        }
    }

    /// Starts the keeper, as systemd does, and kills it at that moment; 0 is none.
    pub(crate) fn keep(&self, cut: usize) -> Output {
        self.boot();
        self.place.write("fake/moments", "");
        self.place.write("fake/cut", &format!("{cut}\n"));
        let mut command = Command::new(program("stoker"));
        command.args(["update", "keep", "--root"]).arg(self.place.root()).output().unwrap()
    }

    /// Another machine that is the same, a program of 50 MB aside.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { place: Place::new() };
        let from = self.place.path(".");
        let copied =
            Command::new("cp").arg("--archive").args([from.as_path(), copy.place.root()]).status();
        assert!(copied.unwrap().success());
        let old = self.place.root().to_str().unwrap();
        let record = self.read(RECORD).replace(old, copy.place.root().to_str().unwrap());
        copy.place.write(RECORD, &record);
        copy
    }

    /// One version is there and whole, its database as well, and nothing else is left.
    pub(crate) fn assert_is(&self, version: &str, phase: &str) {
        assert_eq!((self.read("fake/version").as_str(), self.phase().as_str()), (version, phase));
        assert_eq!(self.row(), if version == "0.1.0" { "old" } else { "new" });
        self.assert_is_tidy();
    }

    pub(crate) fn assert_is_tidy(&self) {
        assert!(!self.place.path(UNIT).exists());
        let left: Vec<_> =
            fs::read_dir(self.place.path("var/lib/stoker-update")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

/// A machine on which the update to 0.2.0 is staged. Its keeper is only a link.
pub(crate) fn staged(server: &str) -> Yard {
    let yard = Yard::new();
    let file = yard.update("0.2.0", "amd64", "ours");
    yard.stage(&file, server);
    yard.link_keeper();
    yard
}

/// Cuts the power at each moment there is, lets the machine boot until nothing is left to
/// do, and says how it ended each time.
pub(crate) fn cut_everywhere(staged: &Yard, ended: impl Fn(&Yard)) -> usize {
    for cut in 1.. {
        let yard = staged.copy();
        let first = yard.keep(cut);
        let was_cut = first.status.code().is_none();
        let mut boots = 0;
        while yard.place.path(UNIT).exists() {
            boots += 1;
            assert!(boots <= 3, "cut at {cut}: {}", yard.read(RECORD));
            let again = yard.keep(0);
            assert!(again.status.success(), "cut at {cut}: {again:?}");
        }
        ended(&yard);
        if !was_cut {
            assert!(first.status.success(), "{first:?}");
            return cut - 1;
        }
    }
    unreachable!("an update ends")
}
