//! Measures how fast code is indexed: the first pass, a pass that finds nothing new, the
//! time from an edit until it is found, and what vectors take of it all. Real processes,
//! from outside. `scripts/bench memory indexing` builds what it needs.

#![forbid(unsafe_code)]

mod code;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::engine::{Engine, install_embedder};
use tests::stats::{Summary, percentile};

use code::Code;

/// Between two looks whether something is found.
const LOOK: Duration = Duration::from_millis(3);
/// What nobody waits for any longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two edits, so that the next is one of its own.
const PAUSE: Duration = Duration::from_millis(100);
/// Goals, in milliseconds.
const NOTHING_NEW: f64 = 1000.0;
const EDIT: f64 = 300.0;

#[derive(Debug, Parser)]
#[command(about = "Measures how fast code is indexed and edits are found")]
struct Arguments {
    /// Files of the repository, of three functions each.
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Edits, and passes that find nothing else new.
    #[arg(long, default_value_t = 40)]
    edits: usize,
    /// Files whose texts get vectors from the real embedder; 0 for none.
    #[arg(long, default_value_t = 60)]
    embedded: usize,
    /// What the code is made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let code = Code::new(arguments.files, arguments.seed)?;
    let began = Instant::now();
    let appliance = setup(&code).start();
    let chunks = indexed(&appliance)?;
    let first_s = began.elapsed().as_secs_f64();
    let mut nothing_new = Vec::new();
    let mut edits = Vec::new();
    for number in 0..arguments.edits {
        // A file that decides about others has all of them looked at, and comes last.
        let word = format!("nothing{number}else");
        code.write("zz/.stokerignore", &format!("# {word}\n"))?;
        nothing_new.push(found_after(&appliance, &word)?);
        let word = format!("edited{number}now");
        code.edit(number * 7919, &word)?;
        edits.push(found_after(&appliance, &word)?);
    }
    let vectors = match arguments.embedded {
        0 => None,
        files => Some(embedded(files, arguments.seed)?),
    };
    print(&arguments, chunks, first_s, [&nothing_new, &edits], vectors);
    Ok(())
}

fn setup(code: &Code) -> Setup {
    // Polling never helps an edit here.
    let path = code.path().display();
    Setup::new(&Engine::echo()).config(&format!(
        "[index]\nperiod_s = 3600\n[[repository]]\nname = \"code\"\npath = \"{path}\"\n"
    ))
}

/// Waits for the first whole pass, and tells the chunks that it found.
fn indexed(appliance: &Appliance) -> anyhow::Result<u64> {
    loop {
        let status = appliance.status();
        let repository = &status["index"]["repositories"][0];
        anyhow::ensure!(repository["state"] != "failed", "it is not indexed: {repository}");
        anyhow::ensure!(repository["unwatched"].is_null(), "it is not watched: {repository}");
        if !repository["passed_at"].is_null() && repository["state"] == "indexed" {
            return repository["chunks"].as_u64().context("chunks are counted");
        }
        sleep(LOOK);
    }
}

/// Milliseconds until a word that was just written is found.
fn found_after(appliance: &Appliance, word: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let client = appliance.client();
    loop {
        let found: Value = client.post("/v1/search", &json!({"query": word, "limit": 1})).good();
        if found["data"].as_array().is_some_and(|hits| !hits.is_empty()) {
            let ms = began.elapsed().as_secs_f64() * 1e3;
            sleep(PAUSE);
            return Ok(ms);
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "{word} is not found");
        sleep(LOOK);
    }
}

/// Texts that got vectors, seconds of that, and its share of indexing and that together.
fn embedded(files: usize, seed: u64) -> anyhow::Result<(u64, f64, f64)> {
    let code = Code::new(files, seed)?;
    let setup = setup(&code);
    install_embedder(setup.state_path());
    let began = Instant::now();
    let appliance = setup.start();
    let _ = indexed(&appliance)?;
    let indexing = began.elapsed().as_secs_f64();
    loop {
        let vectors = &appliance.status()["index"]["vectors"];
        if vectors["left"] == 0 && vectors["made"].as_u64() > Some(0) {
            let made = vectors["made"].as_u64().unwrap_or_default();
            let all = began.elapsed().as_secs_f64();
            return Ok((made, all - indexing, (all - indexing) / all));
        }
        sleep(10 * LOOK);
    }
}

#[expect(clippy::print_stdout, reason = "the table is the program's result")]
#[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
fn print(
    arguments: &Arguments,
    chunks: u64,
    first_s: f64,
    [nothing_new, edits]: [&[f64]; 2],
    vectors: Option<(u64, f64, f64)>,
) {
    let Arguments { files, seed, .. } = arguments;
    println!("{files} files, {chunks} chunks; seed {seed}");
    println!(
        "  first pass               {first_s:.2} s with the server's start, {:.0} chunks/s",
        chunks as f64 / first_s
    );
    for (name, times, goal) in
        [("nothing else new, found", nothing_new, NOTHING_NEW), ("an edit, found", edits, EDIT)]
    {
        let median = Summary::of(times).map_or(f64::NAN, |times| times.median);
        let p95 = percentile(times, 95).unwrap_or(f64::NAN);
        let met = if p95 < goal { "met" } else { "missed" };
        println!(
            "  {name:24} median {median:6.0} ms   p95 {p95:6.0} ms   goal {goal:.0} at p95: {met}"
        );
    }
    match vectors {
        Some((made, seconds, share)) => println!(
            "  vectors                  {made} in {seconds:.1} s, {:.0} ms each; {:.0} % of the time until all is done",
            seconds * 1e3 / made as f64,
            share * 100.0
        ),
        None => println!("  vectors                  not measured"),
    }
}
