//! The goals, held against the outcomes, cell by cell.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::heat::cell::{Cell, Load};
use crate::heat::controller::{Kind, RIVALS_HOLD};
use crate::heat::oracle::{Best, Oracle};
use crate::heat::outcome::Outcome;

/// Every controller in one cell, on one draw of the board.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub cell: Cell,
    pub draw: u64,
    pub outcomes: BTreeMap<Kind, Outcome>,
    /// What is possible, if that was asked.
    pub oracle: Option<Possible>,
}

/// The best that constant settings reach, for each goal that the cell has.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Possible {
    pub tokens: Option<Best>,
    pub joules: Option<Best>,
    pub gap: Option<Best>,
    pub even_gap: Option<Best>,
}

/// What the oracle is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    Tokens,
    Joules,
    Gap,
}

/// Tokens an hour that a shorter gap may cost, as a share of the best rival's.
const KEPT: f64 = 0.98;

/// What heat does to a board that nobody governs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It never reaches what anybody holds: heat does not bind.
    Free,
    /// It gets hotter than that without slowing itself down: the margin costs.
    Margin,
    /// It slows itself down: heat binds.
    Bound,
}

/// A goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// No shutdown and no throttling, where a board at rest has none.
    Safe,
    /// Tokens an hour to the best rival's, where heat does not bind.
    FreeTokens,
    /// The same where the board gets warmer than what is held, but not too hot.
    MarginTokens,
    /// Tokens an hour to the best safe rival's, where heat binds.
    BoundTokens,
    /// Balanced's tokens for each joule to (a)'s.
    Joules,
    /// The gap between tokens to (a)'s, under sustained load.
    Gap,
    /// The same, and stalls, the longest of a hundred gaps, are no longer than (a)'s
    /// either. Beyond what the goals ask for: it shows what the shorter gap costs.
    EvenGap,
}

/// One goal in one cell.
#[derive(Debug, Clone, Serialize)]
pub struct Mark {
    pub goal: Goal,
    pub cell: Cell,
    pub draw: u64,
    /// Ours to theirs; for safety the number of throttlings and shutdowns.
    pub value: f64,
    pub met: bool,
    /// The same figure of the oracle's.
    pub possible: Option<f64>,
}

impl Goal {
    pub const ALL: [Self; 7] = [
        Self::Safe,
        Self::FreeTokens,
        Self::MarginTokens,
        Self::BoundTokens,
        Self::Joules,
        Self::Gap,
        Self::EvenGap,
    ];

    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Safe => "throttlings and shutdowns, all of ours",
            Self::FreeTokens => "tokens/h to the best rival's, heat does not bind",
            Self::MarginTokens => "the same, warmer than 92.5 °C and never throttled",
            Self::BoundTokens => "tokens/h to the best safe rival's, heat binds",
            Self::Joules => "balanced: tokens/J to (a)'s",
            Self::Gap => "p95 gap to (a)'s, sustained load",
            Self::EvenGap => "the same, with p99 no longer than (a)'s",
        }
    }

    /// The bound; `None` where the figure only tells what the margin costs.
    #[must_use]
    pub fn bound(self) -> Option<f64> {
        match self {
            Self::Safe => Some(0.0),
            Self::FreeTokens => Some(0.98),
            Self::MarginTokens => None,
            Self::BoundTokens => Some(1.10),
            Self::Joules => Some(1.15),
            Self::Gap | Self::EvenGap => Some(0.70),
        }
    }

    /// Whether less is better.
    #[must_use]
    pub fn is_ceiling(self) -> bool {
        matches!(self, Self::Safe | Self::Gap | Self::EvenGap)
    }

    pub(crate) fn is_met(self, value: f64) -> bool {
        match self.bound() {
            None => true,
            Some(bound) if self.is_ceiling() => value <= bound,
            Some(bound) => value >= bound,
        }
    }
}

impl Row {
    #[must_use]
    pub fn of(&self, kind: Kind) -> Option<&Outcome> {
        self.outcomes.get(&kind)
    }

    #[must_use]
    pub fn class(&self) -> Option<Class> {
        let alone = self.of(Kind::Hardware)?;
        Some(match alone.hottest_celsius {
            _ if !alone.is_unthrottled() => Class::Bound,
            hottest if hottest > RIVALS_HOLD => Class::Margin,
            _ => Class::Free,
        })
    }

    /// Asks the oracle for each goal that this cell has, and that is wanted.
    #[must_use]
    pub fn ask(&self, oracle: &mut Oracle, wanted: Option<Wanted>) -> Possible {
        let wants = |it: Wanted| wanted.is_none_or(|wanted| wanted == it);
        let safe = |outcome: &Outcome| outcome.is_safe();
        let mut possible = Possible::default();
        if self.cell.load == Load::Idle {
            return possible;
        }
        if self.class() == Some(Class::Bound) && wants(Wanted::Tokens) {
            possible.tokens = oracle.best(|it| safe(it).then_some(it.tokens_per_hour));
        }
        // A board that gets too hot at rest cannot be kept safe by anybody.
        if wants(Wanted::Joules) {
            possible.joules = oracle.best(|it| it.tokens_per_joule.filter(|_| safe(it)));
        }
        let floor = self.best_rival().map_or(0.0, |tokens| tokens * KEPT);
        if self.cell.load.is_sustained() && wants(Wanted::Gap) {
            let gap = |it: &Outcome| {
                let keeps = safe(it) && it.tokens_per_hour >= floor;
                it.p95_gap_s.filter(|_| keeps).map(|gap| -gap)
            };
            possible.gap = oracle.best(gap);
            possible.even_gap = oracle.best(|it| gap(it).filter(|_| self.is_even(it)));
        }
        possible
    }

