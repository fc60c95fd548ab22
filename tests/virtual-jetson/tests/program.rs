//! The program as a person uses it: arguments, files, lines, signals.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// More lines than any test has to wait for, which is a minute and a half.
const PATIENCE: usize = 400;

struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
    dir: TempDir,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let dir = TempDir::new().expect("there is room for a directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_virtual-jetson"))
            .args(["--format", "json", "--every", "0", "--root"])
            .arg(dir.path().join("board"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let lines = BufReader::new(child.stdout.take().expect("it was asked for a pipe"));
        Self { child, lines, dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("board").join(path)
    }

    /// Reads lines until one is as `is` wants it.
    fn line_when(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..PATIENCE {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("its output is text");
            let line = serde_json::from_str(&line).expect("each line is a JSON document");
            if is(&line) {
                return line;
            }
        }
        panic!("waited in vain until {what}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_written_to_its_files_happens() {
    let mut board = Program::start(&["--speed", "60", "--ambient", "20"]);
    let first = board.line_when("it says something", |_| true);
    assert_eq!((&first["gpu_cap_hz"], &first["mode"]), (&918_000_000.into(), &"25W".into()));
    fs::write(board.path("sys/class/devfreq/17000000.gpu/max_freq"), "510000000\n").unwrap();
    board.line_when("the cap holds", |line| line["gpu_cap_hz"] == 510_000_000);
    fs::write(board.path("var/lib/nvpmodel/status"), "pmode:0002\n").unwrap();
    board.line_when("the mode holds", |line| line["mode"] == "MAXN_SUPER");
    fs::write(board.path("run/virtual/faults"), "ambient 45\nload 5\n").unwrap();
    let hot = board.line_when("it gets hot", |line| line["tj_celsius"].as_f64() > Some(55.0));
    assert!(hot["watts"].as_f64() > first["watts"].as_f64());
}

#[test]
fn a_board_that_burns_is_off_until_it_is_switched_on() {
    let mut board = Program::start(&["--speed", "300", "--ambient", "70", "--fan", "stuck"]);
    let off = board.line_when("it is off", |line| !line["off"].is_null());
    assert_eq!(off["shutdowns"], 1);
    fs::write(board.path("run/virtual/faults"), "ambient 20\n").unwrap();
    board.line_when("it is cold", |line| line["tj_celsius"].as_f64() < Some(30.0));
    fs::write(board.path("run/virtual/power"), "on\n").unwrap();
    board.line_when("it is on", |line| line["off"].is_null());
}

#[test]
fn a_signal_ends_it_in_order() {
    let mut board = Program::start(&[]);
    board.line_when("it runs", |_| true);
    assert!(board.path("run/virtual/pace").exists());
    let pid = i32::try_from(board.child.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(board.child.wait().unwrap().success());
    assert!(!board.path("run/virtual/pace").exists());
}

#[test]
fn what_it_does_not_know_is_said() {
    let dir = TempDir::new().unwrap();
    for (arguments, words) in [
        (["--board", "orin-nano-9gb"], "orin-nano-9gb"),
        (["--mode", "9"], "no power mode 9"),
        (["--speed", "0"], "--speed"),
        (["--fault", "fan broken"], "fan broken"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_virtual-jetson"))
            .args(arguments)
            .arg("--root")
            .arg(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
    }
}
