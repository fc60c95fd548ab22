//! One `stoker serve` with a state directory and a port of its own.
//!
//! It is killed when it is dropped. If that is because the test failed, its
//! log is printed.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::answer::Answer;
use crate::client::{Client, Reply};
use crate::engine::Engine;
use crate::notify::Listener;
use crate::patience::until;
use crate::process;
use crate::stand_in;

/// What an appliance is started with.
#[derive(Debug)]
pub struct Setup {
    place: TempDir,
    state_dir: PathBuf,
    variables: Vec<(String, String)>,
    /// Put before the program: a command that runs it.
    through: Vec<String>,
    /// Descriptors that it is passed, as systemd does.
    passed: Vec<(String, OwnedFd)>,
}

/// A running server.
#[derive(Debug)]
pub struct Appliance {
    child: Child,
    address: SocketAddr,
    setup: Setup,
}

/// An appliance that several tests use, because its engine takes long to load.
/// It lives as long as one of them does.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Weak<Appliance>>);

/// How a server ended that was not meant to run.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub said: String,
}

impl Setup {
    /// An appliance with this engine and the defaults.
    ///
    /// # Panics
    /// There is no place for temporary files.
    #[must_use]
    pub fn new(engine: &Engine) -> Self {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let state_dir = place.path().join("state");
        engine.install(&state_dir);
        let (variables, through, passed) = (Vec::new(), Vec::new(), Vec::new());
        let setup = Self { place, state_dir, variables, through, passed }.config("");
        if !stand_in::is_wanted() {
            return setup;
        }
        setup.variable("STOKER_ENGINE__WORKER", &stand_in::worker().display().to_string())
    }

    /// The same with this configuration file.
    ///
    /// # Panics
    /// The file cannot be written.
    #[must_use]
    pub fn config(self, text: &str) -> Self {
        fs::write(self.config_path(), text).expect("a fresh directory takes a file");
        self
    }

    /// The same with a variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another state directory, whatever is there.
    #[must_use]
    pub fn state_dir(self, state_dir: &Path) -> Self {
        Self { state_dir: state_dir.into(), ..self }
    }

    /// The same, started by another command.
    #[must_use]
    pub fn through(self, command: &[&str]) -> Self {
        Self { through: command.iter().map(|&word| word.to_owned()).collect(), ..self }
    }

    /// The same, passed these descriptors by their names; three at most.
    #[must_use]
    pub fn passed(self, passed: Vec<(String, OwnedFd)>) -> Self {
        Self { passed, ..self }
    }

    /// The same with this systemd beside it, which keeps descriptors.
    ///
    /// # Panics
    /// There is no place for temporary files whose name is text.
    #[must_use]
    pub fn under(self, systemd: &Listener) -> Self {
        let path = systemd.path();
        let path = path.to_str().expect("temporary files have plain names");
        self.variable("NOTIFY_SOCKET", path).variable("FDSTORE", "8")
    }

