//! The machine's samples, taken on a thread of their own, and with them what a
//! builder says of its build, and how far an update is.
//!
//! A sample takes some milliseconds, and about two seconds when drivers fall
//! silent; a sensor that hangs is then absent and holds up nobody.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use engine_api::progress::{self, Seen};
use jetpack::{Machine, Root, Sample, cpu};

use crate::update::{self, News};

/// Enough for putting a sample together; sensors are read by threads of `jetpack`.
const STACK: usize = 512 * 1024;

/// What is read each period.
#[derive(Debug, Clone)]
pub struct Reading {
    pub machine: Sample,
    pub supervisor_resident_bytes: Option<u64>,
    pub worker_resident_bytes: Option<u64>,
    /// The engine that is being built, or the last one that was.
    pub build: Option<Seen>,
    /// The last update of this machine.
    pub update: Option<News>,
}

/// The thread's other end. Dropping the last clone ends the thread.
#[derive(Debug, Clone)]
pub struct Telemetry {
    pings: SyncSender<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    beats: AtomicU64,
    /// The worker to measure; 0 for none.
    worker: AtomicU32,
}

/// Starts the thread, which looks below `root` for the machine and in `state_dir`
/// for a build. `report` gets a reading at once and then each `period`;
/// it must not block, and returns false when nobody wants any more.
///
/// # Errors
/// There are no more threads.
pub fn start(
    root: Root,
    state_dir: PathBuf,
    period: Duration,
    report: impl Fn(Reading) -> bool + Send + 'static,
) -> std::io::Result<Telemetry> {
    let (pings, wakes) = sync_channel(1);
    let shared = Arc::<Shared>::default();
    let telemetry = Telemetry { pings, shared: Arc::clone(&shared) };
    let sample = move || {
        let own = Root::default();
        let mut machine = Machine::open(root.clone());
        loop {
            let next = Instant::now() + period;
            let worker = shared.worker.load(Ordering::Relaxed);
            let reading = Reading {
                machine: machine.sample(),
                supervisor_resident_bytes: resident(&own, std::process::id()),
                worker_resident_bytes: resident(&own, worker).filter(|_| worker != 0),
                build: progress::read(&state_dir),
                update: update::news(&root),
            };
            if !report(reading) {
                return;
            }
            loop {
                shared.beats.fetch_add(1, Ordering::Relaxed);
                match wakes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    };
    std::thread::Builder::new().name("telemetry".into()).stack_size(STACK).spawn(sample)?;
    Ok(telemetry)
}

impl Telemetry {
    /// Says which worker's memory to read.
    pub fn watch_worker(&self, pid: Option<u32>) {
        self.shared.worker.store(pid.unwrap_or(0), Ordering::Relaxed);
    }

    /// Asks the thread to show that it moves.
    pub fn ping(&self) {
        // A ping that waits already asks the same.
        let _ = self.pings.try_send(());
    }

    /// How often the thread has moved.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Relaxed)
    }
}

/// Processes are always our machine's, also when the board is a captured tree.
fn resident(root: &Root, pid: u32) -> Option<u64> {
    cpu::process_resident_bytes(root, pid).ok().map(jetpack::Bytes::get)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn start_on_empty_tree(period: Duration) -> (Telemetry, std::sync::mpsc::Receiver<Reading>) {
        let dir = tempfile::tempdir().unwrap();
        let (sender, readings) = channel();
        let (root, state_dir) = (Root::new(dir.path()), dir.path().to_owned());
        let telemetry = start(root, state_dir, period, move |reading| sender.send(reading).is_ok());
        (telemetry.unwrap(), readings)
    }

    #[test]
    fn a_machine_without_sensors_is_sampled_at_once_and_again() {
        let (telemetry, readings) = start_on_empty_tree(Duration::from_millis(1));
        assert_eq!(readings.recv().unwrap().worker_resident_bytes, None);
        telemetry.watch_worker(Some(std::process::id()));
        let known = |reading: Reading| reading.worker_resident_bytes.is_some();
        assert!(readings.iter().take(1000).any(known));
    }

    #[test]
    fn a_ping_is_answered_between_samples() {
        let (telemetry, readings) = start_on_empty_tree(Duration::from_secs(3600));
        readings.recv().unwrap();
        let before = telemetry.beats();
        telemetry.ping();
        let deadline = Instant::now() + Duration::from_secs(10);
        while telemetry.beats() <= before + 1 && Instant::now() < deadline {
            telemetry.ping();
            std::thread::yield_now();
        }
        assert!(telemetry.beats() > before + 1);
    }

    #[test]
    fn the_thread_ends_with_its_last_owner() {
        let (telemetry, readings) = start_on_empty_tree(Duration::from_secs(3600));
        readings.recv().unwrap();
        drop(telemetry);
        assert!(readings.recv().is_err());
    }
}
