//! Looks a few times a second at what everybody uses, while there is something to
//! compute.

use std::time::{Duration, Instant};

use jetpack::{Root, cpu};

use super::{Cores, Usage};

/// How often to look.
const PERIOD: Duration = Duration::from_millis(250);

/// [`Cores`], fed from the kernel's counters.
#[derive(Debug)]
pub struct Lookout {
    cores: Cores,
    born: Instant,
    looked: Option<Instant>,
}

impl Lookout {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { cores: Cores::default(), born: now, looked: None }
    }

    /// Whether to compute alone, if it is time for another look and the kernel says
    /// anything.
    pub fn look(&mut self, now: Instant) -> Option<bool> {
        if self.looked.is_some_and(|looked| now.duration_since(looked) < PERIOD) {
            return None;
        }
        self.looked = Some(now);
        let root = Root::new("/");
        let everybody = cpu::CpuTimes::read(&root).ok()?.busy;
        let own = cpu::process_cpu_time(&root, std::process::id()).ok()?;
        Some(self.cores.look(Usage { everybody, own }, now.duration_since(self.born)))
    }

    /// See [`Cores::rest`].
    pub fn rest(&mut self) {
        self.cores.rest();
        self.looked = None;
    }
}
