//! A small machine with a systemd of its own, in which our unit runs as on an
//! appliance: `systemd-nspawn` boots it from `tests/machine/make-root` with a
//! layer in memory for what it writes. It shares our network, so its server is
//! asked like any other.
//!
//! That takes root. A machine where it cannot be had fails these tests;
//! `scripts/test --help` says how to leave them out.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::engine::Engine;
use crate::patience::until;
use crate::process;

/// The machine. It is powered off when this is dropped; if that is because the
/// test failed, its journal is printed.
#[derive(Debug)]
pub struct Machine {
    container: Child,
    /// Its first process, as we see it.
    leader: u32,
    address: SocketAddr,
    place: TempDir,
}

impl Machine {
    /// Boots a machine, installs us on it, and waits until it serves this engine.
    /// `watchdog` is the unit's `WatchdogSec=`, if another than on an appliance.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn boot(engine: &Engine, watchdog: Option<&str>) -> Self {
        let machine = Self::boot_bare(engine, watchdog);
        let _ = machine.install(&[]);
        machine.wait_until_ready();
        machine
    }

    /// Boots a machine that has an engine and the tests' settings, and nothing else
    /// of ours.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn boot_bare(engine: &Engine, watchdog: Option<&str>) -> Self {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        // The server's user in the machine reads below it.
        allow_all(place.path());
        let state_dir = place.path().join("state");
        engine.install(&state_dir);
        let address = free_address();
        let config = format!("[server]\nlisten = \"{address}\"\n");
        fs::write(place.path().join("test.toml"), config).expect("a fresh directory takes a file");
        let drop_in = watchdog.map(|time| format!("[Service]\nWatchdogSec={time}\n"));
        fs::write(place.path().join("test.conf"), drop_in.unwrap_or_default())
            .expect("a fresh directory takes a file");

        let log = fs::File::create(place.path().join("console")).expect("it takes a file");
        let container = command_line(&place, &root())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("there are descriptors left"))
            .stderr(log)
            .spawn()
            .expect("systemd-nspawn can be started; `scripts/test` installs it");
        let mut machine = Self { container, leader: 0, address, place };
        machine.leader = until("the machine boots", || machine.find_leader());
        until("its systemd answers", || {
            machine.run(&["systemctl", "is-active", "sysinit.target"]).ok()
        });
        machine.set_up();
        machine
    }

    /// Gives the machine the tests' settings.
    pub fn set_up(&self) {
        let _ = self.must(&["sh", "-c", SET_UP]);
    }

    /// Runs `scripts/install` in the machine; its standard output.
    ///
    /// # Panics
    /// It fails.
    pub fn install(&self, arguments: &[&str]) -> String {
        let script = ["/run/ours/repository/scripts/install", "--programs", "/run/ours/bin"];
        self.must(&[&script, arguments].concat())
    }

    /// A directory that the machine sees as `/run/ours/place`.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Where its server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn wait_until_ready(&self) {
        until("the engine is ready", || {
            let connected = self.client().try_connect().is_ok();
            (connected && self.client().get("/ready").status == 200).then_some(())
        });
    }

    /// `/api/status` now.
    #[must_use]
    pub fn status(&self) -> Value {
        self.client().get("/api/status").good()
    }

    /// The status, once it is so.
    #[must_use]
    pub fn status_when(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, || Some(self.status()).filter(|status| is(status)))
    }

    /// Runs a command in the machine; what it said, or how it failed.
    ///
    /// # Errors
    /// It exits with another status than 0.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run(&self, command: &[&str]) -> Result<String, String> {
        let mut enter = Command::new("nsenter");
        enter.args(["--all", "--target", &self.leader.to_string(), "--"]).args(command);
        let Output { status, stdout, stderr } = enter.output().expect("nsenter is there");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match status.success() {
            true => Ok(said(&stdout)),
            false => Err(format!("{command:?}: {status}: {} {}", said(&stdout), said(&stderr))),
        }
    }

    /// The same, which must work.
    ///
    /// # Panics
    /// It does not.
    pub fn must(&self, command: &[&str]) -> String {
        self.run(command).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// `systemctl` on our unit.
    pub fn systemctl(&self, verb: &str) {
        let _ = self.must(&["systemctl", verb, "stoker.service"]);
    }

    /// Where the machine's engines are, as we see it.
    #[must_use]
    pub fn engines(&self) -> PathBuf {
        self.place.path().join("state/engines")
    }

    /// A property of our unit.
    #[must_use]
    pub fn property(&self, name: &str) -> String {
        self.must(&["systemctl", "show", "--value", "--property", name, "stoker.service"])
    }

    /// The supervisor's process as the machine sees it; 0 if there is none.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        self.property("MainPID").parse().expect("systemd tells a number")
    }

    /// The engine's process as the machine sees it.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn worker(&self) -> u32 {
        let pid = self.status()["engine"]["pid"].as_u64().expect("the engine has a process");
        u32::try_from(pid).expect("process ids are small")
    }

    /// A process of the machine as we see it.
    ///
    /// # Panics
    /// It is gone.
    #[must_use]
    pub fn outside(&self, pid: u32) -> u32 {
        let space = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(self.leader);
        process::all()
            .find(|&outside| process::inner_id(outside) == Some(pid) && space(outside) == own)
            .unwrap_or_else(|| panic!("the machine has no process {pid}"))
    }

    /// Sends a signal to one of the machine's processes.
    pub fn signal(&self, pid: u32, signal: Signal) {
        process::signal(self.outside(pid), signal);
    }

    /// What our unit wrote to the journal.
    #[must_use]
    pub fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "--output=short-monotonic", "--unit=stoker"])
            .unwrap_or_else(|failure| failure)
    }

    fn find_leader(&mut self) -> Option<u32> {
        if let Some(status) = self.container.try_wait().expect("a child can be waited for") {
            panic!("systemd-nspawn ended with {status}:\n{}", self.console());
        }
        let container = self.container.id();
        process::all().find(|&pid| {
            process::inner_id(pid) == Some(1) && process::ancestors(pid).any(|pid| pid == container)
        })
    }

    fn console(&self) -> String {
        fs::read_to_string(self.place.path().join("console")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the machine's journal:\n{}\n{}", self.journal(), self.console());
        }
        // The container goes with its first process, whatever it was doing.
        if self.leader != 0 {
            process::signal(self.leader, Signal::SIGKILL);
        }
        let _ = self.container.wait();
    }
}

