//! The report as a table for people.

use crate::measure::{Goal, Unit};
use crate::report::{Report, Row};
use tests::stats::Summary;

/// Above this share of the processors, other processes have spoiled the figures.
const FOREIGN_LIMIT: f64 = 0.05;

const HEADINGS: [&str; 7] = ["", "unit", "ours", "peer", "ratio", "goal", ""];

/// Draws it, with what one must know to read it.
pub(crate) fn draw(report: &Report) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(report.rows.iter().map(cells));
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text + "\n" + &notes(report)
}

fn cells(row: &Row) -> [String; HEADINGS.len()] {
    let unit = row.key.unit();
    [
        row.key.title(),
        unit.symbol().to_owned(),
        with_range(row.ours, |value| unit.number(value)),
        with_range(row.peer, |value| unit.number(value)),
        with_range(row.ratio, |value| format!("{value:.2}")),
        goal(row.key.goal(), unit),
        match row.met {
            Some(true) => "met".to_owned(),
            Some(false) => "SHORT".to_owned(),
            None => String::new(),
        },
    ]
}

/// `median (min–max)`; a single figure alone.
fn with_range(summary: Option<Summary>, number: impl Fn(f64) -> String) -> String {
    match summary {
        None => "–".to_owned(),
        Some(Summary { median, count: 1, .. }) => number(median),
        Some(Summary { median, min, max, .. }) => {
            format!("{} ({}–{})", number(median), number(min), number(max))
        }
    }
}

fn goal(goal: Goal, unit: Unit) -> String {
    match goal {
        Goal::RatioAtLeast(least) => format!("ratio ≥ {least:.2}"),
        Goal::RatioAtMost(most) => format!("ratio ≤ {most:.2}"),
        Goal::OursAtLeast(least) => format!("ours ≥ {} {}", unit.number(least), unit.symbol()),
        Goal::OursAtMost(most) => format!("ours ≤ {} {}", unit.number(most), unit.symbol()),
        Goal::None => String::new(),
    }
}

fn notes(report: &Report) -> String {
    let share =
        |summary: Option<Summary>, pick: fn(Summary) -> f64| summary.map_or(0.0, pick) * 100.0;
    let mut notes = format!(
        "Ours: {}. Peer: {}. Model {}, {} threads.\n\
         Machine: {}.\n\
         Figures are medians (least–most); a ratio is the median over pairs, ours to the peer's.\n\
         Making the load took {:.1} % of the processors, other processes {:.1} % (at worst {:.1} %).\n",
        report.run.ours,
        report.run.peer,
        report.run.model,
        report.run.threads,
        report.machine,
        share(report.load_cpu_share, |it| it.median),
        share(report.foreign_cpu_share, |it| it.median),
        share(report.foreign_cpu_share, |it| it.max),
    );
    if report.foreign_cpu_share.is_some_and(|it| it.max > FOREIGN_LIMIT) {
        notes.push_str("The machine was not quiet: measure again before you believe a figure.\n");
    }
    notes
}
