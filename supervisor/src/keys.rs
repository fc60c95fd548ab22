//! API keys: who may use the server, once anybody is to be asked.
//!
//! `keys.toml` in the state directory holds a name and a SHA-256 for each key, and what
//! its chats have without asking ([`Chats`]), and no key. A fast digest is enough, because every key is long and random: there is
//! nothing that could be guessed. Without the file nobody is asked; with it everybody
//! is, on every address, even if no key is left in it.
//!
//! A machine that came up without any waits to be claimed: see [`claim`].
//!
//! The file belongs to whom the state directory belongs to, and nobody else reads it.
//! It is replaced whole, by one writer at a time; a running server notices.

pub mod claim;
mod file;
pub mod removed;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hexadecimal::Hexadecimal;

pub use file::{change, forget_all, lend, read};

/// The file's name in the state directory.
pub const FILE: &str = "keys.toml";

/// Keys at once. Each request is compared to all of them.
pub const MOST: usize = 1000;

/// Characters of a key that somebody brings along. Hexadecimal digits of 128 random
/// bits are as many.
pub const SHORTEST: usize = 32;
const LONGEST: usize = 512;

/// What is put before the digits of a key that is made here, so that a search for
/// leaked keys finds it.
const PREFIX: &str = "stoker-";

/// What a key is called: in the history and in the log it stands for the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// A letter, then letters, digits, `.`, `_` and `-`: it cannot be taken for an
    /// address, and fits a log's line.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let good = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(plain);
        good.then(|| Self(name.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of a key that somebody brings along.
    ///
    /// # Errors
    /// It could be guessed, or could not be sent in a header; it is not repeated.
    pub fn of_brought(key: &str) -> Result<Self, WeakKey> {
        let sendable = key.chars().all(|c| c.is_ascii_graphic());
        let good = sendable && (SHORTEST..=LONGEST).contains(&key.len());
        good.then(|| Self::of(key)).ok_or(WeakKey)
    }

    /// Of whatever was sent.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Enough of it to tell keys apart.
    #[must_use]
    pub fn beginning(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    /// In a time that does not depend on where the two differ.
    fn is(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |differing, (one, other)| std::hint::black_box(differing | (one ^ other)))
            == 0
    }

    fn parse(digits: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hexadecimal(&self.0).fmt(f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A key that somebody brings along could be guessed, or cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key has {SHORTEST} to {LONGEST} characters without spaces, and is random: \
     `openssl rand -hex 32` makes one"
)]
pub struct WeakKey;

/// A key of 256 random bits, to be shown once.
///
/// # Errors
/// The system gives no random numbers.
pub fn make() -> Result<String, KeysError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(format!("{PREFIX}{}", Hexadecimal(&bytes)))
}

/// What a key's chats have without asking for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chats {
    /// Code from these repositories, or from all that it may see with `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<String>,
    pub memory: bool,
}

/// Repositories that one key's chats may name.
const MOST_NAMES: usize = 64;

impl Chats {
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.code.is_empty() && !self.memory
    }
}

impl fmt::Display for Chats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.code.iter().any(|name| name == "*");
        let code = match all {
            true => Some("code of every repository".to_owned()),
            false if self.code.is_empty() => None,
            false => Some(format!("code of {}", self.code.join(", "))),
        };
        let memory = self.memory.then(|| "memory".to_owned());
        let both: Vec<_> = code.into_iter().chain(memory).collect();
        f.write_str(if both.is_empty() { "nothing" } else { "" })?;
        f.write_str(&both.join(" and "))
    }
}

/// All keys, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<KeyName, Key>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    hash: Hash,
    chats: Chats,
}

impl Keys {
    /// Puts a key in the place of one of that name, whose chats it has.
    ///
    /// # Errors
    /// There are [`MOST`] already.
    pub fn put(&mut self, name: KeyName, hash: Hash) -> Result<(), KeysError> {
        if self.0.len() >= MOST && !self.has(&name) {
            return Err(KeysError::TooMany);
        }
        let chats = self.chats(&name);
        self.0.insert(name, Key { hash, chats });
        Ok(())
    }

    /// Sets what a key's chats have from now on.
    ///
    /// # Errors
    /// There is no such key, or it names too many repositories.
    pub fn set_chats(&mut self, name: KeyName, chats: Chats) -> Result<(), KeysError> {
        if chats.code.len() > MOST_NAMES {
            return Err(KeysError::TooManyNames);
        }
        match self.0.get_mut(&name) {
            Some(key) => key.chats = chats,
            None => return Err(KeysError::Unknown(name)),
        }
        Ok(())
    }

    /// What a key's chats have.
    #[must_use]
    pub fn chats(&self, name: &KeyName) -> Chats {
        self.0.get(name).map(|key| key.chats.clone()).unwrap_or_default()
    }

    /// The one of that name, if there was one.
    pub fn remove(&mut self, name: &KeyName) -> Option<Hash> {
        self.0.remove(name).map(|key| key.hash)
    }

    #[must_use]
    pub fn has(&self, name: &KeyName) -> bool {
        self.0.contains_key(name)
    }

    /// In the order of the alphabet.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &KeyName> {
        self.0.keys()
    }

    /// Whose key this is. It is compared to every one, whichever it is.
    #[must_use]
    pub fn owner(&self, presented: &Hash) -> Option<&KeyName> {
        let mut found = None;
        for (name, key) in &self.0 {
            if key.hash.is(presented) {
                found = Some(name);
            }
        }
        found
    }

    pub fn extend(&mut self, other: Self) -> Result<(), KeysError> {
        other.0.into_iter().try_for_each(|(name, key)| self.put(name, key.hash))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the file holds them. `None` for a text that is no such file.
    fn parse(text: &str) -> Option<Self> {
        let raw: Raw = toml::from_str(text).ok()?;
        let mut keys = Self::default();
        for (name, digits) in &raw.sha256 {
            keys.put(KeyName::new(name)?, Hash::parse(digits)?).ok()?;
        }
        for (name, chats) in raw.chats {
            keys.set_chats(KeyName::new(&name)?, chats).ok()?;
        }
        Some(keys)
    }

    fn text(&self) -> String {
        let sha256 = self.0.iter().map(|(name, key)| (name.to_string(), key.hash.to_string()));
        let with_chats = self.0.iter().filter(|(_, key)| !key.chats.is_off());
        let chats = with_chats.map(|(name, key)| (name.to_string(), key.chats.clone()));
        let raw = Raw { sha256: sha256.collect(), chats: chats.collect() };
        let table = toml::to_string(&raw).expect("names and digits always have a form");
        format!("# Digests of API keys; `stoker key` writes this file.\n{table}")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    sha256: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chats: BTreeMap<String, Chats>,
}

/// Why keys could not be read or changed. No key and no digest stands in it.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no file of keys; nobody is let in until it is mended or taken away", .0.display())]
    Broken(PathBuf),
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("there are {MOST} keys, and there can be no more")]
    TooMany,
    #[error("a key's chats can have code of {MOST_NAMES} repositories, or of all with `*`")]
    TooManyNames,
    #[error("there is a key called {0}; remove it first")]
    There(KeyName),
    #[error("there is no key called {0}")]
    Unknown(KeyName),
    #[error("nobody waits for this machine to be claimed; `stoker key add NAME` makes a key")]
    NotWaiting,
    #[error("this is not the token that the console shows")]
    WrongToken,
    #[error(transparent)]
    Weak(#[from] WeakKey),
    #[error("make a random key: {0}")]
    Random(getrandom::Error),
}

#[cfg(test)]
mod tests;
