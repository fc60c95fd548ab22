//! Sends a conversation turn by turn to a server whose engine repeats its prompt, and
//! asks for facts on the way. What a prompt was is read where answers are kept.

use std::path::Path;

use anyhow::{Context, ensure};
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::appliance::{Appliance, Setup};
use tests::client::Client;
use tests::engine::Engine;

use super::facts::{Fact, LATER, Planted};
use super::orders::{Costs, Orders};
use super::transcripts::{asks, content};

const CHAT: &str = "/v1/chat/completions";
/// Tokens that are left for an answer.
const ANSWER: u32 = 512;
/// Tokens by which a prompt asks for an answer.
const END_OF_PROMPT: u64 = 2;
/// Resets from a fact to its question.
const RESETS: usize = 2;

#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) turns: usize,
    pub(crate) resets: usize,
    /// Tokens of all prompts, and those that the engine had.
    pub(crate) tokens: u64,
    pub(crate) cached: u64,
    /// Why the others were computed.
    pub(crate) computed: Computed,
    /// The longest prompt with its answer, in tokens.
    pub(crate) longest: u64,
    /// Questions in the fact's words, and how many prompts had the value; in other words.
    pub(crate) direct: Found,
    pub(crate) paraphrased: Found,
    /// The same, where all that fits of the end is sent.
    pub(crate) truncated: Found,
    /// Prompts with a value that holds no longer, and those of them without the new one.
    pub(crate) old: usize,
    pub(crate) old_alone: usize,
    /// The same conversation in other orders.
    pub(crate) costs: Costs,
}

/// Tokens that were not there, by the reason.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Computed {
    /// They were said since the turn before.
    pub(crate) said: u64,
    /// Of these, an answer behind a prompt that was there whole: an engine that had given
    /// it would have had it.
    pub(crate) answers: u64,
    /// The first messages went in this turn.
    pub(crate) reset: u64,
    /// Old tool output went in this turn.
    pub(crate) masked: u64,
    /// Passages that were recalled, and what stands around messages.
    pub(crate) around: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    pub(crate) asked: usize,
    pub(crate) found: usize,
}

pub(crate) fn run(planted: &Planted, window: u32) -> anyhow::Result<Replayed> {
    let engine = Engine::echo().with_context(window);
    // Nobody thinks between two turns here, so nothing would be done in between.
    let appliance = Setup::new(&engine).config("[memory]\nbetween_turns = false\n").start();
    let client = appliance.client();
    let mut replayed = Replayed::default();
    let mut orders = Orders::new(window, ANSWER);
    let mut resets_at = Vec::new();
    let mut open: Vec<&Fact> = planted.facts.iter().collect();
    let (mut told, mut masked, mut before) = (0, 0, 0);
    for end in 1..=planted.messages.len() {
        let said = &planted.messages[..end];
        if !said.last().is_some_and(asks) {
            continue;
        }
        let usage = turn(&client, said)?;
        replayed.turns += 1;
        let prompt = usage["prompt_tokens"].as_u64().context("a prompt has tokens")?;
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        let cached = cached.context("what was there is counted")?;
        replayed.tokens += prompt;
        replayed.cached += cached;
        replayed.longest = replayed.longest.max(prompt + u64::from(ANSWER));
        let memory = &usage["stoker"]["memory"];
        let length = |message: &Value| content(message).len() as u64;
        let fresh: u64 = said[told..].iter().map(length).sum();
        let is_answer = |message: &&Value| message["role"] == "assistant";
        let answers: u64 = said[told..].iter().filter(is_answer).map(length).sum();
        told = end;
        if std::mem::replace(&mut before, prompt) <= cached + END_OF_PROMPT {
            replayed.computed.answers += answers;
        }
        let masked_before = std::mem::replace(&mut masked, memory["masked"].as_u64().unwrap_or(0));
        let (computed, said_anew) = (prompt - cached, fresh.min(prompt - cached));
        replayed.computed.said += said_anew;
        *if memory["reset"] == true {
            resets_at.push(end);
            &mut replayed.computed.reset
        } else if masked > masked_before {
            &mut replayed.computed.masked
        } else {
            &mut replayed.computed.around
        } += computed - said_anew;
        orders.turn(said, answers);
        let is_due = |fact: &&Fact| {
            let since = resets_at.iter().filter(|&&at| at > fact.at + 1).count();
            end > fact.at + LATER && since >= RESETS
        };
        let (due, later): (Vec<&Fact>, Vec<&Fact>) = open.into_iter().partition(is_due);
        open = later;
        for fact in due {
            replayed.ask(&appliance, said, fact, &orders)?;
        }
    }
    replayed.resets = resets_at.len();
    replayed.costs = orders.costs();
    Ok(replayed)
}

impl Replayed {
    fn ask(
        &mut self,
        appliance: &Appliance,
        said: &[Value],
        fact: &Fact,
        orders: &Orders,
    ) -> anyhow::Result<()> {
        for (question, is_direct) in [(&fact.direct, true), (&fact.paraphrased, false)] {
            let mut said = said.to_vec();
            // A question that is asked beside the conversation, as an answer would be.
            said.push(json!({"role": "assistant", "content": "Done."}));
            said.push(json!({"role": "user", "content": question}));
            let prompt = prompt_of(appliance, &said)?;
            let has = |value: &str| contains(&prompt, value);
            let counted = if is_direct { &mut self.direct } else { &mut self.paraphrased };
            counted.asked += 1;
            counted.found += usize::from(has(&fact.value));
            if fact.was.as_ref().is_some_and(|was| has(was)) {
                self.old += 1;
                self.old_alone += usize::from(!has(&fact.value));
            }
            if is_direct {
                self.truncated.asked += 1;
                self.truncated.found += usize::from(orders.truncated(&said).contains(&fact.value));
            }
        }
        Ok(())
    }
}

fn body(said: &[Value], stream: bool, tokens: u32) -> Value {
    json!({"model": "memory", "messages": said, "stream": stream, "max_tokens": tokens})
}

fn turn(client: &Client, said: &[Value]) -> anyhow::Result<Value> {
    let reply = client.post(CHAT, &body(said, false, ANSWER));
    ensure!(reply.status == 200, "a turn was refused: {}", String::from_utf8_lossy(&reply.body));
    let answer: Value = serde_json::from_slice(&reply.body)?;
    Ok(answer["usage"].clone())
}

/// The prompt of a question, in which letters are bytes of their own.
fn prompt_of(appliance: &Appliance, said: &[Value]) -> anyhow::Result<Vec<u8>> {
    let mut answer = appliance.stream(CHAT, &body(said, true, ANSWER));
    ensure!(answer.status == 200, "a question was refused");
    let id = answer.next_data()["id"].as_str().context("an answer has an id")?.to_owned();
    let _ = answer.transcript();
    let path = appliance.state_dir().join("answers.db");
    tests::patience::within(tests::patience::LIMIT, || kept(&path, &id))
        .context("the answer is kept")
}

fn kept(path: &Path, id: &str) -> Option<Vec<u8>> {
    let database = Connection::open(path).ok()?;
    database.query_row("SELECT recipe FROM answers WHERE id = ?1", [id], |row| row.get(0)).ok()
}

fn contains(prompt: &[u8], value: &str) -> bool {
    prompt.windows(value.len()).any(|part| part == value.as_bytes())
}

/// The text of some messages.
pub(crate) fn text(said: &[Value]) -> String {
    said.iter().map(|message| format!("\u{1}{}", content(message))).collect()
}
