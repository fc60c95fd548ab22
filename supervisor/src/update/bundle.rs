//! An update as a file: a tar of a manifest, its signature, and the packages in the
//! manifest's order. It comes from outside, and nothing of it is believed before the
//! signature is.
//!
//! The entries are read one after the other, and each must be the one that comes next:
//! a plain file with that very name and no more than those bytes. Names lead nowhere,
//! because what is written has the name of a checked [`Member`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use super::keys::Keys;
use super::manifest::{self, Manifest, Member};
use crate::hexadecimal::Hexadecimal;

const MANIFEST: &str = "manifest.toml";
const SIGNATURE: &str = "manifest.toml.minisig";

/// Longest signature; minisign's have some 300 bytes.
const LONGEST_SIGNATURE: u64 = 4096;

/// Bytes that are copied at once.
const PIECE: usize = 256 * 1024;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("read the update")]
    Read(#[source] io::Error),
    #[error("the file is no update: {0}")]
    NotOne(String),
    #[error("no key in {DIRECTORY} has signed this update", DIRECTORY = super::keys::DIRECTORY)]
    NotSigned,
    #[error("the update is signed by {signer} and wrong: {why}")]
    Wrong { signer: String, why: String },
    #[error("the update does not fit: {0}")]
    DoesNotFit(String),
    #[error("{0} is not as the manifest says: the update is cut short or damaged")]
    Damaged(String),
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What a signed manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub manifest: Manifest,
    pub signer: String,
}

/// Reads an update from its beginning to its end. `fits` is asked before any package is
/// read. These go into the directory `to`, or nowhere, and are compared either way.
///
/// # Errors
/// See [`BundleError`]. Whatever lies in `to` then is of no use.
pub fn read(
    file: impl Read,
    keys: &Keys,
    fits: impl FnOnce(&Manifest) -> Result<(), String>,
    to: Option<&Path>,
) -> Result<Signed, BundleError> {
    let mut archive = Archive::new(file);
    // Raw, so that no entry stands for the name or the size of another.
    let mut entries = archive.entries().map_err(BundleError::Read)?.raw(true);
    let mut next = |name: &str| match entries.next() {
        Some(Ok(entry)) if is_plain_file(&entry, name) => Ok(entry),
        Some(Err(error)) if error.kind() != io::ErrorKind::Other => Err(BundleError::Read(error)),
        Some(_) | None => {
            Err(BundleError::NotOne(format!("where {name} has to be is something else")))
        }
    };
    let text = short(next(MANIFEST)?, manifest::LONGEST)?;
    let signature = short(next(SIGNATURE)?, LONGEST_SIGNATURE)?;
    let signer = keys.signer(&text, &signature).ok_or(BundleError::NotSigned)?.to_owned();
    let manifest =
        Manifest::parse(&text).map_err(|why| BundleError::Wrong { signer: signer.clone(), why })?;
    fits(&manifest).map_err(BundleError::DoesNotFit)?;
    for member in &manifest.members {
        let damaged = |_| BundleError::Damaged(member.name.clone());
        copy(next(&member.name).map_err(damaged)?, member, to)?;
    }
    if let Some(to) = to {
        sync(to).map_err(|source| BundleError::Write { path: to.to_owned(), source })?;
    }
    Ok(Signed { manifest, signer })
}

fn is_plain_file(entry: &Entry<'_, impl Read>, name: &str) -> bool {
    entry.header().entry_type() == EntryType::Regular && *entry.path_bytes() == *name.as_bytes()
}

fn short(entry: Entry<'_, impl Read>, longest: u64) -> Result<Vec<u8>, BundleError> {
    let size = entry.size();
    let mut bytes = Vec::new();
    if size <= longest {
        entry.take(longest).read_to_end(&mut bytes).map_err(BundleError::Read)?;
    }
    if bytes.len() as u64 != size {
        return Err(BundleError::NotOne("its beginning is too long or cut short".to_owned()));
    }
    Ok(bytes)
}

