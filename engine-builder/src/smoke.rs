//! The proof: a real worker loads the engine and answers a known prompt.
//!
//! What is measured here stays in the manifest, where the supervisor takes its
//! floors for progress from. The answer is greedy, so its hash tells whether
//! two machines compute the same.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use engine_api::manifest::{BackendKind, Capabilities, Serving, Smoke};
use engine_api::protocol::{
    Asker, FromWorker, Generate, Limits, Load, Message, PROTOCOL_VERSION, Priority, Prompt, Ready,
    RequestId, Role, Sampling, Timings, ToWorker, TokenId, Usage,
};

mod embeddings;
mod fault;
mod worker;

pub use embeddings::embeddings;
pub use fault::SmokeError;
use worker::{Peer, Worker};

use crate::hash::Sha256Hex;
use crate::report::Report;

/// A list so regular that its continuation does not hang on rounding. More
/// than 64 tokens in any vocabulary.
const PROMPT: &str = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, \
    Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday, Wednesday, \
    Thursday, Friday, Saturday, Sunday, Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, \
    Sunday, Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday,";

/// Tokens of the answer.
const ANSWER_TOKENS: u16 = 32;

/// Prompt tokens in one step: the worker's business in service, fixed here so
/// that two runs measure the same.
const STEP_TOKENS: u16 = 512;

/// Time without any progress after which a worker counts as hung. A starting
/// process only has to say hello; a load may wait for a slow disk.
const HELLO: Duration = Duration::from_secs(20);
const LOAD: Duration = Duration::from_secs(180);
const ANSWER: Duration = Duration::from_secs(60);

/// What the run showed.
#[derive(Debug)]
pub struct Outcome {
    pub smoke: Smoke,
    pub capabilities: Capabilities,
    /// What the worker computes on, in words.
    pub device: String,
    /// Why the model's own chat template cannot be used, if it cannot.
    pub no_chat: Option<String>,
}

/// The backends that the program `worker` was built with.
///
/// # Errors
/// See [`SmokeError`]. The worker is gone in any case.
pub fn backends(worker: &Path, report: &Report) -> Result<Vec<BackendKind>, SmokeError> {
    let mut worker = Worker::start(Command::new(worker), report.interrupt().clone())?;
    let built_in = ask(&mut worker)?;
    worker.finish();
    Ok(built_in)
}

fn ask(worker: &mut impl Peer) -> Result<Vec<BackendKind>, SmokeError> {
    hello(worker)?;
    worker.send(&ToWorker::Backends)?;
    match worker.receive("saying what it can run", HELLO)? {
        FromWorker::Backends { built_in } => Ok(built_in),
        _ => Err(SmokeError::OutOfTurn { doing: "saying what it can run" }),
    }
}

/// Runs the engine in `dir`, which has a manifest, in the program `worker`.
/// The answer has to begin with the token ids `expected`.
///
/// # Errors
/// See [`SmokeError`]. The worker is gone in any case.
pub fn run(
    worker: &Path,
    dir: &Path,
    serving: &Serving,
    expected: &[u32],
    report: &Report,
) -> Result<Outcome, SmokeError> {
    let mut worker = Worker::start(Command::new(worker), report.interrupt().clone())?;
    let outcome = examine(&mut worker, dir, serving, expected, report)?;
    worker.finish();
    Ok(outcome)
}

fn examine(
    worker: &mut impl Peer,
    dir: &Path,
    serving: &Serving,
    expected: &[u32],
    report: &Report,
) -> Result<Outcome, SmokeError> {
    hello(worker)?;
    let ready = load(worker, dir, serving, report)?;
    let prompt = prepare(worker, plain())?.map_err(SmokeError::Unprepared)?;
    let no_chat = if ready.chat { prepare(worker, chat())?.err() } else { None };
    let answer = generate(worker, prompt, report)?;
    check(&answer, expected)?;
    Ok(Outcome {
        smoke: answer.measured(ready.load_ms),
        capabilities: Capabilities {
            chat: ready.chat && no_chat.is_none(),
            fim: ready.infill,
            tools: false,
            embedding: false,
        },
        device: ready.device,
        no_chat: no_chat.map(|problem| problem.to_string()),
    })
}

fn hello(worker: &mut impl Peer) -> Result<(), SmokeError> {
    match worker.receive("starting", HELLO)? {
        FromWorker::Hello { protocol: PROTOCOL_VERSION, .. } => Ok(()),
        FromWorker::Hello { protocol, .. } => Err(SmokeError::OtherProtocol { theirs: protocol }),
        _ => Err(SmokeError::OutOfTurn { doing: "starting" }),
    }
}

