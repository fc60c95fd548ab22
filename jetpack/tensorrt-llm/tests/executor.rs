//! The executor through the shim, on the stand-in in `tests/` that has the same
//! names as TensorRT-LLM and computes nothing.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must end")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tensorrt_llm::{Config, Executor, IterationStats, Request, RequestId, Sampling, version};

const END: u32 = 256;
const BEGIN: u32 = 257;
const ANSWER: u32 = 261;

/// Longer than anything takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

const GREEDY: Sampling = Sampling {
    top_k: 1,
    top_p: 1.0,
    temperature: 1.0,
    repetition_penalty: 1.0,
    presence_penalty: 0.0,
    frequency_penalty: 0.0,
    seed: 1,
};

struct Bench {
    executor: Executor,
    answers: BTreeMap<RequestId, Answer>,
    iterations: Vec<IterationStats>,
    _engine: TempDir,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Answer {
    text: String,
    end: Option<Result<(), String>>,
}

fn engine(config: &str) -> (TempDir, Config) {
    let engine = TempDir::new().unwrap();
    std::fs::write(engine.path().join("config.json"), config).unwrap();
    let config = Config {
        model: engine.path().into(),
        kv_tokens: 65_536,
        kv_free_percent: 50,
        kv_host_bytes: 0,
        max_sequences: 4,
        max_tokens_per_step: Some(128),
        chunked_prompts: true,
        mmap: true,
    };
    (engine, config)
}

fn bench() -> Bench {
    let (engine, config) = engine("{}");
    let executor = Executor::open(&config).unwrap();
    Bench { executor, answers: BTreeMap::new(), iterations: Vec::new(), _engine: engine }
}

fn chat(message: &str) -> Vec<u32> {
    let bytes = message.bytes().map(u32::from);
    [BEGIN].into_iter().chain(bytes).chain([ANSWER]).collect()
}

fn request(prompt: &[u32]) -> Request<'_> {
    Request {
        prompt,
        max_tokens: 1000,
        sampling: GREEDY,
        ends: &[END],
        forbidden: &[],
        priority: 0.5,
    }
}

impl Bench {
    fn ask(&mut self, message: &str) -> RequestId {
        self.executor.enqueue(&request(&chat(message))).unwrap()
    }

    fn hear(&mut self) {
        for response in self.executor.await_responses(Duration::from_millis(10)).unwrap() {
            let answer = self.answers.entry(response.id).or_default();
            assert_eq!(answer.end, None, "something came after the last response");
            match response.tokens {
                Ok(tokens) => {
                    let bytes = tokens.iter().filter_map(|&token| u8::try_from(token).ok());
                    answer.text.extend(bytes.map(char::from));
                    answer.end = response.is_last.then_some(Ok(()));
                }
                Err(reason) => answer.end = Some(Err(reason)),
            }
        }
        self.iterations.extend(self.executor.iterations().unwrap());
    }

    fn finish(&mut self, id: RequestId) -> Answer {
        let started = Instant::now();
        while self.answers.get(&id).is_none_or(|answer| answer.end.is_none()) {
            assert!(started.elapsed() < PATIENCE, "{id:?} never ended");
            self.hear();
        }
        self.answers[&id].clone()
    }
}

#[test]
fn what_runs_here_is_a_stand_in() {
    assert_eq!(version(), "0.12.0-stand-in");
}

#[test]
fn many_requests_get_their_answers_together() {
    let mut bench = bench();
    let messages: Vec<String> = (0..20).map(|n| format!("{n} ").repeat(n + 1)).collect();
    let ids: Vec<_> = messages.iter().map(|message| bench.ask(message)).collect();
    for (id, message) in ids.into_iter().zip(&messages) {
        assert_eq!(bench.finish(id), Answer { text: message.clone(), end: Some(Ok(())) });
    }
    let together = bench.iterations.iter().filter_map(|iteration| iteration.scheduled).max();
    assert_eq!(together, Some(4), "as many as the configuration allows");
    let computed: u32 = bench.iterations.iter().filter_map(|i| i.prompt_tokens).sum();
    assert!(computed > 0);
    assert!(bench.iterations.iter().all(|iteration| iteration.kv.is_some()));
}

#[test]
fn a_finished_prompt_is_not_computed_again() {
    let mut bench = bench();
    let message = "the same words ".repeat(30);
    for _ in 0..2 {
        let id = bench.ask(&message);
        bench.finish(id);
    }
    let reused = bench.iterations.last().and_then(|iteration| iteration.kv).unwrap();
    assert_eq!(reused.reused as usize, message.len() / reused.tokens_per_block as usize);
}

