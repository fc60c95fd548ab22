//! From what was seen to what is said: spreads, ratios, and whether all that
//! must be so is so. The JSON document is [`Report`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tests::measured_on::MachineFacts;
use tests::rivals::version;
use tests::stats::percentile;

use crate::faults::Injected;
use crate::ledger::{Counts, Example, Ledger};
use crate::pauses::{Pause, pauses, recoveries, usual_gaps};
use crate::plan::Fault;
use crate::poison::Poison;
use crate::server::Setup;
use crate::starve::Starvation;
use crate::timeline::{Mark, Recovery, What};
use crate::trial::Side;

/// The whole result.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: MachineFacts,
    pub(crate) model: String,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) bodies: usize,
    /// Answers must equal their twins.
    pub(crate) reproducible: bool,
    pub(crate) ours: Trial,
    pub(crate) peer: Option<Trial>,
    pub(crate) starvation: Option<Starvation>,
    pub(crate) poison: Option<Poison>,
    /// What must not have happened and did.
    pub(crate) failures: Vec<String>,
}

/// One server's run.
#[derive(Debug, Serialize)]
pub(crate) struct Trial {
    pub(crate) program: String,
    pub(crate) duration_s: f64,
    pub(crate) counts: Counts,
    pub(crate) faults: BTreeMap<Fault, usize>,
    /// Hangs that nobody noticed.
    pub(crate) unnoticed_hangs: usize,
    pub(crate) stayed_down: usize,
    /// Deaths of the engine that no fault explains.
    pub(crate) unexplained_deaths: usize,
    pub(crate) alone: Alone,
    /// What ours said had happened, by kinds.
    pub(crate) incidents: BTreeMap<String, usize>,
    /// 99th percentile of the gaps between pieces that no fault touched.
    pub(crate) usual_gap_p99_s: Option<f64>,
    /// Standstills of streams, by the fault.
    pub(crate) pauses: BTreeMap<Fault, Spread>,
    /// Where they went, after kills.
    pub(crate) parts: Parts,
    /// From SIGSTOP until it was known.
    pub(crate) hang_detection: Option<Spread>,
    /// The same over three of the engine's slowest steps and a second.
    pub(crate) hang_ratio: Option<Spread>,
    /// Pauses after kills, over load and prefill of what was sent.
    pub(crate) pause_ratio: Option<Spread>,
    pub(crate) examples: Vec<Example>,
}

/// What the engine takes when nobody disturbs it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Alone {
    pub(crate) load_s: Option<f64>,
    pub(crate) prefill_tokens_per_s: Option<f64>,
}

/// Seconds, or a ratio.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

/// The parts of a pause.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Parts {
    pub(crate) detect: Option<Spread>,
    pub(crate) restart: Option<Spread>,
    pub(crate) load: Option<Spread>,
    pub(crate) prefill: Option<Spread>,
}

impl Alone {
    pub(crate) fn new(loads_s: &[f64], prefill_tokens_per_s: Option<f64>) -> Self {
        Self { load_s: percentile(loads_s, 50), prefill_tokens_per_s }
    }

    /// What bringing back so many tokens takes at least.
    fn least(&self, tokens: u64) -> Option<f64> {
        Some(self.load_s? + tokens as f64 / self.prefill_tokens_per_s?)
    }
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<_> = values.into_iter().collect();
        let [p50, p99, longest] = [50, 99, 100].map(|percent| percentile(&values, percent));
        Some(Self { count: values.len(), p50: p50?, p99: p99?, longest: longest? })
    }

    fn of_times(values: impl IntoIterator<Item = Duration>) -> Option<Self> {
        Self::of(values.into_iter().map(|time| time.as_secs_f64()))
    }
}

