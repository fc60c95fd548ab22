//! A hundred turns with the small model: how long until the first token, in each.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use tests::appliance::Setup;
use tests::engine::Engine;
use tests::patience;

const TURNS: usize = 100;
/// Tokens of an answer.
const ANSWER: u32 = 24;
/// How long somebody thinks between two turns at least; then until the engine is idle.
const THINKING: Duration = Duration::from_millis(700);
/// And at most.
const MOST_THINKING: Duration = Duration::from_secs(60);

pub(crate) struct Flat {
    /// Milliseconds to the first token of each turn.
    pub(crate) first_token_ms: Vec<f64>,
    /// The turns that began with a reset.
    pub(crate) resets: Vec<usize>,
    /// Blocks that the model was asked about, and of how many something could be believed.
    pub(crate) summaries: (usize, usize),
    /// What is in the prompts of them.
    pub(crate) installed: usize,
}

/// With or without work between turns.
pub(crate) fn run(between_turns: bool) -> Flat {
    let config = format!("[memory]\nbetween_turns = {between_turns}\n");
    let appliance = Setup::new(&Engine::Real).config(&config).start();
    let mut said = vec![json!({"role": "system", "content": "You are a helpful assistant."})];
    let mut flat =
        Flat { first_token_ms: Vec::new(), resets: Vec::new(), summaries: (0, 0), installed: 0 };
    for turn in 0..TURNS {
        said.push(json!({"role": "user", "content": question(turn)}));
        let body = json!({"model": "memory", "messages": said, "max_tokens": ANSWER,
            "stream": true, "stream_options": {"include_usage": true}, "temperature": 0});
        let began = Instant::now();
        let mut answer = appliance.stream("/v1/chat/completions", &body);
        let mut text = answer.wait_for_text();
        flat.first_token_ms.push(began.elapsed().as_secs_f64() * 1000.0);
        while let Some(event) = answer.next_event() {
            let tests::answer::Event::Data(data) = event else { continue };
            text.push_str(data["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            let memory = &data["usage"]["stoker"]["memory"];
            if memory["reset"] == true {
                flat.resets.push(turn);
            }
            let summaries = memory["summaries"].as_u64().and_then(|count| count.try_into().ok());
            flat.installed = flat.installed.max(summaries.unwrap_or(0));
        }
        said.push(json!({"role": "assistant", "content": text}));
        think(&appliance.get("/api/status").good(), || appliance.status());
    }
    let database = Connection::open(appliance.state_dir().join("memory.db"));
    flat.summaries = database.map_or((0, 0), |database| {
        let select = "SELECT count(*), coalesce(sum(text != ''), 0) FROM summaries";
        database.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap_or((0, 0))
    });
    flat
}

/// Until nothing has been done between turns for a while.
fn think(first: &Value, status: impl Fn() -> Value) {
    let end = Instant::now() + MOST_THINKING;
    let (mut last, mut since) = (first["idle"].clone(), Instant::now());
    let _ = patience::within(end - Instant::now(), || {
        let now = status()["idle"].clone();
        if now != last || now["running"] == true {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() >= THINKING).then_some(())
    });
}

fn question(turn: usize) -> String {
    let topics = ["the fan curve", "the request queue", "the status page", "the watchdog"];
    let about = topics[turn % topics.len()];
    format!(
        "Step {turn}. Today we look at {about} of the appliance. It has a limit of {} units, and \
         the file src/part{turn}.rs was changed for it. The test for it takes {} ms and passes \
         on every board that we have. Say in one short sentence what should be done next.",
        turn * 7 + 3,
        turn * 11 + 20
    )
}