#[test]
fn sampling_arrives_as_it_was_meant() {
    let mut bench = bench();
    let sampling = Sampling {
        top_k: 40,
        top_p: 0.5,
        temperature: 0.75,
        repetition_penalty: 1.5,
        presence_penalty: -0.5,
        frequency_penalty: 0.25,
        seed: u64::MAX,
    };
    let prompt = chat("!sampling@0");
    let id = bench.executor.enqueue(&Request { sampling, ..request(&prompt) }).unwrap();
    let expected = "topK=40 topP=0.5 temperature=0.75 seed=18446744073709551615 repetition=1.5 \
                    presence=-0.5 frequency=0.25";
    assert_eq!(bench.finish(id).text, expected);
}

#[test]
fn forbidden_tokens_are_not_chosen_and_each_end_ends() {
    let mut bench = bench();
    let prompt = chat("abc");
    let forbidden = Request { forbidden: &[98], ..request(&prompt) };
    let id = bench.executor.enqueue(&forbidden).unwrap();
    assert_eq!(bench.finish(id).text, "axc");
    let two_ends = Request { ends: &[END, 98], ..request(&prompt) };
    let id = bench.executor.enqueue(&two_ends).unwrap();
    assert_eq!(bench.finish(id).text, "ab");
}

#[test]
fn a_failing_request_fails_alone_and_says_why() {
    let mut bench = bench();
    let failing = bench.ask("please !fail@3");
    let neighbour = bench.ask("a good neighbour");
    assert_eq!(bench.finish(failing).end, Some(Err("asked for by the prompt".into())));
    assert_eq!(bench.finish(neighbour).text, "a good neighbour");
}

#[test]
fn what_is_thrown_becomes_an_error() {
    let mut bench = bench();
    let mut said = |message: &str| bench.executor.enqueue(&request(&chat(message))).unwrap_err();
    let thrown = said("!throw@0").to_string();
    assert_eq!(thrown, "hand a request over: enqueue was asked to throw");
    assert_eq!(said("!odd@0").said, "an exception without a text");
    let no_token = bench.executor.enqueue(&request(&[u32::MAX])).unwrap_err();
    assert_eq!(no_token.said, "4294967295 is no token id");
    let id = bench.ask("all is well");
    assert_eq!(bench.finish(id).text, "all is well");
}

#[test]
fn a_cancelled_request_ends_and_an_unknown_one_is_nobody() {
    let mut bench = bench();
    let id = bench.executor.enqueue(&request(&[97; 100])).unwrap();
    bench.executor.cancel(id).unwrap();
    bench.executor.cancel(id).unwrap();
    assert!(bench.finish(id).text.len() < 1000);
    bench.executor.cancel(id).unwrap();
}

#[test]
fn a_broken_executor_says_so_again_and_again() {
    let mut bench = bench();
    bench.ask("!broken@2");
    let started = Instant::now();
    let broken = loop {
        assert!(started.elapsed() < PATIENCE);
        if let Err(broken) = bench.executor.await_responses(Duration::from_millis(10)) {
            break broken;
        }
    };
    assert_eq!(broken.said, "the loop was asked to break");
    assert_eq!(bench.executor.await_responses(Duration::ZERO), Err(broken));
}

#[test]
fn pace_holds_iterations_apart() {
    let mut bench = bench();
    let pace = Duration::from_millis(20);
    bench.executor.set_pace(pace);
    let started = Instant::now();
    let id = bench.ask("0123456789");
    bench.finish(id);
    assert!(started.elapsed() >= pace * 10, "ten tokens in {:?}", started.elapsed());
}

#[test]
fn it_ends_whatever_it_is_doing() {
    for message in ["a word", "!stall@1", "!broken@1"] {
        let mut bench = bench();
        bench.executor.set_pace(Duration::from_secs(7200));
        for _ in 0..10 {
            bench.ask(message);
        }
        bench.executor.close().unwrap();
    }
}

#[test]
fn an_engine_that_cannot_be_loaded_says_why() {
    let (_engine, nowhere) = engine("{}");
    let nowhere = Config { model: "/nowhere".into(), ..nowhere };
    let said = Executor::open(&nowhere).unwrap_err().to_string();
    assert_eq!(said, "load the engine: cannot open /nowhere/config.json");
    let (_engine, refuses) = engine(r#"{"refuse": 1}"#);
    assert_eq!(Executor::open(&refuses).unwrap_err().said, "engine was asked to refuse itself");
    let (_engine, small) = engine(r#"{"build_config": {"max_batch_size": 2}}"#);
    let said = Executor::open(&small).unwrap_err().said;
    assert_eq!(said, "max_batch_size is above what the engine was built for");
}