fn load(
    worker: &mut impl Peer,
    dir: &Path,
    serving: &Serving,
    report: &Report,
) -> Result<Box<Ready>, SmokeError> {
    let limits =
        Limits { max_sequences: serving.max_sequences, max_batch_tokens: STEP_TOKENS, pace_us: 0 };
    let engine_dir = dir.to_owned();
    worker.send(&ToWorker::Load(Load { engine_dir, limits, threads: None, reproducible: true }))?;
    let mut meter = report.share();
    loop {
        match worker.receive("loading", LOAD)? {
            FromWorker::Loading { fraction } => meter.reach_share(fraction)?,
            FromWorker::Ready(ready) if ready.context < serving.context => {
                return Err(SmokeError::SmallWindow {
                    wanted: serving.context,
                    given: ready.context,
                });
            }
            FromWorker::Ready(ready) => return Ok(ready),
            FromWorker::LoadFailed { reason } => {
                return Err(SmokeError::CannotLoad { reason, last: worker.last_words() });
            }
            _ => return Err(SmokeError::OutOfTurn { doing: "loading" }),
        }
    }
}

type Preparation = Result<Vec<TokenId>, engine_api::protocol::PromptProblem>;

fn prepare(worker: &mut impl Peer, prompt: Prompt) -> Result<Preparation, SmokeError> {
    worker.send(&ToWorker::Prepare { id: RequestId(0), prompt, grammar: None })?;
    match worker.receive("reading the prompt", ANSWER)? {
        FromWorker::Prepared { tokens, .. } => Ok(Ok(tokens)),
        FromWorker::Unprepared { problem, .. } => Ok(Err(problem)),
        _ => Err(SmokeError::OutOfTurn { doing: "reading the prompt" }),
    }
}

fn plain() -> Prompt {
    Prompt::Text { text: PROMPT.into(), special: false }
}

fn chat() -> Prompt {
    let message = Message {
        role: Role::User,
        content: "Hello".into(),
        tool_calls_json: None,
        tool_call_id: None,
        name: None,
    };
    Prompt::Chat { messages: vec![message], tools: None }
}

/// A finished answer.
struct Answer {
    ids: Vec<u32>,
    usage: Usage,
    timings: Timings,
}

fn generate(
    worker: &mut impl Peer,
    prompt: Vec<TokenId>,
    report: &Report,
) -> Result<Answer, SmokeError> {
    worker.send(&ToWorker::Generate(Box::new(Generate {
        id: RequestId(1),
        asker: Asker(0),
        prompt,
        generated: Vec::new(),
        max_tokens: ANSWER_TOKENS.into(),
        sampling: Sampling { temperature: 0.0, ignore_eos: true, ..Sampling::default() },
        stops: Vec::new(),
        grammar: None,
        calls: None,
        priority: Priority::Interactive,
        // There is nothing yet, and not every runtime can be told not to.
        reuse_prefix: true,
    })))?;
    let mut ids = Vec::new();
    let mut meter = report.share();
    loop {
        match worker.receive("answering", ANSWER)? {
            FromWorker::Tokens { tokens, .. } => {
                ids.extend(tokens.iter().map(|token| token.id.0));
                meter.reach_share(share(ids.len()))?;
            }
            FromWorker::Done { usage, timings, .. } => return Ok(Answer { ids, usage, timings }),
            FromWorker::Failed { reason, .. } => return Err(SmokeError::Failed { reason }),
            FromWorker::Started { .. } => {}
            _ => return Err(SmokeError::OutOfTurn { doing: "answering" }),
        }
    }
}

/// Share of the answer that is there.
fn share(tokens: usize) -> f32 {
    f32::from(u16::try_from(tokens).unwrap_or(u16::MAX)) / f32::from(ANSWER_TOKENS)
}

impl Answer {
    fn measured(&self, load_ms: u64) -> Smoke {
        // A runtime that does not tell has nothing yet to take from.
        let cached = self.usage.cached_tokens.unwrap_or(0);
        let computed = self.usage.prompt_tokens.saturating_sub(cached);
        let bytes: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Smoke {
            load_ms,
            prefill_tokens_per_s: rate(computed, self.timings.prefill_us),
            // The first token comes out of the prefill.
            decode_tokens_per_s: rate(
                self.usage.completion_tokens.saturating_sub(1),
                self.timings.decode_us,
            ),
            answer_sha256: Sha256Hex::of(&bytes).as_str().into(),
        }
    }
}

/// Tokens in a second. A clock that saw no time pass counts as a microsecond.
fn rate(tokens: u32, micros: u64) -> f64 {
    let seconds = Duration::from_micros(micros.max(1)).as_secs_f64();
    (f64::from(tokens) / seconds * 10.0).round() / 10.0
}

fn check(answer: &Answer, expected: &[u32]) -> Result<(), SmokeError> {
    let wanted = usize::from(ANSWER_TOKENS);
    if answer.ids.len() != wanted {
        return Err(SmokeError::Short { wanted, given: answer.ids.len() });
    }
    let given = &answer.ids[..expected.len().min(wanted)];
    if given != expected {
        return Err(SmokeError::OtherAnswer { given: given.into(), expected: expected.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
