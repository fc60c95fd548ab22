//! Whose updates are believed: public keys in minisign's format, put there by the
//! operator. We bring none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

/// Where they lie, below the root.
pub(super) const DIRECTORY: &str = "etc/stoker/update-keys.d";

const ENDING: &str = "pub";
/// Longest file that is read; a key has about a hundred bytes.
const LONGEST: u64 = 4096;
/// Most keys.
const MOST: usize = 32;

/// Why none can be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no public key of minisign", .0.display())]
    NoKey(PathBuf),
    #[error(
        "no update is believed, because there is no key in {}: put the public key there of who makes them, as NAME.pub",
        .0.display()
    )]
    None(PathBuf),
}

/// Keys, of which there is one at least.
#[derive(Debug)]
pub struct Keys(Vec<(String, PublicKey)>);

impl Keys {
    /// All in this directory.
    ///
    /// # Errors
    /// There are none, or one of them is no key.
    pub fn read(directory: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read { path: directory.to_owned(), source };
        let mut paths = Vec::new();
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    paths.push(entry.map_err(failed)?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        paths.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
        paths.sort();
        paths.truncate(MOST);
        let keys = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(KeyError::None(directory.to_owned()));
        }
        Ok(Self(keys))
    }

    /// The name of the key that has signed this; `None` if none has.
    #[must_use]
    pub fn signer(&self, signed: &[u8], signature: &[u8]) -> Option<&str> {
        let signature = Signature::decode(std::str::from_utf8(signature).ok()?).ok()?;
        let has_signed =
            |(_, key): &&(String, PublicKey)| key.verify(signed, &signature, false).is_ok();
        self.0.iter().find(has_signed).map(|(name, _)| name.as_str())
    }
}

fn read(path: &Path) -> Result<(String, PublicKey), KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    // With its line of comment, or without.
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let key = PublicKey::from_base64(line).map_err(|_| KeyError::NoKey(path.to_owned()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, key))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) const KEY: &str =
        "RWQ/oA0EREpD31U+ZCwp35ncgzqP4l7yFYKwaezzrFAwxtyN7tRikEtN";
    /// minisign's, of [`SIGNED`].
    pub(in super::super) const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\nRUQ/oA0EREpD33owWHcTE54/ePnPBRgi9PH4NKGplB7fORqD08h4peGvPCQEwwPRbhMYJ4tPzG4foEN0uGbH7Q7MwX1llqCiqww=\ntrusted comment: timestamp:1795714475\tfile:m\thashed\nmBcBRPFAthm1Dj2sypIKCg+PM3OxL2B/amILltlbBOGoAxzHGevzx4y2UVjMO+LLSj9SQUDf07SKQR0RDLrTAQ==\n";
    pub(in super::super) const SIGNED: &[u8] = b"what is signed\n";

    pub(in super::super) fn keys() -> Keys {
        Keys(vec![("us".to_owned(), PublicKey::from_base64(KEY).unwrap())])
    }

    #[test]
    fn only_what_one_of_the_keys_has_signed_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let none = Keys::read(directory.path()).unwrap_err();
        assert!(none.to_string().contains("there is no key in"), "{none}");
        assert!(Keys::read(&directory.path().join("none")).is_err());
        fs::write(directory.path().join("README"), "no key").unwrap();
        fs::write(directory.path().join("us.pub"), format!("untrusted comment: us\n{KEY}\n"))
            .unwrap();
        let keys = Keys::read(directory.path()).unwrap();
        assert_eq!(keys.signer(SIGNED, SIGNATURE.as_bytes()), Some("us"));
        assert_eq!(keys.signer(b"what is not\n", SIGNATURE.as_bytes()), None);
        assert_eq!(keys.signer(SIGNED, b""), None);
        fs::write(directory.path().join("a.pub"), "garbage").unwrap();
        assert!(Keys::read(directory.path()).unwrap_err().to_string().ends_with("of minisign"));
    }

    proptest! {
        #[test]
        fn a_signature_that_is_changed_is_none(at in 0..80_usize, digit in "[A-Za-z0-9+/]") {
            // Digits of the signature itself that have no bits to spare.
            let line = SIGNATURE.find('\n').unwrap() + 1;
            let mut changed = SIGNATURE.to_owned();
            changed.replace_range(line + at..=line + at, &digit);
            let is_signed = keys().signer(SIGNED, changed.as_bytes()).is_some();
            prop_assert_eq!(is_signed, changed == SIGNATURE);
        }

        #[test]
        fn any_bytes_are_no_signature(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let keys = keys();
            prop_assert_eq!(keys.signer(SIGNED, &bytes), None);
        }
    }
}
