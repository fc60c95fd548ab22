//! What the batch promises beyond `requests/promises.rs`, with the echo backend
//! computing nothing, at once.

use std::time::Instant;

use engine_api::protocol::{FromWorker, Generate, Limits};

use crate::requests::promises::{Answers, LIMITS, chat, echo_batch as batch, finish, request, run};

#[test]
fn a_long_prompt_does_not_stop_running_answers() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    batch.add(request(1, chat(&"running ".repeat(100))), Instant::now());
    run(&mut batch, &mut answers, 20);
    let before = answers.get(1).tokens;
    batch.add(request(2, chat(&"x".repeat(3000))), Instant::now());
    run(&mut batch, &mut answers, 10);
    assert_eq!(answers.get(1).tokens, before + 10, "one token in each step");
    assert_eq!(answers.get(2).tokens, 0);
    finish(&mut batch, &mut answers);
    assert!(answers.get(2).end.is_some());
}

#[test]
fn a_new_prefix_is_computed_once_for_all_who_bring_it_together() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    let prefix = "shared beginning ".repeat(100);
    for id in 0..4 {
        batch.add(request(id, chat(&format!("{prefix}{id}"))), Instant::now());
    }
    finish(&mut batch, &mut answers);
    let computed = batch.progress().prefill_tokens;
    assert!(computed < prefix.len() as u64 + 100, "{computed} tokens for {}", prefix.len());
    for id in 0..4 {
        assert_eq!(answers.get(id).text, format!("{prefix}{id}"));
    }
}

#[test]
fn a_finished_conversation_is_continued_without_computing_it_again() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    let first = chat(&"first turn ".repeat(20));
    batch.add(request(1, first.clone()), Instant::now());
    finish(&mut batch, &mut answers);
    let second: Vec<_> = first.iter().copied().chain(chat("second turn")).collect();
    batch.add(request(2, second), Instant::now());
    finish(&mut batch, &mut answers);
    assert_eq!(answers.get(2).cached as usize, first.len());
    assert_eq!(answers.get(2).text, "second turn");
}

#[test]
fn without_reuse_everything_is_computed() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    for id in [1, 2] {
        let prompt = chat(&"the same words ".repeat(20));
        batch.add(Generate { reuse_prefix: id == 1, ..request(id, prompt) }, Instant::now());
        finish(&mut batch, &mut answers);
    }
    assert_eq!(answers.get(2).cached, 0);
}

#[test]
fn lower_limits_slow_answers_down_and_drop_none() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    for id in 0..8 {
        batch.add(request(id, chat(&format!("{id} ").repeat(20))), Instant::now());
    }
    run(&mut batch, &mut answers, 12);
    batch.set_limits(Limits { max_sequences: 2, ..LIMITS });
    let before: usize = (0..8).map(|id| answers.get(id).tokens).sum();
    run(&mut batch, &mut answers, 8);
    let after: usize = (0..8).map(|id| answers.get(id).tokens).sum();
    assert_eq!(after - before, 16, "two tokens in each of eight steps");
    finish(&mut batch, &mut answers);
    for id in 0..8 {
        assert_eq!(answers.get(id).text, format!("{id} ").repeat(20));
    }
}

#[test]
fn a_step_of_several_that_fails_blames_nobody() {
    let mut batch = batch();
    batch.add(request(1, chat("a b c !fail@3 d")), Instant::now());
    batch.add(request(2, chat("a good neighbour")), Instant::now());
    let failed = (0..20).find_map(|_| batch.step().err());
    assert_eq!(failed.unwrap().to_string(), "echo a token: asked for by the prompt");
    let ended = |message: &FromWorker| matches!(message, FromWorker::Failed { .. });
    assert!(!batch.take_messages().iter().any(ended));
}

#[test]
fn logits_that_are_no_numbers_cost_one_request_only() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    batch.add(request(1, chat("bad !logits@3")), Instant::now());
    batch.add(request(2, chat("a good neighbour")), Instant::now());
    finish(&mut batch, &mut answers);
    assert!(matches!(answers.get(1).end, Some(Err(_))));
    assert_eq!(answers.get(2).text, "a good neighbour");
}
