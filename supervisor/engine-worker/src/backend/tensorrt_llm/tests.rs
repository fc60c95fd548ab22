//! What is particular to TensorRT-LLM, on its stand-in. What every runtime
//! promises is tested in `requests/promises.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_api::form::Grammar;
use engine_api::manifest::{
    Artefact, ArtefactRole, Backend, BackendKind, Manifest, SpecialTokens, TensorrtLlm,
};
use engine_api::protocol::{
    FinishReason, Generate, Limits, Prompt, RequestId, Sampling, Setting, TokenId,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::backend::{self, Runtime, Vocabulary, Wishes};
use crate::grammar::Grammars;
use crate::prompt::Preparer;
use crate::requests::promises::{
    Answers, CONTEXT, LIMITS, chat, finish, manifest, request, run_until, stopped,
};
use crate::requests::{self, Requests};

const FILES: [(&str, ArtefactRole); 4] = [
    ("rank0.engine", ArtefactRole::Weights),
    ("config.json", ArtefactRole::Other),
    ("tokenizer.json", ArtefactRole::Tokenizer),
    ("chat_template.jinja", ArtefactRole::ChatTemplate),
];

fn stand_ins_engine() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/tensorrt-llm-stand-in/engine")
}

fn described() -> Manifest {
    let infill = ["<|prefix|>", "<|suffix|>", "<|middle|>"].map(str::to_owned);
    let settings = TensorrtLlm {
        kv_free_percent: 50,
        chunked_prompts: true,
        mmap: true,
        tokens: SpecialTokens {
            ends: vec!["<|end|>".into()],
            beginning: None,
            infill: Some(infill),
        },
    };
    let artefact =
        |(path, role): (&str, _)| Artefact { path: path.into(), bytes: 0, sha256: "".into(), role };
    Manifest {
        files: FILES.map(artefact).to_vec(),
        ..manifest(Backend {
            kind: BackendKind::TensorrtLlm,
            version: "0.12.0".into(),
            echo: None,
            tensorrt_llm: Some(settings),
        })
    }
}

/// The stand-in's engine with one more word in its `config.json`.
fn engine_that(says: &str) -> TempDir {
    let engine = TempDir::new().unwrap();
    for (file, _) in FILES {
        std::fs::copy(stand_ins_engine().join(file), engine.path().join(file)).unwrap();
    }
    let path = engine.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, config.replacen('{', &format!("{{{says},"), 1)).unwrap();
    engine
}

fn load(manifest: &Manifest, dir: PathBuf) -> Result<(Runtime, Arc<dyn Vocabulary>), String> {
    let wishes = Wishes { threads: 1, reproducible: true };
    backend::load(manifest, &dir, wishes, |_| {}).map_err(|error| format!("{error:#}"))
}

fn refusal(manifest: &Manifest, dir: PathBuf) -> String {
    load(manifest, dir).map(|_| ()).unwrap_err()
}

fn queue_of(dir: PathBuf) -> Box<dyn Requests> {
    let (runtime, vocabulary) = load(&described(), dir).unwrap();
    requests::of(runtime, vocabulary, 8, CONTEXT, LIMITS)
}

pub(crate) fn queue() -> Box<dyn Requests> {
    queue_of(stand_ins_engine())
}

fn answer(generate: Generate) -> Result<String, String> {
    let (mut queue, mut answers) = (queue(), Answers::default());
    let id = generate.id.0;
    queue.add(generate, Instant::now());
    finish(&mut *queue, &mut answers);
    // What is refused as it comes leaves nothing to be finished.
    answers.note(queue.take_messages());
    let answer = answers.get(id);
    answer.end.unwrap().map(|_| answer.text)
}

fn asking(sampling: Sampling) -> Generate {
    Generate { sampling, ..request(1, chat("!sampling@0")) }
}

fn plain() -> Sampling {
    Sampling { min_p: 0.0, ..Sampling::default() }
}

#[test]
fn it_never_calls_itself_reproducible_and_says_what_it_is() {
    let (runtime, vocabulary) = load(&described(), stand_ins_engine()).unwrap();
    let description = runtime.description();
    assert!(!description.reproducible);
    assert_eq!(description.device, "CUDA GPU, TensorRT-LLM 0.12.0-stand-in");
    assert_eq!(vocabulary.size(), 262);
    assert!(vocabulary.infill().is_some());
}

