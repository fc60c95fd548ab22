//! The part of systemd that listens to a service and keeps descriptors for it.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use crate::patience::LIMIT;

/// A socket for `NOTIFY_SOCKET`, and what was said on it and not asked for yet.
#[derive(Debug)]
pub struct Listener {
    socket: UnixDatagram,
    place: TempDir,
    heard: VecDeque<String>,
    kept: BTreeMap<String, OwnedFd>,
}

impl Listener {
    /// # Panics
    /// There is no place for temporary files.
    #[must_use]
    pub fn start() -> Self {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let socket = UnixDatagram::bind(place.path().join("notify"));
        let socket = socket.expect("a fresh directory takes a socket");
        Self { socket, place, heard: VecDeque::new(), kept: BTreeMap::new() }
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

    /// What the service gave us to keep, by name. They are copies: ours stay.
    ///
    /// # Panics
    /// There are no more descriptors.
    pub fn kept(&mut self) -> Vec<(String, OwnedFd)> {
        while self.receive(Duration::from_millis(1)).is_some() {}
        let copy = |(name, descriptor): (&String, &OwnedFd)| {
            (name.clone(), descriptor.try_clone().expect("there are descriptors left"))
        };
        self.kept.iter().map(copy).collect()
    }

    /// Drops what we keep, as systemd does when a service is stopped.
    pub fn drop_kept(&mut self) {
        while self.receive(Duration::from_millis(1)).is_some() {}
        self.kept.clear();
    }

    fn receive(&mut self, limit: Duration) -> Option<()> {
        let mut message = [0; 4096];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        // A timeout of zero would mean none.
        let limit = limit.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(limit)).expect("a socket has a timeout");
        let bytes = &mut [IoSliceMut::new(&mut message)];
        let received = recvmsg(&self.socket, bytes, &mut rights, RecvFlags::CMSG_CLOEXEC).ok()?;
        let descriptors = rights.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<_> = descriptors.flatten().collect();
        let text = String::from_utf8_lossy(&message[..received.bytes]);
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        self.keep(&lines, descriptors);
        self.heard.extend(lines);
        Some(())
    }

    fn keep(&mut self, lines: &[String], descriptors: Vec<OwnedFd>) {
        let says = |what: &str| lines.iter().any(|line| line == what);
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
        let name = name.unwrap_or("stored").to_owned();
        if says("FDSTOREREMOVE=1") {
            self.kept.remove(&name);
        } else if says("FDSTORE=1") {
            self.kept.extend(descriptors.into_iter().map(|descriptor| (name.clone(), descriptor)));
        }
    }
}
