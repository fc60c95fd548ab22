//! What machine figures were measured on.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// What stands beside figures, so that they mean something elsewhere.
#[derive(Debug, Clone, Serialize)]
pub struct MachineFacts {
    pub processor: Option<String>,
    pub processors: usize,
    pub kernel: Option<String>,
}

impl MachineFacts {
    /// # Errors
    /// The processors cannot be counted.
    pub fn read() -> anyhow::Result<Self> {
        let processors = std::thread::available_parallelism().context("count the processors")?;
        Ok(Self { processor: processor(), processors: processors.get(), kernel: kernel() })
    }
}

impl std::fmt::Display for MachineFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        let kernel = self.kernel.as_deref().unwrap_or("of unknown release");
        write!(f, "{processor}, {} processors, Linux {kernel}", self.processors)
    }
}

/// The processor's name, as it gives it.
fn processor() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The kernel's release.
fn kernel() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim().to_owned())
}
