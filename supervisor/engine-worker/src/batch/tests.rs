//! What the batch promises beyond `requests/promises.rs`, with the echo backend
//! computing nothing, at once.

use std::sync::Arc;
use std::time::Instant;

use engine_api::form::Grammar;
use engine_api::protocol::{
    FinishReason, FromWorker, Generate, Limits, Priority, RequestId, Sampling, TokenId,
};

use crate::backend::echo;
use crate::grammar::{GrammarError, Grammars};
use crate::requests::Requests;
use crate::requests::promises::{
    Answer, Answers, LIMITS, chat, echo_batch as batch, finish, request, run, stopped,
};

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
    assert_eq!(answers.get(2).usage.unwrap().cached_tokens, u32::try_from(first.len()).ok());
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
    assert_eq!(answers.get(2).usage.unwrap().cached_tokens, Some(0));
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
fn lower_limits_make_bulk_wait_and_nobody_else() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    let message = |id: u64| format!("{id} ").repeat(100);
    for id in 0..6 {
        let bulk = Generate { priority: Priority::Bulk, ..request(id, chat(&message(id))) };
        batch.add(bulk, Instant::now());
    }
    run(&mut batch, &mut answers, 30);
    batch.set_limits(Limits { max_sequences: 1, ..LIMITS });
    let urgent = Generate { priority: Priority::Completion, ..request(6, chat(&message(6))) };
    batch.add(urgent, Instant::now());
    run(&mut batch, &mut answers, 30);
    let of_bulk = |answers: &Answers| (0..6).map(|id| answers.get(id).tokens).sum::<usize>();
    let before = of_bulk(&answers);
    assert!(answers.get(6).tokens > 0, "it did not wait for a bulk request to end");
    run(&mut batch, &mut answers, 10);
    assert_eq!(of_bulk(&answers), before, "each step is the completion's");
    finish(&mut batch, &mut answers);
    for id in 0..7 {
        assert_eq!(answers.get(id).text, message(id), "request {id}");
    }
}

#[test]
fn with_pauses_between_steps_no_step_is_long() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    batch.add(request(1, chat(&"x".repeat(1000))), Instant::now());
    batch.set_limits(Limits { pace_us: 200_000, ..LIMITS });
    run(&mut batch, &mut answers, 1);
    assert_eq!(batch.progress().prefill_tokens, 64);
    batch.set_limits(LIMITS);
    run(&mut batch, &mut answers, 1);
    assert_eq!(batch.progress().prefill_tokens, 64 + 512, "the largest step again");
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

/// A request whose answer must be three digits.
fn digits(id: u64, message: &str) -> (Generate, Grammar) {
    let grammar = Grammar::Lark("start: /[0-9]{3}/".into());
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    (Generate { grammar: Some(grammar.clone()), sampling, ..request(id, chat(message)) }, grammar)
}

fn grammars() -> Grammars {
    Grammars::new(Arc::new(echo::EchoVocabulary::new()))
}

#[test]
fn a_request_waits_for_its_grammar_and_then_obeys_it() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    let (constrained, grammar) = digits(1, "12x and more");
    batch.add(constrained, Instant::now());
    assert!(!batch.has_work() && !batch.is_idle());
    batch.add(request(2, chat("a neighbour")), Instant::now());
    run(&mut batch, &mut answers, 5);
    assert_eq!(answers.get(1), Answer::default());
    assert!(answers.get(2).tokens > 0, "nobody else waits");
    batch.constrain(RequestId(1), grammars().start(&grammar, &[]));
    finish(&mut batch, &mut answers);
    // The engine wants an x, which is not allowed; of the others all are alike.
    assert_eq!((answers.get(1).text.as_str(), answers.get(1).end), ("120", stopped()));
    assert_eq!(answers.get(2).text, "a neighbour");
}

#[test]
fn a_constrained_answer_is_taken_up_at_any_of_its_tokens() {
    let answer: Vec<TokenId> = "120".bytes().map(|byte| TokenId(byte.into())).collect();
    for had in 0..=3 {
        let (mut batch, mut answers) = (batch(), Answers::default());
        let (constrained, grammar) = digits(1, "12x and more");
        let generated = answer[..had].to_vec();
        batch.add(Generate { generated: generated.clone(), ..constrained }, Instant::now());
        batch.constrain(RequestId(1), grammars().start(&grammar, &generated));
        answers.note(batch.take_messages());
        finish(&mut batch, &mut answers);
        assert_eq!((&*answers.get(1).text, answers.get(1).end), (&"120"[had..], stopped()));
    }
}

#[test]
fn a_grammar_that_fails_costs_one_request_and_a_cancelled_one_needs_none() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    for id in [1, 2] {
        batch.add(digits(id, "123").0, Instant::now());
    }
    batch.cancel(RequestId(2));
    let grammar = digits(2, "123").1;
    let wrong = grammars().start(&Grammar::Lark("start: nothing".into()), &[]);
    assert!(matches!(wrong, Err(GrammarError { .. })));
    batch.constrain(RequestId(1), wrong);
    batch.constrain(RequestId(2), grammars().start(&grammar, &[]));
    answers.note(batch.take_messages());
    assert!(batch.is_idle());
    assert!(matches!(answers.get(1).end, Some(Err(_))));
    assert_eq!(answers.get(2).end, Some(Ok(FinishReason::Cancelled)));
}

#[test]
fn an_answer_cut_by_its_length_says_so_whatever_its_form() {
    let (mut batch, mut answers) = (batch(), Answers::default());
    let (constrained, grammar) = digits(1, "123");
    batch.add(Generate { max_tokens: 2, ..constrained }, Instant::now());
    batch.constrain(RequestId(1), grammars().start(&grammar, &[]));
    finish(&mut batch, &mut answers);
    assert_eq!(answers.get(1).end, Some(Ok(FinishReason::Length)));
}