    /// The state directory.
    #[must_use]
    pub fn state_path(&self) -> &Path {
        &self.state_dir
    }

    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.place.path().join("stoker.toml")
    }

    /// Starts it and waits until it says where it listens.
    ///
    /// # Panics
    /// It ends instead.
    #[must_use]
    pub fn listen(self) -> Appliance {
        let mut child = self.spawn("127.0.0.1:0");
        let address = until("the server says where it listens", || {
            let log = self.log();
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("the server ended with {status}:\n{log}");
            }
            address_in(&log)
        });
        Appliance { child, address, setup: self }
    }

    /// Starts it and waits until it can answer.
    ///
    /// # Panics
    /// It does not get there.
    #[must_use]
    pub fn start(self) -> Appliance {
        let appliance = self.listen();
        appliance.wait_until_ready();
        appliance
    }

    /// Starts it on `listen` and waits until it has given up.
    ///
    /// # Panics
    /// It goes on.
    #[must_use]
    pub fn run_to_its_end(self, listen: &str) -> Ended {
        let mut child = Appliance {
            child: self.spawn(listen),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            setup: self,
        };
        let status = child.wait_for_exit();
        Ended { status, said: child.log() }
    }

    fn spawn(&self, listen: &str) -> Child {
        let stoker = process::program("stoker");
        let mut command = match &self.through[..] {
            [] => Command::new(stoker),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(stoker);
                command
            }
        };
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("a fresh directory takes a file");
        if !self.passed.is_empty() {
            command = self.passing(&command);
        }
        command
            .args(["serve", "--listen", listen, "--config"])
            .arg(self.config_path())
            .arg("--state-dir")
            .arg(&self.state_dir)
            .env_remove("NOTIFY_SOCKET")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        if self.passed.is_empty() {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        }
        command.spawn().expect("the server's program can be started")
    }

    /// `command` with the descriptors in the places where systemd puts them. They
    /// come to a shell as its standard ones, because those are inherited by this
    /// child alone.
    fn passing(&self, command: &Command) -> Command {
        const SHELL: &str = r#"exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>>"$0"
            export LISTEN_PID=$$; exec "$@""#;
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL]).arg(self.log_path());
        shell.arg(command.get_program()).args(command.get_args());
        let names: Vec<_> = self.passed.iter().map(|(name, _)| name.as_str()).collect();
        shell.env("LISTEN_FDNAMES", names.join(":")).env("LISTEN_FDS", names.len().to_string());
        let mut descriptors = self.passed.iter().map(|(_, descriptor)| {
            Stdio::from(descriptor.try_clone().expect("there are descriptors left"))
        });
        shell.stdin(descriptors.next().unwrap_or_else(Stdio::null));
        shell.stdout(descriptors.next().unwrap_or_else(Stdio::null));
        shell.stderr(descriptors.next().unwrap_or_else(Stdio::null));
        assert!(descriptors.next().is_none(), "a shell has three standard descriptors");
        shell
    }

    fn log_path(&self) -> PathBuf {
        self.place.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Appliance {
    /// Starts one with this engine and waits until it can answer.
    #[must_use]
    pub fn start(engine: &Engine) -> Self {
        Setup::new(engine).start()
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.setup.state_dir
    }

    /// A client on this machine.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        self.client().get(path)
    }

    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.client().post(path, body)
    }

    /// Asks for an answer that comes piece by piece.
    #[must_use]
    pub fn stream(&self, path: &str, body: &Value) -> Answer {
        self.client().stream(path, body)
    }

    /// `/api/status` now.
    #[must_use]
    pub fn status(&self) -> Value {
        self.get("/api/status").good()
    }

    /// Waits until `/api/status` is as `is` wants it, and returns it.
    pub fn status_when(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, || Some(self.status()).filter(|status| is(status)))
    }

    /// Waits until it can answer.
    pub fn wait_until_ready(&self) {
        until("the engine is ready", || (self.get("/ready").status == 200).then_some(()));
    }

    /// The supervisor's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The engine's process.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn worker(&self) -> u32 {
        let pid = self.status()["engine"]["pid"].as_u64().expect("the engine has a process");
        u32::try_from(pid).expect("process ids are small")
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits until the process is gone.
    ///
    /// # Panics
    /// It goes on.
    #[must_use]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the server ends", || child.try_wait().expect("a child can be waited for"))
    }

    /// Starts another server on the same state directory after this one ended,
    /// and waits until it can answer.
    #[must_use]
    pub fn again(self) -> Self {
        self.ended().start()
    }

    /// The same, but only waits until it says where it listens.
    #[must_use]
    pub fn listen_again(self) -> Self {
        self.ended().listen()
    }

    /// What it was started with, once it has ended.
    #[must_use]
    pub fn ended(self) -> Setup {
        self.again_passed(Vec::new())
    }

    /// What another server on the same state directory is started with, after
    /// this one ended: these descriptors too.
    ///
    /// # Panics
    /// There is no place for temporary files.
    #[must_use]
    pub fn again_passed(mut self, passed: Vec<(String, OwnedFd)>) -> Setup {
        let _ = self.wait_for_exit();
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let place = std::mem::replace(&mut self.setup.place, place);
        let setup = Setup {
            state_dir: self.setup.state_dir.clone(),
            variables: self.setup.variables.clone(),
            through: self.setup.through.clone(),
            place,
            passed,
        };
        // The old log would say the old address.
        fs::rename(setup.log_path(), setup.place.path().join("log.before"))
            .expect("the old log can be put aside");
        setup
    }

    #[must_use]
    pub fn log(&self) -> String {
        self.setup.log()
    }
}

impl Shared {
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// The one that runs, or a new one with this engine.
    #[must_use]
    pub fn start(&self, engine: &Engine) -> Arc<Appliance> {
        self.start_with(|| Setup::new(engine))
    }

    /// The one that runs, or a new one with what `setup` makes.
    #[must_use]
    pub fn start_with(&self, setup: impl FnOnce() -> Setup) -> Arc<Appliance> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let appliance = Arc::new(setup().start());
            *running = Arc::downgrade(&appliance);
            appliance
        })
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains(" serving "))?;
    line.split("address=").nth(1)?.split(' ').next()?.parse().ok()
}
