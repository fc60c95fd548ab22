//! A virtual board beside a test: the program `virtual-jetson` on a directory.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use engine_api::virtual_board::Pace;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::appliance::{Appliance, Setup};
use crate::engine::Engine;
use crate::patience::{until, within};
use crate::process;

/// It is killed when it is dropped.
#[derive(Debug)]
pub struct VirtualBoard {
    child: Child,
    place: TempDir,
}

impl VirtualBoard {
    /// An Orin Nano 8 GB Super with an engine of 1B weights, and these arguments.
    ///
    /// # Panics
    /// The program is not built or ends at once.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let child = Command::new(process::program("virtual-jetson"))
            .args(["--board", "orin-nano-8gb-super", "--llm", "1b"])
            .args(arguments)
            .arg("--root")
            .arg(place.path().join("board"))
            .arg("--engine")
            .arg(place.path().join("virtual-1b"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program can be started");
        let mut board = Self { child, place };
        until("the board says its pace", || {
            let ended = board.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the board ended with {ended:?}");
            Pace::read(&board.root()).ok()
        });
        board
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.place.path().join("board")
    }

    /// An appliance on it, whose engine it paces.
    ///
    /// # Panics
    /// The directory's name is no text.
    #[must_use]
    pub fn appliance(&self) -> Setup {
        let root = self.root();
        let root = root.to_str().expect("temporary files have plain names");
        let engine = Engine::At(self.place.path().join("virtual-1b"));
        Setup::new(&engine).config(&format!("root = {root:?}\n[telemetry]\nperiod_ms = 200\n"))
    }

    /// From now on these faults, a line each, and no others.
    ///
    /// # Panics
    /// The directory takes no file.
    pub fn faults(&self, lines: &str) {
        self.write("run/virtual/faults", lines);
    }

    /// How long things take on it now.
    #[must_use]
    pub fn pace(&self) -> Pace {
        until("the pace can be read", || Pace::read(&self.root()).ok())
    }

    /// The GPU clock's cap in hertz.
    #[must_use]
    pub fn gpu_cap(&self) -> u64 {
        let file = self.root().join("sys/class/devfreq/17000000.gpu/max_freq");
        // Unlike sysfs's, a plain file is empty for a moment when it is written.
        until("the cap is written", || fs::read_to_string(&file).ok()?.trim().parse().ok())
    }

    fn write(&self, path: &str, text: &str) {
        write_whole(&self.root().join(path), text);
    }
}

/// So that a reader sees the old content or the new one.
fn write_whole(path: &Path, text: &str) {
    let fresh = path.with_extension("test");
    fs::write(&fresh, text).expect("the board's directory takes a file");
    fs::rename(&fresh, path).expect("the board's directory takes a file");
}

impl Drop for VirtualBoard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of several users asks once; every word must come back.
///
/// # Panics
/// One did not.
pub fn ask(appliance: &Appliance, user: usize) {
    let words = format!("user {user} wants this again ").repeat(8);
    let body = json!({
        "messages": [{"role": "user", "content": words}],
        "max_tokens": 4000,
        "stream": true,
    });
    let transcript = appliance.stream("/v1/chat/completions", &body).transcript();
    assert_eq!(transcript.text(0), words);
    assert!(transcript.is_done());
}

/// Limits fall and rise with pauses of half a minute between two rises.
const LONG: Duration = Duration::from_secs(400);

/// Waits until a slow board's `/api/status` is as `is` wants it, and returns it.
///
/// # Panics
/// Some minutes have passed; `what` says what was waited for.
pub fn wait(appliance: &Appliance, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let found = within(LONG, || Some(appliance.status()).filter(|status| is(status)));
    found.unwrap_or_else(|| panic!("waited {LONG:?} in vain until {what}: {}", appliance.status()))
}

/// Four users who ask again and again while `during` runs.
pub fn with_users<T>(appliance: &Appliance, during: impl FnOnce() -> T) -> T {
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let _until_enough = Enough(&enough);
        for user in 0..4 {
            let enough = &enough;
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    ask(appliance, user);
                }
            });
        }
        during()
    })
}

/// Ends what goes on, also where the test fails.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a governor holds on a board that began at 84 °C: as much below 94.8 as its readings
/// swing. Getting hot counts as that here, as it is eight times as fast as on a board; the
/// clocks fall at 99 °C.
pub const HELD_WHILE_IT_GETS_HOT: RangeInclusive<f64> = 94.8 - (99.0 - 84.0)..=94.8;

/// The degrees that the governor's reason says it holds.
///
/// # Panics
/// It says none.
#[must_use]
pub fn held(reason: &str) -> f64 {
    let said = reason.split_once("is held at ").and_then(|(_, rest)| rest.split_once(" °C"));
    said.and_then(|(held, _)| held.parse().ok()).unwrap_or_else(|| panic!("no degrees: {reason}"))
}
