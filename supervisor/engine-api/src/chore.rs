//! What engine-worker does for engine-builder without a supervisor: quantising a
//! model file, and measuring how well one predicts a text.
//!
//! Each is a process of its own that ends by itself. Percentages on its standard
//! output say how far it is, and the last line there is its result, as JSON.

use serde::{Deserialize, Serialize};

/// The first argument for quantising: `quantise FROM TO --to TYPE`. `TO` is there
/// only if all of it is on the disk.
pub const QUANTISE: &str = "quantise";

/// The first argument for measuring: `perplexity MODEL --text FILE`.
pub const PERPLEXITY: &str = "perplexity";

/// A type that a model file can be quantised to with no other data than itself.
///
/// Types below three bits, and those whose names begin with `IQ`, want an
/// importance matrix, which is computed from texts that nobody has chosen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// As llama.cpp and the file itself name it.
    pub name: &'static str,
    /// `general.file_type` of the file.
    pub file_type: u32,
}

/// Every target, the largest first.
pub const TARGETS: [Target; 8] = [
    Target { name: "Q8_0", file_type: 7 },
    Target { name: "Q6_K", file_type: 18 },
    Target { name: "Q5_K_M", file_type: 17 },
    Target { name: "Q5_0", file_type: 8 },
    Target { name: "Q4_K_M", file_type: 15 },
    Target { name: "Q4_K_S", file_type: 14 },
    Target { name: "Q4_0", file_type: 2 },
    Target { name: "Q3_K_M", file_type: 12 },
];

impl Target {
    /// The target of this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().find(|target| target.name.eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What came of quantising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantised {
    pub tensors: u32,
    /// Tensors whose rows do not divide into the type's blocks, and which took
    /// a larger type.
    pub fallbacks: u32,
}

/// What came of measuring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// `None`: the model's output was not a number somewhere.
    pub perplexity: Option<f64>,
    /// Tokens that were predicted.
    pub tokens: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_by_name_in_any_case_and_others_are_not() {
        assert_eq!(Target::named("q4_k_m").unwrap().file_type, 15);
        for name in ["", "Q4", "IQ2_XXS", "F16"] {
            assert_eq!(Target::named(name), None, "{name}");
        }
    }
}
