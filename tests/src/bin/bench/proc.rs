//! What the kernel says of processes and the machine, read from `/proc`.
//!
//! Written apart from the code it measures, so that both cannot be wrong in
//! the same way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Ticks of processor time a second in everything that Linux tells programs.
const TICKS_PER_S: f64 = 100.0;

/// Seconds of processor time that a process, all its threads together, has used.
pub(crate) fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    ticks_of(pid, 2).map(|ticks| ticks / TICKS_PER_S)
}

/// The same for the process and all that came from it, ended ones included.
pub(crate) fn family_cpu_s(pid: u32) -> anyhow::Result<f64> {
    let ticks = family(pid).into_iter().map(|pid| ticks_of(pid, 4));
    Ok(ticks.sum::<anyhow::Result<f64>>()? / TICKS_PER_S)
}

/// The sum of the first `fields` of: user, system, and the same of ended children.
fn ticks_of(pid: u32, fields: usize) -> anyhow::Result<f64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let all = after_name(&stat).with_context(|| format!("parse the stat of process {pid}"))?;
    let ticks = all[11..11 + fields].iter().map(|ticks| ticks.parse::<f64>());
    ticks.sum::<Result<f64, _>>().with_context(|| format!("parse the stat of process {pid}"))
}

/// False for a process that has ended, be it waited for or not.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    after_name(&stat).is_some_and(|fields| !matches!(fields[0], "Z" | "X"))
}

/// The process and all that came from it and still runs.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let parents = parents();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, its)| **its == parent).map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// Every process and its parent. One that ends meanwhile is left out.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, after_name(&stat)?[1].parse().ok()?))
        })
        .collect()
}

/// The fields from the third on: the second is the name, in brackets, and may
/// hold anything.
fn after_name(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    (fields.len() > 14).then_some(fields)
}

/// Processor time of the whole machine since boot, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// Not idle; what the hypervisor took is counted too.
    pub(crate) busy_s: f64,
    pub(crate) total_s: f64,
}

impl Machine {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let stat = read("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user.
        let ticks = line.split_whitespace().skip(1).take(8).map(str::parse::<f64>);
        let ticks = ticks.collect::<Result<Vec<_>, _>>().context("parse /proc/stat")?;
        let total: f64 = ticks.iter().sum();
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        Ok(Self { busy_s: (total - idle) / TICKS_PER_S, total_s: total / TICKS_PER_S })
    }
}

/// Memory of a process that is in RAM now, in MiB.
pub(crate) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let kib = field(&status, "VmRSS:").with_context(|| format!("process {pid} has no VmRSS"))?;
    Ok(kib / 1024.0)
}

/// How often each thread of a process has gone to sleep by itself, and so been
/// woken: `name (tid)` to its count.
pub(crate) fn sleeps(pid: u32) -> anyhow::Result<BTreeMap<String, f64>> {
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).with_context(|| format!("list {tasks}"))?;
    let mut sleeps = BTreeMap::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {tasks}"))?.path();
        // A thread that ends meanwhile is no wake-up to come.
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        let Some(count) = field(&status, "voluntary_ctxt_switches:") else { continue };
        sleeps.insert(thread_name(&path, &status), count);
    }
    Ok(sleeps)
}

fn thread_name(task: &Path, status: &str) -> String {
    let name = status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or("?").trim();
    let tid = task.file_name().unwrap_or_default().to_string_lossy();
    format!("{name} ({tid})")
}

/// The number behind a field of a status file.
fn field(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_shifts_no_field() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 1 0";
        let fields = after_name(stat).unwrap();
        assert_eq!((fields[1], fields[11], fields[12]), ("1", "250", "50"));
    }

    #[test]
    fn this_process_is_its_own_family_and_sleeps_in_each_thread() {
        let pid = std::process::id();
        assert_eq!(family(pid)[0], pid);
        assert!(!sleeps(pid).unwrap().is_empty());
        assert!(resident_mib(pid).unwrap() > 0.1);
    }
}