#[test]
fn sampling_is_what_the_request_asked_for() {
    let asked = Sampling {
        temperature: 0.5,
        top_k: 0,
        top_p: 0.25,
        repeat_penalty: 1.5,
        presence_penalty: 0.5,
        frequency_penalty: -0.5,
        repeat_last_n: CONTEXT,
        seed: 7,
        ..plain()
    };
    let expected = "topK=0 topP=0.25 temperature=0.5 seed=7 repetition=1.5 presence=0.5 \
                    frequency=-0.5";
    assert_eq!(answer(asking(asked)).unwrap(), expected);
    let greedy = Sampling { temperature: 0.0, top_k: 5000, min_p: 0.5, ..plain() };
    let expected = "topK=1 topP=1 temperature=1 seed=0 repetition=unset presence=unset \
                    frequency=unset";
    assert_eq!(answer(asking(greedy)).unwrap(), expected);
}

#[test]
fn a_life_that_goes_on_draws_other_numbers_than_the_last() {
    let generated = vec![TokenId(u32::from(b't'))];
    let resumed = answer(Generate { generated, ..asking(plain()) }).unwrap();
    assert!(resumed.contains("seed=11400714819323198485"), "{resumed}");
}

#[test]
fn what_it_cannot_do_is_refused_and_named() {
    let refusals = [
        (Setting::MinP, asking(Sampling { min_p: 0.05, ..plain() })),
        (Setting::TopK, asking(Sampling { top_k: 1025, ..plain() })),
        (Setting::LogitBias, asking(Sampling { logit_bias: vec![(TokenId(1), 1.0)], ..plain() })),
        (Setting::Logprobs, asking(Sampling { logprobs: Some(0), ..plain() })),
        (Setting::RepeatLastN, asking(Sampling { presence_penalty: 1.0, ..plain() })),
        (Setting::FreshPrompt, Generate { reuse_prefix: false, ..asking(plain()) }),
        (Setting::Grammar, Generate { grammar: Some(Grammar::JsonObject), ..asking(plain()) }),
    ];
    assert_eq!(refusals.each_ref().map(|(setting, _)| *setting), BackendKind::TensorrtLlm.lacks());
    for (setting, generate) in refusals {
        let refused = answer(generate).unwrap_err();
        let begins = match setting {
            // The queue refuses it, before the runtime hears of it.
            Setting::Grammar => "this engine's runtime cannot hold answers to a grammar",
            _ => "TensorRT-LLM 0.12.0-stand-in cannot do ",
        };
        assert!(refused.starts_with(begins), "{setting:?}: {refused}");
    }
}

#[test]
fn forbidden_tokens_and_ignored_ends_are_never_chosen() {
    let forbids = vec![(TokenId(u32::from(b'b')), f32::NEG_INFINITY)];
    let sampling = Sampling { logit_bias: forbids, ..plain() };
    assert_eq!(answer(Generate { sampling, ..request(1, chat("abc")) }).unwrap(), "axc");
    let sampling = Sampling { ignore_eos: true, ..plain() };
    let endless = Generate { sampling, max_tokens: 6, ..request(1, chat("abc")) };
    assert_eq!(answer(endless).unwrap(), "abcxxx");
}