impl Trial {
    pub(crate) fn new(
        side: Side,
        setup: &Setup,
        ledger: &Ledger,
        injected: &Injected,
        marks: &[Mark],
        alone: Alone,
        duration: Duration,
    ) -> anyhow::Result<Self> {
        let recoveries = recoveries(&injected.done, marks);
        let all = pauses(&ledger.streams, &recoveries);
        let deaths = marks.iter().filter(|mark| mark.what == What::Died).count();
        let mut faults = BTreeMap::new();
        for done in &injected.done {
            *faults.entry(done.fault).or_default() += 1;
        }
        let kinds = [Fault::Kill, Fault::KillTwice, Fault::Stop];
        let spread = |fault| Some((fault, Spread::of_times(times(&all, fault))?));
        let kills = || all.iter().filter(|pause| pause.fault == Fault::Kill);
        let ratio =
            |pause: &Pause| Some(pause.time.as_secs_f64() / alone.least(pause.sent_tokens)?);
        Ok(Self {
            program: match side {
                Side::Ours => version(&setup.program)?,
                Side::Peer => format!("{}, in a restart loop", version(&setup.program)?),
            },
            duration_s: duration.as_secs_f64(),
            counts: ledger.counts.clone(),
            faults,
            unnoticed_hangs: injected.unnoticed,
            stayed_down: injected.stayed_down,
            unexplained_deaths: deaths.saturating_sub(injected.deaths),
            alone,
            incidents: BTreeMap::new(),
            usual_gap_p99_s: percentile(&usual_gaps(&ledger.streams, &recoveries), 99),
            pauses: kinds.into_iter().filter_map(spread).collect(),
            parts: Parts {
                detect: part(&recoveries, Fault::Kill, Recovery::detect),
                restart: part(&recoveries, Fault::Kill, Recovery::restart),
                load: part(&recoveries, Fault::Kill, Recovery::load),
                prefill: Spread::of_times(kills().map(|pause| pause.prefill)),
            },
            hang_detection: part(&recoveries, Fault::Stop, Recovery::detect),
            hang_ratio: Spread::of(recoveries.iter().filter_map(hang_ratio)),
            pause_ratio: Spread::of(kills().filter_map(ratio)),
            examples: ledger.examples.clone(),
        })
    }

    fn failures(&self, reproducible: bool) -> Vec<String> {
        let counts = &self.counts;
        let differing = if reproducible { counts.differing } else { 0 };
        let scores = if reproducible { counts.scores_differing } else { 0 };
        let all = [
            (counts.lost, "answers were lost"),
            (counts.repeated, "answers had text twice"),
            (counts.missing, "answers had text missing"),
            (differing, "answers differ from their twins"),
            (scores, "answers have other log-probabilities than their twins"),
            (self.unnoticed_hangs, "hangs were not noticed"),
            (self.stayed_down, "times the server was not ready again in time"),
            (self.unexplained_deaths, "engines died without a fault"),
        ];
        said(&all, "")
    }
}

/// How long a hang stayed unnoticed, to the longest that it may: three steps as
/// slow as 99 of 100 are at most, and a second.
fn hang_ratio((fault, recovery): &(Fault, Recovery)) -> Option<f64> {
    let bound = recovery.step? * 3 + Duration::from_secs(1);
    (*fault == Fault::Stop).then(|| recovery.detect().as_secs_f64() / bound.as_secs_f64())
}

fn times(pauses: &[Pause], fault: Fault) -> impl Iterator<Item = Duration> {
    pauses.iter().filter(move |pause| pause.fault == fault).map(|pause| pause.time)
}

fn part(
    recoveries: &[(Fault, Recovery)],
    fault: Fault,
    part: fn(&Recovery) -> Duration,
) -> Option<Spread> {
    let of_fault = recoveries.iter().filter(|(of, _)| *of == fault);
    Spread::of_times(of_fault.map(|(_, recovery)| part(recovery)))
}

fn said(all: &[(usize, &str)], place: &str) -> Vec<String> {
    let wrong = all.iter().filter(|(count, _)| *count > 0);
    wrong.map(|(count, what)| format!("{place}{count} {what}")).collect()
}

impl Report {
    /// Draws the conclusions. The peer is shown, not judged.
    pub(crate) fn finish(mut self) -> Self {
        self.failures = self.ours.failures(self.reproducible);
        if let Some(starvation) = &self.starvation {
            let counts = &starvation.counts;
            let differing = if self.reproducible { counts.differing } else { 0 };
            let all = [
                (starvation.deaths, "engines died that were only slow"),
                (counts.lost, "answers were lost"),
                (counts.repeated + counts.missing, "answers had text twice or missing"),
                (differing, "answers differ from their twins"),
            ];
            self.failures.extend(said(&all, "starving: "));
        }
        if let Some(poison) = &self.poison {
            let all = [
                (poison.others_lost, "answers were lost beside a poisoned request"),
                (poison.others_differing, "answers beside a poisoned request differ"),
                (poison.unrefused, "poisoned requests did not get an error"),
            ];
            self.failures.extend(said(&all, "poison: "));
        }
        self
    }
}
