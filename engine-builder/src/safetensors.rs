//! What a safetensors file says of its tensors, read without trusting it.
//!
//! ```text
//! 8 bytes   N, the header's length, little-endian
//! N bytes   JSON: {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, …}
//! the rest  the tensors, one after the other, without gaps
//! ```
//!
//! No length is believed before it was compared with the file's, and no product
//! is computed that could overflow. The weights themselves are not read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

mod header;
mod index;
#[cfg(test)]
mod tests;

pub use header::{Dtype, Tensor};
pub use index::{IndexError, shards};

/// Longest header that is read; those of the largest models have some hundred KiB.
const MOST_HEADER_BYTES: u64 = 16 * 1024 * 1024;

/// The header's length stands in so many bytes.
const LENGTH_BYTES: u64 = 8;

/// Why a file is not a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    #[error(transparent)]
    Read(io::Error),
    #[error("the file has {length} bytes, less than any safetensors file")]
    TooShort { length: u64 },
    #[error("its header is said to have {claimed} bytes, more than the {most} that can be true")]
    HeaderLength { claimed: u64, most: u64 },
    #[error("its header is not what safetensors has: {0}")]
    Header(String),
    #[error("tensor {name:?} {problem}")]
    Tensor { name: String, problem: String },
    #[error("its tensors end after {end} bytes, the file has {length} for them")]
    Length { end: u64, length: u64 },
}

/// Reads the header of the file at `path`, and all that it says is consistent.
///
/// # Errors
/// See [`SafetensorsError`].
pub fn read(path: &Path) -> Result<Vec<Tensor>, SafetensorsError> {
    let file = File::open(path).map_err(SafetensorsError::Read)?;
    let length = file.metadata().map_err(SafetensorsError::Read)?.len();
    parse(file, length)
}

/// Reads a header from `input`, which has `length` bytes. The tensors are in the
/// order of their bytes.
fn parse<R: Read>(mut input: R, length: u64) -> Result<Vec<Tensor>, SafetensorsError> {
    let Some(rest) = length.checked_sub(LENGTH_BYTES) else {
        return Err(SafetensorsError::TooShort { length });
    };
    let mut claimed = [0; 8];
    input.read_exact(&mut claimed).map_err(SafetensorsError::Read)?;
    let claimed = u64::from_le_bytes(claimed);
    let most = rest.min(MOST_HEADER_BYTES);
    if claimed > most {
        return Err(SafetensorsError::HeaderLength { claimed, most });
    }
    let mut json = Vec::new();
    input.take(claimed).read_to_end(&mut json).map_err(SafetensorsError::Read)?;
    let mut tensors = header::tensors(&json)?;
    tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
    check(&tensors, rest - claimed)?;
    Ok(tensors)
}

/// Each tensor has the bytes that its shape needs, and begins where the one
/// before it ends: none overlap, none is outside, and no byte is hidden.
fn check(tensors: &[Tensor], length: u64) -> Result<(), SafetensorsError> {
    let mut end = 0;
    for tensor in tensors {
        let wrong = |problem| Err(SafetensorsError::Tensor { name: tensor.name.clone(), problem });
        let Some(needed) = tensor.bytes_needed() else {
            return wrong("has a shape whose size is no number of bytes".into());
        };
        if tensor.end > length || tensor.begin > tensor.end {
            let (begin, end) = (tensor.begin, tensor.end);
            return wrong(format!("is at {begin} to {end} of {length} bytes"));
        }
        if tensor.end - tensor.begin != needed {
            let found = tensor.end - tensor.begin;
            return wrong(format!("has {found} bytes, its shape needs {needed}"));
        }
        if tensor.begin != end {
            return wrong(format!("begins at {}, the one before it ends at {end}", tensor.begin));
        }
        end = tensor.end;
    }
    if end == length { Ok(()) } else { Err(SafetensorsError::Length { end, length }) }
}
