//! An archive that somebody sent becomes files in an empty directory, or nothing.
//!
//! Only directories and plain files are made, by names without `..`, in a directory
//! that is ours alone; no link is ever made, so no name leads out of it. Everything is
//! bounded before it is read: the archive's own extensions as well, of which a library
//! would take any length into memory.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType, PaxExtensions};

/// Bytes of one path at most.
const LONGEST_PATH: usize = 1024;
/// Directories within directories; the indexer goes no deeper.
const DEEPEST: usize = 64;
/// Bytes of extended headers of one entry.
const LONGEST_EXTENSION: u64 = 64 * 1024;
/// Bytes unpacked for each that was sent, once it is much. Source code has about 5.
const MOST_RATIO: u64 = 100;
const RATIO_COUNTS_FROM: u64 = 16 * 1024 * 1024;
/// What a header, a directory and the end take beside files.
const OVERHEAD: u64 = 1024;

/// What an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of all files.
    pub bytes: u64,
    /// Files and directories.
    pub entries: u64,
}

/// What it held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub files: u64,
    pub bytes: u64,
    /// Links, which are left out.
    pub links: u64,
}

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("`{path}` in the archive {problem}")]
    Entry { path: String, problem: &'static str },
    #[error("the archive {0}")]
    Archive(String),
    #[error("the archive is too large: {0}")]
    TooLarge(String),
    #[error("it cannot be written: {0}")]
    Disk(io::Error),
}

/// Unpacks a tar archive, plain or compressed by gzip, into an empty directory. What is
/// there after an error is to be thrown away.
///
/// # Errors
/// See [`Refused`].
pub fn unpack(from: impl Read, into: &Path, bounds: Bounds) -> Result<Unpacked, Refused> {
    let sent = Arc::new(AtomicU64::new(0));
    let mut from = BufReader::new(Counted { from, count: Arc::clone(&sent) });
    let mut magic = Vec::new();
    (&mut from).take(2).read_to_end(&mut magic).map_err(broken)?;
    let is_gzip = magic == [0x1f, 0x8b];
    let whole = io::Cursor::new(magic).chain(from);
    // Extensions, directories and padding come on top of the files.
    let most = bounds.bytes.saturating_add(bounds.entries.saturating_mul(OVERHEAD));
    if is_gzip {
        let from = MultiGzDecoder::new(whole);
        read(Limited { from, sent, taken: 0, most, ratio: true }, into, bounds)
    } else {
        read(Limited { from: whole, sent, taken: 0, most, ratio: false }, into, bounds)
    }
}

fn read(from: impl Read, into: &Path, bounds: Bounds) -> Result<Unpacked, Refused> {
    let mut archive = Archive::new(from);
    let mut unpacked = Unpacked::default();
    let mut entries = 0;
    // Of the next entry, as an extension before it says.
    let mut long: Option<Vec<u8>> = None;
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName | EntryType::XHeader => {
                let extension = extension(&mut entry)?;
                let path = if kind == EntryType::XHeader {
                    path_of(&extension)?
                } else {
                    Some(extension.strip_suffix(b"\0").unwrap_or(&extension).to_vec())
                };
                long = path.or(long);
                continue;
            }
            // A comment of git, for all entries; and the long name of a link.
            EntryType::XGlobalHeader | EntryType::GNULongLink => {
                extension(&mut entry)?;
                continue;
            }
            _ => {}
        }
        entries += 1;
        if entries > bounds.entries {
            return Err(Refused::TooLarge(format!("more than {} entries", bounds.entries)));
        }
        let name = long.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let Some(path) = checked(&name)? else { continue };
        let target = into.join(&path);
        match kind {
            EntryType::Directory => make_directory(&target, &name)?,
            EntryType::Regular | EntryType::Continuous => {
                if let Some(parent) = target.parent() {
                    make_directory(parent, &name)?;
                }
                let room = bounds.bytes - unpacked.bytes;
                unpacked.bytes += write(&mut entry, &target, &name, room, bounds.bytes)?;
                unpacked.files += 1;
            }
            EntryType::Symlink | EntryType::Link => {
                let to = entry.link_name_bytes().unwrap_or_default().into_owned();
                let base = if kind == EntryType::Symlink { path.parent() } else { None };
                if !stays_within(base.unwrap_or(Path::new("")), &to) {
                    return Err(wrong(&name, "is a link that leads out of it"));
                }
                unpacked.links += 1;
            }
            _ => return Err(wrong(&name, "is no file, directory or link")),
        }
    }
    // What comes behind its end is nothing, or more than that.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(unpacked)
}

