//! The engine manifest: what `engine.toml` in an engine directory says.
//!
//! engine-builder writes it last, so a directory without one is not an engine.
//! The supervisor and the worker read it; nobody edits it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;
use crate::protocol::Setting;

/// Version of the manifest's format.
pub const MANIFEST_VERSION: u32 = 1;

/// Name of the manifest inside an engine directory.
pub const FILE_NAME: &str = "engine.toml";

/// The llama.cpp that `engine-worker` is built with: the release of the crate
/// that carries its source. Another release means another engine, because
/// kernels and so answers may differ.
pub const LLAMA_CPP: &str = "llama-cpp-2 0.1.160";

/// The rten that embedders run on. Another release may round otherwise, and vectors
/// of two releases would be compared in one search.
pub const RTEN: &str = "rten 0.24.0";

/// Everything known about one built engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub manifest_version: u32,
    /// The engine's name; also its directory's name, and the model name clients use.
    pub id: String,
    /// Seconds since 1970 when the build was published.
    pub built_at: u64,
    pub model: Model,
    pub backend: Backend,
    pub bound_to: BoundTo,
    pub serving: Serving,
    pub capabilities: Capabilities,
    /// How vectors are made, if the engine makes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Embedding>,
    /// What the backend needs to start, below the engine directory.
    #[serde(default)]
    pub files: Vec<Artefact>,
    /// Every command that took part in the build, as an argv list.
    #[serde(default)]
    pub commands: Vec<Vec<String>>,
    /// What the smoke run measured. Always there in a published engine.
    pub smoke: Option<Smoke>,
    /// What the weights were quantised from, if that was done here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised: Option<Quantised>,
    /// How well the engine predicts the fixed text, where there was a bound to
    /// hold it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The catalogue's name, or the GGUF's own.
    pub name: String,
    pub architecture: String,
    /// SPDX identifier, or `unknown`.
    pub licence: String,
    pub quantisation: String,
    pub parameters: u64,
    /// Other names that clients may use for it.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// Which backend runs the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    pub kind: BackendKind,
    /// The backend's own version.
    pub version: String,
    /// Only with `kind = "echo"`: how the test engine behaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Echo>,
    /// Only with `kind = "tensorrt-llm"`, and always there: what that runtime
    /// cannot read from the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensorrt_llm: Option<TensorrtLlm>,
}

/// Most tokens that TensorRT-LLM's kernels choose among, unless among all.
pub const MOST_CANDIDATES: u32 = 1024;

/// The backends this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    LlamaCpp,
    /// The file with the role `weights` is `rank0.engine`, with `config.json`
    /// beside it; `tokenizer` is a Hugging Face `tokenizer.json`, and
    /// `chat-template` its Jinja source.
    TensorrtLlm,
    /// The file with the role `weights` is an ONNX model that gives the tokens'
    /// hidden states; `tokenizer` is a Hugging Face `tokenizer.json`. It makes
    /// vectors, never answers.
    Rten,
    /// Deterministic tokens at a set pace, for tests; it computes nothing.
    Echo,
}

impl BackendKind {
    /// What requests must not ask for. Known before the engine is loaded, so that
    /// nobody waits for a load to be refused.
    #[must_use]
    pub fn lacks(self) -> &'static [Setting] {
        match self {
            // It samples by itself.
            Self::TensorrtLlm => &[
                Setting::MinP,
                Setting::TopK,
                Setting::LogitBias,
                Setting::Logprobs,
                Setting::RepeatLastN,
                Setting::FreshPrompt,
                Setting::Grammar,
            ],
            Self::LlamaCpp | Self::Rten | Self::Echo => &[],
        }
    }
}

/// The echo backend's pace. Faults are asked for in the prompt itself; see
/// the backend's own page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    /// Time that a load takes.
    pub load_ms: u64,
    /// Time of one decode step, however many sequences share it.
    pub step_us: u64,
    /// Time for one prompt token.
    pub prefill_token_us: u64,
    /// Directory of a virtual board that sets the pace instead, and is told what
    /// is computed; see [`crate::virtual_board`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<PathBuf>,
}