fn copy(
    mut entry: Entry<'_, impl Read>,
    member: &Member,
    to: Option<&Path>,
) -> Result<(), BundleError> {
    let path = to.map_or_else(PathBuf::new, |to| to.join(&member.name));
    let failed = |source| BundleError::Write { path: path.clone(), source };
    if entry.size() != member.bytes {
        return Err(BundleError::Damaged(member.name.clone()));
    }
    let mut file = to.map(|_| File::create_new(&path)).transpose().map_err(failed)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        let read = match entry.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => &piece[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(BundleError::Read(error)),
        };
        hash.update(read);
        if let Some(file) = &mut file {
            file.write_all(read).map_err(failed)?;
        }
    }
    if Hexadecimal(&hash.finalize()).to_string() != member.sha256 {
        return Err(BundleError::Damaged(member.name.clone()));
    }
    file.map_or(Ok(()), |file| file.sync_all()).map_err(failed)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::{SIGNATURE, SIGNED, keys};
    use super::*;
    use proptest::prelude::*;

    /// A tar of files of this kind.
    fn tar(files: &[(&str, &[u8], EntryType)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content, kind) in files {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_entry_type(*kind);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn begin(bytes: &[u8]) -> Result<Signed, BundleError> {
        read(bytes, &keys(), |_| Ok(()), None)
    }

    /// What [`copy`] makes of one entry.
    fn member(content: &[u8], told: &[u8], to: Option<&Path>) -> Result<(), BundleError> {
        let bytes = tar(&[("stoker.deb", content, EntryType::Regular)]);
        let mut archive = Archive::new(&bytes[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        let sha256 = Hexadecimal(&Sha256::digest(told)).to_string();
        let (name, bytes) = ("stoker.deb".to_owned(), told.len() as u64);
        copy(entry, &Member { package: "stoker", name, bytes, sha256 }, to)
    }

    #[test]
    fn the_signature_is_looked_at_before_what_was_signed() {
        const PLAIN: EntryType = EntryType::Regular;
        let signature = SIGNATURE.as_bytes();
        let signed = tar(&[(MANIFEST, SIGNED, PLAIN), (SIGNATURE_NAME, signature, PLAIN)]);
        // It is signed, and no manifest.
        assert!(matches!(begin(&signed), Err(BundleError::Wrong { signer, .. }) if signer == "us"));
        let other = tar(&[(MANIFEST, b"other", PLAIN), (SIGNATURE_NAME, signature, PLAIN)]);
        assert!(matches!(begin(&other), Err(BundleError::NotSigned)));
        for files in [
            &[][..],
            &[(SIGNATURE_NAME, signature, PLAIN), (MANIFEST, SIGNED, PLAIN)],
            &[("/manifest.toml", SIGNED, PLAIN), (SIGNATURE_NAME, signature, PLAIN)],
            &[(MANIFEST, SIGNED, EntryType::Symlink), (SIGNATURE_NAME, signature, PLAIN)],
            &[(MANIFEST, SIGNED, EntryType::XHeader), (MANIFEST, SIGNED, PLAIN)],
            &[(MANIFEST, SIGNED, EntryType::GNULongName), (MANIFEST, SIGNED, PLAIN)],
            &[(MANIFEST, &[b'a'; 70_000], PLAIN), (SIGNATURE_NAME, signature, PLAIN)],
            &[(MANIFEST, SIGNED, PLAIN)],
        ] {
            let refused = begin(&tar(files));
            assert!(matches!(refused, Err(BundleError::NotOne(_))), "{refused:?}");
        }
    }

    const SIGNATURE_NAME: &str = super::SIGNATURE;

    #[test]
    fn a_package_has_the_size_and_the_hash_that_were_signed() {
        let place = tempfile::tempdir().unwrap();
        member(b"package", b"package", Some(place.path())).unwrap();
        assert_eq!(std::fs::read(place.path().join("stoker.deb")).unwrap(), b"package");
        // Nothing is written over.
        assert!(matches!(
            member(b"package", b"package", Some(place.path())),
            Err(BundleError::Write { .. })
        ));
        for other in [&b"packagf"[..], b"package ", b""] {
            assert!(matches!(member(other, b"package", None), Err(BundleError::Damaged(_))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(begin(&bytes).is_err());
        }

        #[test]
        fn a_tar_that_is_cut_or_changed_is_refused(at: prop::sample::Index, byte: u8, cut: bool) {
            let signature = SIGNATURE.as_bytes();
            let mut bytes = tar(&[
                (MANIFEST, SIGNED, EntryType::Regular),
                (SIGNATURE_NAME, signature, EntryType::Regular),
            ]);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            prop_assert!(begin(&bytes).is_err());
        }
    }
}