fn extension(entry: &mut impl Read) -> Result<Vec<u8>, Refused> {
    let mut extension = Vec::new();
    entry.take(LONGEST_EXTENSION + 1).read_to_end(&mut extension).map_err(broken)?;
    if extension.len() as u64 > LONGEST_EXTENSION {
        return Err(Refused::Archive("has a header that is too long".to_owned()));
    }
    Ok(extension)
}

/// The path that an extended header gives.
fn path_of(extension: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    let mut path = None;
    for field in PaxExtensions::new(extension) {
        let field = field.map_err(broken)?;
        match field.key_bytes() {
            b"path" => path = Some(field.value_bytes().to_vec()),
            b"size" | b"GNU.sparse.major" | b"GNU.sparse.map" => {
                return Err(Refused::Archive("has a file with holes, or one above 8 GiB".into()));
            }
            _ => {}
        }
    }
    Ok(path)
}

/// The path below the directory; `None` for the directory itself.
fn checked(name: &[u8]) -> Result<Option<PathBuf>, Refused> {
    if name.len() > LONGEST_PATH {
        return Err(wrong(name, "has too long a path"));
    }
    if name.contains(&0) {
        return Err(wrong(name, "has a path with a zero byte"));
    }
    let Ok(text) = std::str::from_utf8(name) else {
        return Err(wrong(name, "has a path that is no UTF-8"));
    };
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err(wrong(name, "has `..` in its path")),
            Component::RootDir | Component::Prefix(_) => {
                return Err(wrong(name, "has an absolute path"));
            }
        }
    }
    match path.components().count() {
        0 => Ok(None),
        deep if deep > DEEPEST => Err(wrong(name, "lies too deep")),
        _ => Ok(Some(path)),
    }
}

/// Whether a link from this directory leads to somewhere in the archive.
fn stays_within(from: &Path, to: &[u8]) -> bool {
    let Ok(to) = std::str::from_utf8(to) else { return false };
    let mut depth = from.components().count();
    for component in Path::new(to).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

fn make_directory(target: &Path, name: &[u8]) -> Result<(), Refused> {
    match fs::create_dir_all(target) {
        Ok(()) => Ok(()),
        Err(error) if is_in_the_way(&error) => Err(wrong(name, "has the place of another entry")),
        Err(error) => Err(Refused::Disk(error)),
    }
}

fn write(
    entry: &mut impl Read,
    target: &Path,
    name: &[u8],
    room: u64,
    most: u64,
) -> Result<u64, Refused> {
    // Never through what is there already.
    let mut file = match File::options().write(true).create_new(true).mode(0o600).open(target) {
        Ok(file) => file,
        Err(error) if is_in_the_way(&error) => {
            return Err(wrong(name, "has the place of another entry"));
        }
        Err(error) => return Err(Refused::Disk(error)),
    };
    let (mut written, mut buffer) = (0, [0; 64 * 1024]);
    loop {
        let read = entry.read(&mut buffer).map_err(broken)?;
        if read == 0 {
            return Ok(written);
        }
        written += read as u64;
        if written > room {
            return Err(Refused::TooLarge(format!("its files have more than {most} bytes")));
        }
        file.write_all(&buffer[..read]).map_err(Refused::Disk)?;
    }
}

fn is_in_the_way(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidFilename, IsADirectory, NotADirectory};
    matches!(error.kind(), AlreadyExists | IsADirectory | NotADirectory | InvalidFilename)
}

fn wrong(name: &[u8], problem: &'static str) -> Refused {
    let path = String::from_utf8_lossy(name);
    let path = path.chars().filter(|c| !c.is_control()).take(200).collect();
    Refused::Entry { path, problem }
}

/// What could not be read: because of a bound here, or as it was sent.
fn broken(error: io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Refused::TooLarge(error.to_string()),
        io::ErrorKind::UnexpectedEof => Refused::Archive("ends too early".to_owned()),
        // What the library says has parts of what was sent in it.
        _ => Refused::Archive("is no tar archive, plain or by gzip, or a part of one".to_owned()),
    }
}

/// Counts what is sent.
struct Counted<R> {
    from: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Gives no more than is sensible for what was sent.
struct Limited<R> {
    from: R,
    sent: Arc<AtomicU64>,
    taken: u64,
    most: u64,
    ratio: bool,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.taken += read as u64;
        let too_large = |why: String| Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        if self.taken > self.most {
            return too_large(format!("more than {} bytes", self.most));
        }
        let sent = self.sent.load(Ordering::Relaxed);
        if self.ratio && self.taken > RATIO_COUNTS_FROM && self.taken / MOST_RATIO > sent {
            return too_large(format!("more than {MOST_RATIO} times what was sent"));
        }
        Ok(read)
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
