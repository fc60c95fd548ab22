//! Smoke runs with a peer that says what it is told to.

use std::collections::VecDeque;

use engine_api::protocol::{FinishReason, PromptProblem, Token};

use super::fault::LastWords;
use super::*;

/// Says these things in turn and remembers what it was told.
struct Script {
    says: VecDeque<FromWorker>,
    heard: Vec<ToWorker>,
}

impl Peer for Script {
    fn send(&mut self, message: &ToWorker) -> Result<(), SmokeError> {
        self.heard.push(message.clone());
        Ok(())
    }

    fn receive(&mut self, doing: &'static str, _: Duration) -> Result<FromWorker, SmokeError> {
        self.says.pop_front().ok_or(SmokeError::OutOfTurn { doing })
    }

    fn last_words(&self) -> LastWords {
        LastWords(vec!["unknown model architecture".into()])
    }
}

const SERVING: Serving =
    Serving { context: 4096, max_sequences: 8, cached_sequences: 2, kv_bytes: 0 };

fn hello() -> FromWorker {
    FromWorker::Hello { protocol: PROTOCOL_VERSION, pid: 1 }
}

fn ready() -> Ready {
    Ready {
        context: 4096,
        vocabulary: 100,
        max_sequences: 8,
        backend: "llama_cpp".into(),
        device: "CPU".into(),
        model: engine_api::protocol::ModelFacts::default(),
        largest_step: 512,
        reproducible: true,
        load_ms: 7,
        chat: true,
        infill: false,
        chat_template: String::new(),
    }
}

fn prepared() -> FromWorker {
    FromWorker::Prepared { id: RequestId(0), tokens: vec![TokenId(1); 100], form: Box::default() }
}

fn tokens(ids: std::ops::Range<u32>) -> FromWorker {
    let tokens = ids.map(|id| Token { id: TokenId(id), logprobs: None }).collect();
    FromWorker::Tokens { id: RequestId(1), tokens, text: String::new() }
}

fn done() -> FromWorker {
    FromWorker::Done {
        id: RequestId(1),
        reason: FinishReason::Length,
        rest: String::new(),
        usage: Usage { prompt_tokens: 100, cached_tokens: Some(20), completion_tokens: 32 },
        timings: Timings { queued_us: 0, prefill_us: 400_000, decode_us: 620_000 },
    }
}

/// A run in which nothing goes wrong.
fn sound() -> Vec<FromWorker> {
    let ready = FromWorker::Ready(Box::new(ready()));
    let loading = FromWorker::Loading { fraction: 0.5 };
    let started =
        FromWorker::Started { id: RequestId(1), prompt_tokens: 100, cached_tokens: Some(20) };
    let answer = [started, tokens(0..20), tokens(20..32), done()];
    [hello(), loading, ready, prepared(), prepared()].into_iter().chain(answer).collect()
}

fn hold(says: Vec<FromWorker>, expected: &[u32]) -> (Result<Outcome, SmokeError>, Vec<ToWorker>) {
    let mut script = Script { says: says.into(), heard: Vec::new() };
    let report = Report::silent();
    let outcome = examine(&mut script, Path::new("/e"), &SERVING, expected, &report);
    (outcome, script.heard)
}

/// What is wrong with a sound run in which one message is another.
fn wrong(at: usize, message: FromWorker) -> String {
    let mut says = sound();
    says[at] = message;
    hold(says, &[]).0.unwrap_err().to_string()
}

#[test]
fn a_sound_engine_is_measured() {
    let (outcome, heard) = hold(sound(), &[0, 1, 2]);
    let Outcome { smoke, capabilities, .. } = outcome.unwrap();
    // 80 of 100 prompt tokens were computed, in 0.4 s; 31 tokens were
    // decoded in 0.62 s.
    assert!((smoke.prefill_tokens_per_s - 200.0).abs() < f64::EPSILON);
    assert!((smoke.decode_tokens_per_s - 50.0).abs() < f64::EPSILON);
    assert_eq!(smoke.load_ms, 7);
    let bytes: Vec<u8> = (0u32..32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(smoke.answer_sha256, Sha256Hex::of(&bytes).as_str());
    assert!(capabilities.chat && !capabilities.fim);
    let Some(ToWorker::Generate(request)) = heard.last() else { panic!("{heard:?}") };
    assert!(request.sampling.temperature == 0.0 && request.reuse_prefix);
}

#[test]
fn another_answer_than_the_catalogues_is_an_error() {
    let error = hold(sound(), &[0, 2]).0.unwrap_err().to_string();
    assert_eq!(
        error,
        "the answer to the known prompt begins with the tokens [0, 1], expected were [0, 2]"
    );
    assert_eq!(wrong(7, tokens(0..1)), "the answer to the known prompt has 21 tokens, not 32");
}

#[test]
fn a_refused_model_is_refused_in_the_workers_words() {
    let reason = "load weights.gguf".into();
    assert_eq!(
        wrong(2, FromWorker::LoadFailed { reason }),
        "the worker cannot load this model: load weights.gguf; its last words: unknown model architecture"
    );
}

#[test]
fn a_window_smaller_than_planned_is_an_error() {
    let small = FromWorker::Ready(Box::new(Ready { context: 2048, ..ready() }));
    assert_eq!(wrong(2, small), "the worker offers a window of 2048 tokens, not of 4096");
}

#[test]
fn a_worker_of_another_version_is_not_spoken_to() {
    let other = FromWorker::Hello { protocol: PROTOCOL_VERSION + 1, pid: 1 };
    let (theirs, ours) = (PROTOCOL_VERSION + 1, PROTOCOL_VERSION);
    let said = format!("the worker speaks protocol {theirs}, this program {ours}");
    assert_eq!(wrong(0, other), said);
}

#[test]
fn a_worker_is_asked_for_its_backends_only_if_it_speaks_the_same_protocol() {
    let ask = |says: Vec<FromWorker>| {
        let mut script = Script { says: says.into(), heard: Vec::new() };
        let built_in = ask(&mut script).map_err(|error| error.to_string());
        (built_in, script.heard)
    };
    let built_in = vec![BackendKind::LlamaCpp, BackendKind::TensorrtLlm];
    let answer = FromWorker::Backends { built_in: built_in.clone() };
    assert_eq!(ask(vec![hello(), answer]), (Ok(built_in), vec![ToWorker::Backends]));
    let out_of_turn = "the worker said something out of turn while saying what it can run";
    assert_eq!(ask(vec![hello(), hello()]).0, Err(out_of_turn.into()));
    let other = FromWorker::Hello { protocol: PROTOCOL_VERSION - 1, pid: 1 };
    assert_eq!(ask(vec![other]).1, []);
}

#[test]
fn a_chat_template_that_fails_costs_the_capability_only() {
    let mut says = sound();
    says[4] = FromWorker::Unprepared { id: RequestId(0), problem: PromptProblem::NoTemplate };
    let outcome = hold(says, &[]).0.unwrap();
    assert!(!outcome.capabilities.chat);
    assert!(outcome.no_chat.unwrap().contains("no chat template"));
}

#[test]
fn whatever_comes_out_of_turn_is_an_error() {
    for at in 1..sound().len() {
        let text = wrong(at, hello());
        assert!(text.contains("out of turn"), "{at}: {text}");
    }
}
