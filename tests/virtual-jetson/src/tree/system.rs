//! `/proc` and what counts memory.

use std::fmt::Write;
use std::io;

use super::Tree;
use crate::faults::Faults;
use crate::readings::Readings;
use crate::rounding::whole;

/// Ticks of the kernel's clock in a second.
const TICKS_PER_S: f64 = 100.0;

/// Published: compressed swap takes up to half the memory.
const SWAP_SHARE: u64 = 2;

/// What only grows.
#[derive(Debug)]
pub(super) struct System {
    busy_ticks: f64,
    idle_ticks: f64,
    uptime_s: f64,
    load: f64,
}

impl System {
    /// After some minutes of boot and of doing nothing.
    pub(super) fn booted() -> Self {
        Self { busy_ticks: 1300.0, idle_ticks: 50_000.0, uptime_s: 0.0, load: 0.0 }
    }

    /// Counts what passed since the last readings.
    fn pass(&mut self, readings: &Readings, cores: f64) {
        let seconds = (readings.uptime_s - self.uptime_s).max(0.0);
        self.uptime_s = readings.uptime_s;
        let busy = readings.cores_busy.min(cores);
        self.busy_ticks += busy * seconds * TICKS_PER_S;
        self.idle_ticks += (cores - busy) * seconds * TICKS_PER_S;
        self.load += (busy - self.load) * seconds / (60.0 + seconds);
    }
}

impl Tree {
    pub(super) fn show_system(&mut self, readings: &Readings, faults: &Faults) -> io::Result<()> {
        self.system.pass(readings, f64::from(self.module.cpu.cores));
        let System { busy_ticks, idle_ticks, uptime_s, load } = self.system;
        let (busy, idle) = (whole(busy_ticks), whole(idle_ticks));
        let stat = format!("cpu  {busy} 0 300 {idle} 40 0 6 0 0 0\nbtime 1790000000\n");
        self.files.put("proc/stat", stat)?;
        self.files
            .line("proc/loadavg", format_args!("{load:.2} {load:.2} {load:.2} 1/345 6789"))?;
        self.files.line("proc/uptime", format_args!("{uptime_s:.2} {:.2}", idle_ticks / 100.0))?;
        self.files.put("proc/meminfo", meminfo(readings))?;
        let blocks = readings.memory_available_bytes / (4 << 20);
        let buddies = format!("Node 0, zone   Normal 312 201 96 55 31 17 9 5 3 2 {blocks}\n");
        self.files.put("proc/buddyinfo", buddies)?;
        let clients = clients(readings, u64::from(faults.memory_mb) * 1000);
        self.files.put("sys/kernel/debug/nvmap/iovmm/clients", clients)
    }
}

fn meminfo(readings: &Readings) -> String {
    let total = readings.memory_total_bytes / 1024;
    let available = readings.memory_available_bytes / 1024;
    let cached = available / 3;
    let model = readings.memory_model_bytes / 1024;
    let swap = total / SWAP_SHARE;
    let mut text = String::new();
    for (name, kib) in [
        ("MemTotal", total),
        ("MemFree", available - cached),
        ("MemAvailable", available),
        ("Buffers", 92_000),
        ("Cached", cached),
        ("SwapCached", 0),
        ("SwapTotal", swap),
        ("SwapFree", swap),
        ("CmaTotal", 262_144),
        ("CmaFree", 200_000),
        ("NvMapMemFree", 0),
        ("NvMapMemUsed", model),
    ] {
        let label = format!("{name}:");
        let _infallible = writeln!(text, "{label:<16}{kib:>8} kB");
    }
    text
}

/// Who holds the GPU's memory.
fn clients(readings: &Readings, other_kib: u64) -> String {
    let model = readings.memory_model_bytes / 1024;
    let mut text =
        String::from("CLIENT                        PROCESS                PID    SIZE\n");
    for (process, pid, kib) in [("engine-worker", 4321, model), ("python3", 5678, other_kib)] {
        if kib > 0 {
            let _infallible = writeln!(text, "user {process:>32} {pid:>15} {kib:>7}K");
        }
    }
    let _infallible = writeln!(text, "total {:>53}K", model + other_kib);
    text
}
