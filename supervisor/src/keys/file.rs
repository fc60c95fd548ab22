//! The file of keys: read within bounds, and replaced by one writer at a time, so that
//! a power cut leaves it as it was or as it is to be.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::claim::{self, Claim};
use super::{FILE, Hash, KeyName, Keys, KeysError, make};

/// Longest file that is read, in bytes; [`super::MOST`] keys have less.
const LONGEST: u64 = 256 * 1024;

/// Under which a new file is written.
const PART: &str = ".keys-part";

/// The keys; `None` if nobody is asked for one.
///
/// # Errors
/// The file is there and cannot be read, or is no such file.
pub fn read(state_dir: &Path) -> Result<Option<Keys>, KeysError> {
    let path = state_dir.join(FILE);
    let text = match read_file(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(source) => return Err(KeysError::Read { path, source }),
    };
    let keys = std::str::from_utf8(&text).ok().and_then(Keys::parse);
    keys.map(Some).ok_or(KeysError::Broken(path))
}

pub(super) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match path.symlink_metadata() {
        Ok(it) if it.is_file() => {}
        // Root may look here, and others may write here.
        Ok(_) => return Err(io::Error::other("it is no plain file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(Some(text))
}

/// Changes the keys, beginning with none if nobody was asked for one before. What
/// `change` returns is returned once the new file is on the disk.
///
/// # Errors
/// What `change` says, or the file cannot be read or written; it is as it was then.
pub fn change<T>(
    state_dir: &Path,
    change: impl FnOnce(&mut Keys) -> Result<T, KeysError>,
) -> Result<T, KeysError> {
    let directory = lock(state_dir)?;
    let mut keys = read(state_dir)?.unwrap_or_default();
    let changed = change(&mut keys)?;
    replace(state_dir, &directory, FILE, &keys.text())?;
    Ok(changed)
}

/// Held until the end of a change: two writers would undo each other.
pub(super) fn lock(state_dir: &Path) -> Result<File, KeysError> {
    let failed = |source| KeysError::Write { path: state_dir.join(FILE), source };
    let directory = File::open(state_dir).map_err(failed)?;
    directory.lock().map_err(failed)?;
    Ok(directory)
}

/// Writes `name` in the directory that is locked, whole or not at all.
pub(super) fn replace(
    state_dir: &Path,
    locked: &File,
    name: &str,
    text: &str,
) -> Result<(), KeysError> {
    let failed = |source| KeysError::Write { path: state_dir.join(name), source };
    write(state_dir, locked, name, text).map_err(failed)
}

fn write(state_dir: &Path, directory: &File, name: &str, text: &str) -> io::Result<()> {
    let part = state_dir.join(PART);
    let _ = fs::remove_file(&part);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&part)?;
    // Root may write what the service is to read.
    let (of, own) = (directory.metadata()?, file.metadata()?);
    if (of.uid(), of.gid()) != (own.uid(), own.gid()) {
        fchown(&file, Some(of.uid()), Some(of.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, state_dir.join(name))?;
    directory.sync_all()
}

/// Asks nobody any more, nor waits for somebody to claim the machine. Whether anybody
/// was asked.
///
/// # Errors
/// The file cannot be taken away.
pub fn forget_all(state_dir: &Path) -> Result<bool, KeysError> {
    let path = state_dir.join(FILE);
    let claim = claim::read(state_dir)?;
    let was_waiting = matches!(claim, Some(Claim::Waiting(_)));
    if claim.is_some() {
        claim::end(state_dir)?;
    }
    match fs::remove_file(&path).and_then(|()| File::open(state_dir)?.sync_all()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(was_waiting),
        Err(source) => Err(KeysError::Write { path, source }),
    }
}

/// Runs `with` with a key that is good for that long, or with none where nobody is
/// asked. One that a power cut leaves behind fits nothing that anybody knows, and the
/// next loan of that name takes its place.
///
/// # Errors
/// The file cannot be read or written.
pub fn lend<T>(
    state_dir: &Path,
    name: &KeyName,
    with: impl FnOnce(Option<&str>) -> T,
) -> Result<T, KeysError> {
    if read(state_dir)?.is_none() {
        return Ok(with(None));
    }
    let key = make()?;
    change(state_dir, |keys| keys.put(name.clone(), Hash::of(&key)))?;
    let done = with(Some(&key));
    let _ = change(state_dir, |keys| Ok(keys.remove(name)))?;
    Ok(done)
}
