//! The heartbeat: a thread that tells the supervisor how far the batch has
//! come, whether or not the batch still moves.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine_api::protocol::{FromWorker, HEARTBEAT_PERIOD, Heartbeat, IDLE_HEARTBEAT_PERIOD};

use crate::link::Line;

/// Where the batch leaves its counters for the heartbeat thread.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    beat: Mutex<Beat>,
    /// Signalled when requests came or the last one went.
    turned: Condvar,
}

#[derive(Debug)]
struct Beat {
    progress: Heartbeat,
    idle: bool,
    /// How often work came or went. Counted, so that work which came and went
    /// between two looks is not missed.
    turns: u64,
}

impl Pulse {
    /// Starts the thread. Until the first [`Pulse::set`], a load counts as work.
    #[must_use]
    pub fn start(line: Line) -> Self {
        let beat = Mutex::new(Beat { progress: Heartbeat::default(), idle: false, turns: 0 });
        let pulse = Self(Arc::new(Shared { beat, turned: Condvar::new() }));
        let beating = pulse.clone();
        std::thread::spawn(move || {
            loop {
                let (progress, turns) = beating.take();
                line.send(&[FromWorker::Heartbeat(Box::new(progress))]);
                beating.wait(turns);
            }
        });
        pulse
    }

    /// Leaves new counters. The worst step time is kept until it was sent.
    pub fn set(&self, progress: Heartbeat, idle: bool) {
        let mut beat = self.lock();
        let worst_step_us = beat.progress.worst_step_us.max(progress.worst_step_us);
        beat.progress = Heartbeat { worst_step_us, ..progress };
        if beat.idle != idle {
            beat.idle = idle;
            beat.turns += 1;
            self.0.turned.notify_one();
        }
    }

    /// The counters to send, and the turns that they include.
    fn take(&self) -> (Heartbeat, u64) {
        let mut beat = self.lock();
        let progress = beat.progress.clone();
        beat.progress.worst_step_us = 0;
        (progress, beat.turns)
    }

    /// Until the next heartbeat is due. A turn after the `seen` ones makes it due
    /// soon, but never within [`LEAST_PAUSE`] of the last one.
    fn wait(&self, seen: u64) {
        std::thread::sleep(LEAST_PAUSE);
        let beat = self.lock();
        let period = if beat.idle { IDLE_HEARTBEAT_PERIOD } else { HEARTBEAT_PERIOD };
        let left = period.saturating_sub(LEAST_PAUSE);
        let waited = self.0.turned.wait_timeout_while(beat, left, |beat| beat.turns == seen);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.0.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Short requests in a row must not make a heartbeat each.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
