//! How far an update is: one small file of root's own, which the server shows and which
//! says after a power cut what is to be done.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jetpack::setting::write_whole;
use serde::{Deserialize, Serialize};

use super::phase::Phase;
use super::trial::{Before, Bounds};
use super::version::Version;

const FILE: &str = "update.json";

/// Longest file that is read.
const LONGEST: u64 = 16 * 1024;

/// An update that was begun, and how far it is: what everybody may know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub from: Version,
    pub to: Version,
    /// Which key has signed it.
    pub signer: String,
    /// Seconds since 1970.
    pub began: u64,
    /// When `phase` began, in seconds since 1970.
    pub since: u64,
    pub phase: Phase,
    /// How much of a system is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

/// What is exchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum What {
    /// Names of the packages that are installed, and of those to go back to.
    Packages { new: Vec<String>, old: Vec<String> },
    /// The whole system, in the one of two that did not run when the update began.
    System { file: PathBuf, old_slot: char, new_slot: char },
}

/// The same, with what it takes to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub progress: Progress,
    /// How the appliance was before.
    pub before: Before,
    pub bounds: Bounds,
    /// The server, as `host:port`.
    pub host: String,
    pub state_dir: PathBuf,
    #[serde(flatten)]
    pub what: What,
}

impl Record {
    /// The last update; `None` if there was none.
    ///
    /// # Errors
    /// The file cannot be read, or is no such file.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        let mut text = String::new();
        match File::open(directory.join(FILE)) {
            Ok(file) => file.take(LONGEST).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Whether the machine restarts now, and how the update ends is said afterwards.
    #[must_use]
    pub fn is_left_to_a_restart(&self) -> bool {
        let is_system = matches!(self.what, What::System { .. });
        is_system && matches!(self.progress.phase, Phase::Trial { .. })
    }

    /// Whole or not at all, and on the disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; what was there is there still.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        // The server shows it.
        write_whole(&directory.join(FILE), 0o644, &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn a_record(phase: Phase) -> Record {
        Record {
            progress: Progress {
                from: "0.1.0".parse().unwrap(),
                to: "0.2.0".parse().unwrap(),
                signer: "us".into(),
                began: 1,
                since: 2,
                phase,
                percent: None,
            },
            before: Before { serves: true, answers: true },
            bounds: Bounds { patience_s: 300, steady_s: 30 },
            host: "127.0.0.1:1".into(),
            state_dir: "/var/lib/stoker".into(),
            what: What::Packages {
                new: vec!["stoker_0.2.0_arm64.deb".into()],
                old: vec!["stoker.deb".into()],
            },
        }
    }

    #[test]
    fn what_was_written_is_read_and_garbage_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(place.path()).unwrap(), None);
        for phase in
            [Phase::Ready, Phase::Trial { starts: 2 }, Phase::GoingBack { why: "ill".into() }]
        {
            let mut record = a_record(phase);
            let system =
                What::System { file: "/media/a.raucb".into(), old_slot: 'A', new_slot: 'B' };
            for what in [record.what.clone(), system] {
                record.what = what;
                record.write(place.path()).unwrap();
                assert_eq!(Record::read(place.path()).unwrap().as_ref(), Some(&record));
            }
        }
        std::fs::write(place.path().join(FILE), "{\"from\": 7").unwrap();
        assert!(Record::read(place.path()).is_err());
    }
}
