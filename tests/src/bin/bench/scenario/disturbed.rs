//! Four clients alone, then beside one busy process on the machine: how much
//! of the tokens/s is left. Once the process is of the servers' own session,
//! once of another, as a second service would be.

use super::{Readings, Scene};
use crate::load::{self, Sampling};
use crate::measure::Key;
use tests::spinner::Spinner;

const CLIENTS: u64 = 4;
/// Tokens for each client while the server notices that it is not alone.
const SETTLE_TOKENS: u32 = 8;

pub(super) async fn run(scene: &Scene<'_>) -> anyhow::Result<Readings> {
    let tokens = if scene.quick { 16 } else { 48 };
    let mut readings = Readings::default();
    let alone = tokens_per_s(scene, 0, tokens).await?;
    readings.detail("undisturbed_tokens_per_s", alone);
    for apart in [false, true] {
        let place = if apart { 3 } else { 1 };
        let spinner = Spinner::start(apart)?;
        tokens_per_s(scene, place, SETTLE_TOKENS).await?;
        let beside = tokens_per_s(scene, place + 1, tokens).await?;
        drop(spinner);
        readings.set(Key::DisturbedShare { apart }, beside / alone);
        readings.set(Key::DisturbedTokensPerS { apart }, beside);
    }
    Ok(readings)
}

async fn tokens_per_s(scene: &Scene<'_>, place: u64, tokens: u32) -> anyhow::Result<f64> {
    let prompts = scene.short_prompts(place, CLIENTS);
    let asks = prompts.iter().map(|prompt| load::completion(prompt, tokens, Sampling::Greedy));
    let answers = load::together(scene.server.address, asks.collect()).await?;
    Ok(load::tokens_per_s(&answers))
}
