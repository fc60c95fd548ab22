//! What was measured, and which goals are met.

#![expect(clippy::print_stdout, reason = "the table is the program's result")]
#![expect(clippy::cast_precision_loss, reason = "counts of tokens, far below 2^52")]

use std::ops::Range;

use tests::stats::{Summary, percentile};

use super::budget::Budget;
use super::flat::Flat;
use super::inventing::Inventing;
use super::replay::{Found, Replayed};
use super::transcripts::Transcript;

/// Shares of facts that are found.
const DIRECT: f64 = 0.95;
const PARAPHRASED: f64 = 0.90;
/// Share of the prompts' tokens that the engine had.
const REUSED: f64 = 0.85;
/// Times fewer tokens than with chunks first.
const FEWER: f64 = 6.0;
/// First tokens at a conversation's end as a multiple of those near its beginning.
const FLAT: f64 = 1.25;
/// The turns that are compared for that.
const EARLY: Range<usize> = 10..20;
const LATE: Range<usize> = 90..100;

fn goal(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn share(found: Found) -> f64 {
    found.found as f64 / found.asked.max(1) as f64
}

pub(crate) fn budget(budget: &Budget) {
    let Budget { sequences, prompts, resets, refused, violations } = budget;
    println!("{sequences} random conversations, {prompts} prompts, {resets} resets");
    println!("  refused with their numbers   {refused}");
    println!("  larger than their room       {violations}   goal 0: {}", goal(*violations == 0));
}

pub(crate) fn inventing(inventing: &Inventing) {
    let Inventing { blocks, invented, true_ones, invented_kept, true_kept, unknown } = inventing;
    println!("{blocks} blocks of the transcripts, each sentence with one thing invented in it");
    println!(
        "  invented sentences kept      {invented_kept} of {invented}   goal 0: {}",
        goal(*invented_kept == 0 && *unknown == 0)
    );
    println!("  true ones kept               {true_kept} of {true_ones}");
}

pub(crate) fn transcript(transcript: &Transcript, replayed: &Replayed) {
    let Replayed { turns, resets, tokens, cached, direct, paraphrased, .. } = replayed;
    println!("{}: {turns} turns, {resets} resets", transcript.id);
    println!(
        "  found {}/{} direct, {}/{} paraphrased; {:.3} of the tokens were there",
        direct.found,
        direct.asked,
        paraphrased.found,
        paraphrased.asked,
        *cached as f64 / *tokens as f64
    );
}

pub(crate) fn facts(all: &[Replayed]) {
    let sum = |of: fn(&Replayed) -> u64| all.iter().map(of).sum::<u64>() as f64;
    let found = |of: fn(&Replayed) -> Found| {
        all.iter().map(of).fold(Found::default(), |sum, one| Found {
            asked: sum.asked + one.asked,
            found: sum.found + one.found,
        })
    };
    let (direct, other) = (found(|one| one.direct), found(|one| one.paraphrased));
    println!("all of them");
    let line = |name: &str, found: Found, wanted: f64| {
        let met = goal(share(found) >= wanted);
        println!("  {name:28} {:.3} of {}   goal {wanted}: {met}", share(found), found.asked);
    };
    line("found, asked in its words", direct, DIRECT);
    line("found, asked in others", other, PARAPHRASED);
    println!("  found, truncated as Ollama does  {:.3}", share(found(|one| one.truncated)));
    let old: usize = all.iter().map(|one| one.old).sum();
    let alone: usize = all.iter().map(|one| one.old_alone).sum();
    println!(
        "  old values in prompts        {old}, without the new one {alone}   goal 0: {}",
        goal(alone == 0)
    );
    let (tokens, cached) = (sum(|one| one.tokens), sum(|one| one.cached));
    let computed = tokens - cached;
    println!(
        "  of prompts, there already    {:.3}   goal {REUSED}: {}",
        cached / tokens,
        goal(cached / tokens >= REUSED)
    );
    let turns: f64 = all.iter().map(|one| one.turns as f64).sum();
    let theirs = sum(|one| one.costs.chunks_first);
    let theirs_of_it = sum(|one| one.costs.chunks_first_answers);
    let fewer = theirs / computed;
    let without = (theirs - theirs_of_it) / (computed - sum(|one| one.computed.answers));
    println!("  computed in a turn           {:.0} tokens", computed / turns);
    let why = |of: fn(&Replayed) -> u64| sum(of) / turns;
    println!(
        "    of them said since           {:.0}; after resets {:.0}, after masking {:.0}, else {:.0}",
        why(|one| one.computed.said),
        why(|one| one.computed.reset),
        why(|one| one.computed.masked),
        why(|one| one.computed.around)
    );
    println!(
        "  with chunks, summary, query  {:.0} tokens, {fewer:.1} times as many   goal {FEWER}: {}",
        theirs / turns,
        goal(fewer >= FEWER)
    );
    println!(
        "    of answers, which an engine has that gives them  {:.0} and {:.0}; without {without:.1} times as many",
        why(|one| one.computed.answers),
        theirs_of_it / turns
    );
    println!("  truncated as Ollama does     {:.0} tokens", sum(|one| one.costs.truncated) / turns);
    let longest = all.iter().map(|one| one.longest).max().unwrap_or_default();
    println!("  longest prompt with answer   {longest} tokens");
}

pub(crate) fn flat(with: &Flat, without: &Flat) {
    println!("{} turns with the small model, first token", with.first_token_ms.len());
    for (name, flat) in [("with work between turns", with), ("without", without)] {
        let quarter = flat.first_token_ms.len() / 4;
        let median = |times: &[f64]| Summary::of(times).map_or(f64::NAN, |summary| summary.median);
        let quarters: Vec<f64> = flat.first_token_ms.chunks(quarter).map(median).collect();
        let after: Vec<f64> = flat.resets.iter().map(|&turn| flat.first_token_ms[turn]).collect();
        let p95 = percentile(&flat.first_token_ms, 95).unwrap_or(f64::NAN);
        let shown: Vec<String> = quarters.iter().map(|ms| format!("{ms:.0}")).collect();
        println!("  {name}");
        println!("    median of each quarter     {} ms; p95 {p95:.0} ms", shown.join(", "));
        let [early, late] = [EARLY, LATE].map(|turns| median(&flat.first_token_ms[turns]));
        println!(
            "    turns {} to {} over {} to {}  {:.2}, {late:.0} of {early:.0} ms   goal {FLAT}: {}",
            LATE.start,
            LATE.end,
            EARLY.start,
            EARLY.end,
            late / early,
            goal(late <= early * FLAT)
        );
        println!(
            "    of turns after a reset     median {:.0} ms of {} resets",
            median(&after),
            after.len()
        );
        let (asked, kept) = flat.summaries;
        println!(
            "    summaries                  {asked} made, {kept} with anything to believe, {} in one prompt",
            flat.installed
        );
    }
}
