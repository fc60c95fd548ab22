//! The table of tensors in a GGUF header.

use std::io::{BufRead, Seek};

use super::GgufError;
use super::quantisation;
use super::reader::Reader;

/// Tensors in one file; the largest models have a few thousand.
const MOST_TENSORS: u64 = 65_536;

/// Dimensions that ggml knows.
const MOST_DIMENSIONS: u32 = 4;

/// Longest name, in bytes; ggml's own bound is 64.
const LONGEST_NAME: u64 = 256;

/// A name's length, the number of dimensions, a type and an offset.
const LEAST_TENSOR_BYTES: u64 = 24;

/// What the table adds up to.
#[derive(Debug)]
pub(super) struct Tensors {
    pub(super) parameters: u64,
}

impl Tensors {
    /// Reads the table and checks that every tensor lies inside the file.
    pub(super) fn read<R: BufRead + Seek>(
        reader: &mut Reader<R>,
        count: u64,
        alignment: u64,
    ) -> Result<Self, GgufError> {
        reader.bound("tensors", count, LEAST_TENSOR_BYTES, MOST_TENSORS)?;
        let mut parameters = 0u64;
        let mut end = 0u64;
        for _ in 0..count {
            let tensor = Tensor::read(reader)?;
            if tensor.offset % alignment != 0 {
                return Err(reader.malformed("has a tensor that is not aligned"));
            }
            let sums = parameters.checked_add(tensor.elements).zip(tensor.end());
            let Some((sum, tensor_end)) = sums else {
                return Err(reader.malformed("has a tensor of an impossible size"));
            };
            parameters = sum;
            end = end.max(tensor_end);
        }
        let needed = reader
            .position()
            .checked_next_multiple_of(alignment)
            .and_then(|start| start.checked_add(end))
            .ok_or_else(|| reader.malformed("has a tensor at an impossible offset"))?;
        if count > 0 && needed > reader.length() {
            return Err(GgufError::TruncatedWeights { needed, length: reader.length() });
        }
        Ok(Self { parameters })
    }
}

struct Tensor {
    elements: u64,
    kind: u32,
    offset: u64,
}

impl Tensor {
    fn read<R: BufRead + Seek>(reader: &mut Reader<R>) -> Result<Self, GgufError> {
        let name_length = reader.u64()?;
        if name_length > LONGEST_NAME {
            return Err(reader.malformed("has a tensor with an endless name"));
        }
        reader.skip(name_length)?;
        let dimensions = reader.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(reader.malformed("has a tensor with too many dimensions"));
        }
        let mut elements = 1u64;
        for _ in 0..dimensions {
            let extent = reader.u64()?;
            elements = elements
                .checked_mul(extent)
                .ok_or_else(|| reader.malformed("has a tensor of an impossible size"))?;
        }
        Ok(Self { elements, kind: reader.u32()?, offset: reader.u64()? })
    }

    /// Where its data ends, from the start of all data. A type that is not
    /// known counts as empty: whether it can be computed with is the worker's
    /// to say.
    fn end(&self) -> Option<u64> {
        let Some((block, bytes)) = quantisation::block(self.kind) else { return Some(self.offset) };
        self.elements.div_ceil(block).checked_mul(bytes)?.checked_add(self.offset)
    }
}
