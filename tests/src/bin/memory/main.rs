//! Measures the store of vectors against FAISS's exact index: the same vectors, the
//! same questions, in turn, in one run. `scripts/bench memory` sets up what it needs.

#![forbid(unsafe_code)]

mod data;
mod faiss;
mod ours;
mod table;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Parser;

use data::Data;
use faiss::Faiss;
use ours::Ours;

/// How many vectors are looked for.
const WANTED: usize = 10;

#[derive(Debug, Parser)]
#[command(about = "Measures the store of vectors against faiss-cpu's IndexFlatIP")]
struct Arguments {
    /// Python with faiss-cpu and numpy.
    #[arg(long)]
    python: PathBuf,
    /// The program that holds FAISS's index.
    #[arg(long)]
    rival: PathBuf,
    /// Vectors in the store.
    #[arg(long, default_value_t = 100_000)]
    vectors: usize,
    /// Numbers in one vector.
    #[arg(long, default_value_t = 384)]
    dimension: usize,
    /// Questions of one round.
    #[arg(long, default_value_t = 100)]
    questions: usize,
    /// Rounds; in each, both answer all questions.
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
    let mut faiss = Faiss::start(&arguments, &data, directory.path())?;
    let mut ours = Ours::build(&data, directory.path())?;

    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        rounds.push(table::Round { ours: ours.answer(&data)?, theirs: faiss.answer()? });
    }
    let recall = data::recall(&ours.found, faiss.found());
    let churned = ours.churn(&data)?;
    table::print(&arguments, &rounds, recall, &ours, &churned);
    Ok(())
}
