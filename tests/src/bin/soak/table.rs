//! The report as a table for people.

use crate::plan::Fault;
use crate::report::{Report, Spread, Trial};

/// One line: a title, what is said of each side, the goal, and whether ours
/// reaches it.
struct Row {
    title: String,
    ours: String,
    peer: String,
    goal: &'static str,
    met: Option<bool>,
}

/// Draws it, with what one must know to read it.
pub(crate) fn draw(report: &Report) -> String {
    let headings = ["", "ours", "peer", "goal", ""].map(str::to_owned);
    let rows = rows(report).into_iter().map(|row| {
        let met = match row.met {
            Some(true) => "met",
            Some(false) => "SHORT",
            None => "",
        };
        [row.title, row.ours, row.peer, row.goal.to_owned(), met.to_owned()]
    });
    let lines: Vec<_> = std::iter::once(headings).chain(rows).collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text + "\n" + &notes(report)
}

fn rows(report: &Report) -> Vec<Row> {
    let both = |title: &str, of: &dyn Fn(&Trial) -> String| Row {
        title: title.to_owned(),
        ours: of(&report.ours),
        peer: report.peer.as_ref().map_or_else(|| "–".to_owned(), of),
        goal: "",
        met: None,
    };
    let judged = |title: &str, of: &dyn Fn(&Trial) -> usize| Row {
        goal: "0",
        met: Some(of(&report.ours) == 0),
        ..both(title, &|trial| of(trial).to_string())
    };
    let number = |title: &str, of: fn(&Trial) -> usize| both(title, &|trial| of(trial).to_string());
    let mut rows = vec![
        number("requests", |trial| trial.counts.requests),
        number("  clients that went away", |trial| trial.counts.left),
        number("  clients that read slowly", |trial| trial.counts.read_slowly),
        number("faults", |trial| trial.faults.values().sum()),
    ];
    for fault in FAULTS {
        let count = |trial: &Trial| trial.faults.get(&fault).copied().unwrap_or(0);
        if count(&report.ours) > 0 {
            rows.push(both(&format!("  {}", fault.title()), &|trial| count(trial).to_string()));
        }
    }
    rows.extend([
        judged("lost", &|trial| trial.counts.lost),
        judged("text twice or missing", &|trial| trial.counts.repeated + trial.counts.missing),
        Row {
            met: report.reproducible.then_some(report.ours.counts.differing == 0),
            ..judged("another answer than undisturbed", &|trial| trial.counts.differing)
        },
        both("equal to the undisturbed one", &equal),
        both("log-probabilities equal", &scores),
        number("fetched to the end after a cut", |trial| trial.counts.came_back),
        number("cut with the supervisor, no id yet", |trial| trial.counts.cut_with_supervisor),
        number("turned away for the moment", |trial| trial.counts.turned_away),
        judged("hangs that nobody noticed", &|trial| trial.unnoticed_hangs),
        judged("deaths without a fault", &|trial| trial.unexplained_deaths),
    ]);
    for fault in [Fault::Kill, Fault::KillTwice, Fault::Stop] {
        if report.ours.pauses.contains_key(&fault) {
            let title = format!("pause, {}", fault.title());
            rows.push(both(&title, &|trial| seconds(trial.pauses.get(&fault).copied())));
        }
    }
    rows.extend([
        both("  part: detect", &|trial| seconds(trial.parts.detect)),
        both("  part: restart", &|trial| seconds(trial.parts.restart)),
        both("  part: load", &|trial| seconds(trial.parts.load)),
        both("  part: prefill", &|trial| seconds(trial.parts.prefill)),
        both("load alone", &|trial| one(trial.alone.load_s, "s")),
        both("prefill alone", &|trial| one(trial.alone.prefill_tokens_per_s, "tokens/s")),
        Row {
            goal: "p50 ≤ 1.30",
            met: report.ours.pause_ratio.map(|ratio| ratio.p50 <= 1.3),
            ..both("pause after kill -9, to load and prefill", &|trial| ratio(trial.pause_ratio))
        },
        both("hang noticed after", &|trial| seconds(trial.hang_detection)),
        Row {
            goal: "all ≤ 1.00",
            met: report.ours.hang_ratio.map(|ratio| ratio.longest <= 1.0),
            ..both("  to 3 × the engine's p99 step + 1 s", &|trial| ratio(trial.hang_ratio))
        },
        both("usual gap between pieces, p99", &|trial| one(trial.usual_gap_p99_s, "s")),
    ]);
    rows.extend(extra(report));
    rows
}

