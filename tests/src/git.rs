//! A git server on loopback: the system's own, behind a socket of ours, so that a test
//! decides whether it answers, and whether it gives files to those who have seen its
//! newest commit.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tempfile::TempDir;

/// Runs where files are packed, in the directory of repositories.
const HOOK: &str = ".hook";
/// While it is there, nothing is packed.
const HOLD: &str = ".hold";

/// Serves every repository in its directory by `git://`.
#[derive(Debug)]
pub struct GitHost {
    address: SocketAddr,
    place: TempDir,
    /// Whether connections are answered.
    answers: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl GitHost {
    /// Answers everybody.
    ///
    /// # Panics
    /// There is no socket for it, or no git on this machine.
    #[must_use]
    pub fn start() -> Self {
        let version = Command::new("git").arg("--version").output();
        assert!(version.is_ok(), "these tests need git: apt-get install git");
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it has an address");
        let place = tempfile::tempdir().expect("there is room");
        let hook = place.path().join(HOOK);
        let hold = place.path().join(HOLD);
        let script = format!(
            "#!/bin/sh\nwhile [ -e '{}' ]; do sleep 0.05; done\nexec \"$@\"\n",
            hold.display()
        );
        fs::write(&hook, script).expect("there is room");
        fs::set_permissions(&hook, Permissions::from_mode(0o700)).expect("it is ours");
        let (answers, over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (base, answer, end) =
            (place.path().to_owned(), Arc::clone(&answers), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            // Those that nobody answers stay open until the end.
            let mut open = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                match answer.load(Ordering::SeqCst) {
                    true => serve(stream, &base),
                    false => open.push(stream),
                }
            }
        });
        Self { address, place, answers, over, thread: Some(thread) }
    }

    /// Where a repository is, for those who fetch it.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }

    /// From now on connections stay open without a word.
    pub fn answer_nobody(&self) {
        self.answers.store(false, Ordering::SeqCst);
    }

    /// From now on everybody hears of the newest commit, and nobody gets it.
    ///
    /// # Panics
    /// There is no room, here and below.
    pub fn hold(&self) {
        fs::write(self.place.path().join(HOLD), "").expect("there is room");
    }

    /// Gives it to those who wait, and to everybody else.
    pub fn release(&self) {
        fs::remove_file(self.place.path().join(HOLD)).expect("it is held");
    }

    /// Commits these files on top of what is there; says which commit that is.
    ///
    /// # Panics
    /// Git does not.
    #[must_use]
    pub fn commit(&self, name: &str, files: &[(&str, &[u8])]) -> String {
        let at = self.place.path().join(name);
        if !at.exists() {
            fs::create_dir(&at).expect("there is room");
            let _ = git(&at, &["init", "--quiet", "--initial-branch=main"]);
        }
        for (path, text) in files {
            let path = at.join(path);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("room");
            fs::write(path, text).expect("there is room");
        }
        let _ = git(&at, &["add", "--all", "--force"]);
        let _ = git(&at, &["commit", "--quiet", "--allow-empty", "--message=change"]);
        git(&at, &["rev-parse", "HEAD"]).trim().to_owned()
    }
}

impl Drop for GitHost {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ends with its connection.
fn serve(stream: TcpStream, base: &Path) {
    let (read, write) = (stream.try_clone().expect("there are descriptors"), stream);
    let mut command = Command::new("git");
    let with = |name: &str, path: &Path| {
        let mut argument = OsString::from(name);
        argument.push(path);
        argument
    };
    // It packs the files, and is not asked for the newest commit.
    command.arg("-c").arg(with("uploadpack.packObjectsHook=", &base.join(HOOK)));
    command.args(["daemon", "--inetd", "--export-all"]).arg(with("--base-path=", base)).arg(base);
    command.stdin(OwnedFd::from(read)).stdout(OwnedFd::from(write)).stderr(Stdio::null());
    let mut child = command.spawn().expect("git daemon starts; it is part of git");
    std::thread::spawn(move || child.wait());
}

fn git(at: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example", "-c", "commit.gpgsign=false"];
    command.arg("-C").arg(at).args(who).args(arguments);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let done = command.output().expect("git starts");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
