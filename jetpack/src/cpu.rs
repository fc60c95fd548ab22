//! Processor time of the machine and of single processes, from `/proc`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::absent::split;
use crate::root::read;
use crate::{Absent, Bytes, Root};

/// Ticks of processor time a second in everything that Linux tells programs,
/// whatever its own timer does.
const TICKS_PER_S: u64 = 100;

/// The processors as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Processors that are switched on.
    pub cores: Option<u32>,
    /// Share of their time that was used since the last sample, 0 to 1.
    pub busy_share: Option<f64>,
    /// Why `busy_share` is `None`.
    pub absent: Option<Absent>,
    /// Tasks that ran or wanted to, averaged over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
}

/// Processor time since boot, summed over all processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    pub busy: Duration,
    pub total: Duration,
}

impl CpuTimes {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    /// When the file cannot be read or does not begin with the sums.
    pub fn read(root: &Root) -> Result<Self, Absent> {
        Self::parse(&root.read("proc/stat")?).ok_or(Absent::Garbled)
    }

    /// From the first line: `cpu`, then ticks in user, nice, system, idle,
    /// iowait, irq, softirq and steal. Guest time is part of user time.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.lines().next()?.split_whitespace();
        if fields.next()? != "cpu" {
            return None;
        }
        let ticks = fields.take(8).map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or(0));
        let total = ticks.iter().fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
        Some(Self { busy: duration(total - idle), total: duration(total) })
    }

    /// Share of the time since `earlier` that was used, 0 to 1; `None` if no
    /// time has passed.
    #[must_use]
    pub fn busy_share_since(&self, earlier: &Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total)?.as_secs_f64();
        let busy = self.busy.saturating_sub(earlier.busy).as_secs_f64();
        (total > 0.0).then(|| (busy / total).min(1.0))
    }
}

/// Processor time that a process, all its threads together, has used.
///
/// # Errors
/// [`Absent::NotReported`] when there is no such process.
pub fn process_cpu_time(root: &Root, pid: u32) -> Result<Duration, Absent> {
    process_ticks(&root.read(&format!("proc/{pid}/stat"))?).map(duration).ok_or(Absent::Garbled)
}

/// Memory of a process that is in RAM now, mapped files included.
///
/// # Errors
/// [`Absent::NotReported`] when there is no such process, and
/// [`Absent::Garbled`] when it has ended and nobody has waited for it yet.
pub fn process_resident_bytes(root: &Root, pid: u32) -> Result<Bytes, Absent> {
    resident(&root.read(&format!("proc/{pid}/status"))?).ok_or(Absent::Garbled)
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs(ticks / TICKS_PER_S)
        + Duration::from_millis(ticks % TICKS_PER_S * (1000 / TICKS_PER_S))
}

/// The 14th and 15th field: ticks in user and in system mode. The second field
/// is the name, in brackets, and may hold anything, brackets too.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.saturating_add(system))
}

fn resident(status: &str) -> Option<Bytes> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim_end().parse().ok().map(Bytes::from_kib)
}

/// Where the processors are read, and what was read last.
#[derive(Debug, Clone)]
pub(crate) struct Sensor {
    root: Root,
    loadavg: PathBuf,
    online: PathBuf,
    last: Option<CpuTimes>,
}

impl Sensor {
    pub(crate) fn find(root: &Root) -> Self {
        Self {
            root: root.clone(),
            loadavg: root.path("proc/loadavg"),
            online: root.path("sys/devices/system/cpu/online"),
            last: None,
        }
    }

    pub(crate) fn read(&mut self) -> Cpu {
        let (busy_share, absent) = split(self.busy_share());
        Cpu {
            cores: read(&self.online).ok().and_then(|list| count(&list)),
            busy_share,
            absent,
            load: read(&self.loadavg).ok().and_then(|text| load(&text)),
        }
    }

    fn busy_share(&mut self) -> Result<f64, Absent> {
        let now = CpuTimes::read(&self.root)?;
        let last = self.last.replace(now).ok_or(Absent::NotYet)?;
        now.busy_share_since(&last).ok_or(Absent::NotYet)
    }
}

