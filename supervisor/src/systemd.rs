//! What systemd hears from us: ready, a status line, signs of life, stopping.
//!
//! Signs of life are only given while everything that must move has moved: the
//! main loop, the telemetry thread and the store's thread. Each is pinged when
//! a sign was given, and must have answered by the next. Without systemd there
//! is nobody to tell, and nothing here runs.
//!
//! What systemd keeps for us while we restart is in [`keeper`].

pub mod keeper;

use std::time::Duration;

use sd_notify::NotifyState;

use crate::snapshot::{EngineState, Snapshot};
use crate::store::Store;
use crate::supervisor::Handle;
use crate::telemetry::Telemetry;

/// Tells systemd that requests are accepted. An engine may still be loading;
/// the status line says so.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells systemd that the end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Follows the snapshots and gives signs of life until the supervisor is gone.
/// Returns at once where no systemd listens.
pub async fn follow(handle: Handle, telemetry: Telemetry, store: Store) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled().map(|bound| bound / 2);
    let pulse = Pulse { handle: handle.clone(), telemetry, store };
    tokio::join!(follow_status(handle), pet(watchdog, pulse));
}

async fn follow_status(handle: Handle) {
    let mut snapshots = handle.snapshots();
    let mut said = String::new();
    loop {
        let line = status_line(&snapshots.borrow_and_update());
        if line != said {
            tell(&[NotifyState::Status(&line)]);
            said = line;
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

async fn pet(period: Option<Duration>, pulse: Pulse) {
    let Some(period) = period else { return };
    let mut last = pulse.beats();
    pulse.ping();
    let mut ticks = tokio::time::interval(period);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = pulse.beats();
        if now.all_moved_since(&last) {
            tell(&[NotifyState::Watchdog]);
            last = now;
        } else {
            tracing::error!(?last, ?now, "something does not move; systemd will restart us");
        }
        pulse.ping();
    }
}

/// Everything that must move.
struct Pulse {
    handle: Handle,
    telemetry: Telemetry,
    store: Store,
}

impl Pulse {
    fn ping(&self) {
        self.handle.ping();
        self.telemetry.ping();
        self.store.ping();
    }

    fn beats(&self) -> Beats {
        Beats {
            main: self.handle.beats(),
            telemetry: self.telemetry.beats(),
            store: self.store.beats(),
        }
    }
}

/// How often each has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beats {
    main: u64,
    telemetry: u64,
    store: u64,
}

impl Beats {
    fn all_moved_since(&self, earlier: &Self) -> bool {
        self.main > earlier.main && self.telemetry > earlier.telemetry && self.store > earlier.store
    }
}

/// The line that `systemctl status` shows.
fn status_line(snapshot: &Snapshot) -> String {
    let model = snapshot.engine.model.as_deref().unwrap_or("no engine");
    match &snapshot.engine.state {
        EngineState::Absent { reason } => reason.clone(),
        EngineState::Starting => format!("{model}: starting"),
        EngineState::Loading { .. } => format!("{model}: loading"),
        EngineState::Ready => format!("{model}: ready"),
        EngineState::Restarting { attempt, reason, .. } => {
            format!("{model}: restart {attempt}, because {reason}")
        }
        EngineState::Failed { reason } => format!("{model}: failed, {reason}"),
        EngineState::Draining => "finishing the answers that run".to_owned(),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stands_still_is_enough_to_keep_quiet() {
        let before = Beats { main: 5, telemetry: 5, store: 5 };
        assert!(Beats { main: 6, telemetry: 9, store: 6 }.all_moved_since(&before));
        for stuck in [
            Beats { main: 5, telemetry: 9, store: 9 },
            Beats { main: 9, telemetry: 5, store: 9 },
            Beats { main: 9, telemetry: 9, store: 5 },
        ] {
            assert!(!stuck.all_moved_since(&before));
        }
    }
}
