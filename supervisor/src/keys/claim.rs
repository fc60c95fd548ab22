//! Whose an appliance is that came up without any key: whoever reads its console and sends
//! the token that stands there.
//!
//! ```text
//!            each boot: a fresh token              the token, or `stoker key add`
//!  no file ──────────────────────────► Waiting ──────────────────────────────────► Over
//!                                         │  `stoker key open`                       ▲
//!                                         └──────────────────────────────────────────┘
//! ```
//!
//! `claim.toml` in the state directory holds the digest of the token of this boot, or that
//! the claim is over, for good, and which key came of it: that one may make others. A file
//! of keys ends it as well, whatever stands here: there is no moment at which a token and a
//! key are both good. Who may do what meanwhile stands in `api/gate`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{lock, read_file, replace};
use super::{FILE as KEYS, Hash, KeyName, Keys, KeysError, make};

/// The file's name in the state directory.
pub const FILE: &str = "claim.toml";

/// Who has served before this was there, and asked nobody, goes on so.
const SERVED: &str = "stoker.db";

/// Digits that nobody takes for one another: Crockford's base 32.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Of which there are so many: 80 random bits. A fast digest of them cannot be undone.
const LENGTH: usize = 16;
/// Shown in groups of as many.
const GROUP: usize = 4;

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// For somebody with the token of which this is kept.
    Waiting(Hash),
    /// Somebody came, whose key this is, or nobody is waited for any more.
    Over(Option<KeyName>),
}

/// What a person reads from a console, once, and types.
#[derive(PartialEq, Eq)]
pub struct Token(String);

