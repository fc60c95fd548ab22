//! What a process does, from `/proc/PID`: what it has been waiting for, which
//! tells a process that is slow because others have the processors, or because
//! the disk is, from one that does not move by itself; whether it was stopped;
//! which files it has in its memory; and who is ended first when that runs out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Absent, Bytes, Root};

/// Waiting and reading of one process since it began. Only differences between
/// two readings mean anything: a thread that ends takes its share with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// Time in which a thread was ready to run and had no processor, summed
    /// over the threads.
    pub for_processor: Duration,
    /// Time in which its threads had a processor, summed over them.
    pub on_processor: Duration,
    /// Whether a thread is ready to run at this moment, or runs. A wait is in
    /// `for_processor` only once it is over; a thread that is ready and has got
    /// nothing of `on_processor` is in the middle of one.
    pub is_ready: bool,
    /// Pages that had to be fetched from the disk.
    pub pages_fetched: u64,
}

impl Waits {
    /// Reads the waits of process `pid`. Where the kernel does not count waits
    /// for the processor, they are zero and nothing is ready.
    ///
    /// # Errors
    /// There is no such process.
    pub fn read(root: &Root, pid: u32) -> Result<Self, Absent> {
        let stat = root.read(&format!("proc/{pid}/stat"))?;
        let pages_fetched = major_faults(&stat).ok_or(Absent::Garbled)?;
        Ok(Self { pages_fetched, ..of_threads(root, pid) })
    }
}

/// Whether somebody stopped process `pid` by a signal or a debugger: it hears of
/// nothing until it is continued.
///
/// # Errors
/// There is no such process.
pub fn is_stopped(root: &Root, pid: u32) -> Result<bool, Absent> {
    let stat = root.read(&format!("proc/{pid}/stat"))?;
    state(&stat).map(|state| matches!(state, "T" | "t")).ok_or(Absent::Garbled)
}

/// Has the kernel end this process before others when memory runs out. One that
/// is to go even sooner stays as it is.
///
/// # Errors
/// The kernel has no such file here, or it may not be written.
pub fn go_first_when_memory_runs_out(root: &Root) -> std::io::Result<()> {
    /// Of 1000: as if it held half of the machine's memory more than it does.
    const SOONER: i32 = 500;
    let path = root.path("proc/self/oom_score_adj");
    let now = std::fs::read_to_string(&path)?;
    match now.trim().parse::<i32>() {
        Ok(now) if now >= SOONER => Ok(()),
        _ => std::fs::write(&path, SOONER.to_string()),
    }
}

/// Files below a directory that processes have mapped into their memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    pub files: BTreeSet<PathBuf>,
    /// Processes of the name that was asked for whose maps may not be read.
    pub hidden: Vec<u32>,
}

impl Mapped {
    /// What the processes below `root` have mapped of `dir`, and which of those
    /// that are called `name` do not let us look.
    ///
    /// # Errors
    /// The list of processes cannot be read.
    pub fn below(root: &Root, dir: &Path, name: &str) -> std::io::Result<Self> {
        let mut mapped = Self::default();
        for entry in std::fs::read_dir(root.path("proc"))?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            // A kernel thread's maps are empty, a stranger's are forbidden.
            match std::fs::read(entry.path().join("maps")) {
                Ok(maps) => mapped.files.extend(files_below(&String::from_utf8_lossy(&maps), dir)),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let called = root.read(&format!("proc/{pid}/comm")).ok();
                    mapped.hidden.extend((called.as_deref() == Some(name)).then_some(pid));
                }
                // It ended meanwhile.
                Err(_) => {}
            }
        }
        Ok(mapped)
    }
}

/// The paths in `maps`: what follows the fifth field of a line.
fn files_below(maps: &str, dir: &Path) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let begin = line.find(" /")? + 1;
        let path = &line[begin..];
        Some(PathBuf::from(path.strip_suffix(" (deleted)").unwrap_or(path)))
    };
    maps.lines().filter_map(path).filter(|path| path.starts_with(dir)).collect()
}