/// How a TensorRT-LLM engine is run. Its KV cache has room for `context` tokens
/// for each of the running and the cached sequences of [`Serving`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorrtLlm {
    /// Most of the free memory that the KV cache may take, in percent. A Jetson's
    /// GPU has no memory of its own.
    pub kv_free_percent: u8,
    /// Compute long prompts in parts, between the tokens of others. The engine
    /// must have been built with `--use_paged_context_fmha enable`.
    pub chunked_prompts: bool,
    /// Map the weights instead of reading them: half the memory while loading.
    pub mmap: bool,
    pub tokens: SpecialTokens,
}

/// Special tokens, as the tokeniser's file writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialTokens {
    /// Those that end an answer.
    pub ends: Vec<String>,
    /// The one that the model wants before every text.
    pub beginning: Option<String>,
    /// Before the prefix, the suffix and the middle, if the model fills in.
    pub infill: Option<[String; 3]>,
}

/// What the engine was built on and runs on only. Absent: not bound to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundTo {
    /// For example `x86_64` or `aarch64`; a GGUF is bound to neither.
    pub cpu: Option<String>,
    /// Device-tree compatible of the board, for example `nvidia,p3767-0005`.
    pub board: Option<String>,
    pub l4t: Option<String>,
    pub cuda: Option<String>,
    pub tensorrt: Option<String>,
    /// CUDA compute capability without its dot, for example 87.
    pub sm: Option<u32>,
}

/// How the engine is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Tokens in one request's window.
    pub context: u32,
    /// Requests decoded at once.
    pub max_sequences: u16,
    /// Finished sequences kept as reusable prefixes beside the running ones.
    pub cached_sequences: u16,
    /// What the whole KV cache takes, in bytes.
    pub kv_bytes: u64,
}

/// What clients can ask of the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    pub chat: bool,
    /// Fill in the middle.
    pub fim: bool,
    pub tools: bool,
    pub embedding: bool,
}

/// One file of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Relative to the engine directory.
    pub path: PathBuf,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub role: ArtefactRole,
}

/// What an artefact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtefactRole {
    Weights,
    Tokenizer,
    ChatTemplate,
    Other,
}

/// What the smoke run measured right after the build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smoke {
    pub load_ms: u64,
    pub prefill_tokens_per_s: f64,
    pub decode_tokens_per_s: f64,
    /// SHA-256 of the answer's token ids to the known prompt, greedy.
    pub answer_sha256: String,
}

/// How the weights were made from a larger file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantised {
    /// The quantisation of the file that it was made from.
    pub from: String,
    /// Lower-case hexadecimal.
    pub from_sha256: String,
    /// What quantised it, with its version.
    pub tool: String,
    pub tensors: u32,
    /// Tensors whose rows do not divide into the type's blocks, and which took
    /// a larger type.
    pub fallbacks: u32,
}

/// What the quality gate measured before the engine was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Of the fixed text; lower is better.
    pub perplexity: f64,
    /// Tokens of it that were predicted.
    pub tokens: u32,
    /// The most that was allowed.
    pub bound: f64,
    pub bound_from: BoundFrom,
    /// Lower-case hexadecimal: figures of different texts cannot be compared.
    pub text_sha256: String,
}

/// Where a bound on the perplexity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundFrom {
    /// It was measured for this model and quantisation.
    Catalogue,
    /// A multiple of what the file measured that this one was quantised from.
    Source,
}

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("parse {}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{} has manifest version {found}, this program knows {MANIFEST_VERSION}", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("{} names the file {}, which is outside its directory", path.display(), file.display())]
    Outside { path: PathBuf, file: PathBuf },
}

