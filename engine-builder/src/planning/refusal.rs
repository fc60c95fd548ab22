//! A refusal in words, with what would fit instead.

use super::{BoardPlan, Refusal, Rejected, Setting, alternatives, choose};
use crate::catalogue::{Catalogue, Entry};
use crate::error::Error;

/// Models that a refusal offers instead.
const OFFERED: usize = 3;

/// The plan for `entry`.
///
/// # Errors
/// [`Error::Usage`], [`Error::Unsupported`] or [`Error::NoPlanFits`] with all reasons.
pub fn choose_or_say(
    entry: &Entry,
    setting: &Setting,
    catalogue: &Catalogue,
) -> Result<BoardPlan, Error> {
    choose(entry, setting).map_err(|no| in_words(no, entry, setting, catalogue))
}

/// A refusal in one sentence, with what would fit instead.
fn in_words(refusal: Refusal, entry: &Entry, setting: &Setting, catalogue: &Catalogue) -> Error {
    let on = setting.release.as_ref().map(|release| format!(" with {release}")).unwrap_or_default();
    let place = format!("{}{on}", setting.board.name);
    let rejected = match refusal {
        Refusal::Wish(what) => return Error::Usage(what),
        Refusal::Release(what) => return Error::Unsupported(what),
        Refusal::Nowhere(rejected) => rejected,
    };
    let offers = alternatives(catalogue, entry, setting, OFFERED);
    let offer = match offers.as_slice() {
        [] => String::new(),
        fitting => {
            let names: Vec<&str> = fitting.iter().map(|entry| entry.id.as_str()).collect();
            format!("; what would fit: {}", names.join(", "))
        }
    };
    let what =
        format!("{} has no plan on {place}: {}{offer}", entry.id, reasons(&rejected).join("; "));
    if rejected.iter().any(|no| no.for_want_of_memory) {
        Error::NoPlanFits(what)
    } else {
        Error::Unsupported(what)
    }
}

fn reasons(rejected: &[Rejected]) -> Vec<String> {
    rejected
        .iter()
        .map(|no| match &no.quantisation {
            Some(quantisation) => format!("{} {quantisation}: {}", no.backend, no.why),
            None => format!("{}: {}", no.backend, no.why),
        })
        .collect()
}