/// What its threads have had and wait for; its pages are not among that.
fn of_threads(root: &Root, pid: u32) -> Waits {
    let mut waits = Waits::default();
    let Ok(threads) = std::fs::read_dir(root.path(&format!("proc/{pid}/task"))) else {
        return waits;
    };
    for thread in threads.flatten() {
        let id = thread.file_name();
        let Some(id) = id.to_str() else { continue };
        let read = |name: &str| root.read(&format!("proc/{pid}/task/{id}/{name}")).ok();
        let Some((ran, waited)) = read("schedstat").as_deref().and_then(times) else { continue };
        waits.on_processor += ran;
        waits.for_processor += waited;
        waits.is_ready |= read("stat").as_deref().and_then(state) == Some("R");
    }
    waits
}

/// The first two of three numbers: nanoseconds on a processor, and on its queue.
fn times(schedstat: &str) -> Option<(Duration, Duration)> {
    let mut numbers = schedstat.split_whitespace().map(|number| number.parse().ok());
    let mut next = || Some(Duration::from_nanos(numbers.next()??));
    Some((next()?, next()?))
}

/// One letter.
fn state(stat: &str) -> Option<&str> {
    after_name(stat)?.split_whitespace().next()
}

/// The twelfth field.
fn major_faults(stat: &str) -> Option<u64> {
    after_name(stat)?.split_whitespace().nth(9)?.parse().ok()
}

/// From the third field on. The second is the name, in brackets, and may hold
/// anything.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest)
}

/// Memory of all processes of one group, what is swapped out included; `None`
/// if there is no such group. Memory of Jetson's GPU is not in it: it belongs
/// to no process's own.
#[must_use]
pub fn group_memory(root: &Root, group: u32) -> Option<Bytes> {
    let members = ids(root).into_iter().filter(|pid| {
        let stat = root.read(&format!("proc/{pid}/stat")).ok();
        let of =
            stat.as_deref().and_then(after_name).and_then(|rest| rest.split_whitespace().nth(2));
        of.and_then(|of| of.parse().ok()) == Some(group)
    });
    let taken = members.filter_map(|pid| root.read(&format!("proc/{pid}/status")).ok());
    taken.map(|status| resident(&status)).reduce(|all, one| all + one)
}

/// Processes whose environment has exactly `variable`, in the form `NAME=value`.
/// Another user's are not seen.
#[must_use]
pub fn with_variable(root: &Root, variable: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let environment = std::fs::read(root.path(&format!("proc/{pid}/environ")));
        environment
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == variable.as_bytes()))
    };
    ids(root).into_iter().filter(has).collect()
}

