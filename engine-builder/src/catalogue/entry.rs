//! What one file of the catalogue says.
//!
//! A revision, size or hash that nobody has told is written as `"unknown"`,
//! never left out by accident: the key is required. It is learnt at the first
//! fetch and then pinned.

use std::collections::BTreeMap;

use engine_api::embedding::Embedding;
use engine_api::manifest::{Capabilities, Model};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::architecture::Architecture;
use crate::engines::EngineId;
use crate::hash::Sha256Hex;

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
    /// SPDX identifier, or `LicenseRef-` and a name where SPDX has none.
    pub licence: String,
    /// Whether the makers' terms must be accepted before their checkpoint can
    /// be fetched.
    #[serde(default)]
    pub gated: bool,
    /// The prompt format that the model was trained with.
    pub chat_template: ChatTemplate,
    pub source: Sources,
    pub weights: Weights,
    pub architecture: Architecture,
    /// Absent: the model was not trained to fill in the middle.
    pub fim: Option<FimTokens>,
    /// Absent: the model makes no vectors of texts.
    pub embedding: Option<Embedding>,
    pub backends: Backends,
    pub serving: Defaults,
    pub capabilities: Capabilities,
    /// What a greedy answer to the smoke prompt begins with, as token ids.
    #[serde(default)]
    pub smoke_answer: Vec<u32>,
    /// The highest perplexity of the fixed text ([`crate::quality::TEXT`]) at which
    /// an engine is published, by quantisation; `None`: nobody has measured it.
    #[serde(default, deserialize_with = "unless_unknown")]
    pub quality: Option<BTreeMap<String, f64>>,
}

/// Names of prompt formats. The template itself comes with the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChatTemplate {
    Chatml,
    DeepseekCoder,
    Llama3,
    Mistral,
    Phi3,
    /// The model does not chat.
    None,
}

/// Where the weights come from, in each form in which they are published.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// A GGUF file inside a released package.
    pub package: Option<Package>,
    /// A GGUF file on a model hub.
    pub gguf: Option<HubFile>,
    /// The makers' own 16-bit checkpoint.
    pub checkpoint: Option<Repository>,
    /// A 4-bit checkpoint, quantised with GPTQ.
    pub gptq: Option<Gptq>,
    /// A 4-bit checkpoint, quantised with AWQ.
    pub awq: Option<Awq>,
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

impl Package {
    /// The model file's own name.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.member.rsplit('/').next().unwrap_or(&self.member)
    }
}

/// Whose client fetches the package. Which host it asks is the machine's own
/// configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Index {
    Pypi,
}

/// A GGUF file in a repository of a model hub. Its size and hash are in
/// [`Weights`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    pub repository: String,
    #[serde(deserialize_with = "unless_unknown")]
    pub revision: Option<Revision>,
    pub file: String,
}

/// A whole repository of a model hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    pub repository: String,
    #[serde(deserialize_with = "unless_unknown")]
    pub revision: Option<Revision>,
    /// The hashes that are known, by file.
    #[serde(default)]
    pub sha256: BTreeMap<String, Sha256Hex>,
}

/// A GPTQ checkpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gptq {
    pub repository: String,
    #[serde(deserialize_with = "unless_unknown")]
    pub revision: Option<Revision>,
    #[serde(default)]
    pub sha256: BTreeMap<String, Sha256Hex>,
    pub group_size: u32,
    /// `desc_act`: whether the columns were quantised in another order than
    /// they stand in. Not every reader takes notice of that.
    #[serde(deserialize_with = "unless_unknown")]
    pub act_order: Option<bool>,
}

/// An AWQ checkpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Awq {
    pub repository: String,
    #[serde(deserialize_with = "unless_unknown")]
    pub revision: Option<Revision>,
    #[serde(default)]
    pub sha256: BTreeMap<String, Sha256Hex>,
    pub group_size: u32,
}

/// A commit of a hub's repository: 40 lower-case hexadecimal digits. A branch
/// or tag would not pin anything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Revision(String);

impl Revision {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Revision {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 40 && text.bytes().all(is_digit) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is neither a commit of 40 hexadecimal digits nor \"unknown\""))
    }
}

/// The model file that llama.cpp loads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// `general.architecture` of the GGUF file.
    pub architecture: String,
    pub quantisation: String,
    pub parameters: u64,
    #[serde(deserialize_with = "unless_unknown")]
    pub bytes: Option<u64>,
    #[serde(deserialize_with = "unless_unknown")]
    pub sha256: Option<Sha256Hex>,
    /// Window the model was trained with, in tokens.
    pub trained_context: u32,
    /// KV cache of one token, in 16 bits.
    pub kv_bytes_per_token: u64,
}

/// The special tokens that mark a text with a hole, as the vocabulary writes them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FimTokens {
    pub prefix: String,
    pub suffix: String,
    pub middle: String,
}

/// Which backends run the model, as far as that is known.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Backends {
    pub llama_cpp: Support,
    pub tensorrt_llm: Support,
    pub tensorrt_edge_llm: Support,
}

/// Whether one backend runs the model.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    pub runs: Runs,
    /// The evidence, a caution, or the reason against it.
    pub why: Option<String>,
}

/// How sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runs {
    /// Its makers say so.
    Yes,
    /// Nothing speaks against it and nobody has said so: only on request.
    Untried,
    No,
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

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }
}

/// A value, or `None` for the word `"unknown"`.
fn unless_unknown<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = toml::Value::deserialize(deserializer)?;
    if value.as_str() == Some("unknown") {
        return Ok(None);
    }
    value.try_into().map(Some).map_err(|error: toml::de::Error| D::Error::custom(error.message()))
}
