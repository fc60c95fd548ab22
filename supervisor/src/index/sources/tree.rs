//! The trees of files that were brought here, below `code/` in the state directory.
//!
//! ```text
//!  code/.part-LIFE-COUNT/tree            being made; nobody reads it
//!  code/KEY/NUMBER.MADE.BYTES.REVISION   whole; the highest number counts
//! ```
//!
//! A tree is made as a part and renamed once all of it is on the disk. Those before it
//! stay until nothing reads them any more.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::hexadecimal::Hexadecimal;
use crate::store::code::NewRepository;

/// The directory's name in the state directory.
pub const DIRECTORY: &str = "code";
/// Before the name of a part.
const PART: &str = ".part-";
/// The files within a part; beside them may lie what helps to make it.
const FILES: &str = "tree";

/// Where all trees are.
#[derive(Debug, Clone)]
pub struct Trees {
    root: PathBuf,
    /// By which parts of this process are told from those of one that was killed.
    life: Arc<str>,
    begun: Arc<AtomicU64>,
}

/// A tree that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub path: PathBuf,
    pub number: u64,
    /// Seconds since 1970.
    pub made: u64,
    /// Of its files.
    pub bytes: u64,
    /// The commit; `upload` of an upload.
    pub revision: String,
}

/// A tree that is being made. Dropped, it is removed.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
}

/// A part that is all on the disk.
#[derive(Debug)]
pub struct Whole(Part);

impl Trees {
    #[must_use]
    pub fn below(state_dir: &Path) -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let life = format!("{PART}{}-{now}-", std::process::id()).into();
        Self { root: state_dir.join(DIRECTORY), life, begun: Arc::default() }
    }

    /// Begins another tree.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn begin(&self) -> io::Result<Part> {
        private().recursive(true).create(&self.root)?;
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{}{number}", self.life));
        private().create(&path)?;
        let part = Part { path };
        private().create(part.files())?;
        Ok(part)
    }

    /// Makes a part the newest tree of a repository.
    ///
    /// # Errors
    /// The name cannot be written to the disk; the tree before it still counts.
    pub fn publish(
        &self,
        of: &NewRepository,
        Whole(part): &Whole,
        bytes: u64,
        revision: &str,
        now: u64,
    ) -> io::Result<Tree> {
        let own = self.own(of);
        private().recursive(true).create(&own)?;
        let number = self.all(of).last().map_or(1, |newest| newest.number + 1);
        let path = own.join(format!("{number}.{now}.{bytes}.{revision}"));
        fs::rename(part.files(), &path)?;
        File::open(&own)?.sync_all()?;
        File::open(&self.root)?.sync_all()?;
        Ok(Tree { path, number, made: now, bytes, revision: revision.to_owned() })
    }

    /// The newest one of a repository.
    #[must_use]
    pub fn newest(&self, of: &NewRepository) -> Option<Tree> {
        self.all(of).pop()
    }

    /// Removes all but the newest one.
    pub fn remove_old(&self, of: &NewRepository) {
        let mut all = self.all(of);
        all.pop();
        all.iter().for_each(|old| remove(&old.path));
    }

    /// Removes all of a repository.
    pub fn remove(&self, of: &NewRepository) {
        let own = self.own(of);
        if own.exists() {
            remove(&own);
        }
    }

    /// Removes what belongs to none of these, and what a killed process was making.
    pub fn sweep<'a>(&self, kept: impl Iterator<Item = &'a NewRepository>) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        let own: Vec<_> = kept.map(|of| self.own(of)).collect();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            let is_stray = match name.starts_with(PART.as_bytes()) {
                true => !name.starts_with(self.life.as_bytes()),
                false => !own.contains(&path),
            };
            if is_stray {
                remove(&path);
            }
        }
    }

    fn all(&self, of: &NewRepository) -> Vec<Tree> {
        let Ok(entries) = fs::read_dir(self.own(of)) else { return Vec::new() };
        let mut all: Vec<_> = entries.flatten().filter_map(|entry| read(entry.path())).collect();
        all.sort_by_key(|tree| tree.number);
        all
    }

    /// Another name, owner or origin is another directory.
    fn own(&self, of: &NewRepository) -> PathBuf {
        let owner = of.owner.as_deref().unwrap_or_default();
        let hash = Sha256::new()
            .chain_update(owner)
            .chain_update([0])
            .chain_update(&of.name)
            .chain_update([0])
            .chain_update(of.origin.to_string());
        self.root.join(Hexadecimal(&hash.finalize()[..16]).to_string())
    }
}

impl Part {
    /// Where its files go.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    /// Has all of it written to the disk: what is renamed before would be names of nothing
    /// after a power cut.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn whole(self) -> io::Result<Whole> {
        nix::unistd::syncfs(File::open(&self.path)?)?;
        Ok(Whole(self))
    }

    /// Bytes that it takes by now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes_below(&self.path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Bytes of the files below a directory; what goes meanwhile counts as nothing.
fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => bytes_below(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn read(path: PathBuf) -> Option<Tree> {
    let mut parts = path.file_name()?.to_str()?.splitn(4, '.');
    let mut number = || parts.next()?.parse().ok();
    let (number, made, bytes) = (number()?, number()?, number()?);
    let revision = parts.next()?.to_owned();
    Some(Tree { path, number, made, bytes, revision })
}

/// What cannot be removed now is stray at the next start.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "files that were brought here stay");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::sources::Origin;

    fn repository(name: &str) -> NewRepository {
        NewRepository { name: name.into(), origin: Origin::Upload, owner: None }
    }

    #[test]
    fn the_newest_tree_counts_and_parts_do_not() {
        let place = tempfile::tempdir().unwrap();
        let trees = Trees::below(place.path());
        let (fans, other) = (repository("fans"), repository("other"));
        assert_eq!(trees.newest(&fans), None);
        for (number, text) in [(1, "one"), (2, "two")] {
            let part = trees.begin().unwrap();
            fs::write(part.files().join("a.rs"), text).unwrap();
            assert_eq!(part.bytes(), 3);
            assert_eq!(trees.newest(&fans).map_or(0, |tree| tree.number), number - 1);
            let whole = part.whole().unwrap();
            let tree = trees.publish(&fans, &whole, 3, "upload", 1000 + number).unwrap();
            assert_eq!((tree.number, tree.made, tree.bytes), (number, 1000 + number, 3));
            drop(whole);
            assert_eq!(trees.newest(&fans), Some(tree.clone()));
            assert_eq!(fs::read_to_string(tree.path.join("a.rs")).unwrap(), text);
        }
        assert_eq!((trees.all(&fans).len(), trees.newest(&other)), (2, None));
        trees.remove_old(&fans);
        assert_eq!(trees.all(&fans).len(), 1);

        // As a kill leaves it.
        std::mem::forget(trees.begin().unwrap());
        trees.sweep([&fans].into_iter());
        assert_eq!(fs::read_dir(place.path().join(DIRECTORY)).unwrap().count(), 2);
        let next = Trees::below(place.path());
        let part = next.begin().unwrap();
        next.sweep([&fans].into_iter());
        assert!(part.files().exists() && next.newest(&fans).is_some());
        assert_eq!(fs::read_dir(place.path().join(DIRECTORY)).unwrap().count(), 2);
        trees.sweep([&other].into_iter());
        assert_eq!(trees.newest(&fans), None);
    }
}
