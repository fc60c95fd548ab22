//! The wish to serve a model in fewer bits than its file has.

use engine_api::chore::Target;
use engine_api::manifest::Model;

use super::Wishes;
use crate::error::Error;

/// What is made of the model file before it is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantise {
    pub target: Target,
    /// The file's own quantisation.
    pub from: String,
    /// What the result will take, an estimate.
    pub bytes: u64,
}

/// What decides how large a quantised model is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) parameters: u64,
    /// Whether its rows divide into the blocks of the K types.
    pub(super) even: bool,
}

/// Weights in a block of the K types.
pub(super) const K_BLOCK: u32 = 256;

/// Bits of a weight, in hundredths, over a whole file: of one whose rows divide
/// into blocks of 256, and of one whose rows do not and take larger types. With
/// room above what llama.cpp's mixtures come to, as the disk must have it.
const BITS: [(&str, u64, u64); 8] = [
    ("Q8_0", 860, 860),
    ("Q6_K", 680, 860),
    ("Q5_K_M", 600, 760),
    ("Q5_0", 590, 660),
    ("Q4_K_M", 530, 680),
    ("Q4_K_S", 500, 660),
    ("Q4_0", 500, 620),
    ("Q3_K_M", 450, 600),
];

/// The vocabulary and the chat template, which come along.
const BESIDE_WEIGHTS: u64 = 8 << 20;

/// What a model takes before it is quantised, an estimate.
pub(super) fn in_16_bits(parameters: u64) -> u64 {
    parameters.saturating_mul(2).saturating_add(BESIDE_WEIGHTS)
}

/// Turns the wish to quantise into what `model` becomes by it.
///
/// # Errors
/// [`Error::Usage`] if the file has that type already.
pub(super) fn requantise(
    wishes: &Wishes,
    model: &mut Model,
    shape: Shape,
) -> Result<Option<Requantise>, Error> {
    let Some(target) = wishes.quantise else { return Ok(None) };
    if model.quantisation == target.name {
        return Err(Error::Usage(format!(
            "--quantise {target}: the model file is {target} already; leave --quantise out"
        )));
    }
    let bits = BITS.iter().find(|(name, ..)| *name == target.name);
    let hundredths = bits.map_or(1600, |(_, even, odd)| if shape.even { *even } else { *odd });
    let from = std::mem::replace(&mut model.quantisation, target.name.into());
    let bytes = (shape.parameters.saturating_mul(hundredths) / 800).saturating_add(BESIDE_WEIGHTS);
    Ok(Some(Requantise { target, from, bytes }))
}

#[cfg(test)]
mod tests {
    use engine_api::chore::TARGETS;

    use super::*;

    #[test]
    fn the_size_of_every_target_is_estimated() {
        assert_eq!(BITS.map(|(name, ..)| name), TARGETS.map(|target| target.name));
    }
}
