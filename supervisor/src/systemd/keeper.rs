//! systemd's descriptor store: what it keeps for us over a restart.
//!
//! | name | what it is |
//! |---|---|
//! | `listen` | the socket that we serve on; connections queue there while we are away |
//! | `worker-control.PID` | our end of a worker's control socket; it lives as long as this is open |
//! | `worker-log.PID` | what that worker writes to stdout and stderr |
//!
//! Everything is a socket, and so is checked before it is used. systemd drops
//! a worker's descriptors by itself when the worker ends, because they hang up.
//! There is no descriptor of the process: as long as the control socket has
//! not hung up the worker lives, and nobody else can have its id.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use listenfd::ListenFd;
use nix::sys::socket::{AddressFamily, SockType};
use sd_notify::NotifyState;

const LISTEN: &str = "listen";
const CONTROL: &str = "worker-control.";
const LOG: &str = "worker-log.";

/// systemd, as far as it keeps descriptors for us.
#[derive(Debug, Clone, Copy)]
pub struct Keeper {
    keeps: bool,
}

/// What was passed to us when we were started.
#[derive(Debug, Default)]
pub struct Inherited {
    /// From a socket unit, which keeps it by itself.
    pub activated: Option<TcpListener>,
    /// From an earlier supervisor.
    pub listener: Option<TcpListener>,
    pub workers: Vec<LeftWorker>,
}

/// A worker that an earlier supervisor left running.
#[derive(Debug)]
pub struct LeftWorker {
    pub pid: u32,
    pub control: OwnedFd,
    pub log: Option<UnixStream>,
}

impl Keeper {
    /// Whoever started this process. systemd says that it has a store for us
    /// since version 254; for earlier ones the unit file says so.
    #[must_use]
    pub fn of_this_process() -> Self {
        let places = std::env::var("FDSTORE").ok().and_then(|places| places.parse::<u32>().ok());
        let told = std::env::var_os("NOTIFY_SOCKET").is_some();
        Self { keeps: told && places.is_some_and(|places| places > 0) }
    }

    /// Nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self { keeps: false }
    }

    /// Whether what is kept comes back after a restart.
    #[must_use]
    pub fn keeps(self) -> bool {
        self.keeps
    }

    /// Keeps the socket that we serve on.
    pub fn keep_listener(self, listener: &TcpListener) {
        self.keep(LISTEN, listener);
    }

    pub fn forget_listener(self) {
        self.forget(LISTEN);
    }

    /// Keeps a worker's sockets.
    pub fn keep_worker(self, pid: u32, control: impl AsFd, log: impl AsFd) {
        self.keep(&format!("{CONTROL}{pid}"), control);
        self.keep(&format!("{LOG}{pid}"), log);
    }

    pub fn forget_worker(self, pid: u32) {
        self.forget(&format!("{CONTROL}{pid}"));
        self.forget(&format!("{LOG}{pid}"));
    }

    fn keep(self, name: &str, descriptor: impl AsFd) {
        if !self.keeps {
            return;
        }
        let state = [NotifyState::FdStore, NotifyState::FdName(name)];
        if let Err(error) = sd_notify::notify_with_fds(&state, &[descriptor.as_fd()]) {
            tracing::warn!(%error, name, "systemd could not be given a descriptor to keep");
        }
    }

    fn forget(self, name: &str) {
        if self.keeps {
            super::tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
    }
}

/// Takes what was passed to us; nothing of it reaches a child. To be called
/// once, before there are threads.
///
/// # Errors
/// A socket unit passed something that is no TCP socket.
pub fn inherit(keeper: Keeper) -> io::Result<Inherited> {
    let names: Vec<String> = sd_notify::listen_fds_with_names()?.map(|(_, name)| name).collect();
    let mut passed = ListenFd::from_env();
    let mut inherited = Inherited::default();
    let mut controls = BTreeMap::new();
    let mut logs = BTreeMap::new();
    for index in 0..passed.len() {
        let name = names.get(index).map_or("", String::as_str);
        let taken = match Role::of(name) {
            Role::Listener => {
                passed.take_tcp_listener(index).map(|listener| inherited.listener = listener)
            }
            Role::Control(pid) => take(&mut passed, index, SockType::SeqPacket)
                .map(|control| controls.extend(control.map(|control| (pid, control)))),
            Role::Log(pid) => take(&mut passed, index, SockType::Stream)
                .map(|log| logs.extend(log.map(|log| (pid, log)))),
            Role::Activated if inherited.activated.is_none() => {
                inherited.activated = passed.take_tcp_listener(index)?;
                continue;
            }
            Role::Activated => continue,
        };
        if let Err(error) = taken {
            tracing::warn!(%error, name, "a descriptor that systemd kept is of no use");
            keeper.forget(name);
        }
    }
    let worker =
        |(pid, control)| LeftWorker { pid, control, log: logs.remove(&pid).map(UnixStream::from) };
    inherited.workers = controls.into_iter().map(worker).collect();
    Ok(inherited)
}

fn take(passed: &mut ListenFd, index: usize, kind: SockType) -> io::Result<Option<OwnedFd>> {
    passed.take_custom(index, AddressFamily::Unix as i32, kind as i32, "local socket")
}

/// What a passed descriptor is for.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    Listener,
    Control(u32),
    Log(u32),
    /// Whatever name its socket unit gave it.
    Activated,
}

impl Role {
    fn of(name: &str) -> Self {
        let pid = |prefix| name.strip_prefix(prefix).and_then(|pid| pid.parse().ok());
        if name == LISTEN {
            Self::Listener
        } else if let Some(pid) = pid(CONTROL) {
            Self::Control(pid)
        } else if let Some(pid) = pid(LOG) {
            Self::Log(pid)
        } else {
            Self::Activated
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_descriptor_is_for() {
        for (name, role) in [
            ("listen", Role::Listener),
            ("worker-control.17", Role::Control(17)),
            ("worker-log.17", Role::Log(17)),
            ("stoker.socket", Role::Activated),
            ("worker-control.x", Role::Activated),
            ("", Role::Activated),
        ] {
            assert_eq!(Role::of(name), role, "{name}");
        }
    }

    #[test]
    fn without_systemd_nothing_is_kept() {
        assert!(!Keeper::none().keeps());
        let inherited = inherit(Keeper::none()).unwrap();
        assert!(inherited.listener.is_none() && inherited.workers.is_empty());
    }
}
