//! The supervisor while nobody asks anything: memory, and how often it wakes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Readings, Scene};
use crate::measure::Key;
use crate::plan::Scenario;
use crate::proc;

/// A period of telemetry so long that it wakes nobody while the bench looks.
pub(super) const SLOW_TELEMETRY_MS: &str = "60000";

/// After the last answer, threads and timers of the work get this long to end.
const SETTLE: Duration = Duration::from_secs(6);

pub(super) async fn run(scene: &Scene<'_>) -> anyhow::Result<Readings> {
    // Several of the slowest timers that are known: a worker at rest is heard of
    // every 15 seconds, and one beat in a short window would count as six a minute.
    let window = Duration::from_secs(if scene.quick { 30 } else { 60 });
    let supervisor = scene.server.pid;
    sleep(SETTLE).await;
    let (before, from) = (family_sleeps(supervisor)?, Instant::now());
    sleep(window).await;
    let after = family_sleeps(supervisor)?;
    let minutes = from.elapsed().as_secs_f64() / 60.0;

    let mut readings = Readings::default();
    let mut of_supervisor = 0.0;
    for ((pid, thread), count) in after {
        let woken = count - before.get(&(pid, thread.clone())).copied().unwrap_or(0.0);
        if pid == supervisor {
            of_supervisor += woken;
        }
        if woken > 0.0 {
            let whose = if pid == supervisor { "supervisor" } else { "worker" };
            readings.detail(format!("{whose} {thread}: wake-ups/min"), woken / minutes);
        }
    }
    if scene.step.scenario == Scenario::Quiet {
        readings.set(Key::OtherWakeups, of_supervisor / minutes);
    } else {
        readings.set(Key::Wakeups, of_supervisor / minutes);
        readings.set(Key::Resident, proc::resident_mib(supervisor)?);
    }
    Ok(readings)
}

/// Process and thread to how often it has gone to sleep.
fn family_sleeps(supervisor: u32) -> anyhow::Result<BTreeMap<(u32, String), f64>> {
    let mut all = BTreeMap::new();
    for pid in proc::family(supervisor) {
        all.extend(proc::sleeps(pid)?.into_iter().map(|(thread, count)| ((pid, thread), count)));
    }
    Ok(all)
}