impl Token {
    fn make() -> Result<Self, KeysError> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
        Ok(Self(bytes.iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect()))
    }

    /// As somebody typed it: in capitals, without the hyphens, with an O for a zero.
    #[must_use]
    pub fn parse(typed: &str) -> Option<Self> {
        let plain = |c: char| match c.to_ascii_lowercase() {
            '-' | ' ' => None,
            'o' => Some('0'),
            'i' | 'l' => Some('1'),
            other => Some(other),
        };
        let token: String = typed.trim().chars().filter_map(plain).take(LENGTH + 1).collect();
        let good = token.len() == LENGTH && token.bytes().all(|byte| DIGITS.contains(&byte));
        good.then_some(Self(token))
    }

    fn hash(&self) -> Hash {
        Hash::of(&self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, digit) in self.0.chars().enumerate() {
            let hyphen = if at > 0 && at % GROUP == 0 { "-" } else { "" };
            write!(f, "{hyphen}{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How far it is; `None` where nobody was ever waited for.
///
/// # Errors
/// The file is there and cannot be read, or is no such file.
pub fn read(state_dir: &Path) -> Result<Option<Claim>, KeysError> {
    let path = state_dir.join(FILE);
    let text = match read_file(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(source) => return Err(KeysError::Read { path, source }),
    };
    let text = std::str::from_utf8(&text).ok();
    let raw: Option<Raw> = text.and_then(|text| toml::from_str(text).ok());
    let claim = raw.and_then(|raw| match raw {
        Raw::Waiting { sha256 } => Hash::parse(&sha256).map(Claim::Waiting),
        Raw::Over { over, by: None } => over.then_some(Claim::Over(None)),
        Raw::Over { over, by: Some(by) } => {
            KeyName::new(&by).filter(|_| over).map(|by| Claim::Over(Some(by)))
        }
    });
    claim.map(Some).ok_or(KeysError::Broken(path))
}

/// Makes the token of this boot, which voids the one before; `None` if there is nobody to
/// wait for: there are keys, or the claim is over.
///
/// # Errors
/// The files cannot be read or written.
pub fn offer(state_dir: &Path) -> Result<Option<Token>, KeysError> {
    let locked = lock(state_dir)?;
    let before = read(state_dir)?;
    let is_over =
        super::read(state_dir)?.is_some() || (before.is_none() && state_dir.join(SERVED).exists());
    if let Some(Claim::Over(_)) = before {
        return Ok(None);
    }
    if is_over {
        replace(state_dir, &locked, FILE, &text(&Claim::Over(None)))?;
        return Ok(None);
    }
    let token = Token::make()?;
    replace(state_dir, &locked, FILE, &text(&Claim::Waiting(token.hash())))?;
    Ok(Some(token))
}

/// Gives whoever has the token a key of this name. The token is void from then on.
///
/// # Errors
/// Nobody is waited for, it is not the token, or the files cannot be read or written.
pub fn take(state_dir: &Path, token: &Token, name: KeyName) -> Result<String, KeysError> {
    let locked = lock(state_dir)?;
    let Some(Claim::Waiting(hash)) = read(state_dir)? else { return Err(KeysError::NotWaiting) };
    if super::read(state_dir)?.is_some() {
        return Err(KeysError::NotWaiting);
    }
    if !hash.is(&token.hash()) {
        return Err(KeysError::WrongToken);
    }
    let key = make()?;
    let mut keys = Keys::default();
    keys.put(name.clone(), Hash::of(&key))?;
    // From here on the machine is claimed, also if the power fails before the next line.
    replace(state_dir, &locked, KEYS, &keys.text())?;
    replace(state_dir, &locked, FILE, &text(&Claim::Over(Some(name))))?;
    Ok(key)
}

/// Waits for nobody, from now on and after each boot, and lets no key make others.
///
/// # Errors
/// The file cannot be written.
pub fn end(state_dir: &Path) -> Result<(), KeysError> {
    let locked = lock(state_dir)?;
    replace(state_dir, &locked, FILE, &text(&Claim::Over(None)))
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Raw {
    Waiting {
        sha256: String,
    },
    Over {
        over: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

fn text(claim: &Claim) -> String {
    let raw = match claim {
        Claim::Waiting(hash) => Raw::Waiting { sha256: hash.to_string() },
        Claim::Over(by) => Raw::Over { over: true, by: by.as_ref().map(ToString::to_string) },
    };
    let table = toml::to_string(&raw).expect("digits always have a form");
    format!("# Whether this machine waits to be claimed; `stoker claim` writes this file.\n{table}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn admin() -> KeyName {
        KeyName::new("admin").unwrap()
    }

    #[test]
    fn a_token_opens_once_and_the_file_does_not_tell_it() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        assert_eq!(read(at).unwrap(), None);
        let token = offer(at).unwrap().unwrap();
        let kept = fs::read_to_string(at.join(FILE)).unwrap();
        assert!(!kept.contains(&token.0) && !kept.contains(&token.to_string()), "{kept}");
        let other = Token::parse("0000-0000-0000-0000").unwrap();
        assert!(matches!(take(at, &other, admin()), Err(KeysError::WrongToken)));
        assert_eq!(super::super::read(at).unwrap(), None, "a wrong token changes nothing");
        let key = take(at, &token, admin()).unwrap();
        let keys = super::super::read(at).unwrap().unwrap();
        assert_eq!(keys.owner(&Hash::of(&key)), Some(&admin()));
        assert!(matches!(take(at, &token, admin()), Err(KeysError::NotWaiting)));
        assert_eq!(offer(at).unwrap(), None, "the next boot shows none");
        assert_eq!(read(at).unwrap(), Some(Claim::Over(Some(admin()))));
    }

    #[test]
    fn each_boot_has_a_token_of_its_own_until_somebody_came() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        let (first, second) = (offer(at).unwrap().unwrap(), offer(at).unwrap().unwrap());
        assert_ne!(first, second);
        assert!(matches!(take(at, &first, admin()), Err(KeysError::WrongToken)));
        // A key that was made on the machine ends it, too, and so does opening it.
        super::super::change(at, |keys| keys.put(admin(), Hash::of("x"))).unwrap();
        assert!(matches!(take(at, &second, admin()), Err(KeysError::NotWaiting)));
        assert!(super::super::forget_all(at).unwrap());
        assert!(matches!(take(at, &second, admin()), Err(KeysError::NotWaiting)));
        assert_eq!((offer(at).unwrap(), read(at).unwrap()), (None, Some(Claim::Over(None))));
    }

    #[test]
    fn a_machine_that_has_keys_or_has_served_waits_for_nobody() {
        for there in [KEYS, SERVED] {
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join(there), "[sha256]\n").unwrap();
            assert_eq!(offer(place.path()).unwrap(), None, "{there}");
            assert_eq!(read(place.path()).unwrap(), Some(Claim::Over(None)), "{there}");
        }
        // It began to serve while it waited.
        let place = tempfile::tempdir().unwrap();
        assert!(offer(place.path()).unwrap().is_some());
        fs::write(place.path().join(SERVED), "").unwrap();
        assert!(offer(place.path()).unwrap().is_some());
    }

    #[test]
    fn a_token_is_read_as_people_type_it() {
        let token = Token::parse("01ab-cdef-ghjk-mnpq").unwrap();
        assert_eq!(token.to_string(), "01ab-cdef-ghjk-mnpq");
        for typed in [" OLAB-CDEF-GHJK-MNPQ\n", "01abcdefghjkmnpq", "oiab cdef ghjk mnpq"] {
            assert_eq!(Token::parse(typed).as_ref(), Some(&token), "{typed:?}");
        }
        for wrong in
            ["", "01ab", "01ab-cdef-ghjk-mnpu", "01ab-cdef-ghjk-mnpq-0", "ä1abcdefghjkmnpq"]
        {
            assert_eq!(Token::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "…");
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        for text in ["", "over = false\n", "sha256 = 'x'\n", "over = true\nsha256 = ''\n"] {
            fs::write(place.path().join(FILE), text).unwrap();
            assert!(matches!(read(place.path()), Err(KeysError::Broken(_))), "{text:?}");
        }
    }
}