/// Settings that only tests need, where an operator's stand.
const SET_UP: &str = r"set -e
mkdir -p /etc/stoker/conf.d /etc/systemd/system/stoker.service.d
cp /run/ours/place/test.toml /etc/stoker/conf.d/
cp /run/ours/place/test.conf /etc/systemd/system/stoker.service.d/";

fn command_line(place: &TempDir, root: &Path) -> Command {
    let bind = |from: &Path, to: &str| format!("--bind-ro={}:/run/ours/{to}", from.display());
    let name = place.path().file_name().expect("a directory has a name").to_string_lossy();
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut command = Command::new("systemd-nspawn");
    command
        .args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--boot"])
        .arg("--link-journal=no")
        .arg(format!("--machine=stoker{name}"))
        .arg(format!("--directory={}", root.display()))
        .arg(bind(&process::binaries(), "bin"))
        .arg(bind(&repository(), "repository"))
        .arg(bind(place.path(), "place"))
        .arg(format!("--bind={}:/var/lib/stoker", place.path().join("state").display()));
    // Where we have the older control groups, so has a machine within.
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        command.arg("systemd.unified_cgroup_hierarchy=0");
    }
    command
}

fn root() -> PathBuf {
    let made = Command::new(repository().join("tests/machine/make-root"))
        .stderr(Stdio::inherit())
        .output()
        .expect("the script is there");
    assert!(made.status.success(), "the machine's file system cannot be made, see above");
    PathBuf::from(String::from_utf8_lossy(&made.stdout).trim())
}

/// Where this was built from.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in it").into()
}

/// On loopback, where nobody listens now.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    socket.local_addr().expect("a socket has an address")
}

fn allow_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
}
