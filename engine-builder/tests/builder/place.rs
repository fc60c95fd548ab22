//! Runs the real `engine-builder` in a directory of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A state directory, a cache directory and an environment without network.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn engine(&self, id: &str) -> PathBuf {
        self.path("state/engines").join(id)
    }

    /// The names of all engines and links that are there.
    pub(crate) fn engines(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state/engines")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".lock").collect()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The command with these arguments, its directories in this place.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine-builder"));
        command
            .args(arguments)
            .env("STOKER_STATE_DIR", self.path("state"))
            .env("STOKER_MODELS_DIR", self.path("models.d"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("PATH", path_with("unreachable-index"))
            .stdin(Stdio::null());
        command
    }

    /// Waits until a stand-in below `builder` says that it waits, and returns its child.
    pub(crate) fn waiting(&self, builder: &mut Child) -> u32 {
        let mut lines = BufReader::new(builder.stdout.take().unwrap()).lines();
        // Progress is only said while the tool runs; each line is one more look.
        loop {
            let text = fs::read_to_string(self.path("state/waiting")).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n') {
                return pid.parse().unwrap();
            }
            lines.next().expect("the builder ended").unwrap();
        }
    }

    /// Runs the command to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The last line of standard error: what a person reads first.
    pub(crate) fn complaint(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }

    /// Asserts how it failed, in its exit code and its last line.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.complaint().contains(part), "{part:?} is not in {:?}", self.complaint());
        }
    }
}

/// A program that stands in for a foreign one.
pub(crate) fn stand_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/builder/stand-in").join(name)
}

/// The search path with a stand-in before all others.
pub(crate) fn path_with(name: &str) -> std::ffi::OsString {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(stand_in(name)).chain(std::env::split_paths(&others));
    std::env::join_paths(all).unwrap()
}
