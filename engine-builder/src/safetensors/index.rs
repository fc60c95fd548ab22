//! `model.safetensors.index.json`: which files the weights are in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use crate::catalogue::is_file_name;

/// Longest index that is read; those of the largest models have some MiB.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Files that one model may be in.
const MOST_SHARDS: usize = 512;

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Read(io::Error),
    #[error("the index is longer than {MOST_BYTES} bytes")]
    TooLong,
    #[error("this is not an index of safetensors files")]
    NotAnIndex(#[source] serde_json::Error),
    #[error("it names {0:?}, which is not the name of a safetensors file beside it")]
    Name(String),
    #[error("it names {0} files, not 1 to {MOST_SHARDS}")]
    Count(usize),
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files that the index at `path` names, each once, by name.
///
/// # Errors
/// See [`IndexError`].
pub fn shards(path: &Path) -> Result<Vec<String>, IndexError> {
    let mut json = Vec::new();
    let file = File::open(path).map_err(IndexError::Read)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut json).map_err(IndexError::Read)?;
    if json.len() as u64 > MOST_BYTES {
        return Err(IndexError::TooLong);
    }
    parse(&json)
}

pub(super) fn parse(json: &[u8]) -> Result<Vec<String>, IndexError> {
    let index: Index = serde_json::from_slice(json).map_err(IndexError::NotAnIndex)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| !is_shard(name)) {
        return Err(IndexError::Name(name.clone()));
    }
    if names.is_empty() || names.len() > MOST_SHARDS {
        return Err(IndexError::Count(names.len()));
    }
    Ok(names.into_iter().collect())
}

fn is_shard(name: &str) -> bool {
    is_file_name(name) && name.ends_with(".safetensors")
}
