//! The program from outside: what a person reads when it cannot start, and how
//! it ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn stoker(state_dir: &Path) -> Command {
    stoker_on("127.0.0.1:0", state_dir)
}

fn stoker_on(address: &str, state_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stoker"));
    command.args(["serve", "--config", "/dev/null", "--listen", address]);
    command.arg("--state-dir").arg(state_dir).env_remove("STOKER_LOG").env_remove("RUST_LOG");
    command
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{port}");
    let output = stoker_on(&address, dir.path()).output().unwrap();
    assert_eq!(
        error_of(&output),
        format!(
            "stoker: port {port} on 127.0.0.1 is in use by another program, perhaps Ollama or \
             another stoker; stop it, or choose another port with --listen 127.0.0.1:PORT"
        )
    );
}

#[test]
fn a_bad_line_of_the_configuration_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stoker.toml");
    std::fs::write(&file, "[server]\nlistne = \"127.0.0.1:0\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stoker"));
    let output = command.args(["serve", "--config"]).arg(&file).output().unwrap();
    let expected = format!(
        "stoker: {}:2: server.listne: unknown key; did you mean server.listen?",
        file.display()
    );
    assert_eq!(error_of(&output), expected);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let state_dir = dir.path().join("file/state");
    let output = stoker(&state_dir).output().unwrap();
    let expected = format!("stoker: the state directory {} cannot be made", state_dir.display());
    let error = error_of(&output);
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn sigterm_ends_it_with_status_0() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(stoker(dir.path()));
    assert_eq!(running.end_with(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn a_missing_engine_is_said_in_the_log_with_what_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(stoker(dir.path()));
    assert!(running.log.contains("engine-builder build MODEL"), "{}", running.log);
    running.end_with(Signal::SIGINT);
}

#[test]
fn the_doctor_needs_no_server_and_leaves_with_the_worst_that_it_found() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), recreated_boards::orin_nano());
    let doctor = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stoker"));
        command.args(["doctor", "--config", "/dev/null", "--format", format]);
        command.arg("--root").arg(tree.path()).arg("--state-dir").arg(dir.path());
        command.output().unwrap()
    };
    let output = doctor("json");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["findings"][0]["kind"]), (Some(3), &"zram".into()));
    tree.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.7, GCID: 42132812\n");
    let output = doctor("text");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.starts_with("serious  Jetson Linux 36.4.7 refuses large allocations"), "{text}");
}

/// A server that has said that it serves and that it has no engine.
struct Running {
    child: Child,
    log: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = String::new();
        let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
        while !(log.contains("serving") && log.contains("no engine")) {
            assert!(lines.read_line(&mut log).unwrap() > 0, "it ended: {log}");
        }
        Self { child, log }
    }

    fn end_with(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
        // Its end closes the pipe.
        std::io::copy(self.child.stderr.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        self.child.wait().unwrap()
    }
}
