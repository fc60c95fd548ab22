//! The quality gate: an engine whose weights predict a fixed text badly is not
//! published.
//!
//! A quantisation that went wrong mostly still loads and still writes words, so
//! the smoke run alone does not see it; the perplexity of a text does. The bound
//! is the catalogue's, measured for this model and quantisation, or else a
//! multiple of what the file measures that was quantised here. An engine with
//! neither is not measured, and its manifest says nothing of quality.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use engine_api::chore::{Measured, PERPLEXITY, Target};
use engine_api::manifest::{BoundFrom, Quality};
use jetpack::Bytes;

use crate::error::{Error, io};
use crate::hash::Sha256Hex;
use crate::plan::Plan;
use crate::preflight::make_dir;
use crate::report::Report;
use crate::tool::{self, Limits};

/// Prose and source code, written for this purpose. Bounds hold for these very
/// bytes.
pub const TEXT: &str = include_str!("../quality/text.txt");

/// Time for some two thousand tokens: even one token in a second would do.
const LIMIT: Duration = Duration::from_secs(3600);

/// Memory beside the weights: the window, the logits and the runtime itself.
const BESIDE_WEIGHTS: u64 = 2 << 30;

/// What a good quantisation costs, with much room above it: the gate is there for
/// the broken ones, which cost tens of times as much.
const MOST_COST: [(&str, f64); 5] =
    [("Q8", 1.05), ("Q6", 1.10), ("Q5", 1.20), ("Q4", 1.40), ("Q3", 2.00)];

/// What an engine is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    pub most: f64,
    pub from: BoundFrom,
}

/// Whether there is anything to hold the engine to.
#[must_use]
pub fn is_due(plan: &Plan) -> bool {
    plan.most_perplexity.is_some() || plan.quantise.is_some()
}

/// Measures the engine's `weights`, and `source` if they were quantised from it
/// and the catalogue has no bound. `None`: it is not due.
///
/// # Errors
/// [`Error::Quality`] if they are worse than the bound; [`Error::Tool`] if they
/// cannot be measured.
pub fn gate(
    plan: &Plan,
    weights: &Path,
    source: Option<&Path>,
    gauge: &Gauge<'_>,
) -> Result<Option<Quality>, Error> {
    let bound = match (plan.most_perplexity, &plan.quantise, source) {
        (Some(most), ..) => Bound { most, from: BoundFrom::Catalogue },
        (None, Some(wish), Some(source)) => {
            let of_source = gauge.measure(source, "the source")?;
            let Some(perplexity) = of_source.perplexity else {
                return Err(Error::BadSource { path: source.into() });
            };
            Bound { most: perplexity * most_cost(wish.target), from: BoundFrom::Source }
        }
        _ => return Ok(None),
    };
    let measured = gauge.measure(weights, "the engine")?;
    match measured.perplexity {
        Some(perplexity) if perplexity <= bound.most => Ok(Some(Quality {
            perplexity: rounded(perplexity),
            tokens: measured.tokens,
            bound: rounded(bound.most),
            bound_from: bound.from,
            text_sha256: Sha256Hex::of(TEXT.as_bytes()).as_str().into(),
        })),
        perplexity => Err(Error::Quality {
            id: plan.id.to_string(),
            perplexity,
            bound,
            tokens: measured.tokens,
            quantised: plan.quantise.is_some(),
        }),
    }
}

/// What the same weights measured `before`, held to what `plan` asks for; `None`
/// if they have to be measured again.
#[must_use]
pub fn held_again(before: &Quality, plan: &Plan) -> Option<Quality> {
    let (bound, bound_from) = match (plan.most_perplexity, &plan.quantise, before.bound_from) {
        (Some(most), ..) => (rounded(most), BoundFrom::Catalogue),
        (None, Some(_), BoundFrom::Source) => (before.bound, BoundFrom::Source),
        _ => return None,
    };
    let same_text = before.text_sha256 == Sha256Hex::of(TEXT.as_bytes()).as_str();
    (same_text && before.perplexity <= bound).then(|| Quality {
        bound,
        bound_from,
        ..before.clone()
    })
}

