//! What a process does, from `/proc/PID`: what it has been waiting for, which
//! tells a process that is slow because others have the processors, or because
//! the disk is, from one that does not move by itself; and whether it was
//! stopped.

use std::time::Duration;

use crate::{Absent, Root};

/// Waiting and reading of one process since it began. Only differences between
/// two readings mean anything: a thread that ends takes its share with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// Time in which a thread was ready to run and had no processor, summed
    /// over the threads.
    pub for_processor: Duration,
    /// Pages that had to be fetched from the disk.
    pub pages_fetched: u64,
}

impl Waits {
    /// Reads the waits of process `pid`. Where the kernel does not count waits
    /// for the processor, they are zero.
    ///
    /// # Errors
    /// There is no such process.
    pub fn read(root: &Root, pid: u32) -> Result<Self, Absent> {
        let stat = root.read(&format!("proc/{pid}/stat"))?;
        let pages_fetched = major_faults(&stat).ok_or(Absent::Garbled)?;
        Ok(Self { for_processor: for_processor(root, pid), pages_fetched })
    }
}

/// Whether somebody stopped process `pid` by a signal or a debugger: it hears of
/// nothing until it is continued.
///
/// # Errors
/// There is no such process.
pub fn is_stopped(root: &Root, pid: u32) -> Result<bool, Absent> {
    let stat = root.read(&format!("proc/{pid}/stat"))?;
    let state = after_name(&stat).and_then(|rest| rest.split_whitespace().next());
    state.map(|state| matches!(state, "T" | "t")).ok_or(Absent::Garbled)
}

fn for_processor(root: &Root, pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(root.path(&format!("proc/{pid}/task"))) else {
        return Duration::ZERO;
    };
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let id = thread.file_name();
        let schedstat = root.read(&format!("proc/{pid}/task/{}/schedstat", id.to_str()?)).ok()?;
        time_on_run_queue(&schedstat)
    });
    Duration::from_nanos(nanoseconds.fold(0, u64::saturating_add))
}

/// The second of three numbers: nanoseconds on a run queue.
fn time_on_run_queue(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    const STAT: &str = "812 (engine) worker) R 1 812 812 0 -1 4194304 9120 0 37 0 512 33 0 0 20";

    #[test]
    fn waits_are_summed_over_the_threads() {
        let tree = tree::of(&[
            ("proc/812/stat", STAT),
            ("proc/812/task/812/schedstat", "5000000000 1500000000 77\n"),
            ("proc/812/task/813/schedstat", "100 500000000 9\n"),
            ("proc/812/task/814/comm", "no schedstat here"),
        ]);
        let waits = Waits::read(&tree.root(), 812).unwrap();
        assert_eq!(waits, Waits { for_processor: Duration::from_secs(2), pages_fetched: 37 });
    }

    #[test]
    fn a_kernel_that_does_not_count_reads_as_zero() {
        let tree = tree::of(&[("proc/812/stat", STAT)]);
        assert_eq!(Waits::read(&tree.root(), 812).unwrap().for_processor, Duration::ZERO);
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
    fn our_own_waits_can_be_read() {
        assert!(Waits::read(&Root::new("/"), std::process::id()).is_ok());
    }
}
