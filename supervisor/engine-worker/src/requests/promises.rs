//! What every kind of runtime promises, tested on each. None computes anything:
//! the echo backend and TensorRT-LLM's stand-in answer a chat with its last
//! message, at once, a byte for a token.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine_api::manifest::{
    Backend as ManifestBackend, BackendKind, BoundTo, Capabilities, MANIFEST_VERSION, Manifest,
    Model, Serving,
};
use engine_api::protocol::{
    Asker, FinishReason, FromWorker, Generate, Limits, Priority, RequestId, Sampling, TokenId,
    Usage,
};

use super::Requests;
use crate::backend::{Vocabulary, echo};
use crate::batch::Batch;

pub(crate) const CONTEXT: u32 = 4096;
pub(crate) const LIMITS: Limits = Limits { max_sequences: 8, max_batch_tokens: 64, pace_us: 0 };

/// Longer than anything takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn manifest(backend: ManifestBackend) -> Manifest {
    Manifest {
        manifest_version: MANIFEST_VERSION,
        id: "test".into(),
        built_at: 0,
        model: Model {
            name: "test".into(),
            architecture: "none".into(),
            licence: "Apache-2.0".into(),
            quantisation: "none".into(),
            parameters: 0,
            aliases: Vec::new(),
        },
        backend,
        bound_to: BoundTo::default(),
        serving: Serving { context: CONTEXT, max_sequences: 8, cached_sequences: 2, kv_bytes: 0 },
        capabilities: Capabilities::default(),
        embedding: None,
        files: Vec::new(),
        commands: Vec::new(),
        smoke: None,
        quantised: None,
        quality: None,
    }
}

pub(crate) fn echo_batch() -> Batch {
    let manifest = manifest(ManifestBackend {
        kind: BackendKind::Echo,
        version: "1".into(),
        echo: None,
        tensorrt_llm: None,
    });
    let (backend, vocabulary) = echo::load(&manifest, |_| {});
    Batch::new(backend, vocabulary, 8, CONTEXT, LIMITS)
}

pub(crate) fn chat(message: &str) -> Vec<TokenId> {
    echo::EchoVocabulary::new().tokenize(&format!("<|begin|>{message}<|answer|>"), true)
}

pub(crate) fn request(id: u64, prompt: Vec<TokenId>) -> Generate {
    Generate {
        id: RequestId(id),
        asker: Asker(1),
        prompt,
        generated: Vec::new(),
        max_tokens: CONTEXT,
        sampling: Sampling { min_p: 0.0, ..Sampling::default() },
        stops: Vec::new(),
        grammar: None,
        calls: None,
        priority: Priority::Interactive,
        reuse_prefix: true,
    }
}

/// What each request has received.
#[derive(Debug, Default)]
pub(crate) struct Answers(BTreeMap<u64, Answer>);

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    pub(crate) usage: Option<Usage>,
    pub(crate) end: Option<Result<FinishReason, String>>,
}

