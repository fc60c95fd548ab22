//! The embedders that are known by name. One file each, in `embedders/`, compiled in.
//!
//! They stand apart from the [`crate::catalogue`]: an encoder has no KV cache, is
//! quantised by nobody here, and consists of two files out of two packages.

use std::sync::LazyLock;

use engine_api::embedding::Embedding;
use engine_api::manifest::Model;
use serde::Deserialize;

use crate::catalogue::{Index, Package};
use crate::engines::EngineId;
use crate::hash::Sha256Hex;

const FILES: [&str; 1] = [include_str!("../../embedders/all-minilm-l6-v2.toml")];

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let read = |text: &&str| toml::from_str(text).expect("the files are well formed, says a test");
    FILES.iter().map(read).collect()
});

/// One embedder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The engine's name, unless the user gives another.
    pub id: EngineId,
    /// The model's name, as its makers write it.
    pub name: String,
    pub aliases: Vec<String>,
    /// SPDX identifier.
    pub licence: String,
    pub architecture: String,
    pub quantisation: String,
    pub parameters: u64,
    /// Tokens of the longest text.
    pub context: u32,
    pub embedding: Embedding,
    pub weights: PackagedFile,
    pub tokenizer: PackagedFile,
    pub smoke: Smoke,
}

/// A file inside a released package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagedFile {
    index: Index,
    name: String,
    version: String,
    /// Size of the archive.
    pub download_bytes: u64,
    member: String,
    pub bytes: u64,
    pub sha256: Sha256Hex,
}

/// Texts whose distances are known.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smoke {
    pub text: String,
    pub near: Neighbour,
    pub far: Neighbour,
}

/// A text and the cosine of its vector with the one of [`Smoke::text`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    pub text: String,
    pub cosine: f32,
}

impl PackagedFile {
    #[must_use]
    pub fn package(&self) -> Package {
        Package {
            index: self.index,
            name: self.name.clone(),
            version: self.version.clone(),
            download_bytes: self.download_bytes,
            member: self.member.clone(),
        }
    }
}

impl Entry {
    /// What the manifest says about the model.
    #[must_use]
    pub fn model(&self) -> Model {
        Model {
            name: self.name.clone(),
            architecture: self.architecture.clone(),
            licence: self.licence.clone(),
            quantisation: self.quantisation.clone(),
            parameters: self.parameters,
            aliases: self.aliases.clone(),
        }
    }

    /// All names, its own first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// The two files, the model's first.
    #[must_use]
    pub fn files(&self) -> [&PackagedFile; 2] {
        [&self.weights, &self.tokenizer]
    }
}

/// All of them.
#[must_use]
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The embedder called `name`, or one of whose aliases is `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    let same = |known: &str| known.eq_ignore_ascii_case(name);
    entries().iter().find(|entry| entry.names().any(same))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn every_file_can_be_read_and_no_name_means_two_models() {
        let catalogue = Catalogue::built_in();
        for entry in entries() {
            assert!(entry.context > 0 && entry.embedding.dimension > 0, "{}", entry.id);
            for name in entry.names() {
                assert!(catalogue.find(name).is_err(), "{name}");
                assert_eq!(find(name).unwrap().id, entry.id);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_nobodys() {
        assert!(find("smollm2").is_none());
        assert!(find("ALL-MINILM").is_some());
    }
}
