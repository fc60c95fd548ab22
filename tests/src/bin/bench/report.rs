//! From samples to rows: medians of each side, and the median of the ratios of
//! the pairs.

use std::collections::BTreeMap;

use ::tests::measured_on::MachineFacts;
use ::tests::rivals::version;
use ::tests::stats::Summary;
use serde::Serialize;

use crate::measure::Key;
use crate::plan::{Scenario, Side};
use crate::scenario::Sample;
use crate::server::Setup;

/// The whole result; the JSON document is this.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: MachineFacts,
    pub(crate) run: RunFacts,
    pub(crate) rows: Vec<Row>,
    /// Processor time that went to others while measuring, 0 to 1.
    pub(crate) foreign_cpu_share: Option<Summary>,
    /// Processor time that making the load took, 0 to 1.
    pub(crate) load_cpu_share: Option<Summary>,
    /// Every figure, in the order of measuring.
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RunFacts {
    pub(crate) ours: String,
    pub(crate) peer: String,
    pub(crate) model: String,
    pub(crate) threads: usize,
    pub(crate) quick: bool,
    pub(crate) seed: u64,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(rename = "name")]
    pub(crate) key: Key,
    pub(crate) ours: Option<Summary>,
    pub(crate) peer: Option<Summary>,
    /// Ours to the peer's, pair by pair.
    pub(crate) ratio: Option<Summary>,
    /// `null` where there is no goal.
    pub(crate) met: Option<bool>,
}

impl Report {
    pub(crate) fn new(setup: &Setup, seed: u64, quick: bool, twins: bool) -> anyhow::Result<Self> {
        let peer = version(&setup.programs.peer)?;
        let ours = if twins { peer.clone() } else { version(&setup.programs.stoker)? };
        Ok(Self {
            machine: MachineFacts::read()?,
            run: RunFacts {
                ours,
                peer,
                model: setup.serving.model.clone(),
                threads: setup.serving.threads,
                quick,
                seed,
            },
            rows: Vec::new(),
            foreign_cpu_share: None,
            load_cpu_share: None,
            samples: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Draws the conclusions; rows of which nothing was measured are left out.
    pub(crate) fn finish(mut self) -> Self {
        let rows = Key::all().into_iter().map(|key| Row::of(key, &self.samples));
        self.rows = rows.filter(|row| row.ours.or(row.peer).is_some()).collect();
        let conditions = || self.samples.iter().map(|sample| sample.conditions);
        let foreign: Vec<_> = conditions().map(|it| it.foreign_cpu_share).collect();
        let load: Vec<_> = conditions().map(|it| it.load_cpu_share).collect();
        self.foreign_cpu_share = Summary::of(&foreign);
        self.load_cpu_share = Summary::of(&load);
        self
    }
}

impl Row {
    fn of(key: Key, samples: &[Sample]) -> Self {
        let (ours, peer) = (values(key, Side::Ours, samples), values(key, Side::Peer, samples));
        let ratios: Vec<_> =
            ours.iter().filter_map(|(pair, ours)| peer.get(pair).map(|peer| ours / peer)).collect();
        let summary =
            |values: &BTreeMap<_, f64>| Summary::of(&values.values().copied().collect::<Vec<_>>());
        let (ours, peer, ratio) = (summary(&ours), summary(&peer), Summary::of(&ratios));
        let met = key.goal().is_met(ours.map(|it| it.median), ratio.map(|it| it.median));
        Self { key, ours, peer, ratio, met }
    }
}

/// One side's figures, by scenario and pair.
fn values(key: Key, side: Side, samples: &[Sample]) -> BTreeMap<(Scenario, usize), f64> {
    let of_side = samples.iter().filter(|sample| sample.side == side);
    of_side
        .filter_map(|sample| {
            let value = sample.readings.values.get(&key)?;
            Some(((sample.scenario, sample.pair), *value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Conditions, Readings};

    fn sample(side: Side, pair: usize, worst: f64) -> Sample {
        let mut readings = Readings::default();
        readings.values.insert(Key::PrefixWorst, worst);
        let conditions =
            Conditions { foreign_cpu_share: 0.0, load_cpu_share: 0.0, duration_s: 1.0 };
        Sample { scenario: Scenario::Prefix, side, pair, readings, conditions }
    }

    #[test]
    fn the_ratio_is_the_median_over_pairs_and_not_of_the_medians() {
        let samples = [
            sample(Side::Ours, 1, 1.0),
            sample(Side::Peer, 1, 10.0),
            sample(Side::Peer, 2, 2.0),
            sample(Side::Ours, 2, 1.0),
            sample(Side::Ours, 3, 3.0),
            sample(Side::Peer, 3, 4.0),
        ];
        let row = Row::of(Key::PrefixWorst, &samples);
        assert_eq!(row.ratio.map(|it| (it.min, it.median, it.max)), Some((0.1, 0.5, 0.75)));
        assert_eq!(row.met, Some(false));
    }

    #[test]
    fn a_side_without_its_pair_gives_no_ratio() {
        let row = Row::of(Key::PrefixWorst, &[sample(Side::Ours, 1, 1.0)]);
        assert_eq!((row.ratio, row.met), (None, None));
        assert_eq!(row.ours.map(|it| it.count), Some(1));
    }
}
