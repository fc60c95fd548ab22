//! A model's shape, and the arithmetic that follows from it: parameters,
//! bytes of weights in each quantisation, bytes of KV cache a token.
//!
//! Every model here is a decoder of one kind: attention with grouped key-value
//! heads, a gated feed-forward block, RMS norms. What differs is which small
//! extras a family has.

use serde::{Deserialize, Serialize};

use super::quantisation::Quantisation;

/// Bytes of one 16-bit value, in which the KV cache is kept.
const KV_BYTES: u64 = 2;

/// The numbers of a model's `config.json`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    pub family: Family,
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    /// Width of the feed-forward block.
    pub feed_forward: u32,
    pub vocabulary: u32,
    /// Whether input embedding and output head are one matrix.
    pub tied_embeddings: bool,
    pub rope: Rope,
}

/// `model_type` of a model's `config.json`: what converters look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Llama,
    Mistral,
    Phi3,
    /// Biases on query, key and value.
    Qwen2,
    /// Norms on query and key.
    Qwen3,
}

impl Family {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Phi3 => "phi3",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// How positions are encoded.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rope {
    pub kind: RopeKind,
    pub base: u32,
    /// By how much the window was stretched; absent without scaling.
    pub factor: Option<u32>,
    /// The window before it was stretched.
    pub original_context: Option<u32>,
}

/// `rope_scaling.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeKind {
    /// No scaling.
    Default,
    Linear,
    Llama3,
    Longrope,
    Yarn,
}

impl Architecture {
    /// Parameters in the matrices of all layers: what a quantisation shrinks.
    #[must_use]
    pub fn matrix_parameters(&self) -> u64 {
        let hidden = u64::from(self.hidden);
        let attention = 2 * hidden * (self.query_width() + self.kv_width());
        let feed_forward = 3 * hidden * u64::from(self.feed_forward);
        u64::from(self.layers) * (attention + feed_forward)
    }

    /// Parameters of one vocabulary matrix, embedding or output head.
    #[must_use]
    pub fn vocabulary_parameters(&self) -> u64 {
        u64::from(self.vocabulary) * u64::from(self.hidden)
    }

    /// All parameters, as the makers count them.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let hidden = u64::from(self.hidden);
        let vocabularies = if self.tied_embeddings { 1 } else { 2 };
        let extras = match self.family {
            Family::Qwen2 => self.query_width() + 2 * self.kv_width(),
            Family::Qwen3 => 2 * u64::from(self.head_dim),
            Family::Llama | Family::Mistral | Family::Phi3 => 0,
        };
        let norms = 2 * hidden;
        self.matrix_parameters()
            + vocabularies * self.vocabulary_parameters()
            + u64::from(self.layers) * (norms + extras)
            + hidden
    }

    /// KV cache of one token: a key and a value for each layer and head.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        2 * u64::from(self.layers) * self.kv_width() * KV_BYTES
    }

    /// Bytes that the weights take in memory.
    #[must_use]
    pub fn resident_bytes(&self, quantisation: Quantisation) -> u64 {
        let bits = quantisation.bits(self);
        let embedding = if self.tied_embeddings { 0 } else { bits.embedding };
        size(self.matrix_parameters(), bits.matrices)
            + size(self.vocabulary_parameters(), bits.head)
            + size(self.vocabulary_parameters(), embedding)
    }

    /// Bytes that are read for one token of an answer: all matrices and the
    /// output head, but of a separate embedding only one row.
    #[must_use]
    pub fn bytes_read_per_token(&self, quantisation: Quantisation) -> u64 {
        let bits = quantisation.bits(self);
        size(self.matrix_parameters(), bits.matrices)
            + size(self.vocabulary_parameters(), bits.head)
    }

    fn query_width(&self) -> u64 {
        u64::from(self.heads) * u64::from(self.head_dim)
    }

    fn kv_width(&self) -> u64 {
        u64::from(self.kv_heads) * u64::from(self.head_dim)
    }
}

/// Bytes of `parameters` at so many 32nds of a bit each.
fn size(parameters: u64, bits_32nds: u64) -> u64 {
    parameters * bits_32nds / (32 * 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn gigabytes(bytes: u64) -> f64 {
        (bytes as f64 / 1e7).round() / 100.0
    }

    /// NVIDIA's and our own published arithmetic for 4 bits in groups of 128
    /// with a 16-bit output head: read for a token, and resident.
    #[test]
    fn four_bit_weights_take_what_is_known_of_them() {
        let catalogue = Catalogue::built_in();
        for (id, read, resident) in [
            ("meta-llama-3-8b-instruct", 4.68, 5.73),
            ("mistral-7b-instruct-v0.3", 3.89, 4.16),
            ("phi-3-mini-4k-instruct", 2.08, 2.28),
            ("deepseek-coder-6.7b-instruct", 3.63, 3.89),
            ("qwen2.5-coder-7b-instruct", 4.48, 5.57),
            ("qwen2.5-coder-1.5b-instruct", 1.15, 1.15),
            ("qwen3-8b", 4.85, 6.10),
            ("qwen3-4b", 2.67, 2.67),
        ] {
            let shape = &catalogue.find(id).unwrap().architecture;
            let of = (
                gigabytes(shape.bytes_read_per_token(Quantisation::Int4Gptq)),
                gigabytes(shape.resident_bytes(Quantisation::Int4Gptq)),
            );
            assert_eq!(of, (read, resident), "{id}");
        }
    }

    #[test]
    fn a_key_value_cache_takes_what_is_known_of_it() {
        let catalogue = Catalogue::built_in();
        for (id, kib) in [
            ("meta-llama-3-8b-instruct", 128),
            ("phi-3-mini-4k-instruct", 384),
            ("deepseek-coder-6.7b-instruct", 512),
            ("qwen2.5-coder-7b-instruct", 56),
            ("qwen2.5-coder-1.5b-instruct", 28),
            ("qwen3-8b", 144),
        ] {
            let bytes = catalogue.find(id).unwrap().architecture.kv_bytes_per_token();
            assert_eq!(bytes, kib * 1024, "{id}");
        }
    }

    /// Held against the files whose size is known. The small Qwen2.5-Coder
    /// files keep their output head twice and are up to a quarter larger.
    #[test]
    fn the_estimate_of_a_gguf_file_is_close() {
        let catalogue = Catalogue::built_in();
        let mut compared = 0;
        for entry in catalogue.entries() {
            let quantisation = Quantisation::of_gguf(&entry.weights.quantisation);
            let (Some(bytes), Some(quantisation)) = (entry.weights.bytes, quantisation) else {
                continue;
            };
            let estimate = entry.architecture.resident_bytes(quantisation) as f64;
            let share = estimate / bytes as f64;
            let least = if entry.architecture.family == Family::Qwen2 { 0.75 } else { 0.96 };
            assert!((least..1.04).contains(&share), "{}: {share:.3}", entry.id);
            compared += 1;
        }
        assert!(compared >= 10, "{compared}");
    }
}
