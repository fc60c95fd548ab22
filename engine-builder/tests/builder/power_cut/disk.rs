//! A disk under a directory tree: what programs see, and what would still be
//! there if the power were cut now.
//!
//! A file's bytes are safe once it was synced, a name once its directory was. In
//! between the disk may have written anything or nothing, so a cut is one of
//! several kinds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::recording::Op;

/// What the disk has written beside what was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing: neither names nor bytes.
    Nothing,
    /// All names, as a journal does, and of the bytes nothing.
    Names,
    /// All names, and the first `1 / n` of each file's bytes.
    Part(u64),
}

type Inode = usize;
type Names = BTreeMap<OsString, Inode>;

/// A file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Bytes(Vec<u8>),
    /// So many of the known copy's first bytes.
    Known(u64),
    /// The file that was there in the beginning.
    Before(PathBuf),
}

#[derive(Debug, Clone)]
enum Node {
    File { now: Content, synced: Content },
    Dir { now: Names, synced: Names },
    Symlink(PathBuf),
}

/// The tree below one directory.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: PathBuf,
    /// A file of which every long write is a copy.
    known: PathBuf,
    nodes: Vec<Node>,
}

impl Disk {
    /// What is below `root` now, all of it safe; `copy` is a copy of it.
    pub(super) fn new(root: &Path, copy: &Path, known: &Path) -> Self {
        let mut disk = Self { root: root.into(), known: known.into(), nodes: Vec::new() };
        disk.take_up(copy, &mut BTreeMap::new());
        disk
    }

