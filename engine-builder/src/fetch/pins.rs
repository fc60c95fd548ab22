//! What was learnt of files that the catalogue does not know, so that another
//! file under the same name is found out: `<state>/pins/<model>.toml`.
//!
//! A pin is written before its file is taken, and holds until somebody removes
//! it: a repository whose files change is then an error, never a new model.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalogue::Form;
use crate::engines::EngineId;
use crate::error::{Error, io};
use crate::hash::Sha256Hex;
use crate::preflight::make_dir;
use crate::publish::{sync, write_whole};

/// Longest file of pins that is read: a model has some tens of files.
const MOST_BYTES: u64 = 1024 * 1024;

/// The pins of one model.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    #[serde(default, rename = "file")]
    files: Vec<Pin>,
    #[serde(skip)]
    path: PathBuf,
}

/// One file as it was when it was first fetched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// `gguf`, `checkpoint` and so on.
    form: String,
    repository: String,
    /// The commit, if the hub has said it.
    revision: Option<String>,
    name: String,
    pub bytes: u64,
    pub sha256: Sha256Hex,
}

impl Pins {
    /// What is pinned of `model`; nothing if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Pins`] if it is no file of
    /// pins. Both are errors: who can make pins go away can change a model.
    pub fn read(state_dir: &Path, model: &EngineId) -> Result<Self, Error> {
        let path = state_dir.join("pins").join(format!("{model}.toml"));
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(MOST_BYTES).read_to_string(&mut text).map_err(io("read", &path))?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { files: Vec::new(), path });
            }
            Err(error) => return Err(io("read", &path)(error)),
        };
        let pins: Self = toml::from_str(&text).map_err(|error| Error::Pins {
            problem: error.message().trim_end().into(),
            path: path.clone(),
        })?;
        Ok(Self { path, ..pins })
    }

    /// The revision at which files of this form were learnt.
    #[must_use]
    pub fn revision(&self, form: Form, repository: &str) -> Option<String> {
        let of_form = |pin: &&Pin| pin.form == form.name() && pin.repository == repository;
        self.files.iter().filter(of_form).find_map(|pin| pin.revision.clone())
    }

    /// The pin of one file. One that was brought by hand has no revision, and
    /// is taken for the file of any.
    #[must_use]
    pub fn find(
        &self,
        form: Form,
        repository: &str,
        revision: Option<&str>,
        name: &str,
    ) -> Option<&Pin> {
        let same = |pin: &&Pin| {
            let alike = pin.revision.is_none() || pin.revision.as_deref() == revision;
            pin.form == form.name() && pin.repository == repository && pin.name == name && alike
        };
        self.files.iter().find(same)
    }

    /// All that is pinned of one form in a repository at one revision.
    pub fn all(
        &self,
        form: Form,
        repository: &str,
        revision: Option<&str>,
    ) -> impl Iterator<Item = (&str, &Sha256Hex)> {
        let same = move |pin: &&Pin| {
            let alike = pin.revision.is_none() || pin.revision.as_deref() == revision;
            pin.form == form.name() && pin.repository == repository && alike
        };
        self.files.iter().filter(same).map(|pin| (pin.name.as_str(), &pin.sha256))
    }

    /// Pins a file that nobody knew, to the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Panics
    /// Never: pins can be written as TOML.
    pub fn learn(
        &mut self,
        (form, repository, revision): (Form, &str, Option<&str>),
        name: &str,
        (bytes, sha256): (u64, &Sha256Hex),
    ) -> Result<(), Error> {
        self.files.push(Pin {
            form: form.name().into(),
            repository: repository.into(),
            revision: revision.map(str::to_owned),
            name: name.into(),
            bytes,
            sha256: sha256.clone(),
        });
        let dir = self.path.parent().expect("the file of pins stands in a directory");
        make_dir(dir)?;
        write_whole(&self.path, &toml::to_string(self).expect("pins are a TOML table"))?;
        sync(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let id = EngineId::try_from("m".to_owned()).unwrap();
        let mut pins = Pins::read(dir.path(), &id).unwrap();
        let sha256 = Sha256Hex::of(b"abc");
        pins.learn((Form::Gguf, "a/b", Some("c0")), "x.gguf", (3, &sha256)).unwrap();
        let pins = Pins::read(dir.path(), &id).unwrap();
        assert_eq!(pins.revision(Form::Gguf, "a/b").as_deref(), Some("c0"));
        let find = |revision| pins.find(Form::Gguf, "a/b", revision, "x.gguf");
        assert_eq!(find(Some("c0")).unwrap().sha256, sha256);
        assert_eq!(find(Some("c1")), None);
        assert_eq!(pins.find(Form::Gptq, "a/b", Some("c0"), "x.gguf"), None);
    }

    #[test]
    fn a_damaged_file_of_pins_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let id = EngineId::try_from("m".to_owned()).unwrap();
        std::fs::create_dir(dir.path().join("pins")).unwrap();
        std::fs::write(dir.path().join("pins/m.toml"), "[[file]]\nform = 1").unwrap();
        assert!(matches!(Pins::read(dir.path(), &id), Err(Error::Pins { .. })));
    }
}
