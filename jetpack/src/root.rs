//! Where the machine's files begin: `/`, or a captured tree.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::Absent;
use crate::watch::watched;

/// Most bytes read from one file. The longest file that matters, a process's
/// `status`, has about 2 KiB; `/proc/stat` only matters up to its first line.
const MAX_FILE: u64 = 16 * 1024;

/// Most bytes read from a file that is read line by line. A full desktop's
/// list of packages has 4 MiB.
const MAX_LINES: u64 = 32 * 1024 * 1024;

/// Links that are followed from one path, so that a ring of them ends.
const MAX_LINKS: usize = 8;

/// The directory below which all system files are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// A tree at `path`, which need not exist: then everything is absent.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether this is the machine we run on. Drivers can only be asked here;
    /// a captured tree has none.
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The file at `path`, which is relative to the root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Whether there is a file at `path`, which is relative to the root.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = self.path(path);
        watched(&path, || path.exists()).unwrap_or(false)
    }

    /// Whether there is a file, or a link that may lead nowhere, at `path`.
    pub(crate) fn has_link(&self, path: &str) -> bool {
        let path = self.path(path);
        watched(&path, || path.symlink_metadata().is_ok()).unwrap_or(false)
    }

    /// Where the link at `path` leads, and what that leads to. A captured
    /// tree's links may begin with `/`; that is its own root.
    pub(crate) fn follow(&self, path: &str) -> PathBuf {
        let mut path = self.path(path);
        for _ in 0..MAX_LINKS {
            let Ok(Ok(target)) = watched(&path, || path.read_link()) else { break };
            path = match target.strip_prefix("/") {
                Ok(absolute) => self.0.join(absolute),
                Err(_) => path.parent().unwrap_or(&self.0).join(target),
            };
        }
        path
    }

    /// Looks at each line of a long file until `look` is satisfied.
    pub(crate) fn each_line(&self, path: &str, mut look: impl FnMut(&str) -> bool) {
        let path = self.path(path);
        let all = || {
            let Ok(file) = File::open(&path) else { return };
            let mut reader = BufReader::new(file.take(MAX_LINES));
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                if look(String::from_utf8_lossy(&line).trim_end()) {
                    return;
                }
                line.clear();
            }
        };
        let _ = watched(&path, all);
    }

    /// The text of the file at `path`, which is relative to the root.
    pub(crate) fn read(&self, path: &str) -> Result<String, Absent> {
        read(&self.path(path))
    }
}

impl From<PathBuf> for Root {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Default for Root {
    /// The machine we run on.
    fn default() -> Self {
        Self::new("/")
    }
}

/// The text of a small system file, without the white space and the NUL at its
/// end. Bytes that are not UTF-8 are replaced.
pub(crate) fn read(path: &Path) -> Result<String, Absent> {
    let bytes = read_bytes(path)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches(['\0', '\n', ' ', '\t']).to_owned())
}

/// The first bytes of a small system file.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Absent> {
    let mut bytes = Vec::with_capacity(256);
    let read = || File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    watched(path, read)?.map_err(|error| Absent::from_io(&error))?;
    Ok(bytes)
}

/// A whole number from a small system file.
pub(crate) fn read_number<T: std::str::FromStr>(path: &Path) -> Result<T, Absent> {
    read(path)?.trim().parse().map_err(|_| Absent::Garbled)
}

/// Names in a directory, in no particular order; none if it cannot be listed.
pub(crate) fn list(directory: &Path) -> Vec<String> {
    let names = || {
        let entries = std::fs::read_dir(directory).ok()?.flatten();
        Some(entries.filter_map(|entry| OsString::into_string(entry.file_name()).ok()).collect())
    };
    watched(directory, names).ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn a_long_or_odd_file_is_read_up_to_the_bound() {
        let tree = tree::of(&[("long", ""), ("odd", "")]);
        tree.write("long", vec![b'x'; 1 << 20]);
        tree.write("odd", [0xff, b'a', 0, b'\n']);
        let length = tree.root::<Root>().read("long").map(|text| text.len() as u64);
        assert_eq!(length, Ok(MAX_FILE));
        assert_eq!(tree.root::<Root>().read("odd"), Ok("\u{fffd}a".to_owned()));
    }

    #[test]
    fn only_the_real_root_is_this_machine() {
        assert!(Root::default().is_this_machine());
        assert!(!Root::new("/captured/board").is_this_machine());
    }
}
