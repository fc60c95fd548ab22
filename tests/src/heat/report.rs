//! The outcomes as tables for people.

use std::fmt::Write as _;

use crate::heat::cell::Load;
use crate::heat::controller::Kind;
use crate::heat::outcome::Outcome;
use crate::heat::verdict::{Class, Goal, Mark, Row};

/// Worst cells that are shown of each goal.
const WORST: usize = 5;

/// The goals, each with its worst cells, then each controller's sums.
#[must_use]
pub fn draw(rows: &[Row], marks: &[Mark]) -> String {
    let mut text = String::new();
    for goal in Goal::ALL {
        draw_goal(goal, marks, &mut text);
    }
    text.push('\n');
    for class in [Class::Free, Class::Margin, Class::Bound] {
        draw_class(class, rows, &mut text);
    }
    text
}

fn draw_goal(goal: Goal, marks: &[Mark], text: &mut String) {
    let mut marks: Vec<&Mark> = marks.iter().filter(|mark| mark.goal == goal).collect();
    marks.sort_by(|a, b| a.value.total_cmp(&b.value));
    if goal.is_ceiling() {
        marks.reverse();
    }
    let met = marks.iter().filter(|mark| mark.met).count();
    let bound = match goal.bound() {
        None => "no goal".to_owned(),
        Some(bound) => {
            format!("goal {} {bound:.2}", if goal.is_ceiling() { "≤" } else { "≥" })
        }
    };
    let verdict = if met == marks.len() { "met" } else { "SHORT" };
    let verdict = if goal.bound().is_some() { verdict } else { "" };
    let _ = writeln!(text, "{}: {bound}, {met} of {} cells {verdict}", goal.title(), marks.len());
    let Some(median) = marks.get(marks.len() / 2) else { return };
    let _ = writeln!(text, "  median {:.3}; worst:", median.value);
    for mark in marks.iter().take(WORST) {
        let possible = mark.possible.map_or_else(String::new, |it| format!(", oracle {it:.3}"));
        let Mark { value, cell, draw, .. } = mark;
        let _ = writeln!(text, "  {value:>7.3}  {cell} (draw {draw}{possible})");
    }
    draw_possible(goal, &marks, text);
}

/// In how many cells the goal can be reached at all, how many of those ours
/// reaches, and how near it comes to the oracle's best.
fn draw_possible(goal: Goal, marks: &[&Mark], text: &mut String) {
    let asked: Vec<(&Mark, f64)> =
        marks.iter().filter_map(|mark| Some((*mark, mark.possible?))).collect();
    if asked.is_empty() {
        return;
    }
    let (can, cannot): (Vec<_>, Vec<_>) =
        asked.iter().partition(|(mark, possible)| mark.met || goal.is_met(*possible));
    let met = can.iter().filter(|(mark, _)| mark.met).count();
    let _ = writeln!(text, "  possible in {} cells: {met} of them met", can.len());
    let reached = range(cannot.iter().map(|(_, possible)| *possible));
    let _ = writeln!(text, "  not shown possible in {}: the oracle has {reached}", cannot.len());
    let share = range(asked.iter().map(|(mark, possible)| mark.value / possible));
    let _ = writeln!(text, "  ours to the oracle's best: {share}");
    let missed = can.iter().filter(|(mark, _)| !mark.met);
    let share = range(missed.map(|(mark, possible)| mark.value / possible));
    let _ = writeln!(text, "  the same where it is possible and not met: {share}");
}

fn range(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => "–".to_owned(),
        [first, .., last] => {
            format!("{first:.3} to {last:.3}, median {:.3}", values[values.len() / 2])
        }
        [only] => format!("{only:.3}"),
    }
}

const HEADINGS: [&str; 11] = [
    "",
    "answers/h",
    "tokens/h",
    "tokens/J",
    "p95 first",
    "p95 gap",
    "min>95",
    "throttled",
    "off",
    "ch/min",
    "most",
];

fn draw_class(class: Class, rows: &[Row], text: &mut String) {
    let of_class: Vec<&Row> = rows
        .iter()
        .filter(|row| row.class() == Some(class) && row.cell.load != Load::Idle)
        .collect();
    if of_class.is_empty() {
        return;
    }
    let name = match class {
        Class::Free => "heat does not bind",
        Class::Margin => "warmer than 92.5 °C, never throttled",
        Class::Bound => "heat binds",
    };
    let _ = writeln!(text, "{name}: means over {} cells with load", of_class.len());
    let lines = Kind::ALL.iter().filter_map(|kind| {
        let outcomes: Vec<&Outcome> = of_class.iter().filter_map(|row| row.of(*kind)).collect();
        (!outcomes.is_empty()).then(|| cells(kind.name(), &outcomes))
    });
    draw_lines(std::iter::once(HEADINGS.map(str::to_owned)).chain(lines), text);
}

/// Every cell and controller, one a line.
#[must_use]
pub fn draw_cells(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{} (draw {})", row.cell, row.draw);
        let lines = Kind::ALL
            .iter()
            .filter_map(|kind| row.of(*kind).map(|outcome| cells(kind.name(), &[outcome])));
        draw_lines(std::iter::once(HEADINGS.map(str::to_owned)).chain(lines), &mut text);
    }
    text
}

fn cells(name: &str, outcomes: &[&Outcome]) -> [String; HEADINGS.len()] {
    let mean = |pick: &dyn Fn(&Outcome) -> Option<f64>| {
        let values: Vec<f64> = outcomes.iter().filter_map(|outcome| pick(outcome)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let shown = |value: Option<f64>, digits: usize, unit: &str| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}{unit}"))
    };
    let most = outcomes.iter().map(|outcome| outcome.most_changes_in_a_minute).max().unwrap_or(0);
    let sum = |pick: fn(&Outcome) -> u64| outcomes.iter().map(|it| pick(it)).sum::<u64>();
    [
        name.to_owned(),
        shown(mean(&|it| Some(it.answers_per_hour)), 0, ""),
        shown(mean(&|it| Some(it.tokens_per_hour)), 0, ""),
        shown(mean(&|it| it.tokens_per_joule), 2, ""),
        shown(mean(&|it| it.p95_first_token_s), 1, " s"),
        shown(mean(&|it| it.p95_gap_s.map(|gap| gap * 1e3)), 0, " ms"),
        shown(mean(&|it| Some(it.minutes_above_95)), 1, ""),
        sum(|it| it.software_throttles + it.firmware_throttles).to_string(),
        sum(|it| it.shutdowns).to_string(),
        shown(mean(&|it| Some(it.changes_per_minute)), 2, ""),
        most.to_string(),
    ]
}

fn draw_lines(lines: impl Iterator<Item = [String; HEADINGS.len()]>, text: &mut String) {
    let lines: Vec<_> = lines.collect();
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    for line in lines {
        let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("  {cell:width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text.push('\n');
}
