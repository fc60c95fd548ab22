//! The goals, held against the outcomes, cell by cell.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::heat::cell::{Cell, Load};
use crate::heat::controller::{HELD, Kind};
use crate::heat::outcome::Outcome;

/// Every controller in one cell, on one draw of the board.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub cell: Cell,
    pub draw: u64,
    pub outcomes: BTreeMap<Kind, Outcome>,
}

/// What heat does to a board that nobody governs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It never reaches what is to be held: heat does not bind.
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
}

impl Goal {
    pub const ALL: [Self; 6] = [
        Self::Safe,
        Self::FreeTokens,
        Self::MarginTokens,
        Self::BoundTokens,
        Self::Joules,
        Self::Gap,
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
            Self::Gap => Some(0.70),
        }
    }

    /// Whether less is better.
    #[must_use]
    pub fn is_ceiling(self) -> bool {
        matches!(self, Self::Safe | Self::Gap)
    }

    fn is_met(self, value: f64) -> bool {
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
            hottest if hottest > HELD => Class::Margin,
            _ => Class::Free,
        })
    }

    /// What each goal is in this cell. `at_rest`: the board is safe without load.
    #[must_use]
    pub fn marks(&self, at_rest: bool) -> Vec<Mark> {
        let mark = |goal: Goal, value: Option<f64>| {
            let value = value?;
            Some(Mark { goal, cell: self.cell, draw: self.draw, value, met: goal.is_met(value) })
        };
        let values = [
            mark(Goal::Safe, at_rest.then(|| self.events())),
            mark(Goal::FreeTokens, self.tokens_to_rivals(Class::Free)),
            mark(Goal::MarginTokens, self.tokens_to_rivals(Class::Margin)),
            mark(Goal::BoundTokens, self.tokens_to_rivals(Class::Bound)),
            mark(Goal::Joules, self.joules()),
            mark(Goal::Gap, self.gap()),
        ];
        values.into_iter().flatten().collect()
    }

    fn events(&self) -> f64 {
        let ours = [Kind::Governor, Kind::Balanced, Kind::NoClock];
        let events = ours.iter().filter_map(|kind| self.of(*kind)).map(|outcome| {
            outcome.software_throttles + outcome.firmware_throttles + outcome.shutdowns
        });
        events.sum::<u64>() as f64
    }

    fn tokens_to_rivals(&self, class: Class) -> Option<f64> {
        if self.class()? != class {
            return None;
        }
        let safe = |outcome: &&Outcome| class != Class::Bound || outcome.is_safe();
        let rivals = Kind::RIVALS.iter().filter_map(|kind| self.of(*kind)).filter(safe);
        let best = rivals.map(|outcome| outcome.tokens_per_hour).reduce(f64::max)?;
        let ours = self.of(Kind::Governor)?.tokens_per_hour;
        (best > 0.0).then(|| ours / best)
    }

    fn joules(&self) -> Option<f64> {
        let of = |kind| self.of(kind)?.tokens_per_joule;
        Some(of(Kind::Balanced)? / of(Kind::Hardware)?)
    }

    fn gap(&self) -> Option<f64> {
        let of = |kind| self.of(kind)?.p95_gap_s;
        let loaded = self.cell.load.is_sustained();
        loaded.then_some(Some(of(Kind::Governor)? / of(Kind::Hardware)?)).flatten()
    }
}

/// All marks of all rows.
#[must_use]
pub fn judge(rows: &[Row]) -> Vec<Mark> {
    let same = |a: &Cell, b: &Cell| (a.module, a.ambient, a.fan) == (b.module, b.ambient, b.fan);
    let at_rest = |row: &Row| {
        let idle = rows.iter().find(|idle| {
            idle.cell.load == Load::Idle && idle.draw == row.draw && same(&idle.cell, &row.cell)
        });
        let idle = idle.and_then(|idle| idle.of(Kind::Hardware));
        idle.is_none_or(Outcome::is_unthrottled)
    };
    rows.iter().flat_map(|row| row.marks(at_rest(row))).collect()
}
