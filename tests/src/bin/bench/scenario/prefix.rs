//! Four clients at once with the same new prefix of 800 words, as a team's
//! shared instructions are: who waits how long for the first token.

use anyhow::Context as _;

use super::{Readings, Scene};
use crate::load;
use crate::measure::Key;
use tests::stats::Summary;

const CLIENTS: u64 = 4;
const PREFIX_WORDS: usize = 800;
const QUESTION_WORDS: usize = 12;
/// The first token is what counts; the others show that the stream goes on.
const TOKENS: u32 = 8;

pub(super) async fn run(scene: &Scene<'_>) -> anyhow::Result<Readings> {
    let prefix = scene.prompts(&[0]).text(PREFIX_WORDS);
    let asks = (1..=CLIENTS).map(|client| {
        let question = scene.prompts(&[client]).text(QUESTION_WORDS);
        load::chat(&prefix, &question, TOKENS)
    });
    let answers = load::together(scene.server.address, asks.collect()).await?;

    let mut readings = Readings::default();
    let mut waits = Vec::new();
    for (client, answer) in answers.iter().enumerate() {
        let wait = answer.first_token().context("an answer had no text")?.as_secs_f64();
        readings.detail(format!("first_token_s_{client}"), wait);
        waits.push(wait);
        let usage = answer.usage.context("an answer had no usage")?;
        readings.detail(format!("prompt_tokens_{client}"), usage.prompt_tokens as f64);
    }
    let waits = Summary::of(&waits).context("no client was asked")?;
    readings.set(Key::PrefixWorst, waits.max);
    readings.set(Key::PrefixMedian, waits.median);
    Ok(readings)
}