const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::KillTwice,
    Fault::Stop,
    Fault::Hog,
    Fault::DiskFull,
    Fault::Restart,
    Fault::Crash,
];

/// The phases that only ours has.
fn extra(report: &Report) -> Vec<Row> {
    let row = |title: String, ours: usize| Row {
        title,
        ours: ours.to_string(),
        peer: String::new(),
        goal: "0",
        met: Some(ours == 0),
    };
    let mut rows = Vec::new();
    if let Some(it) = &report.starvation {
        let about = format!(
            "{:.0} s of starvation, {} requests, {} busy processes",
            it.duration_s, it.counts.requests, it.hogs
        );
        rows.push(row(format!("{about}: engines killed"), it.deaths));
        let wrong = it.counts.lost + it.counts.repeated + it.counts.missing;
        rows.push(row("  lost, text twice or missing".to_owned(), wrong));
    }
    if let Some(it) = &report.poison {
        let title = format!("{} poisoned requests: not refused", it.rounds);
        rows.push(row(title, it.unrefused));
        let title = format!("  {} answers beside them: lost or differing", it.others);
        rows.push(row(title, it.others_lost + it.others_differing));
    }
    rows
}

fn equal(trial: &Trial) -> String {
    let counts = &trial.counts;
    let ended = counts.equal + counts.differing + counts.repeated + counts.missing + counts.lost;
    share(counts.equal, ended)
}

fn scores(trial: &Trial) -> String {
    let compared = trial.counts.scores_compared;
    share(compared - trial.counts.scores_differing, compared)
}

fn share(part: usize, whole: usize) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{part} of {whole} ({:.1} %)", part as f64 / whole as f64 * 100.0),
    }
}

fn seconds(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |it| format!("{:.2} / {:.2} / {:.2} s", it.p50, it.p99, it.longest),
    )
}

fn ratio(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |it| format!("{:.2} / {:.2} / {:.2}", it.p50, it.p99, it.longest),
    )
}

fn one(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2} {unit}"))
}

fn notes(report: &Report) -> String {
    let peer = report.peer.as_ref().map_or_else(String::new, |peer| {
        format!(" Peer: {}, {:.0} s.", peer.program, peer.duration_s)
    });
    let mut notes = format!(
        "Ours: {}, {:.0} s.{peer} Model {}, {} threads, {} clients, {} different requests, seed {}.\n\
         Machine: {}.\n\
         Times are p50 / p99 / longest. A pause is a stream's longest gap while its engine was \
         gone, less its usual one.\n",
        report.ours.program,
        report.ours.duration_s,
        report.model,
        report.threads,
        report.clients,
        report.bodies,
        report.seed,
        report.machine,
    );
    for (side, counts) in [
        ("ours", Some(&report.ours.counts)),
        ("peer", report.peer.as_ref().map(|peer| &peer.counts)),
        ("starving", report.starvation.as_ref().map(|starvation| &starvation.counts)),
    ] {
        for (reason, count) in counts.iter().flat_map(|counts| &counts.reasons) {
            notes.push_str(&format!("  {side}: {count} × {reason}\n"));
        }
    }
    let incidents = report.ours.incidents.iter().map(|(kind, count)| format!("{count} {kind}"));
    let incidents = incidents.collect::<Vec<_>>().join(", ");
    notes.push_str(&format!("Incidents: {incidents}.\n"));
    match &report.failures[..] {
        [] => notes.push_str("Nothing went wrong that must not.\n"),
        failures => notes.push_str(&format!("FAILED: {}.\n", failures.join("; "))),
    }
    notes
}