/// How many processors a list such as `0-3,6` names.
fn count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

fn load(text: &str) -> Option<[f64; 3]> {
    let averages =
        text.split_whitespace().take(3).map(str::parse).collect::<Result<Vec<f64>, _>>().ok()?;
    averages.try_into().ok().filter(|load: &[f64; 3]| load.iter().all(|value| value.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    const STAT: &str = "cpu  1000 20 300 5000 40 5 6 7 800 9\ncpu0 1 2 3 4\n";

    fn times(busy_ms: u64, total_ms: u64) -> CpuTimes {
        CpuTimes { busy: Duration::from_millis(busy_ms), total: Duration::from_millis(total_ms) }
    }

    #[test]
    fn idle_and_waiting_for_a_disk_are_not_busy_and_guests_count_once() {
        assert_eq!(CpuTimes::parse(STAT), Some(times(13_380, 63_780)));
        for garbled in ["", "cpu", "cpu 1 2", "cpu0 1 2 3 4", "cpu 1 2 x 4", "cpu -1 2 3 4"] {
            assert_eq!(CpuTimes::parse(garbled), None, "{garbled:?}");
        }
    }

    #[test]
    fn the_busy_share_needs_time_to_pass_and_survives_counters_that_fall() {
        let earlier = times(1_000, 4_000);
        assert_eq!(times(2_000, 8_000).busy_share_since(&earlier), Some(0.25));
        assert_eq!(earlier.busy_share_since(&earlier), None);
        assert_eq!(times(1_000, 3_000).busy_share_since(&earlier), None);
        assert_eq!(times(900, 5_000).busy_share_since(&earlier), Some(0.0));
    }

    #[test]
    fn a_process_may_have_any_name() {
        let stat = "42 (a) R) b) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 123 1 1";
        let tree = tree::of(&[
            ("proc/42/stat", stat),
            ("proc/42/status", "Name:\ta) b\nVmHWM:\t  9000 kB\nVmRSS:\t  8192 kB\n"),
        ]);
        assert_eq!(process_cpu_time(&tree.root(), 42), Ok(Duration::from_secs(3)));
        assert_eq!(process_resident_bytes(&tree.root(), 42), Ok(Bytes::from_kib(8192)));
        assert_eq!(process_cpu_time(&tree.root(), 43), Err(Absent::NotReported));
    }

    #[test]
    fn a_finished_process_has_no_resident_memory_line() {
        let tree = tree::of(&[("proc/42/status", "Name:\tx\nState:\tZ (zombie)\n")]);
        assert_eq!(process_resident_bytes(&tree.root(), 42), Err(Absent::Garbled));
    }

    #[test]
    fn processor_lists_are_counted() {
        let table = [
            ("0", Some(1)),
            ("0-5", Some(6)),
            ("0-3,6", Some(5)),
            ("", None),
            ("5-0", None),
            ("0-4294967295", None),
            ("0-", None),
        ];
        for (list, cores) in table {
            assert_eq!(count(list), cores, "{list:?}");
        }
    }

    #[test]
    fn loads_are_three_finite_numbers() {
        assert_eq!(load("0.52 1.25 2.00 3/456 789"), Some([0.52, 1.25, 2.0]));
        assert_eq!(load("0.52 1.25"), None);
        assert_eq!(load("nan 0 0"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,80}") {
            let _ = CpuTimes::parse(&text);
            let _ = process_ticks(&text);
            let _ = resident(&text);
            let _ = count(&text);
            let _ = load(&text);
        }

        #[test]
        fn no_counters_make_a_parser_panic(ticks in prop::collection::vec(any::<u64>(), 0..12)) {
            let fields: Vec<String> = ticks.iter().map(u64::to_string).collect();
            if let Some(times) = CpuTimes::parse(&format!("cpu {}", fields.join(" "))) {
                prop_assert!(times.busy <= times.total);
            }
            let _ = process_ticks(&format!("1 (x) {}", fields.join(" ")));
        }
    }
}
