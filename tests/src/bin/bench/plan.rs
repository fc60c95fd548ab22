//! Which scenario runs when, on which side, and how long that will take.
//!
//! Pairs go round the scenarios rather than each scenario being finished
//! first: a slow change of the machine then touches all of them alike.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use ::tests::spoken::time_left;
use clap::ValueEnum;
use serde::Serialize;

/// One load on one freshly started server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Completion tokens/s at 1, 4 and 8 clients.
    Throughput,
    /// 4 clients at once with the same new prefix of 800 words.
    Prefix,
    /// 4 clients, alone and beside a busy process.
    Disturbed,
    /// A prompt of 3,000 tokens arrives while 4 streams run.
    LongPrompt,
    /// Nobody asks anything. Ours only.
    Idle,
    /// The same with telemetry slowed down: what else wakes up. Ours only.
    Quiet,
}

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    Ours,
    Peer,
}

/// One run of one scenario on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) scenario: Scenario,
    pub(crate) side: Side,
    /// Counted from 1.
    pub(crate) pair: usize,
    pub(crate) pairs: usize,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Ours => "ours",
            Side::Peer => "peer",
        };
        write!(f, "{:?}, pair {} of {}, {side}", self.scenario, self.pair, self.pairs)
    }
}

/// What is to be measured. `only` empty means everything; two peers have no
/// supervisor to look at.
pub(crate) fn scenarios(only: &[Scenario], twins: bool) -> Vec<Scenario> {
    let wanted = |scenario: &Scenario| only.is_empty() || only.contains(scenario);
    let there = |scenario: &Scenario| !twins || scenario.sides().len() == 2;
    SCENARIOS.into_iter().filter(wanted).filter(there).collect()
}

const SCENARIOS: [Scenario; 6] = [
    Scenario::Throughput,
    Scenario::Prefix,
    Scenario::Disturbed,
    Scenario::LongPrompt,
    Scenario::Idle,
    Scenario::Quiet,
];

impl Scenario {
    fn pairs(self, quick: bool) -> usize {
        match (self, quick) {
            (Self::Idle | Self::Quiet, _) => 1,
            (Self::Disturbed | Self::LongPrompt, true) => 1,
            (_, true) => 2,
            (Self::Throughput, false) => 5,
            (_, false) => 4,
        }
    }

    fn sides(self) -> &'static [Side] {
        match self {
            Self::Idle | Self::Quiet => &[Side::Ours],
            _ => &[Side::Ours, Side::Peer],
        }
    }

    /// How long one step took on two slow cores; only until one was timed here.
    fn guess(self, quick: bool) -> Duration {
        let (full_s, quick_s) = match self {
            Self::Throughput => (22, 11),
            Self::Prefix => (18, 18),
            Self::Disturbed => (38, 14),
            Self::LongPrompt => (22, 22),
            Self::Idle | Self::Quiet => (55, 19),
        };
        Duration::from_secs(if quick { quick_s } else { full_s })
    }
}

/// The steps that are left.
#[derive(Debug)]
pub(crate) struct Plan {
    left: VecDeque<Step>,
    total: usize,
    quick: bool,
    timed: BTreeMap<(Scenario, Side), Duration>,
}

impl Plan {
    /// `pairs` replaces the plan's own numbers.
    pub(crate) fn new(quick: bool, scenarios: &[Scenario], pairs: Option<usize>) -> Self {
        let numbered =
            |scenario: &Scenario| (*scenario, pairs.unwrap_or_else(|| scenario.pairs(quick)));
        let wanted: Vec<_> = scenarios.iter().map(numbered).collect();
        let most = wanted.iter().map(|(_, pairs)| *pairs).max().unwrap_or(0);
        let mut left = VecDeque::new();
        for pair in 1..=most {
            for (scenario, pairs) in wanted.iter().copied().filter(|(_, pairs)| pair <= *pairs) {
                let mut sides = scenario.sides().to_vec();
                if pair % 2 == 0 {
                    sides.reverse();
                }
                left.extend(sides.into_iter().map(|side| Step { scenario, side, pair, pairs }));
            }
        }
        Self { total: left.len(), left, quick, timed: BTreeMap::new() }
    }

    pub(crate) fn next(&mut self) -> Option<Step> {
        self.left.pop_front()
    }

    pub(crate) fn finished(&mut self, step: &Step, took: Duration) {
        self.timed.insert((step.scenario, step.side), took);
    }

    /// Says on standard error what runs now and how long is left.
    pub(crate) fn announce(&self, step: &Step) {
        let left: Duration =
            std::iter::once(step).chain(&self.left).map(|step| self.expected(step)).sum();
        let number = self.total - self.left.len();
        let line = format!("[{number}/{}] {step}; about {} left\n", self.total, time_left(left));
        // Progress is worth no failure.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn expected(&self, step: &Step) -> Duration {
        let timed = self.timed.get(&(step.scenario, step.side)).copied();
        timed.unwrap_or_else(|| step.scenario.guess(self.quick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(mut plan: Plan) -> Vec<(Scenario, usize, Side)> {
        std::iter::from_fn(|| plan.next())
            .map(|step| (step.scenario, step.pair, step.side))
            .collect()
    }

    #[test]
    fn pairs_alternate_and_go_round_the_scenarios() {
        let only = [Scenario::Throughput, Scenario::Prefix];
        assert_eq!(
            steps(Plan::new(false, &only, Some(2))),
            [
                (Scenario::Throughput, 1, Side::Ours),
                (Scenario::Throughput, 1, Side::Peer),
                (Scenario::Prefix, 1, Side::Ours),
                (Scenario::Prefix, 1, Side::Peer),
                (Scenario::Throughput, 2, Side::Peer),
                (Scenario::Throughput, 2, Side::Ours),
                (Scenario::Prefix, 2, Side::Peer),
                (Scenario::Prefix, 2, Side::Ours),
            ]
        );
    }

    #[test]
    fn the_peer_is_never_measured_idle() {
        let steps = steps(Plan::new(false, &[Scenario::Idle], None));
        assert_eq!(steps, [(Scenario::Idle, 1, Side::Ours)]);
    }

    #[test]
    fn a_timed_step_replaces_the_guess() {
        let mut plan = Plan::new(true, &[Scenario::Prefix], Some(2));
        let step = plan.next().unwrap();
        plan.finished(&step, Duration::from_secs(3));
        assert_eq!(plan.expected(&step), Duration::from_secs(3));
    }
}
