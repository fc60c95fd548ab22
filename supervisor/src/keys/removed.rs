//! Keys that were removed and of which the server has not forgotten everything yet.
//!
//! `removed-keys` in the state directory holds a SHA-256 a line. A key is noted before it
//! is taken out of the file of keys, and counts as removed while it stands here and not
//! there: so a power cut between the two forgets nothing of a key that is still good, and
//! one that is added again in time keeps what it had. Whoever serves forgets what it has
//! of them and then takes them out. Without the file of keys nobody is asked, every key
//! that is sent tells a client apart, and none counts as removed.

use std::path::Path;

use super::file::{self, lock, read_file, replace};
use super::{Hash, KeyName, Keys, KeysError};

/// The file's name in the state directory.
pub const FILE: &str = "removed-keys";

/// Keys that wait here; beyond them the oldest goes, and what is kept for it stays until it
/// is too old.
const MOST: usize = super::MOST;

/// Removes a key; those that are left, or `None` if there was none of that name.
///
/// # Errors
/// A file cannot be read or written, here and below.
pub fn remove(state_dir: &Path, name: &KeyName) -> Result<Option<Keys>, KeysError> {
    let directory = lock(state_dir)?;
    let mut keys = file::read(state_dir)?.unwrap_or_default();
    let Some(hash) = keys.remove(name) else { return Ok(None) };
    let mut noted = noted(state_dir)?;
    noted.retain(|other| *other != hash);
    noted.push(hash);
    let oldest = noted.len().saturating_sub(MOST);
    replace(state_dir, &directory, FILE, &text(&noted[oldest..]))?;
    replace(state_dir, &directory, super::FILE, &keys.text())?;
    Ok(Some(keys))
}

/// The keys that were removed.
pub fn read(state_dir: &Path) -> Result<Vec<Hash>, KeysError> {
    // Most of the time there is none, and nobody has to wait for that.
    if noted(state_dir)?.is_empty() {
        return Ok(Vec::new());
    }
    let _between_changes = lock(state_dir)?;
    let Some(keys) = file::read(state_dir)? else { return Ok(Vec::new()) };
    let mut removed = noted(state_dir)?;
    removed.retain(|hash| keys.owner(hash).is_none());
    Ok(removed)
}

/// Takes keys out of which nothing is kept any more.
pub fn forgotten(state_dir: &Path, keys: &[Hash]) -> Result<(), KeysError> {
    let directory = lock(state_dir)?;
    let mut noted = noted(state_dir)?;
    noted.retain(|hash| !keys.contains(hash));
    replace(state_dir, &directory, FILE, &text(&noted))
}

/// Lines that are no key are nobody's.
fn noted(state_dir: &Path) -> Result<Vec<Hash>, KeysError> {
    let path = state_dir.join(FILE);
    let text = read_file(&path).map_err(|source| KeysError::Read { path, source })?;
    let text = text.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().filter_map(Hash::parse).collect())
}

fn text(keys: &[Hash]) -> String {
    keys.iter().map(|hash| format!("{hash}\n")).collect()
}
