//! How many bits a weight takes, by quantisation.

use serde::{Serialize, Serializer};

use super::architecture::Architecture;

/// The forms in which a plan may keep weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantisation {
    F16,
    /// 8 bits, rounded to the nearest, one scale a channel.
    Int8,
    /// 4 bits, rounded to the nearest, one scale a channel.
    Int4,
    /// 4 bits in groups of 128, quantised with GPTQ.
    Int4Gptq,
    /// 4 bits in groups of 128, quantised with AWQ.
    Int4Awq,
    /// llama.cpp's usual mixture of 4 and 6 bits.
    Q4KM,
    /// llama.cpp's 8 bits.
    Q8,
}

/// Bits of one weight, in 32nds, so that every scale is a whole number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits {
    pub(super) matrices: u64,
    pub(super) head: u64,
    pub(super) embedding: u64,
}

const F16: u64 = 16 * 32;
const INT8: u64 = 8 * 32;
const INT4: u64 = 4 * 32;
/// A scale of 16 bits and a zero of 4 for every 128 weights.
const INT4_GROUPS: u64 = INT4 + 32 * 20 / 128;
/// The mean over the matrices of a layer.
const Q4_K_M: u64 = 155;
const Q4_K: u64 = 144;
const Q5_0: u64 = 176;
const Q6_K: u64 = 210;
const Q8_0: u64 = 272;
/// Weights in one block of llama.cpp's K quantisations.
const K_BLOCK: u32 = 256;

impl Quantisation {
    pub(super) fn bits(self, shape: &Architecture) -> Bits {
        let even = |matrices| Bits { matrices, head: F16, embedding: F16 };
        match self {
            Self::F16 => even(F16),
            Self::Int8 => even(INT8),
            Self::Int4 => even(INT4),
            Self::Int4Gptq | Self::Int4Awq => even(INT4_GROUPS),
            // Rows that do not divide into blocks fall back to larger types.
            Self::Q4KM if !shape.hidden.is_multiple_of(K_BLOCK) => {
                Bits { matrices: Q5_0, head: Q8_0, embedding: Q5_0 }
            }
            Self::Q4KM => Bits { matrices: Q4_K_M, head: Q6_K, embedding: Q4_K },
            Self::Q8 => Bits { matrices: Q8_0, head: Q8_0, embedding: Q8_0 },
        }
    }

    /// The name that people and tools know.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Int8 => "INT8",
            Self::Int4 => "INT4",
            Self::Int4Gptq => "INT4-GPTQ",
            Self::Int4Awq => "INT4-AWQ",
            Self::Q4KM => "Q4_K_M",
            Self::Q8 => "Q8_0",
        }
    }

    /// The quantisation of a GGUF file, if sizes can be estimated for it.
    #[must_use]
    pub fn of_gguf(name: &str) -> Option<Self> {
        [Self::F16, Self::Q4KM, Self::Q8].into_iter().find(|known| known.name() == name)
    }
}

impl Serialize for Quantisation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
