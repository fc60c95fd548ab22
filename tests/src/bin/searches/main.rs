//! Measures how long a search of many chunks takes beside its question's vector: words,
//! meaning and names, as the server's own thread does it. `scripts/bench memory searches`
//! builds what it needs.

#![forbid(unsafe_code)]

mod code;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use nix::time::ClockId;
use supervisor::index::sources::Origin;
use supervisor::store::code::search::{Meant, Question, Search};
use supervisor::store::code::{Code, Embedded, Maker, NewRepository};
use tests::dice::Dice;
use tests::stats::{Summary, percentile};
use vector_scan::Row;

/// Files and texts that are written at one time.
const FILES: usize = 100;
const TEXTS: usize = 1000;
const DIMENSION: usize = 384;
/// Hits of one search, as a chat wants them.
const WANTED: usize = 20;
const IDENTITY: [u8; 32] = [1; 32];
/// Milliseconds at p95 of 100,000 chunks.
const GOAL: f64 = 10.0;

#[derive(Debug, Parser)]
#[command(about = "Measures how long searches of many chunks take")]
struct Arguments {
    #[arg(long, default_value_t = 100_000)]
    chunks: usize,
    /// Each is asked once.
    #[arg(long, default_value_t = 400)]
    questions: usize,
    /// What chunks and questions are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How long one search took.
#[derive(Debug, Clone, Copy)]
struct Took {
    waited: Duration,
    /// Of the processor, by this process.
    worked: Duration,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("code.db");
    let mut dice = Dice::new(arguments.seed, &[]);
    let words = code::Words::new();
    fill(open(&path)?, &words, arguments.chunks, &mut dice)?;
    let questions: Vec<_> = (0..arguments.questions).map(|_| words.question(&mut dice)).collect();
    let mut search = Search::new(&path);
    // Whoever comes first waits for the disk.
    let first = ask(&mut search, "first", &vector(&mut dice))?;
    let mut took = Vec::new();
    for question in &questions {
        took.push(ask(&mut search, question, &vector(&mut dice))?);
    }
    print(&arguments, first, &took);
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<(Code, i64)> {
    let mut code = Code::new(path);
    let origin = Origin::Path("/bench".into());
    let repository = code.add(&NewRepository { name: "bench".into(), origin, owner: None })?.id;
    let dimension = u32::try_from(DIMENSION)?;
    code.made_by(&Maker { identity: IDENTITY, model: "bench".into(), dimension })?;
    Ok((code, repository))
}

fn fill(
    (mut code, repository): (Code, i64),
    words: &code::Words,
    chunks: usize,
    dice: &mut Dice,
) -> anyhow::Result<()> {
    let files: Vec<_> = (0..chunks.div_ceil(code::FILE)).collect();
    for some in files.chunks(FILES) {
        let some: Vec<_> = some.iter().map(|number| words.file(*number, dice)).collect();
        code.apply(repository, &some).context("write files")?;
    }
    loop {
        let texts = code.unembedded(TEXTS)?;
        if texts.is_empty() {
            break;
        }
        let made = texts.into_iter().map(|text| {
            let row = Row::new(&vector(dice));
            Embedded { text: text.text, hash: text.hash, row }
        });
        code.embedded(IDENTITY, &made.collect::<Vec<_>>())?;
    }
    code.passed(repository)?;
    Ok(())
}

/// Vectors without any order make a search compare as many as others do.
fn vector(dice: &mut Dice) -> Vec<f32> {
    let number = |_| f32::from(i16::try_from(dice.within(0, 2000)).unwrap_or_default()) - 1000.0;
    (0..DIMENSION).map(number).collect()
}

fn ask(search: &mut Search, text: &str, values: &[f32]) -> anyhow::Result<Took> {
    let meant = Meant { identity: IDENTITY, values: values.to_vec() };
    let question = Question { text: text.to_owned(), limit: WANTED, ..Question::default() };
    let (began, before) = (Instant::now(), worked()?);
    let found = search.find(&question, Ok(&meant))?;
    let took = Took { waited: began.elapsed(), worked: worked()?.saturating_sub(before) };
    ensure!(found.words_only.is_none(), "no vector counted: {:?}", found.words_only);
    ensure!(found.hits.len() == WANTED, "only {} were found", found.hits.len());
    Ok(took)
}

fn worked() -> anyhow::Result<Duration> {
    Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID.now().context("read the processor's time")?.into())
}

#[expect(clippy::print_stdout, reason = "the table is the program's result")]
fn print(arguments: &Arguments, first: Took, took: &[Took]) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{} searches of {} chunks with vectors of {DIMENSION}; seed {}",
        took.len(),
        arguments.chunks,
        arguments.seed
    );
    let worked: Vec<_> = took.iter().map(|took| ms(took.worked)).collect();
    let waited: Vec<_> = took.iter().map(|took| ms(took.waited)).collect();
    for (name, times, first) in [("worked", worked, first.worked), ("waited", waited, first.waited)]
    {
        let median = Summary::of(&times).map_or(f64::NAN, |times| times.median);
        let p95 = percentile(&times, 95).unwrap_or(f64::NAN);
        let goal = if p95 <= GOAL { "met" } else { "missed" };
        println!(
            "  {name:8} median {median:6.2} ms   p95 {p95:6.2} ms   goal {GOAL:.0} at p95: {goal}   the first {:.0} ms",
            ms(first)
        );
    }
}
