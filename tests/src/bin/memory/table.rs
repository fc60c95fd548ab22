//! What was measured, and which goals are met.

use tests::stats::{Summary, percentile};

use super::ours::{Churned, Ours};
use super::{Arguments, RIVALS};

/// How many times as fast as FAISS.
const FASTER: f64 = 4.0;
/// Share of the exact answer that is found.
const RECALL: f64 = 0.995;
/// The file after churn, as a multiple of a new one.
const SIZE: f64 = 1.2;

/// Milliseconds of each question.
pub(crate) struct Round {
    pub(crate) ours: Vec<f64>,
    /// Of each rival.
    pub(crate) theirs: Vec<Vec<f64>>,
}

fn goal(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[expect(clippy::print_stdout, reason = "the table is the program's result")]
pub(crate) fn speed(arguments: &Arguments, rounds: &[Round], recall: f64, ours: &Ours) {
    let median = |times: &[f64]| Summary::of(times).map_or(f64::NAN, |times| times.median);
    let Arguments { vectors, dimension, questions, .. } = arguments;
    println!(
        "{vectors} vectors of {dimension}, {questions} questions, {} rounds in turn; seed {}",
        rounds.len(),
        arguments.seed
    );
    let line = |name: &str, times: Vec<f64>, rest: &str| {
        let p95 = percentile(&times, 95).unwrap_or(f64::NAN);
        println!("  {name:12} median {:8.2} ms   p95 {p95:8.2} ms{rest}", median(&times));
    };
    line("ours", rounds.iter().flat_map(|round| &round.ours).copied().collect(), "");
    for (at, name) in RIVALS.iter().enumerate() {
        let times = rounds.iter().flat_map(|round| &round.theirs[at]).copied().collect();
        let ratios: Vec<_> =
            rounds.iter().map(|round| median(&round.theirs[at]) / median(&round.ours)).collect();
        let (ratio, least) =
            (median(&ratios), ratios.iter().copied().fold(f64::INFINITY, f64::min));
        let against = format!("   ours is {ratio:.2} times as fast, {least:.2} in the worst round");
        let met = format!("   goal {FASTER}: {}", goal(ratio >= FASTER));
        line(name, times, &(against + if at == 0 { &met } else { "" }));
    }
    println!("  recall@10                {recall:.4}   goal {RECALL}: {}", goal(recall >= RECALL));
    println!("  first question           {:.0} ms, with all vectors from the disk", ours.load_ms);
    println!("  written                  {:.0} µs each", ours.insert_us);
}

#[expect(clippy::print_stdout, reason = "the table is the program's result")]
#[expect(clippy::cast_precision_loss, reason = "bytes of a file that fits this disk")]
pub(crate) fn churn(churned: &Churned) {
    println!("  deleted                  {:.0} µs each, with text and words", churned.delete_us);
    let size = churned.bytes as f64 / churned.ideal as f64;
    println!(
        "  size after churn         {size:.2} of a new file ({} and {} bytes, {} vectors)   goal {SIZE}: {}",
        churned.bytes,
        churned.ideal,
        churned.left,
        goal(size <= SIZE)
    );
}
