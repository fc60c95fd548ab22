//! What each reason asks for. The lowest notch that any of them asks for wins.
//!
//! A wish has two bounds: the notch at which the engine must be now, and the
//! one to which it may rise. Between them nothing changes, and that keeps the
//! limits from swinging.

use super::heat::{Known, Temperature};
use super::ladder::Ladder;
use super::power::Wattmeter;
use super::profile::CEILING;
use super::reason::{Ahead, Limiting};
use super::thermal::Fit;

/// How far ahead the temperature is predicted, in seconds. Shorter leaves a
/// burst more of what the sink can store, longer brakes more gently.
const HORIZON: f64 = 45.0;
/// How far ahead the bare trend is believed, in seconds.
const TREND: f64 = 25.0;
/// A prediction this far over what is held lowers, in kelvins.
const OVER: f64 = 0.3;
/// One this far under it raises.
const UNDER: f64 = 0.5;
/// The same for the bare trend, which knows less.
const UNDER_TREND: f64 = 4.0;
/// Below the limit, in kelvins: from here on two notches at a time.
const HARD: f64 = 3.5;
/// Below the limit, in kelvins: from here on everything at once.
const EMERGENCY: f64 = 2.0;
/// Shares of a power budget above which it is lowered and below which raised.
const BUDGET_OVER: f64 = 1.0;
const BUDGET_UNDER: f64 = 0.96;

/// What one reason asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    /// The engine must be at this notch or below.
    pub(super) least: usize,
    /// It may rise to this notch; never above `least`.
    pub(super) rise: usize,
    /// It cannot wait.
    pub(super) urgent: bool,
    pub(super) because: Limiting,
}

/// Where the engine is, and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) ladder: &'a Ladder,
    pub(super) notch: usize,
    pub(super) meter: &'a Wattmeter,
    /// What it takes now, in watts.
    pub(super) watts: Option<f64>,
    pub(super) fit: Option<Fit>,
}

impl Wish {
    pub(super) fn none(because: Limiting) -> Self {
        Self { least: 0, rise: 0, urgent: false, because }
    }

    /// Stay at this notch, wherever the engine is.
    pub(super) fn at(notch: usize, because: Limiting) -> Self {
        Self { least: notch, rise: notch, urgent: false, because }
    }
}

/// To stay below the limit by `margin` kelvins, and with the highest of readings that
/// swing below the ceiling.
pub(super) fn of_heat(place: Place<'_>, temperature: &Temperature, margin: f64) -> Wish {
    match temperature {
        Temperature::Ungoverned => Wish::none(Limiting::Ungoverned),
        Temperature::Blind(unseen) => {
            Wish::at(place.ladder.blind(), Limiting::Blind { unseen: *unseen })
        }
        Temperature::Known(known) => {
            let margin = margin.max(CEILING + known.swing);
            of_known_heat(place, known, known.limit - margin)
        }
    }
}

fn of_known_heat(place: Place<'_>, known: &Known, held: f64) -> Wish {
    let last = place.ladder.last();
    let (least, rise, ahead) = match place.fit.zip(place.watts) {
        Some((fit, watts)) => predicted(place, fit, watts, known.celsius, held),
        None => by_trend(place, known, held),
    };
    let hard = known.celsius >= known.limit - HARD;
    let urgent = known.celsius >= known.limit - EMERGENCY;
    let least = match (urgent, hard) {
        (true, _) => last,
        (false, true) => least.max(place.notch + 2).min(last),
        (false, false) => least,
    };
    let because = Limiting::Heat { zone: known.zone.clone(), celsius: known.celsius, held, ahead };
    Wish { least, rise: rise.max(least), urgent, because }
}

/// By the model: the first notch at which the temperature stays below.
fn predicted(
    place: Place<'_>,
    fit: Fit,
    watts: f64,
    celsius: f64,
    held: f64,
) -> (usize, usize, Ahead) {
    let (ladder, notch, meter) = (place.ladder, place.notch, place.meter);
    let after = |power: f64| fit.after(HORIZON, celsius, watts, power);
    let first = |bound: f64, power: &dyn Fn(usize) -> f64| {
        (0..=ladder.last()).find(|to| after(power(*to)) <= bound).unwrap_or(ladder.last())
    };
    let least = match after(watts) > held + OVER {
        true => first(held, &|to| meter.at(ladder, notch, to)).max(notch),
        false => 0,
    };
    let rise = first(held - UNDER, &|to| meter.at_work(ladder, notch, to));
    let ahead = match fit.until(held, celsius, watts) {
        Some(seconds) => Ahead::Reaches { seconds },
        None => Ahead::Settles { celsius: fit.steady(watts) },
    };
    (least, rise, ahead)
}

/// Without a model: a few notches at a time, by where the temperature heads.
fn by_trend(place: Place<'_>, known: &Known, held: f64) -> (usize, usize, Ahead) {
    let last = place.ladder.last();
    let ahead = known.celsius + known.trend.max(0.0) * TREND;
    let least = match ahead > held {
        true => (place.notch + notches_for(ahead - held)).min(last),
        false => 0,
    };
    let room = held - UNDER_TREND - ahead;
    // Half of the way is gone at a time.
    let rise = match room > 0.0 {
        true => place.notch.saturating_sub(2 * notches_for(room)),
        false => place.notch,
    };
    (least, rise.max(least), Ahead::Unknown)
}

/// One notch, and one more for each four kelvins too many or too few, up to six.
fn notches_for(kelvins: f64) -> usize {
    [4.0, 8.0, 12.0, 16.0, 20.0].iter().filter(|bound| kelvins >= **bound).count() + 1
}

/// To stay within a power budget. Where power cannot be read, the board is held
/// as low as one that cannot be watched.
pub(super) fn of_budget(place: Place<'_>, budget: f64) -> Wish {
    let (ladder, notch, meter) = (place.ladder, place.notch, place.meter);
    let Some(watts) = place.watts else {
        let blind = ladder.blind();
        return Wish::at(blind, Limiting::Budget { watts: None, budget });
    };
    let first = |bound: f64, power: &dyn Fn(usize) -> f64| {
        (0..=ladder.last()).find(|to| power(*to) <= bound).unwrap_or(ladder.last())
    };
    let least = match watts > budget * BUDGET_OVER {
        true => first(budget * BUDGET_UNDER, &|to| meter.at(ladder, notch, to)).max(notch),
        false => 0,
    };
    let rise = first(budget * BUDGET_UNDER, &|to| meter.at_work(ladder, notch, to));
    let because = Limiting::Budget { watts: Some(watts), budget };
    Wish { least, rise: rise.max(least), urgent: false, because }
}
