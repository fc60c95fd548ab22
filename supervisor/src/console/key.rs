//! `stoker key`: adds, shows and removes API keys. A key is shown once, when it is
//! made; afterwards there is only its name.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::keys::{self, Chats, Hash, KeyName, KeysError, WeakKey};

/// Longest key that is read, in bytes, and its line's end.
const LONGEST_LINE: u64 = 1024;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "a name begins with a letter and has letters, digits, `.`, `_` and `-`, at most 64: {0:?}"
    )]
    Name(String),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("read a key from standard input")]
    Input(#[source] io::Error),
    #[error("print it")]
    Print(#[from] io::Error),
}

/// Makes a key and prints it, alone on its line; or takes `brought`. Its chats have
/// `chats` without asking for it.
///
/// # Errors
/// See [`KeyError`], here and below. A key that could not be printed is good for
/// nobody: remove its name.
pub fn add(
    state_dir: &Path,
    name: &str,
    brought: Option<impl Read>,
    chats: &Chats,
    out: &mut impl Write,
) -> Result<(), KeyError> {
    let name = named(name)?;
    let made = if brought.is_none() { Some(keys::make()?) } else { None };
    let hash = match (&made, brought) {
        (Some(key), _) => Hash::of(key),
        (None, brought) => hash_of(brought)?,
    };
    keys::change(state_dir, |keys| match keys.has(&name) {
        true => Err(KeysError::There(name.clone())),
        false => {
            keys.put(name.clone(), hash)?;
            keys.set_chats(name.clone(), chats.clone())
        }
    })?;
    if let Some(key) = made {
        writeln!(out, "{key}")?;
    }
    Ok(())
}

fn hash_of(brought: Option<impl Read>) -> Result<Hash, KeyError> {
    let mut line = String::new();
    if let Some(brought) = brought {
        brought.take(LONGEST_LINE).read_to_string(&mut line).map_err(KeyError::Input)?;
    }
    let key = line.trim_end_matches(['\r', '\n']);
    Ok(Hash::of_brought(key).map_err(|WeakKey| KeysError::from(WeakKey))?)
}

/// Sets what a key's chats have without asking for it, in the place of what they had.
pub fn set_chats(
    state_dir: &Path,
    name: &str,
    chats: &Chats,
    out: &mut impl Write,
) -> Result<(), KeyError> {
    let name = named(name)?;
    keys::change(state_dir, |keys| keys.set_chats(name.clone(), chats.clone()))?;
    Ok(writeln!(out, "chats of {name} have {chats} without asking for it")?)
}

/// Prints the names, one a line, with what their chats have.
pub fn list(state_dir: &Path, out: &mut impl Write) -> Result<(), KeyError> {
    let Some(keys) = keys::read(state_dir)? else {
        writeln!(out, "nobody is asked for a key; `stoker key add NAME` makes the first")?;
        return Ok(());
    };
    if keys.is_empty() {
        writeln!(
            out,
            "there is no key, and nobody is let in; `stoker key open` asks nobody any more"
        )?;
    }
    for name in keys.names() {
        match keys.chats(name) {
            none if none.is_off() => writeln!(out, "{name}")?,
            chats => writeln!(out, "{name}  chats have {chats}")?,
        }
    }
    Ok(())
}

/// Forgets a key; it opens nothing from then on, and what is kept for it goes.
pub fn remove(state_dir: &Path, name: &str, out: &mut impl Write) -> Result<(), KeyError> {
    let name = named(name)?;
    let left = keys::removed::remove(state_dir, &name)?;
    let left = left.ok_or_else(|| KeysError::Unknown(name.clone()))?;
    writeln!(out, "{name} is forgotten, and so is what the server keeps for it")?;
    if left.is_empty() {
        writeln!(
            out,
            "no key is left, and nobody is let in; `stoker key open` asks nobody any more"
        )?;
    }
    Ok(())
}

/// Forgets all keys and asks nobody any more.
pub fn open(state_dir: &Path, out: &mut impl Write) -> Result<(), KeyError> {
    let said = if keys::forget_all(state_dir)? {
        "all keys are forgotten; whoever reaches the port can use the model"
    } else {
        "nobody was asked for a key"
    };
    Ok(writeln!(out, "{said}")?)
}

fn named(name: &str) -> Result<KeyName, KeyError> {
    KeyName::new(name).ok_or_else(|| KeyError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(done: impl FnOnce(&mut Vec<u8>) -> Result<(), KeyError>) -> Result<String, KeyError> {
        let mut out = Vec::new();
        done(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_key_is_shown_once_and_can_be_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        assert!(said(|out| list(at, out)).unwrap().starts_with("nobody is asked"));
        let off = Chats::default();
        let key = said(|out| add(at, "alice", None::<&[u8]>, &off, out)).unwrap();
        assert_eq!(key.trim_end().len(), 71);
        assert_eq!(said(|out| list(at, out)).unwrap(), "alice\n");
        let again = said(|out| add(at, "alice", None::<&[u8]>, &off, out)).unwrap_err();
        assert_eq!(again.to_string(), "there is a key called alice; remove it first");
        assert!(said(|out| remove(at, "bob", out)).is_err());
        let chats = Chats { code: vec!["fans".into()], memory: true };
        assert!(said(|out| set_chats(at, "bob", &chats, out)).is_err());
        let set = said(|out| set_chats(at, "alice", &chats, out)).unwrap();
        assert_eq!(set, "chats of alice have code of fans and memory without asking for it\n");
        let listed = said(|out| list(at, out)).unwrap();
        assert_eq!(listed, "alice  chats have code of fans and memory\n");
        assert!(said(|out| remove(at, "alice", out)).unwrap().contains("no key is left"));
        assert!(said(|out| list(at, out)).unwrap().starts_with("there is no key, and nobody"));
        assert!(said(|out| open(at, out)).unwrap().starts_with("all keys are forgotten"));
        assert_eq!(said(|out| open(at, out)).unwrap(), "nobody was asked for a key\n");
    }

    #[test]
    fn a_key_that_is_brought_is_not_repeated() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        let key = "0123456789abcdef0123456789abcdef";
        let line = format!("{key}\r\n");
        assert_eq!(
            said(|out| add(at, "alice", Some(line.as_bytes()), &Chats::default(), out)).unwrap(),
            ""
        );
        let found = keys::read(at).unwrap().unwrap();
        assert_eq!(found.owner(&Hash::of(key)).map(KeyName::as_str), Some("alice"));
        let weak = said(|out| add(at, "bob", Some(&b"hunter2\n"[..]), &Chats::default(), out))
            .unwrap_err();
        assert!(!weak.to_string().contains("hunter2"), "{weak}");
        assert!(said(|out| add(at, "10.0.0.7", None::<&[u8]>, &Chats::default(), out)).is_err());
    }
}
