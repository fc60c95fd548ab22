//! Which systems were good, how often one that never was has been restarted, and how
//! often the machine went off without having been shut down.
//!
//! A file of root's own, so that the service cannot say that a system is new. One
//! that cannot be read is an empty one. Nothing is sent back that could not be
//! written down before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jetpack::setting::write_whole;
use serde::{Deserialize, Serialize};

pub(super) const FILE: &str = "boots.json";

/// Systems that are remembered; there are two at a time.
const MOST_SYSTEMS: usize = 8;

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Record {
    directory: PathBuf,
    said: Said,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Said {
    /// The last one last.
    good: Vec<String>,
    on_trial: Option<Trial>,
    /// The boot that has not ended yet, by its id.
    running: Option<String>,
    /// Boots that never ended.
    unsafe_shutdowns: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    system: String,
    restarts: u32,
}

impl Record {
    pub(super) fn open(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let said = serde_json::from_str(&text).unwrap_or_default();
        Self { directory: directory.to_owned(), said }
    }

    /// A boot runs. The one before has been cut short if it never [`Self::ended`].
    pub(super) fn runs(&mut self, boot: &str) -> io::Result<()> {
        match self.said.running.replace(boot.to_owned()) {
            Some(before) if before == boot => return Ok(()),
            Some(_) => self.said.unsafe_shutdowns = self.said.unsafe_shutdowns.saturating_add(1),
            None => {}
        }
        self.write()
    }

    /// The machine is being shut down.
    pub(super) fn ended(&mut self) -> io::Result<()> {
        self.said.running = None;
        self.write()
    }

    pub(super) fn unsafe_shutdowns(&self) -> u32 {
        self.said.unsafe_shutdowns
    }

    pub(super) fn was_good(&self, system: &str) -> bool {
        self.said.good.iter().any(|good| good == system)
    }

    pub(super) fn restarts(&self, system: &str) -> u32 {
        let trial = self.said.on_trial.as_ref().filter(|trial| trial.system == system);
        trial.map_or(0, |trial| trial.restarts)
    }

    pub(super) fn good(&mut self, system: &str) -> io::Result<()> {
        if self.said.good.last().is_some_and(|last| last == system) && self.said.on_trial.is_none()
        {
            return Ok(());
        }
        self.said.good.retain(|good| good != system);
        self.said.good.push(system.to_owned());
        let surplus = self.said.good.len().saturating_sub(MOST_SYSTEMS);
        self.said.good.drain(..surplus);
        self.said.on_trial = None;
        self.write()
    }

    /// On the disk when it returns.
    pub(super) fn restarted(&mut self, system: &str) -> io::Result<()> {
        let restarts = self.restarts(system) + 1;
        self.said.on_trial = Some(Trial { system: system.to_owned(), restarts });
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        write_whole(&self.directory.join(FILE), 0o644, &serde_json::to_vec(&self.said)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_at_the_next_boot() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Record::open(&directory.path().join("health"));
        assert!(!open().was_good("A 36.5.0"));
        open().good("A 36.5.0").unwrap();
        for restarts in 0..3 {
            assert_eq!(open().restarts("B 36.5.2"), restarts);
            open().restarted("B 36.5.2").unwrap();
        }
        assert!(open().was_good("A 36.5.0") && !open().was_good("B 36.5.2"));
        // A newer one in the same place begins anew.
        assert_eq!(open().restarts("B 36.6.0"), 0);
        open().good("B 36.5.2").unwrap();
        assert_eq!(open().restarts("B 36.5.2"), 0);
    }

    #[test]
    fn a_boot_that_never_ended_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Record::open(directory.path());
        for (boot, ends, count) in
            [("a", true, 0), ("b", false, 0), ("b", false, 0), ("c", true, 1), ("d", false, 1)]
        {
            open().runs(boot).unwrap();
            assert_eq!(open().unsafe_shutdowns(), count, "{boot}");
            if ends {
                open().ended().unwrap();
            }
        }
        open().good("A").unwrap();
        assert_eq!((open().unsafe_shutdowns(), open().said.running.as_deref()), (1, Some("d")));
    }

    #[test]
    fn few_are_remembered_and_garbage_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::open(directory.path());
        for number in 0..20 {
            record.good(&format!("A {number}")).unwrap();
        }
        assert!(record.was_good("A 19") && record.was_good("A 12") && !record.was_good("A 11"));
        fs::write(directory.path().join(FILE), "{\"good\": 7").unwrap();
        assert!(!Record::open(directory.path()).was_good("A 19"));
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(Record::open(&directory.path().join("file")).restarted("B").is_err());
    }
}