#[test]
fn an_end_token_that_is_not_shown_ends_as_well() {
    let engine = engine_that(r#""end_token_shown": 0"#);
    let (mut queue, mut answers) = (queue_of(engine.path().into()), Answers::default());
    queue.add(request(1, chat("short")), Instant::now());
    finish(&mut *queue, &mut answers);
    let answer = answers.get(1);
    assert_eq!((answer.text.as_str(), &answer.end), ("short", &stopped()));
}

#[test]
fn a_failing_request_costs_nobody_else_anything() {
    let (mut queue, mut answers) = (queue(), Answers::default());
    queue.add(request(1, chat("one !fail@3")), Instant::now());
    queue.add(request(2, chat("a good neighbour")), Instant::now());
    queue.add(request(3, chat("!throw@0")), Instant::now());
    finish(&mut *queue, &mut answers);
    assert_eq!(answers.get(1).end, Some(Err("asked for by the prompt".into())));
    assert_eq!(answers.get(2).text, "a good neighbour");
    let thrown = "hand a request over: enqueue was asked to throw";
    assert_eq!(answers.get(3).end, Some(Err(thrown.into())));
}

#[test]
fn a_broken_executor_blames_nobody() {
    let mut queue = queue();
    queue.add(request(1, chat("one !broken@3")), Instant::now());
    queue.add(request(2, chat("a good neighbour")), Instant::now());
    let broken = (0..10_000).find_map(|_| queue.step().err()).unwrap();
    assert_eq!(broken.to_string(), "wait for answers: the loop was asked to break");
    let mut answers = Answers::default();
    answers.note(queue.take_messages());
    assert_eq!((answers.get(1).end, answers.get(2).end), (None, None));
}

#[test]
fn an_executor_that_stands_still_makes_no_steps_and_hears_everybody() {
    let (mut queue, mut answers) = (queue(), Answers::default());
    queue.add(request(1, chat("!stall@2")), Instant::now());
    run_until(&mut *queue, &mut answers, |queue, _| queue.progress().steps == 1);
    queue.step().unwrap();
    let progress = queue.progress();
    assert_eq!((progress.steps, progress.decoding), (1, 1));
    queue.cancel(RequestId(1));
    answers.note(queue.take_messages());
    assert_eq!(answers.get(1).end, Some(Ok(FinishReason::Cancelled)));
}

#[test]
fn the_pace_is_kept_from_now_on() {
    let (mut queue, mut answers) = (queue(), Answers::default());
    queue.add(request(1, chat("0123456789")), Instant::now());
    queue.set_limits(Limits { pace_us: 20_000, ..LIMITS });
    let started = Instant::now();
    finish(&mut *queue, &mut answers);
    // The first steps may have begun before.
    assert!(started.elapsed() >= Duration::from_millis(20) * 8, "{:?}", started.elapsed());
}

#[test]
fn a_conversation_that_goes_on_reuses_whole_blocks() {
    let (mut queue, mut answers) = (queue(), Answers::default());
    for id in [1, 2] {
        queue.add(request(id, chat(&"the same words ".repeat(20))), Instant::now());
        finish(&mut *queue, &mut answers);
    }
    // Of 302 tokens, in blocks of 64.
    run_until(&mut *queue, &mut answers, |queue, _| queue.progress().cached_tokens == 256);
    // The sum is told, but not whose they were, nor how many of them are kept.
    assert_eq!(answers.get(2).usage.unwrap().cached_tokens, None);
    assert_eq!(queue.progress().kv.cached_tokens, None);
}

#[test]
fn an_engine_that_cannot_be_loaded_says_what_to_look_at() {
    let refuses = engine_that(r#""refuse": 1"#);
    let said = refusal(&described(), refuses.path().into());
    assert!(said.ends_with(": engine was asked to refuse itself"), "{said}");

    let mut unknown = described();
    let settings = unknown.backend.tensorrt_llm.as_mut().unwrap();
    settings.tokens.ends = vec!["</s>".into()];
    let said = refusal(&unknown, stand_ins_engine());
    assert!(said.starts_with("find the token \"</s>\" in "), "{said}");

    let mut incomplete = described();
    incomplete.files.retain(|file| file.role != ArtefactRole::Tokenizer);
    let said = refusal(&incomplete, stand_ins_engine());
    assert_eq!(said, "find the tokeniser's file in the manifest");
}

#[test]
fn special_tokens_are_found_in_templates_and_not_in_what_people_write() {
    let (_runtime, vocabulary) = load(&described(), stand_ins_engine()).unwrap();
    assert_eq!(vocabulary.tokenize("<|end|>", true), [TokenId(256)]);
    assert_eq!(vocabulary.tokenize("<|end|>", false).len(), 7);
    let grammars = Arc::new(Grammars::new(Arc::clone(&vocabulary)));
    let preparer = Preparer::new(Arc::clone(&vocabulary), grammars, CONTEXT);
    assert!(preparer.has_template());
    let prompt = Prompt::Infill { prefix: "a".into(), suffix: "b".into() };
    let (tokens, _form) = preparer.prepare(prompt, None).unwrap();
    assert_eq!(tokens, [258, 97, 259, 98, 260].map(TokenId));
}

proptest! {
    #[test]
    fn any_text_comes_back_from_its_tokens(texts in prop::collection::vec(".*", 1..20)) {
        let (_runtime, vocabulary) = load(&described(), stand_ins_engine()).unwrap();
        for text in texts {
            let mut bytes = Vec::new();
            for token in vocabulary.tokenize(&text, false) {
                vocabulary.append_bytes(token, &mut bytes);
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}
