//! What a GGUF file says of itself, read without trusting it.
//!
//! Every count, length and offset is checked against the file's size before it
//! is used, so a hostile header costs 16 MiB of memory and one pass over the
//! header at most. The weights themselves are not read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::Path;

use engine_api::embedding::{Embedding, Pooling};

mod metadata;
mod quantisation;
mod reader;
#[cfg(test)]
pub(crate) mod sample;
mod tensors;

use metadata::Metadata;
use reader::Reader;
use tensors::Tensors;

/// The first four bytes.
const MAGIC: [u8; 4] = *b"GGUF";

/// Versions whose layout is known; 1 had other lengths and is extinct.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// Bytes of one value in the KV cache (f16).
const KV_VALUE_BYTES: u64 = 2;

/// What the header says about the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub name: Option<String>,
    pub architecture: String,
    /// SPDX identifier, if the file names a licence.
    pub licence: Option<String>,
    pub parameters: u64,
    /// For example `Q4_K_M`, or `unknown`.
    pub quantisation: String,
    /// Window the model was trained with, in tokens.
    pub trained_context: Option<u32>,
    /// KV cache of one token; `None` for a model that is no plain transformer.
    pub kv_bytes_per_token: Option<u64>,
    pub chat_template: bool,
    /// Whether the vocabulary has the tokens for filling in the middle.
    pub fim: bool,
    /// For example `gpt2` or `llama`.
    pub tokenizer: Option<String>,
    /// How it makes vectors, if it was made for that. A file does not tell what is to
    /// stand before a text.
    pub embedding: Option<Embedding>,
}

/// Why a file is not a model that can be built.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error(transparent)]
    Read(io::Error),
    #[error("this is not a GGUF file: it begins with {found:02x?}, not with \"GGUF\"")]
    NotGguf { found: Vec<u8> },
    #[error(
        "GGUF version {found} is not known, only {} to {}",
        VERSIONS.start(),
        VERSIONS.end()
    )]
    Version { found: u32 },
    #[error("the file is truncated: it ends after {length} bytes, inside its header")]
    TruncatedHeader { length: u64 },
    #[error("the file is truncated: its weights need {needed} bytes, it has {length}")]
    TruncatedWeights { needed: u64, length: u64 },
    #[error("the header claims {count} {what}, more than the {most} that can be true")]
    TooMany { what: &'static str, count: u64, most: u64 },
    #[error("the header at byte {position} {problem}")]
    Malformed { position: u64, problem: &'static str },
    #[error("the header has no {key}")]
    Missing { key: &'static str },
    #[error("this is one part of a model in {parts} files; merge them with llama-gguf-split first")]
    Split { parts: u64 },
}

/// Reads the header of the file at `path`.
///
/// # Errors
/// See [`GgufError`].
pub fn read(path: &Path) -> Result<Facts, GgufError> {
    let file = File::open(path).map_err(GgufError::Read)?;
    let metadata = file.metadata().map_err(GgufError::Read)?;
    if metadata.is_dir() {
        return Err(GgufError::Read(io::ErrorKind::IsADirectory.into()));
    }
    parse(BufReader::new(file), metadata.len())
}

/// Reads a header from `input`, which has `length` bytes.
fn parse<R: BufRead + Seek>(input: R, length: u64) -> Result<Facts, GgufError> {
    let mut reader = Reader::new(input, length);
    let magic = reader.first_bytes()?;
    if magic != MAGIC {
        return Err(GgufError::NotGguf { found: magic });
    }
    let version = reader.u32()?;
    if !VERSIONS.contains(&version) {
        return Err(GgufError::Version { found: version });
    }
    let tensor_count = reader.u64()?;
    let value_count = reader.u64()?;
    let metadata = Metadata::read(&mut reader, value_count)?;
    let tensors = Tensors::read(&mut reader, tensor_count, metadata.alignment()?)?;
    facts(&metadata, &tensors)
}

fn facts(metadata: &Metadata, tensors: &Tensors) -> Result<Facts, GgufError> {
    if let Some(parts) = metadata.number("split.count").filter(|parts| *parts > 1) {
        return Err(GgufError::Split { parts });
    }
    let architecture = metadata
        .text("general.architecture")
        .ok_or(GgufError::Missing { key: "general.architecture" })?;
    let of_model = |key: &str| metadata.number(&format!("{architecture}.{key}"));
    let file_type = metadata.number("general.file_type");
    Ok(Facts {
        name: metadata.text("general.name").map(str::to_owned),
        licence: metadata.text("general.license").map(str::to_owned),
        parameters: tensors.parameters,
        quantisation: file_type.and_then(quantisation::name).unwrap_or("unknown").to_owned(),
        trained_context: of_model("context_length").and_then(|tokens| u32::try_from(tokens).ok()),
        kv_bytes_per_token: kv_bytes_per_token(metadata, architecture),
        chat_template: metadata.text("tokenizer.chat_template").is_some(),
        fim: metadata.fim,
        tokenizer: metadata.text("tokenizer.ggml.model").map(str::to_owned),
        embedding: embedding(metadata, architecture),
        architecture: architecture.to_owned(),
    })
}

/// `None` for a model that pools nothing, or ranks in place of it.
fn embedding(metadata: &Metadata, architecture: &str) -> Option<Embedding> {
    let number = |key: &str| metadata.number(&format!("{architecture}.{key}"));
    let pooling = match number("pooling_type")? {
        1 => Pooling::Mean,
        2 => Pooling::First,
        3 => Pooling::Last,
        _ => return None,
    };
    Some(Embedding {
        dimension: u32::try_from(number("embedding_length")?).ok()?,
        pooling,
        normalise: true,
        query_prefix: String::new(),
        document_prefix: String::new(),
    })
}

/// Key and value heads of all layers times their lengths. `None` if a factor
/// is missing or the product is absurd.
fn kv_bytes_per_token(metadata: &Metadata, architecture: &str) -> Option<u64> {
    let number = |key: &str| metadata.number(&format!("{architecture}.{key}"));
    if number("attention.causal") == Some(0) {
        // An encoder sees a text as a whole and keeps nothing of it.
        return Some(0);
    }
    let layers = number("block_count")?;
    let heads = number("attention.head_count");
    let head_length = || number("embedding_length")?.checked_div(heads?);
    let key = number("attention.key_length").or_else(head_length)?;
    let value = number("attention.value_length").or_else(head_length)?;
    let per_layer = metadata.numbers(&format!("{architecture}.attention.head_count_kv"));
    let all_heads = match per_layer {
        Some([all]) => layers.checked_mul(*all)?,
        Some(each) => each.iter().try_fold(0u64, |sum, heads| sum.checked_add(*heads))?,
        None => layers.checked_mul(heads?)?,
    };
    all_heads.checked_mul(key.checked_add(value)?)?.checked_mul(KV_VALUE_BYTES)
}

#[cfg(test)]
mod tests;
