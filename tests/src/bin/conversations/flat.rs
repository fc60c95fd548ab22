//! A hundred turns with the small model: how long until the first token, in each. Says on
//! the way how far it is.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use tests::appliance::Setup;
use tests::engine::Engine;
use tests::patience;
use tests::spoken::time_left;

const TURNS: usize = 100;
/// Of so many turns one line says how far it is.
const SAID: usize = 10;
/// Tokens of an answer.
const ANSWER: u32 = 24;
/// How long somebody thinks between two turns at least; then until the engine is idle.
const THINKING: Duration = Duration::from_millis(700);
/// And at most: what is not done by then gives way to the next turn, as it does to people.
const MOST_THINKING: Duration = Duration::from_secs(5);

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
    let start = Instant::now();
    for turn in 0..TURNS {
        if turn > 0 && turn % SAID == 0 {
            said_so_far(turn, between_turns, start.elapsed());
        }
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
        if between_turns {
            think(|| appliance.status());
        }
    }
    let database = Connection::open(appliance.state_dir().join("memory.db"));
    flat.summaries = database.map_or((0, 0), |database| {
        let select = "SELECT count(*), coalesce(sum(text != ''), 0) FROM summaries";
        database.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap_or((0, 0))
    });
    flat
}

fn said_so_far(turn: usize, between_turns: bool, elapsed: Duration) {
    let each = elapsed / u32::try_from(turn).expect("there are few turns");
    let left = each * u32::try_from(TURNS - turn).expect("there are few turns");
    let with = if between_turns { "with" } else { "without" };
    let left = time_left(left);
    eprintln!("{turn} of {TURNS} turns {with} work between them, {left} left");
}

/// Until nothing has been done between turns for a while.
fn think(status: impl Fn() -> Value) {
    let (mut last, mut since) = (status()["idle"].clone(), Instant::now());
    let _ = patience::within(MOST_THINKING, || {
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
