//! Requests that end their engine each time they are tried, beside others that
//! do not: each poisoned one must get an error, and nobody else may notice.
//!
//! The engine here repeats its prompt and fails on request, so the others'
//! answers are known without asking first.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use tests::dice::Dice;
use tests::engine::{ECHO, Engine, install_into};
use tests::prompts::Prompts;
use tests::rivals::Serving;
use tokio::task::JoinSet;

use crate::ask::{Ask, Form};
use crate::client::{self, Ending, Outcome};
use crate::faults::ready_worker;
use crate::plan::Manner;
use crate::progress::Progress;
use crate::server::Setup;
use crate::trial::Side;

/// What a poisoned request does to its engine.
const FAULTS: [&str; 4] = ["exit", "garbage", "fail", "stall"];
/// Others that are answered at the same time.
const OTHERS: u64 = 4;
/// Time of one step, so that answers last a second or two.
const STEP_MS: u64 = 10;
/// Words of the others' prompts; a token is a byte here.
const WORDS: usize = 25;
/// Longest time for one answer: some deaths, with waits between them.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);

/// What poisoned requests did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Poison {
    pub(crate) rounds: usize,
    /// Poisoned requests that got something else than an error.
    pub(crate) unrefused: usize,
    /// Answers of the others.
    pub(crate) others: usize,
    pub(crate) others_lost: usize,
    pub(crate) others_differing: usize,
    /// The longest round in seconds.
    pub(crate) longest_s: f64,
}

/// Runs `rounds` rounds on an engine of its own below `work`.
pub(crate) async fn run(
    stoker: &Path,
    work: &Path,
    log: &Path,
    seed: u64,
    rounds: usize,
) -> anyhow::Result<Poison> {
    let state_dir = work.join("poison");
    let engine = Engine::echo_with_steps_of(STEP_MS).with_places(8);
    install_into(&state_dir, &engine);
    let serving = Serving {
        model: ECHO.to_owned(),
        weights: state_dir.clone(),
        context: 4096,
        sequences: 8,
        threads: 1,
    };
    let setup = Setup {
        program: stoker.into(),
        serving,
        state_dir,
        variables: Vec::new(),
        log: log.into(),
    };
    let server = Side::Ours.start(&setup).await?;
    let (mut poison, mut progress) = (Poison::default(), Progress::new());
    for round in 0..rounds {
        progress.say(round as f64 / rounds as f64, &format!("poison: {round} of {rounds} rounds"));
        ready_worker(&server).await.context("the engine did not come back")?;
        poison.round(server.address(), seed, round).await?;
    }
    server.stop().await?;
    Ok(poison)
}

impl Poison {
    async fn round(
        &mut self,
        server: std::net::SocketAddr,
        seed: u64,
        round: usize,
    ) -> anyhow::Result<()> {
        let started = std::time::Instant::now();
        let place = u64::try_from(round).expect("a usize fits 64 bits");
        let mut dice = Dice::new(seed, &[4, place]);
        let fault = FAULTS[round % FAULTS.len()];
        let text = |number| Prompts::new(seed, &[5, place, number]).text(WORDS);
        let poisoned = format!("!{fault}@{} {}", dice.within(1, 60), text(0));
        let mut others = JoinSet::new();
        for number in 1..=OTHERS {
            let text = text(number);
            others.spawn(async move { (ask(server, &text).await, text) });
        }
        let outcome = ask(server, &poisoned).await;
        self.unrefused += usize::from(!is_refused(&outcome));
        while let Some(other) = others.join_next().await {
            let (outcome, text) = other.context("run a client")?;
            self.others += 1;
            let is_whole = outcome.ending == Ending::Whole;
            if !is_whole || outcome.transcript.lack(&echo(&text)).is_some() {
                self.others_lost += 1;
            } else if outcome.transcript.choices[0].text != text {
                self.others_differing += 1;
            }
        }
        self.rounds += 1;
        self.longest_s = self.longest_s.max(started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Said in the stream or before it, but said: a connection that breaks, or a
/// time that runs out, is no error that a client can understand.
fn is_refused(outcome: &Outcome) -> bool {
    match &outcome.ending {
        Ending::Whole => outcome.transcript.error.is_some(),
        Ending::Broken(why) => why.starts_with("HTTP 5"),
        Ending::Left => false,
    }
}

async fn ask(server: std::net::SocketAddr, text: &str) -> Outcome {
    client::run(server, &echo(text), Manner::Eager, ANSWER_LIMIT).await
}

fn echo(text: &str) -> Ask {
    let body = json!({
        "messages": [{"role": "user", "content": text}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    Ask { path: "/v1/chat/completions", body, form: Form::Events, choices: 1 }
}