impl Answers {
    pub(crate) fn note(&mut self, messages: Vec<FromWorker>) {
        for message in messages {
            match message {
                FromWorker::Started { .. } => {}
                FromWorker::Tokens { id, tokens, text } => {
                    let answer = self.0.entry(id.0).or_default();
                    assert!(answer.end.is_none(), "tokens after the end");
                    answer.tokens += tokens.len();
                    answer.text += &text;
                }
                FromWorker::Done { id, reason, rest, usage, .. } => {
                    let answer = self.0.entry(id.0).or_default();
                    answer.text += &rest;
                    answer.usage = Some(usage);
                    self.end(id, Ok(reason));
                }
                FromWorker::Failed { id, reason } => self.end(id, Err(reason)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn end(&mut self, id: RequestId, end: Result<FinishReason, String>) {
        let answer = self.0.entry(id.0).or_default();
        assert_eq!(answer.end.replace(end), None, "a request ends once");
    }

    pub(crate) fn get(&self, id: u64) -> Answer {
        self.0.get(&id).cloned().unwrap_or_default()
    }
}

pub(crate) fn run(requests: &mut dyn Requests, answers: &mut Answers, steps: usize) {
    for _ in 0..steps {
        requests.step().unwrap();
        answers.note(requests.take_messages());
    }
}

pub(crate) fn run_until(
    requests: &mut dyn Requests,
    answers: &mut Answers,
    mut is_so: impl FnMut(&mut dyn Requests, &Answers) -> bool,
) {
    let started = Instant::now();
    while !is_so(requests, answers) {
        assert!(started.elapsed() < PATIENCE, "it never came so far: {answers:?}");
        run(requests, answers, 1);
        std::thread::yield_now();
    }
}

pub(crate) fn finish(requests: &mut dyn Requests, answers: &mut Answers) {
    run_until(requests, answers, |requests, _| requests.is_idle());
}

pub(crate) fn stopped() -> Option<Result<FinishReason, String>> {
    Some(Ok(FinishReason::Stop { matched: None }))
}

/// Each promise as a test of the runtime that `$make` loads.
macro_rules! promised {
    ($runtime:ident: $make:expr => $($promise:ident),+ $(,)?) => {
        mod $runtime {
            $(#[test]
            fn $promise() {
                super::$promise($make);
            })+
        }
    };
}

macro_rules! all_promised {
    ($runtime:ident: $make:expr) => {
        promised! {
            $runtime: $make =>
                every_request_gets_its_whole_answer,
                a_cancelled_request_ends_at_once_and_frees_its_place,
                lower_limits_drop_nobody,
                an_answer_taken_up_again_says_nothing_twice,
                an_answer_that_was_complete_already_only_ends,
                a_stop_string_and_max_tokens_end_an_answer,
                an_answer_ends_with_the_window,
                a_request_that_fails_alone_ends_alone,
                a_request_without_room_for_an_answer_is_refused,
                who_is_forgotten_hears_nothing_more,
                progress_is_counted,
                the_most_urgent_goes_first,
        }
    };
}

all_promised! { echo_backend: Box::new(super::echo_batch()) }

#[cfg(feature = "tensorrt-llm")]
all_promised! { tensorrt_llm_stand_in: crate::backend::tensorrt_llm::tests::queue() }

fn every_request_gets_its_whole_answer(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    let messages: Vec<String> = (0..20).map(|n| format!("message {n} ").repeat(n + 1)).collect();
    for (id, message) in (0..).zip(&messages) {
        requests.add(request(id, chat(message)), Instant::now());
    }
    finish(&mut *requests, &mut answers);
    for (id, message) in (0..).zip(&messages) {
        let answer = answers.get(id);
        assert_eq!((&answer.text, &answer.end), (message, &stopped()));
    }
}

fn a_cancelled_request_ends_at_once_and_frees_its_place(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    // A plain prompt goes on until the window ends, which takes seconds.
    requests.set_limits(Limits { pace_us: 2_000, ..LIMITS });
    for id in 0..8 {
        requests.add(request(id, vec![TokenId(97); 10]), Instant::now());
    }
    requests.add(request(8, chat("the ninth")), Instant::now());
    run_until(&mut *requests, &mut answers, |_, answers| {
        (0..8).all(|id| answers.get(id).tokens > 0)
    });
    assert_eq!(answers.get(8), Answer::default(), "the ninth waits for a place");
    requests.cancel(RequestId(3));
    requests.cancel(RequestId(99));
    answers.note(requests.take_messages());
    assert_eq!(answers.get(3).end, Some(Ok(FinishReason::Cancelled)));
    run_until(&mut *requests, &mut answers, |_, answers| answers.get(8).tokens > 0);
    let still_there = |id| answers.get(id).end.is_none();
    assert!((0..8).filter(|id| *id != 3).all(still_there), "it took the place of the cancelled");
    run_until(&mut *requests, &mut answers, |_, answers| answers.get(8).end.is_some());
    assert_eq!(answers.get(8).text, "the ninth");
}

fn lower_limits_drop_nobody(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    for id in 0..12 {
        requests.add(request(id, chat(&format!("{id} ").repeat(20))), Instant::now());
    }
    run(&mut *requests, &mut answers, 5);
    for max_sequences in [2, 0, 1] {
        requests.set_limits(Limits { max_sequences, ..LIMITS });
        run(&mut *requests, &mut answers, 5);
    }
    finish(&mut *requests, &mut answers);
    for id in 0..12 {
        assert_eq!(answers.get(id).text, format!("{id} ").repeat(20));
    }
}

fn an_answer_taken_up_again_says_nothing_twice(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    let message = "once and only once, with a € in it";
    let whole = chat(message);
    let marker = whole.len() - 1;
    let generated = whole[1..marker][..10].to_vec();
    let resumed = Generate { generated, ..request(1, whole.clone()) };
    requests.add(resumed, Instant::now());
    // In the middle of the character.
    let generated = whole[1..marker][..29].to_vec();
    requests.add(Generate { generated, ..request(2, whole) }, Instant::now());
    finish(&mut *requests, &mut answers);
    assert_eq!(answers.get(1).text, &message[10..]);
    assert_eq!(answers.get(2).text, &message[27..]);
}

fn an_answer_that_was_complete_already_only_ends(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    let generated = vec![TokenId(97); 5];
    let full =
        Generate { generated: generated.clone(), max_tokens: 5, ..request(1, chat("aaaaaa")) };
    requests.add(full, Instant::now());
    let met = Generate { generated, stops: vec!["aa".into()], ..request(2, chat("aaaaaa")) };
    requests.add(met, Instant::now());
    answers.note(requests.take_messages());
    assert_eq!(answers.get(1).end, Some(Ok(FinishReason::Length)));
    assert_eq!(answers.get(2).end, Some(Ok(FinishReason::Stop { matched: Some("aa".into()) })));
    assert!(requests.is_idle());
}

fn a_stop_string_and_max_tokens_end_an_answer(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    let stop = Generate { stops: vec!["END".into()], ..request(1, chat("before END after")) };
    requests.add(stop, Instant::now());
    let short = Generate { max_tokens: 5, ..request(2, chat("before END after")) };
    requests.add(short, Instant::now());
    finish(&mut *requests, &mut answers);
    let matched = Some("END".to_owned());
    assert_eq!(answers.get(1).text, "before ");
    assert_eq!(answers.get(1).end, Some(Ok(FinishReason::Stop { matched })));
    assert_eq!(answers.get(2).text, "befor");
    assert_eq!(answers.get(2).end, Some(Ok(FinishReason::Length)));
}

fn an_answer_ends_with_the_window(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    requests.add(request(1, chat(&"x".repeat(3000))), Instant::now());
    finish(&mut *requests, &mut answers);
    assert_eq!(answers.get(1).end, Some(Ok(FinishReason::Length)));
    assert_eq!(answers.get(1).tokens, CONTEXT as usize - 3002);
}

fn a_request_that_fails_alone_ends_alone(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    requests.add(request(1, chat("a b c !fail@3 d")), Instant::now());
    finish(&mut *requests, &mut answers);
    assert!(matches!(answers.get(1).end, Some(Err(_))));
    requests.add(request(2, chat("all is well")), Instant::now());
    finish(&mut *requests, &mut answers);
    assert_eq!(answers.get(2).text, "all is well");
}

fn a_request_without_room_for_an_answer_is_refused(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    requests.add(request(1, vec![TokenId(1); CONTEXT as usize]), Instant::now());
    requests.add(request(2, Vec::new()), Instant::now());
    answers.note(requests.take_messages());
    assert!(matches!(answers.get(1).end, Some(Err(_))));
    assert!(matches!(answers.get(2).end, Some(Err(_))));
}

fn who_is_forgotten_hears_nothing_more(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    for id in 0..12 {
        requests.add(request(id, chat(&"x".repeat(1000))), Instant::now());
    }
    run_until(&mut *requests, &mut answers, |_, answers| answers.get(0).tokens > 0);
    requests.abandon();
    assert!(requests.is_idle());
    let mut answers = Answers::default();
    // By ids that are in use anew.
    requests.add(request(1, chat("for the next supervisor")), Instant::now());
    finish(&mut *requests, &mut answers);
    assert_eq!(answers.get(1).text, "for the next supervisor");
    assert_eq!(answers.get(0), Answer::default());
}

fn progress_is_counted(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    requests.add(request(1, chat("twelve bytes")), Instant::now());
    assert_eq!(requests.progress().waiting, 1);
    finish(&mut *requests, &mut answers);
    // What was done may be told a moment after what came of it.
    run_until(&mut *requests, &mut answers, |requests, _| {
        let progress = requests.progress();
        progress.steps >= 13 && progress.prefill_tokens == 14
    });
    let progress = requests.progress();
    assert_eq!((progress.decoding, progress.prefilling, progress.waiting), (0, 0, 0));
    assert!(progress.decode_tokens >= 12 && progress.kv.capacity_tokens > 0);
}

fn the_most_urgent_goes_first(mut requests: Box<dyn Requests>) {
    let mut answers = Answers::default();
    requests.set_limits(Limits { max_sequences: 1, ..LIMITS });
    for (id, priority) in
        [(1, Priority::Bulk), (2, Priority::Interactive), (3, Priority::Completion)]
    {
        requests.add(Generate { priority, ..request(id, chat("abc")) }, Instant::now());
    }
    for (id, later) in [(3, 2), (2, 1)] {
        run_until(&mut *requests, &mut answers, |_, answers| answers.get(id).end.is_some());
        assert_eq!(answers.get(later).end, None, "{later} ended before {id}");
    }
    finish(&mut *requests, &mut answers);
}
