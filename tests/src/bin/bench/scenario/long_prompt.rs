//! A prompt of 3,000 tokens arrives while four streams run: how long the worst
//! of them stands still.

use anyhow::{Context as _, ensure};

use super::{Readings, Scene};
use crate::client::Client;
use crate::load::{self, Background, Sampling};
use crate::measure::Key;

const STREAMS: u64 = 4;
/// Nearly a window: no stream ends by itself while the prompt is read.
const STREAM_TOKENS: u32 = 3900;
/// Pieces after which a stream counts as running.
const RUNNING_AFTER: usize = 8;
/// The vocabulary takes 1.13 tokens for one of the prompts' words.
const PROMPT_WORDS: usize = 2640;
/// Tokens after the prompt, so that a pause at its end is seen too.
const TOKENS: u32 = 8;
/// What counts as 3,000 tokens.
const PROMPT_TOKENS: std::ops::RangeInclusive<u64> = 2800..=3200;

pub(super) async fn run(scene: &Scene<'_>) -> anyhow::Result<Readings> {
    let address = scene.server.address;
    let prompts = scene.short_prompts(1, STREAMS);
    let asks =
        prompts.iter().map(|prompt| load::completion(prompt, STREAM_TOKENS, Sampling::Greedy));
    let long = load::completion(&scene.prompts(&[0]).text(PROMPT_WORDS), TOKENS, Sampling::Greedy);

    let client = Client::connect(address).await?;
    let streams = Background::start(address, asks.collect(), RUNNING_AFTER).await?;
    let answer = client.ask(&long).await?;
    let streams = streams.stop().await?;

    let usage = answer.usage.context("the long prompt's answer had no usage")?;
    ensure!(
        PROMPT_TOKENS.contains(&usage.prompt_tokens),
        "the long prompt has {} tokens, which is not about 3,000",
        usage.prompt_tokens
    );
    let gaps = streams.iter().map(|stream| stream.worst_gap(answer.sent, answer.ended));
    let worst = gaps.max().context("no stream was running")?;
    let first = answer.first_token().context("the long prompt's answer had no text")?;

    let mut readings = Readings::default();
    readings.set(Key::LongPromptGap, worst.as_secs_f64());
    readings.set(Key::LongPromptFirst, first.as_secs_f64());
    readings.detail("prompt_tokens", usage.prompt_tokens as f64);
    Ok(readings)
}
