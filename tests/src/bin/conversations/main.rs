//! Measures what is left of long conversations: facts that were said in passing, found
//! again after resets; how much of a prompt the engine has already; and that no prompt is
//! larger than its room. `scripts/bench memory conversations` sets up what it needs.

#![forbid(unsafe_code)]

mod budget;
mod facts;
mod flat;
mod inventing;
mod orders;
mod replay;
mod table;
mod transcripts;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "conversations", about = "Measures what is left of long conversations")]
struct Arguments {
    /// Recorded conversations, a JSON object on each line.
    #[arg(long)]
    transcripts: PathBuf,
    /// Those that settings were chosen on, or the others.
    #[arg(long, value_enum, default_value_t = Part::Report)]
    part: Part,
    /// Bytes of the window; a byte is a token of the engine that repeats its prompt.
    #[arg(long, default_value_t = 65_536)]
    window: u32,
    /// What is said and asked is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Random conversations of which each prompt is added up.
    #[arg(long, default_value_t = 100_000)]
    sequences: u64,
    /// Only these; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Scenario>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Tune,
    Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Facts that are asked for long after, and what of each prompt was there.
    Facts,
    /// Prompts against their room.
    Budget,
    /// Sentences of a model that invents.
    Inventing,
    /// First tokens in 100 turns with the small model.
    Flat,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let wanted = |scenario| arguments.only.is_empty() || arguments.only.contains(&scenario);
    let transcripts = transcripts::read(&arguments.transcripts, arguments.part)?;
    if wanted(Scenario::Budget) {
        table::budget(&budget::run(arguments.sequences, arguments.seed));
    }
    if wanted(Scenario::Inventing) {
        table::inventing(&inventing::run(&transcripts, arguments.seed));
    }
    if wanted(Scenario::Facts) {
        let mut all = Vec::new();
        for (number, transcript) in (0..).zip(&transcripts) {
            let planted = facts::plant(transcript, arguments.seed, number);
            let replayed = replay::run(&planted, arguments.window)?;
            table::transcript(transcript, &replayed);
            all.push(replayed);
        }
        table::facts(&all);
    }
    if wanted(Scenario::Flat) {
        table::flat(&flat::run(true), &flat::run(false));
    }
    Ok(())
}
