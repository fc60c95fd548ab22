//! The part of systemd that listens to a service.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::patience::LIMIT;

/// A socket for `NOTIFY_SOCKET`, and what was said on it and not asked for yet.
#[derive(Debug)]
pub struct Listener {
    socket: UnixDatagram,
    place: TempDir,
    heard: VecDeque<String>,
}

impl Listener {
    /// # Panics
    /// There is no place for temporary files.
    #[must_use]
    pub fn start() -> Self {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let socket = UnixDatagram::bind(place.path().join("notify"));
        let socket = socket.expect("a fresh directory takes a socket");
        Self { socket, place, heard: VecDeque::new() }
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.path().join("notify")
    }

    /// Waits for a line that begins with `start`, and returns the rest of it.
    ///
    /// # Panics
    /// It does not come.
    pub fn wait_for(&mut self, start: &str) -> String {
        self.hear(start, LIMIT).unwrap_or_else(|| panic!("nobody said {start}"))
    }

    /// The rest of the first line that begins with `start`, if it comes in time.
    pub fn hear(&mut self, start: &str, limit: Duration) -> Option<String> {
        let end = Instant::now() + limit;
        loop {
            let found = self.heard.iter().position(|line| line.starts_with(start));
            if let Some(line) = found.and_then(|at| self.heard.remove(at)) {
                return Some(line[start.len()..].to_owned());
            }
            self.receive(end.saturating_duration_since(Instant::now()))?;
        }
    }

    /// Forgets what was said until now.
    pub fn forget(&mut self) {
        while self.receive(Duration::from_millis(1)).is_some() {}
        self.heard.clear();
    }

    fn receive(&mut self, limit: Duration) -> Option<()> {
        let mut message = [0; 4096];
        // A timeout of zero would mean none.
        let limit = limit.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(limit)).expect("a socket has a timeout");
        let length = self.socket.recv(&mut message).ok()?;
        let text = String::from_utf8_lossy(&message[..length]);
        self.heard.extend(text.lines().map(str::to_owned));
        Some(())
    }
}
