//! What clients ask, and asking it at once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Answer, Ask, Client, Reins};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sampling {
    /// The most likely token always.
    Greedy,
    /// As an editor asks for it; both servers' whole chain of samplers is at work.
    Drawn { seed: u32 },
}

/// A completion of exactly `max_tokens` tokens.
pub(crate) fn completion(prompt: &str, max_tokens: u32, sampling: Sampling) -> Ask {
    let body = json!({"prompt": prompt});
    Ask { path: "/v1/completions", body: with_settings(body, max_tokens, sampling) }
}

/// A chat's next turn of exactly `max_tokens` tokens.
pub(crate) fn chat(system: &str, user: &str, max_tokens: u32) -> Ask {
    let body = json!({"messages": [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
    ]});
    Ask { path: "/v1/chat/completions", body: with_settings(body, max_tokens, Sampling::Greedy) }
}

/// The smallest thing to ask.
pub(crate) fn one_token() -> Ask {
    completion("The capital of France is", 1, Sampling::Greedy)
}

fn with_settings(mut body: Value, max_tokens: u32, sampling: Sampling) -> Value {
    body["max_tokens"] = json!(max_tokens);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    // Every answer has the length asked for, whatever the model would say.
    body["ignore_eos"] = json!(true);
    body["cache_prompt"] = json!(true);
    match sampling {
        Sampling::Greedy => body["temperature"] = json!(0),
        Sampling::Drawn { seed } => {
            body["temperature"] = json!(0.8);
            body["top_k"] = json!(40);
            body["top_p"] = json!(0.95);
            body["min_p"] = json!(0.05);
            body["seed"] = json!(seed);
        }
    }
    body
}

/// Answers that were asked for in the same moment, in the order of `asks`.
pub(crate) async fn together(address: SocketAddr, asks: Vec<Ask>) -> anyhow::Result<Vec<Answer>> {
    let mut running = JoinSet::new();
    for (index, (client, ask)) in connected(address, asks).await?.into_iter().enumerate() {
        running.spawn(async move {
            let answer = client.ask(&ask).await?;
            check_length(&answer, &ask)?;
            anyhow::Ok((index, answer))
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = running.join_next().await {
        answers.push(done.context("run a client")??);
    }
    answers.sort_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// All connections are there before the first request goes out.
async fn connected(address: SocketAddr, asks: Vec<Ask>) -> anyhow::Result<Vec<(Client, Ask)>> {
    let mut clients = Vec::new();
    for ask in asks {
        clients.push((Client::connect(address).await?, ask));
    }
    Ok(clients)
}

/// A server that stops early would look faster than it is.
fn check_length(answer: &Answer, ask: &Ask) -> anyhow::Result<()> {
    let usage = answer.usage.context("the server gave no usage")?;
    ensure!(
        json!(usage.completion_tokens) == ask.body["max_tokens"],
        "the server gave {} tokens where {} were asked for",
        usage.completion_tokens,
        ask.body["max_tokens"]
    );
    Ok(())
}

/// All tokens of these answers over the time from the first request to the last end.
pub(crate) fn tokens_per_s(answers: &[Answer]) -> f64 {
    let usages = answers.iter().filter_map(|answer| answer.usage);
    let tokens: u64 = usages.map(|usage| usage.completion_tokens).sum();
    let from = answers.iter().map(|answer| answer.sent).min();
    let to = answers.iter().map(|answer| answer.ended).max();
    let time = from.zip(to).map_or(Duration::ZERO, |(from, to)| to - from);
    tokens as f64 / time.as_secs_f64()
}

/// Streams that run until they are told to stop.
#[derive(Debug)]
pub(crate) struct Background {
    running: JoinSet<anyhow::Result<Answer>>,
    stop: watch::Sender<bool>,
}

impl Background {
    /// Starts the streams and returns when each has shown `pieces` pieces.
    pub(crate) async fn start(
        address: SocketAddr,
        asks: Vec<Ask>,
        pieces: usize,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (count, mut counted) = watch::channel(0);
        let reins = Reins { stop: stopped, running_after: pieces, running: count };
        let wanted = asks.len();
        let mut running = JoinSet::new();
        for (client, ask) in connected(address, asks).await? {
            let reins = reins.clone();
            running.spawn(async move { client.ask_held(&ask, reins).await });
        }
        drop(reins);
        tokio::select! {
            all = counted.wait_for(|count| *count == wanted) => {
                all.context("a stream ended before all were running")?;
            }
            Some(ended) = running.join_next() => {
                ended.context("run a client")??;
                anyhow::bail!("a stream ended before all were running");
            }
        }
        Ok(Self { running, stop })
    }

    /// Cuts the streams off and returns what they were given until then.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Vec<Answer>> {
        self.stop.send_replace(true);
        let mut answers = Vec::new();
        while let Some(done) = self.running.join_next().await {
            answers.push(done.context("run a client")??);
        }
        Ok(answers)
    }
}