/// The source's perplexity times this is allowed.
fn most_cost(target: Target) -> f64 {
    let of_bits = MOST_COST.iter().find(|(bits, _)| target.name.starts_with(bits));
    of_bits.map_or(1.0, |(_, cost)| *cost)
}

/// As many digits as mean something to anybody.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Measures model files, each in a worker of its own.
#[derive(Debug)]
pub struct Gauge<'a> {
    pub worker: &'a Path,
    /// Where the text and the log are.
    pub work: &'a Path,
    pub report: &'a Report,
}

impl Gauge<'_> {
    fn measure(&self, model: &Path, what: &str) -> Result<Measured, Error> {
        make_dir(self.work)?;
        let text = self.work.join("quality.txt");
        fs::write(&text, TEXT).map_err(io("write", &text))?;
        let weights = model.metadata().map_err(io("look at", model))?.len();
        let mut command = Command::new(self.worker);
        command.arg(PERPLEXITY).arg(model).arg("--text").arg(&text);
        // A runtime may keep the weights in another order beside the file's.
        let memory = Bytes::new(weights.saturating_mul(2).saturating_add(BESIDE_WEIGHTS));
        let limits = Limits { time: LIMIT, memory: Some(memory) };
        let log = self.log();
        tool::run_own(&mut command, self.work, &log, limits, self.report)
            .map_err(|source| Error::Tool { step: format!("measure {what}"), source })
    }

    fn log(&self) -> PathBuf {
        self.work.join("quality.log")
    }
}

#[cfg(test)]
mod tests {
    use engine_api::chore::TARGETS;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::plan::Wishes;

    /// The catalogue's bounds were measured with this text. After a change of the
    /// text they have to be measured again before this is.
    const MEASURED_WITH: &str = "5f9bbe7001c0a10c5172dac098adb73b6d95546666185ae8b24e9434cf599916";

    #[test]
    fn the_text_is_the_one_that_the_bounds_were_measured_with() {
        assert_eq!(Sha256Hex::of(TEXT.as_bytes()).as_str(), MEASURED_WITH);
    }

    #[test]
    fn what_was_measured_holds_for_the_same_text_and_the_present_bound() {
        let catalogue = Catalogue::built_in();
        let entry = catalogue.find("smollm2-135m-instruct").unwrap();
        let mut plan = crate::plan::from_catalogue(entry, &Wishes::default()).unwrap();
        plan.most_perplexity = Some(20.0);
        let before = Quality {
            perplexity: 16.0,
            tokens: 990,
            bound: 18.0,
            bound_from: BoundFrom::Source,
            text_sha256: MEASURED_WITH.to_owned(),
        };
        let again = held_again(&before, &plan).unwrap();
        assert_eq!((again.bound, again.bound_from), (20.0, BoundFrom::Catalogue));
        plan.most_perplexity = Some(15.0);
        assert_eq!(held_again(&before, &plan), None);
        plan.most_perplexity = None;
        assert_eq!(held_again(&before, &plan), None);
        plan.most_perplexity = Some(20.0);
        let other = Quality { text_sha256: String::new(), ..before };
        assert_eq!(held_again(&other, &plan), None);
    }

    #[test]
    fn every_target_may_cost_something_and_fewer_bits_more() {
        let costs: Vec<f64> = TARGETS.into_iter().map(most_cost).collect();
        assert!(costs.iter().all(|cost| *cost > 1.0), "{costs:?}");
        assert!(costs.is_sorted(), "{costs:?}");
    }

    #[test]
    fn bounds_of_the_catalogue_are_for_quantisations_that_can_be_built() {
        for entry in Catalogue::built_in().entries() {
            for (name, most) in entry.quality.iter().flatten() {
                let known = Target::named(name).is_some() || *name == entry.weights.quantisation;
                assert!(known && *most > 1.0, "{}: {name} {most}", entry.id);
            }
        }
    }
}
