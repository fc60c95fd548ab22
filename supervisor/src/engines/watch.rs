//! Looks at a worker while it has something to do, and says when it stands
//! still. What that means is decided by [`watchdog`](super::watchdog).

use std::time::Duration;

use jetpack::Root;
use jetpack::process::Waits;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::connection::Routes;
use super::watchdog::{Doing, LOOK, Seen, Stall, Watchdog};

/// Returns when the worker stands still although it has requests.
pub(super) async fn until_stalled(pid: u32, routes: &Routes) -> Stall {
    let mut watchdog = Watchdog::new();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Some((doing, seen)) = routes.standing() else {
            watchdog.rest();
            // Nobody wakes for a worker that has nothing to do.
            routes.work.notified().await;
            ticks.reset();
            continue;
        };
        if let Err(stall) = watchdog.look(doing, seen, waits(pid), now()) {
            return stall;
        }
        ticks.tick().await;
    }
}

/// Watches a load, which took so long when the engine was built.
pub(super) struct LoadWatch {
    pid: u32,
    measured: Duration,
    watchdog: Watchdog,
    parts: u64,
}

impl LoadWatch {
    pub(super) fn new(pid: u32, measured: Duration) -> Self {
        Self { pid, measured, watchdog: Watchdog::new(), parts: 0 }
    }

    /// The load has got on.
    pub(super) fn got_on(&mut self) {
        self.parts += 1;
    }

    /// Returns when the load stands still. Cancelling the future loses nothing.
    pub(super) async fn until_stalled(&mut self) -> Stall {
        loop {
            let seen = Seen { progress: self.parts, steps: 0, stalest: None };
            let doing = Doing::Load { measured: self.measured };
            if let Err(stall) = self.watchdog.look(doing, seen, waits(self.pid), now()) {
                return stall;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// `None` when the process is gone; its socket tells that.
fn waits(pid: u32) -> Option<Waits> {
    Waits::read(&Root::new("/"), pid).ok()
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