    fn add(&mut self, node: Node) -> Inode {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Hard links stay links.
    fn take_up(&mut self, path: &Path, seen: &mut BTreeMap<(u64, u64), Inode>) -> Inode {
        let metadata = path.symlink_metadata().unwrap();
        let identity = (metadata.dev(), metadata.ino());
        if let Some(inode) = seen.get(&identity) {
            return *inode;
        }
        let node = if metadata.is_symlink() {
            Node::Symlink(fs::read_link(path).unwrap())
        } else if metadata.is_dir() {
            Node::Dir { now: Names::new(), synced: Names::new() }
        } else {
            let before = Content::Before(path.into());
            Node::File { now: before.clone(), synced: before }
        };
        let is_dir = matches!(node, Node::Dir { .. });
        let inode = self.add(node);
        seen.insert(identity, inode);
        if is_dir {
            let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
            let names: Names =
                entries.map(|it| (it.file_name(), self.take_up(&it.path(), seen))).collect();
            self.nodes[inode] = Node::Dir { now: names.clone(), synced: names };
        }
        inode
    }

    /// Where a path leads now, symbolic links at its end not followed.
    fn find(&self, path: &Path) -> Option<Inode> {
        let below = path.strip_prefix(&self.root).ok()?;
        below.iter().try_fold(0, |dir, name| match &self.nodes[dir] {
            Node::Dir { now, .. } => now.get(name).copied(),
            _ => None,
        })
    }

    fn names(&mut self, dir: &Path) -> &mut Names {
        let inode = self.find(dir).unwrap_or_else(|| panic!("no directory {}", dir.display()));
        match &mut self.nodes[inode] {
            Node::Dir { now, .. } => now,
            other => panic!("{} is {other:?}", dir.display()),
        }
    }

    fn name(&mut self, path: &Path, inode: Inode) {
        let name = path.file_name().unwrap().to_owned();
        self.names(path.parent().unwrap()).insert(name, inode);
    }

    fn unname(&mut self, path: &Path) -> Option<Inode> {
        self.names(path.parent().unwrap()).remove(path.file_name().unwrap())
    }

    fn content(&mut self, path: &Path) -> Option<&mut Content> {
        let inode = self.find(path)?;
        match &mut self.nodes[inode] {
            Node::File { now, .. } => Some(now),
            _ => None,
        }
    }

    /// Does what was done.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Open { path, makes, empties } => {
                if self.find(path).is_none() && *makes {
                    let empty = || Content::Bytes(Vec::new());
                    let inode = self.add(Node::File { now: empty(), synced: empty() });
                    self.name(path, inode);
                } else if let Some(content) = self.content(path).filter(|_| *empties) {
                    *content = Content::Bytes(Vec::new());
                }
            }
            Op::Write { path, at, bytes, length } => self.write(path, *at, bytes, *length),
            Op::Truncate { path, length } => {
                let content = self.content(path).unwrap();
                match (&content, length) {
                    (_, 0) => *content = Content::Bytes(Vec::new()),
                    (Content::Bytes(bytes), _) => {
                        let mut bytes = bytes.clone();
                        bytes.resize(usize::try_from(*length).unwrap(), 0);
                        *content = Content::Bytes(bytes);
                    }
                    other => panic!("{other:?} is cut to {length}"),
                }
            }
            Op::Sync { path } => {
                // What has no name any more is lost in any case.
                if let Some(inode) = self.find(path) {
                    match &mut self.nodes[inode] {
                        Node::File { now, synced } => *synced = now.clone(),
                        Node::Dir { now, synced } => *synced = now.clone(),
                        Node::Symlink(_) => {}
                    }
                }
            }
            Op::MakeDir { path } => {
                let inode = self.add(Node::Dir { now: Names::new(), synced: Names::new() });
                self.name(path, inode);
            }
            Op::Rename { from, to, exchange } => {
                let moved = self.unname(from).unwrap_or_else(|| panic!("{op:?}"));
                let there = if *exchange { self.unname(to) } else { None };
                self.name(to, moved);
                if let Some(there) = there {
                    self.name(from, there);
                }
            }
            Op::Link { from, to } => {
                // From outside: what is linked was there before and is safe.
                let inode = self.find(from).unwrap_or_else(|| {
                    let before = Content::Before(from.clone());
                    self.add(Node::File { now: before.clone(), synced: before })
                });
                self.name(to, inode);
            }
            Op::Symlink { target, path } => {
                let inode = self.add(Node::Symlink(target.clone()));
                self.name(path, inode);
            }
            Op::Remove { path } => {
                self.unname(path);
            }
        }
    }

    fn write(&mut self, path: &Path, at: Option<u64>, bytes: &[u8], length: u64) {
        let known = self.known.clone();
        // Nobody sees what goes into a file without a name.
        let Some(content) = self.content(path) else { return };
        let is_whole = bytes.len() as u64 == length;
        match content {
            Content::Bytes(old) if is_whole && at.is_none_or(|at| at <= old.len() as u64) => {
                let at = at.map_or(old.len(), |at| usize::try_from(at).unwrap());
                old.resize(old.len().max(at + bytes.len()), 0);
                old[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Content::Bytes(old) if old.is_empty() && at.is_none() => {
                is_copy(&known, 0, bytes, path);
                *content = Content::Known(length);
            }
            Content::Known(old) if at.is_none() => {
                is_copy(&known, *old, bytes, path);
                *old += length;
            }
            other => panic!("{length} bytes into {} at {at:?}: {other:?}", path.display()),
        }
    }

    /// Makes the tree below `root` what a cut of this kind would leave.
    pub(super) fn leave(&self, cut: Cut) {
        if self.root.exists() {
            fs::remove_dir_all(&self.root).unwrap();
        }
        self.put(0, &self.root, cut, &mut BTreeMap::new());
    }

    fn put(&self, inode: Inode, path: &Path, cut: Cut, made: &mut BTreeMap<Inode, PathBuf>) {
        match &self.nodes[inode] {
            Node::Dir { now, synced } => {
                fs::create_dir(path).unwrap();
                for (name, inode) in if cut == Cut::Nothing { synced } else { now } {
                    self.put(*inode, &path.join(name), cut, made);
                }
            }
            Node::Symlink(target) => symlink(target, path).unwrap(),
            Node::File { .. } if made.contains_key(&inode) => {
                fs::hard_link(&made[&inode], path).unwrap();
            }
            Node::File { now, synced } => {
                made.insert(inode, path.to_owned());
                match self.left(now, synced, cut) {
                    Content::Bytes(bytes) => fs::write(path, bytes).unwrap(),
                    Content::Known(length) => copy(&self.known, path, length),
                    // Never written to in its place; verified at the end.
                    Content::Before(file) if file.metadata().unwrap().len() > 1 << 20 => {
                        fs::hard_link(file, path).unwrap();
                    }
                    Content::Before(file) => drop(fs::copy(file, path).unwrap()),
                }
            }
        }
    }

    fn left(&self, now: &Content, synced: &Content, cut: Cut) -> Content {
        match (cut, now) {
            (Cut::Nothing | Cut::Names, _) => synced.clone(),
            _ if now == synced => now.clone(),
            (Cut::Part(n), Content::Bytes(bytes)) => {
                let part = bytes.len() / usize::try_from(n).unwrap();
                Content::Bytes(bytes[..part].to_vec())
            }
            (Cut::Part(n), Content::Known(length)) => Content::Known(length / n),
            (Cut::Part(_), Content::Before(_)) => now.clone(),
        }
    }

    /// What tells one state from another.
    pub(super) fn signature(&self, cut: Cut) -> String {
        let mut text = String::new();
        self.sign(0, Path::new("/"), cut, &mut text);
        text
    }

    fn sign(&self, inode: Inode, path: &Path, cut: Cut, text: &mut String) {
        match &self.nodes[inode] {
            Node::Dir { now, synced } => {
                text.push_str(&format!("{}/\n", path.display()));
                for (name, inode) in if cut == Cut::Nothing { synced } else { now } {
                    self.sign(*inode, &path.join(name), cut, text);
                }
            }
            Node::Symlink(target) => text.push_str(&format!("{path:?} -> {target:?}\n")),
            Node::File { now, synced } => {
                let left = self.left(now, synced, cut);
                text.push_str(&format!("{path:?} {inode} {left:?}\n"));
            }
        }
    }
}

#[track_caller]
fn is_copy(known: &Path, at: u64, bytes: &[u8], of: &Path) {
    use std::os::unix::fs::FileExt;
    let mut there = vec![0; bytes.len()];
    let read = fs::File::open(known).unwrap().read_exact_at(&mut there, at);
    assert!(read.is_ok() && there == bytes, "{} is written what nobody knows", of.display());
}

fn copy(from: &Path, to: &Path, length: u64) {
    use std::io::Read;
    let mut part = fs::File::open(from).unwrap().take(length);
    std::io::copy(&mut part, &mut fs::File::create(to).unwrap()).unwrap();
}

#[test]
fn only_what_was_synced_outlives_a_cut_of_everything_else() {
    let place = tempfile::tempdir().unwrap();
    let (root, known) = (place.path().join("disk"), place.path().join("known"));
    fs::create_dir(&root).unwrap();
    fs::write(&known, [7; 9000]).unwrap();
    let mut disk = Disk::new(&root, &root, &known);
    let at = |name: &str| root.join(name);
    let open = |name: &str| Op::Open { path: at(name), makes: true, empties: true };
    let write = |name: &str, bytes: &[u8], length: u64| Op::Write {
        path: at(name),
        at: None,
        bytes: bytes.to_vec(),
        length,
    };
    for op in [
        open("a.new"),
        write("a.new", b"abcd", 4),
        Op::Sync { path: at("a.new") },
        Op::Rename { from: at("a.new"), to: at("a"), exchange: false },
        open("b"),
        write("b", &[7; 100], 8000),
        write("b", &[7; 50], 50),
    ] {
        disk.apply(&op);
    }
    let left = |cut| {
        disk.leave(cut);
        let read = |name: &str| fs::read(at(name)).ok();
        (read("a"), read("b").map(|bytes| bytes.len()), read("a.new"))
    };
    assert_eq!(left(Cut::Nothing), (None, None, None));
    assert_eq!(left(Cut::Names), (Some(b"abcd".to_vec()), Some(0), None));
    assert_eq!(left(Cut::Part(2)), (Some(b"abcd".to_vec()), Some(4025), None));
    disk.apply(&Op::Sync { path: root.clone() });
    disk.apply(&Op::Remove { path: at("a") });
    disk.leave(Cut::Nothing);
    assert_eq!(fs::read(at("a")).unwrap(), b"abcd", "its removal was not synced");
}