    /// What each goal is in this cell. `at_rest`: the board is safe without load.
    #[must_use]
    pub fn marks(&self, at_rest: bool) -> Vec<Mark> {
        let mark = |goal: Goal| {
            let value = self.figure(goal, at_rest)?;
            let possible = self.possible(goal);
            let (cell, draw) = (self.cell, self.draw);
            let even = || self.of(Kind::Governor).is_some_and(|ours| self.is_even(ours));
            let met = goal.is_met(value) && (goal != Goal::EvenGap || even());
            Some(Mark { goal, cell, draw, value, met, possible })
        };
        Goal::ALL.into_iter().filter_map(mark).collect()
    }

    fn figure(&self, goal: Goal, at_rest: bool) -> Option<f64> {
        let of_class = |class| {
            let ours = self.of(Kind::Governor)?.tokens_per_hour;
            (self.class() == Some(class)).then(|| self.tokens_to_rivals(ours)).flatten()
        };
        match goal {
            Goal::Safe => at_rest.then(|| self.events()),
            Goal::FreeTokens => of_class(Class::Free),
            Goal::MarginTokens => of_class(Class::Margin),
            Goal::BoundTokens => of_class(Class::Bound),
            Goal::Joules => self.joules(self.of(Kind::Balanced)?),
            Goal::Gap | Goal::EvenGap => self.gap(self.of(Kind::Governor)?),
        }
    }

    fn possible(&self, goal: Goal) -> Option<f64> {
        let Possible { tokens, joules, gap, even_gap } = self.oracle.as_ref()?;
        let of = |best: &'_ Option<Best>| best.as_ref().map(|best| best.outcome.clone());
        match goal {
            Goal::Safe | Goal::FreeTokens | Goal::MarginTokens => None,
            Goal::BoundTokens => self.tokens_to_rivals(of(tokens)?.tokens_per_hour),
            Goal::Joules => self.joules(&of(joules)?),
            Goal::Gap => self.gap(&of(gap)?),
            Goal::EvenGap => self.gap(&of(even_gap)?),
        }
    }

    fn events(&self) -> f64 {
        let ours = [Kind::Governor, Kind::Balanced, Kind::NoClock];
        let events = ours.iter().filter_map(|kind| self.of(*kind)).map(|outcome| {
            outcome.software_throttles + outcome.firmware_throttles + outcome.shutdowns
        });
        events.sum::<u64>() as f64
    }

    /// Tokens an hour of the best rival, where heat binds of the best safe one.
    fn best_rival(&self) -> Option<f64> {
        let bound = self.class()? == Class::Bound;
        let safe = |outcome: &&Outcome| !bound || outcome.is_safe();
        let rivals = Kind::RIVALS.iter().filter_map(|kind| self.of(*kind)).filter(safe);
        rivals.map(|outcome| outcome.tokens_per_hour).reduce(f64::max)
    }

    fn tokens_to_rivals(&self, ours: f64) -> Option<f64> {
        let best = self.best_rival()?;
        (best > 0.0).then(|| ours / best)
    }

    fn joules(&self, ours: &Outcome) -> Option<f64> {
        Some(ours.tokens_per_joule? / self.of(Kind::Hardware)?.tokens_per_joule?)
    }

    /// Its stalls are no longer than (a)'s.
    fn is_even(&self, outcome: &Outcome) -> bool {
        let theirs = self.of(Kind::Hardware).and_then(|it| it.p99_gap_s).unwrap_or(f64::INFINITY);
        outcome.p99_gap_s.is_some_and(|ours| ours <= theirs)
    }

    fn gap(&self, ours: &Outcome) -> Option<f64> {
        let theirs = self.of(Kind::Hardware)?.p95_gap_s;
        self.cell.load.is_sustained().then_some(Some(ours.p95_gap_s? / theirs?)).flatten()
    }
}

/// All marks of all rows.
#[must_use]
pub fn judge(rows: &[Row]) -> Vec<Mark> {
    let same = |a: &Cell, b: &Cell| {
        (a.module, a.mode, a.ambient, a.fan) == (b.module, b.mode, b.ambient, b.fan)
    };
    let at_rest = |row: &Row| {
        let idle = rows.iter().find(|idle| {
            idle.cell.load == Load::Idle && idle.draw == row.draw && same(&idle.cell, &row.cell)
        });
        let idle = idle.and_then(|idle| idle.of(Kind::Hardware));
        idle.is_none_or(Outcome::is_unthrottled)
    };
    rows.iter().flat_map(|row| row.marks(at_rest(row))).collect()
}
