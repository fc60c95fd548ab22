//! Measures the store of vectors against others that look at every vector: the same
//! vectors, the same questions, in turn, in one run. `scripts/bench memory` sets up what it needs.

#![forbid(unsafe_code)]

mod data;
mod ours;
mod progress;
mod rival;
mod table;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Parser;

use data::Data;
use ours::Ours;
use progress::Progress;
use rival::Rival;

/// FAISS comes first: goals are against it, and recall is against what it finds.
const RIVALS: [&str; 3] = ["faiss", "usearch", "sqlite-vec"];
/// How many vectors are looked for.
const WANTED: usize = 10;

#[derive(Debug, Parser)]
#[command(about = "Measures the store of vectors against faiss-cpu, usearch and sqlite-vec")]
struct Arguments {
    /// Python with the others and numpy.
    #[arg(long)]
    python: PathBuf,
    /// The program that holds them.
    #[arg(long)]
    rivals: PathBuf,
    /// Vectors in the store.
    #[arg(long, default_value_t = 100_000)]
    vectors: usize,
    /// Numbers in one vector.
    #[arg(long, default_value_t = 384)]
    dimension: usize,
    /// Questions of one round.
    #[arg(long, default_value_t = 100)]
    questions: usize,
    /// Rounds; in each, all of them answer all questions.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What the vectors are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.vectors >= 1000, "fewer than 1000 vectors show nothing");
    let data = Data::new(&arguments);
    let directory = tempfile::tempdir()?;
    let vectors = directory.path().join("vectors.f32");
    data.write(&vectors).context("write the vectors for the others")?;
    let start = |name| Rival::start(name, &arguments, &data, &vectors);
    let mut rivals = RIVALS.map(start).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut ours = Ours::build(&data, directory.path())?;

    let mut rounds = Vec::new();
    let mut progress = Progress::new("rounds", arguments.rounds);
    for _ in 0..arguments.rounds {
        let ours = ours.answer(&data)?;
        let theirs = rivals.iter_mut().map(Rival::answer).collect::<anyhow::Result<_>>()?;
        rounds.push(table::Round { ours, theirs });
        progress.more(1);
    }
    let recall = data::recall(&ours.found, rivals[0].found());
    drop(rivals);
    // Coming and going takes long where there are many.
    table::speed(&arguments, &rounds, recall, &ours);
    table::churn(&ours.churn(&data)?);
    Ok(())
}