fn ids(root: &Root) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(root.path("proc")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// `VmRSS` and `VmSwap` of a process's `status`, which are in KiB.
fn resident(status: &str) -> Bytes {
    let counted = |line: &str| {
        let kib = line.strip_prefix("VmRSS:").or_else(|| line.strip_prefix("VmSwap:"))?;
        kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Bytes::from_kib(status.lines().filter_map(counted).sum::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    const STAT: &str = "812 (engine) worker) R 1 812 812 0 -1 4194304 9120 0 37 0 512 33 0 0 20";

    #[test]
    fn files_that_a_process_has_mapped_are_found_below_a_directory() {
        let maps = "7f00-7f10 r--p 00000000 08:01 77   /var/lib/engines/a b/weights.gguf\n\
                    7f10-7f20 r--p 00000000 08:01 78   /var/lib/engines/b/w (deleted)\n\
                    7f20-7f30 r-xp 00000000 08:01 79   /usr/lib/libc.so.6\n\
                    7f30-7f40 rw-p 00000000 00:00 0    [heap]\n";
        let tree = tree::of(&[("proc/812/maps", maps), ("proc/self/maps", maps)]);
        let dir = Path::new("/var/lib/engines");
        let mapped = Mapped::below(&tree.root(), dir, "engine-worker").unwrap();
        let files: Vec<_> = mapped.files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(files, ["/var/lib/engines/a b/weights.gguf", "/var/lib/engines/b/w"]);
        assert!(mapped.hidden.is_empty());
    }

    #[test]
    fn waits_are_summed_over_the_threads() {
        let tree = tree::of(&[
            ("proc/812/stat", STAT),
            ("proc/812/task/812/schedstat", "5000000000 1500000000 77\n"),
            ("proc/812/task/813/schedstat", "100 500000000 9\n"),
            ("proc/812/task/813/stat", "813 (a worker) R 1 812"),
            ("proc/812/task/814/comm", "no schedstat here"),
        ]);
        let waits = Waits::read(&tree.root(), 812).unwrap();
        let expected = Waits {
            for_processor: Duration::from_secs(2),
            on_processor: Duration::from_nanos(5_000_000_100),
            is_ready: true,
            pages_fetched: 37,
        };
        assert_eq!(waits, expected);
    }

    #[test]
    fn a_kernel_that_does_not_count_reads_as_zero() {
        let tree = tree::of(&[("proc/812/stat", STAT)]);
        assert_eq!(Waits::read(&tree.root(), 812).unwrap().for_processor, Duration::ZERO);
    }

    #[test]
    fn who_is_to_go_sooner_stays_so() {
        for (before, after) in [("0\n", "500"), ("-900\n", "500"), ("1000\n", "1000\n")] {
            let tree = tree::of(&[("proc/self/oom_score_adj", before)]);
            go_first_when_memory_runs_out(&tree.root()).unwrap();
            let path = tree.path().join("proc/self/oom_score_adj");
            assert_eq!(std::fs::read_to_string(path).unwrap(), after);
        }
        assert!(go_first_when_memory_runs_out(&tree::of(&[]).root()).is_err());
    }

    #[test]
    fn there_is_no_such_process() {
        assert!(Waits::read(&tree::of(&[]).root(), 812).is_err());
    }

    #[test]
    fn a_stopped_process_is_told_from_a_running_one() {
        let stopped = STAT.replace(") R ", ") T ");
        let tree = tree::of(&[("proc/812/stat", STAT), ("proc/813/stat", &stopped)]);
        assert_eq!(is_stopped(&tree.root(), 812), Ok(false));
        assert_eq!(is_stopped(&tree.root(), 813), Ok(true));
        assert!(is_stopped(&tree.root(), 814).is_err());
    }

    #[test]
    fn a_groups_memory_is_that_of_its_members() {
        let member = |pid: u32, group: u32| format!("{pid} (a) b) S 1 {group} 1 0 -1");
        let status = "Name:\tx\nVmRSS:\t     300 kB\nVmSwap:\t      24 kB\n";
        let tree = tree::of(&[
            ("proc/10/stat", &member(10, 10)),
            ("proc/10/status", status),
            ("proc/11/stat", &member(11, 10)),
            ("proc/11/status", status),
            ("proc/12/stat", &member(12, 12)),
            ("proc/12/status", "Name:\tkernel thread\n"),
        ]);
        assert_eq!(group_memory(&tree.root(), 10), Some(Bytes::from_kib(648)));
        assert_eq!(group_memory(&tree.root(), 12), Some(Bytes::from_kib(0)));
        assert_eq!(group_memory(&tree.root(), 13), None);
    }

    #[test]
    fn a_process_is_found_by_its_whole_variable() {
        let tree = tree::of(&[
            ("proc/10/environ", "A=1\0WORK=/x\0"),
            ("proc/11/environ", "WORK=/x/y\0"),
            ("proc/12/environ", ""),
        ]);
        assert_eq!(with_variable(&tree.root(), "WORK=/x"), [10]);
    }

    #[test]
    fn our_own_waits_can_be_read() {
        assert!(Waits::read(&Root::new("/"), std::process::id()).is_ok());
    }
}