impl Manifest {
    /// Reads the manifest of the engine in `dir`.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ManifestError::Read { path, source }),
        };
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: PathBuf) -> Result<Self, ManifestError> {
        let manifest: Self = match toml::from_str(text) {
            Ok(manifest) => manifest,
            Err(source) => return Err(ManifestError::Parse { path, source: Box::new(source) }),
        };
        if manifest.manifest_version != MANIFEST_VERSION {
            return Err(ManifestError::Version { path, found: manifest.manifest_version });
        }
        if let Some(artefact) = manifest.files.iter().find(|artefact| !is_inside(&artefact.path)) {
            return Err(ManifestError::Outside { path, file: artefact.path.clone() });
        }
        Ok(manifest)
    }

    /// What is wrong with the files of the engine in `dir`: one is not there, or not as long as
    /// it was when the engine was built. A look at each, none is read.
    #[must_use]
    pub fn damage(&self, dir: &Path) -> Option<String> {
        self.files.iter().find_map(|Artefact { path, bytes, .. }| {
            let file = path.display();
            match dir.join(path).metadata() {
                Ok(found) if found.is_file() && found.len() == *bytes => None,
                Ok(found) => Some(format!("{file} has {} bytes, not {bytes}", found.len())),
                Err(error) => Some(format!("{file}: {error}")),
            }
        })
    }

    /// The weights' path below `dir`, if the engine has weights.
    #[must_use]
    pub fn weights(&self, dir: &Path) -> Option<PathBuf> {
        self.file(dir, ArtefactRole::Weights)
    }

    /// The path below `dir` of the first file with this role.
    #[must_use]
    pub fn file(&self, dir: &Path, role: ArtefactRole) -> Option<PathBuf> {
        let artefact = self.files.iter().find(|artefact| artefact.role == role)?;
        Some(dir.join(&artefact.path))
    }

    /// Whether it makes vectors and no answers. Such an engine has a worker beside
    /// the one that answers, and never stands in for it.
    #[must_use]
    pub fn is_embedder(&self) -> bool {
        self.embedding.is_some()
    }
}

/// Whether a relative path stays below the directory it is relative to.
fn is_inside(path: &Path) -> bool {
    use std::path::Component;
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> Manifest {
        Manifest {
            manifest_version: MANIFEST_VERSION,
            id: "echo".into(),
            built_at: 0,
            model: Model {
                name: "echo".into(),
                architecture: "echo".into(),
                licence: "Apache-2.0".into(),
                quantisation: "none".into(),
                parameters: 0,
                aliases: Vec::new(),
            },
            backend: Backend {
                kind: BackendKind::Echo,
                version: "1".into(),
                echo: None,
                tensorrt_llm: None,
            },
            bound_to: BoundTo::default(),
            serving: Serving { context: 4096, max_sequences: 8, cached_sequences: 0, kv_bytes: 0 },
            capabilities: Capabilities { chat: true, ..Capabilities::default() },
            embedding: None,
            files: Vec::new(),
            commands: Vec::new(),
            smoke: None,
            quantised: None,
            quality: None,
        }
    }

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text, PathBuf::from("engine.toml"))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let manifest = echo();
        assert_eq!(parse(&toml::to_string(&manifest).unwrap()).unwrap(), manifest);
    }

    #[test]
    fn a_manifest_of_another_version_is_refused() {
        let manifest = Manifest { manifest_version: MANIFEST_VERSION + 1, ..echo() };
        let text = toml::to_string(&manifest).unwrap();
        assert!(matches!(parse(&text), Err(ManifestError::Version { found: 2, .. })));
    }

    fn with_file(path: &str, bytes: u64) -> Manifest {
        let (path, sha256) = (path.into(), "00".into());
        let artefact = Artefact { path, bytes, sha256, role: ArtefactRole::Weights };
        Manifest { files: vec![artefact], ..echo() }
    }

    #[test]
    fn a_file_that_is_not_there_or_is_cut_short_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("weights.gguf"), "GGUF").unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let damage = |path, bytes| with_file(path, bytes).damage(dir.path());
        assert_eq!(damage("weights.gguf", 4), None);
        let cut = damage("weights.gguf", 5).unwrap();
        assert_eq!(cut, "weights.gguf has 4 bytes, not 5");
        assert!(damage("other.gguf", 4).unwrap().starts_with("other.gguf: No such file"));
        let directory = dir.path().join("a").metadata().unwrap().len();
        assert!(damage("a", directory).is_some(), "a directory is no file");
    }

    #[test]
    fn a_file_outside_the_directory_is_refused() {
        for path in ["../weights.gguf", "/etc/passwd", "a/../../b"] {
            let manifest = with_file(path, 1);
            let text = toml::to_string(&manifest).unwrap();
            assert!(matches!(parse(&text), Err(ManifestError::Outside { .. })), "{path}");
        }
    }
}
