//! Which parts of a file are on the disk, written down beside it.
//!
//! A part is written down after it was put to the disk, so what stands here
//! holds after a power cut too. A journal of another version, or one that cannot
//! be read, is as good as none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::client::Version;
use crate::publish::replace_whole;

/// What is fetched with one request. Small, so that little is lost when a fetch
/// is cut short; large, so that requests cost nothing against it.
pub(super) const PART_BYTES: u64 = 32 * 1024 * 1024;

/// Longest journal that is read: one of 256 GiB has 50 KiB.
const MOST_BYTES: u64 = 1024 * 1024;

/// What is on the disk of one version of one file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    validator: String,
    length: u64,
    part_bytes: u64,
    done: BTreeSet<u64>,
}

impl Journal {
    /// Nothing is there yet of a file with this version and length.
    pub(super) fn new(validator: &str, length: u64) -> Self {
        let validator = validator.to_owned();
        Self { validator, length, part_bytes: PART_BYTES, done: BTreeSet::new() }
    }

    /// What an earlier fetch has left in `part` of the same version, if anything.
    pub(super) fn resume(part: &Path, version: &Version, length: u64) -> Option<Self> {
        let mut text = Vec::new();
        let file = File::open(path(part)).ok()?;
        file.take(MOST_BYTES).read_to_end(&mut text).ok()?;
        let found: Self = serde_json::from_slice(&text).ok()?;
        let same = Some(&found.validator) == version.validator.as_ref()
            && (found.length, found.part_bytes) == (length, PART_BYTES)
            && found.done.iter().all(|index| index.saturating_mul(PART_BYTES) < length)
            && part.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == length);
        same.then_some(found)
    }

    /// Writes down that a part is on the disk.
    pub(super) fn done(&mut self, part: &Path, index: u64) -> io::Result<()> {
        self.done.insert(index);
        let text = serde_json::to_string(self).expect("a journal is a JSON object");
        replace_whole(&path(part), &text)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Bytes that need not be fetched any more.
    pub(super) fn bytes_done(&self) -> u64 {
        self.done.iter().map(|index| range(*index, self.length)).map(|(from, to)| to - from).sum()
    }

    /// The parts that are still to be fetched.
    pub(super) fn missing(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.length.div_ceil(PART_BYTES)).filter(|index| !self.done.contains(index))
    }
}

/// Where a part begins and ends.
pub(super) fn range(index: u64, length: u64) -> (u64, u64) {
    let begin = index.saturating_mul(PART_BYTES).min(length);
    (begin, begin.saturating_add(PART_BYTES).min(length))
}

/// Removes the journal of `part`, if there is one.
pub(crate) fn remove(part: &Path) {
    let journal = path(part);
    let _ = fs::remove_file(journal.with_extension("new"));
    let _ = fs::remove_file(journal);
}

fn path(part: &Path) -> PathBuf {
    let mut path = part.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(validator: &str) -> Version {
        Version { validator: Some(validator.into()), ..Version::default() }
    }

    #[test]
    fn only_the_same_version_and_length_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("x.part");
        let length = 3 * PART_BYTES + 5;
        File::create(&part).unwrap().set_len(length).unwrap();
        let mut journal = Journal::new("\"a\"", length);
        journal.done(&part, 3).unwrap();
        journal.done(&part, 1).unwrap();
        let found = Journal::resume(&part, &version("\"a\""), length).unwrap();
        assert_eq!(found.missing().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(found.bytes_done(), PART_BYTES + 5);
        assert_eq!(Journal::resume(&part, &version("\"b\""), length), None);
        assert_eq!(Journal::resume(&part, &Version::default(), length), None);
        assert_eq!(Journal::resume(&part, &version("\"a\""), length - 1), None);
        File::options().write(true).open(&part).unwrap().set_len(9).unwrap();
        assert_eq!(Journal::resume(&part, &version("\"a\""), length), None);
        remove(&part);
        assert!(!path(&part).exists());
    }

    proptest! {
        #[test]
        fn a_journal_of_any_bytes_is_used_only_if_it_can_be_true(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                any::<u64>().prop_map(|index| format!(
                    r#"{{"validator":"a","length":7,"part_bytes":{PART_BYTES},"done":[{index}]}}"#
                ).into_bytes()),
            ]
        ) {
            let dir = tempfile::tempdir().unwrap();
            let part = dir.path().join("x.part");
            File::create(&part).unwrap().set_len(7).unwrap();
            fs::write(path(&part), bytes).unwrap();
            if let Some(found) = Journal::resume(&part, &version("a"), 7) {
                prop_assert_eq!(found.bytes_done(), 7);
            }
        }

        #[test]
        fn parts_cover_a_file_once(length in 1..40 * PART_BYTES) {
            let mut end = 0;
            for index in Journal::new("", length).missing() {
                let (from, to) = range(index, length);
                prop_assert!(from == end && to > from);
                end = to;
            }
            prop_assert_eq!(end, length);
        }
    }
}
