//! What a client sees on its connection, byte for byte.

use engine_api::form::CallSyntax;
use engine_api::protocol::{Logprob, RequestId, TokenId, TokenLogprobs};
use expect_test::{Expect, expect};
use http_body_util::BodyExt;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot::Receiver;
use tokio::time::sleep;

use super::*;
use crate::api::ollama::frames::OllamaFrames;
use crate::api::openai::frames::OpenAiFrames;
use crate::api::wire::openai_reply::Stamp;
use crate::api::{ollama, openai};
use crate::request::{Failure, Fault};

/// The engine's side of some answers.
struct Engine {
    events: Vec<Sender<Event>>,
    cancelled: Vec<Receiver<()>>,
}

fn running(answers: usize) -> (Running, Engine) {
    let mut running = Running {
        answers: Vec::new(),
        choices: answers,
        max_tokens: 10,
        calls: None,
        receipt: None,
    };
    let mut engine = Engine { events: Vec::new(), cancelled: Vec::new() };
    for id in 0..answers {
        let (answer, events, cancelled) = Answer::channel(RequestId(id as u64), 64);
        running.answers.push(Some(answer));
        engine.events.push(events);
        engine.cancelled.push(cancelled);
    }
    (running, engine)
}

impl Engine {
    fn say(&self, index: usize, event: Event) {
        self.events[index].try_send(event).unwrap();
    }

    fn text(&self, index: usize, text: &str) {
        let tokens = vec![Token { id: TokenId(1), logprobs: None }];
        self.say(index, Event::Text { text: text.to_owned(), tokens });
    }

    fn done(&self, index: usize) {
        self.done_after(index, Some(4));
    }

    /// Its end, with so many tokens of the prompt from the cache.
    fn done_after(&self, index: usize, cached_tokens: Option<u32>) {
        let usage = Usage { prompt_tokens: 12, cached_tokens, completion_tokens: 2 };
        let timings = Timings { queued_us: 100, prefill_us: 4000, decode_us: 50_000 };
        let reason = FinishReason::Stop { matched: None };
        self.say(index, Event::Done { reason, usage, timings });
    }

    fn fail(&self, index: usize) {
        let message = "the engine died".to_owned();
        let failure = Failure { message, incident: Some(1), fault: Fault::Engine };
        self.say(index, Event::Failed(failure));
    }
}

fn hermes() -> Option<Calls> {
    let (syntax, names) = (CallSyntax::Hermes, Vec::new());
    Some(Calls { syntax, begun: false, parallel: true, names })
}

fn openai(kind: openai::Kind) -> OpenAiFrames {
    OpenAiFrames::new(kind, Stamp::fixed(), false, false, Vec::new())
}

fn stream<F: Frames>(running: Running, frames: F) -> AnswerStream<F> {
    AnswerStream::running(running.into(), frames, Span::none())
}

/// The next piece as text; `None` at the end.
async fn piece<F: Frames>(stream: &mut AnswerStream<F>) -> Option<String> {
    let frame = stream.frame().await?;
    let bytes = frame.unwrap().into_data().unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn check<F: Frames>(mut stream: AnswerStream<F>, expected: &Expect) {
    let mut all = String::new();
    while let Some(piece) = piece(&mut stream).await {
        all.push_str(&piece);
    }
    assert!(stream.is_end_stream());
    expected.assert_eq(&all);
}

#[tokio::test]
async fn a_chat_answer() {
    let (running, engine) = running(1);
    engine.say(0, Event::Queued { ahead: 0 });
    engine.say(0, Event::Started { prompt_tokens: 12, cached_tokens: Some(4) });
    engine.text(0, "Hel");
    engine.text(0, "");
    engine.text(0, "lo \"you\"\n");
    engine.done(0);
    check(stream(running, openai(openai::Kind::Chat)), &expect![[r#"
        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"lo \"you\"\n"},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":4,"prompt_n":8,"prompt_ms":4.0,"prompt_per_token_ms":0.5,"prompt_per_second":2000.0,"predicted_n":2,"predicted_ms":50.0,"predicted_per_token_ms":25.0,"predicted_per_second":40.0}}

        data: [DONE]

    "#]]).await;
}

#[tokio::test]
async fn usage_comes_in_a_chunk_of_its_own_and_only_when_asked_for() {
    let (running, engine) = running(1);
    engine.text(0, "Hi");
    engine.done(0);
    let frames = OpenAiFrames::new(openai::Kind::Chat, Stamp::fixed(), true, false, Vec::new());
    check(stream(running, frames), &expect![[r#"
        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4}},"timings":{"cache_n":4,"prompt_n":8,"prompt_ms":4.0,"prompt_per_token_ms":0.5,"prompt_per_second":2000.0,"predicted_n":2,"predicted_ms":50.0,"predicted_per_token_ms":25.0,"predicted_per_second":40.0}}

        data: [DONE]

    "#]]).await;
}

#[tokio::test]
async fn what_the_engine_does_not_tell_is_left_out() {
    let (running, engine) = running(1);
    engine.say(0, Event::Started { prompt_tokens: 12, cached_tokens: None });
    engine.done_after(0, None);
    let frames =
        OpenAiFrames::new(openai::Kind::Completion, Stamp::fixed(), true, false, Vec::new());
    check(stream(running, frames), &expect![[r#"
        data: {"id":"id-1","object":"text_completion","created":1700000000,"model":"m","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}

        data: {"id":"id-1","object":"text_completion","created":1700000000,"model":"m","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14},"timings":{"prompt_ms":4.0,"prompt_per_token_ms":null,"prompt_per_second":null,"predicted_n":2,"predicted_ms":50.0,"predicted_per_token_ms":25.0,"predicted_per_second":40.0}}

        data: [DONE]

    "#]]).await;
}

#[tokio::test]
async fn several_choices_are_told_apart_by_index() {
    let (running, engine) = running(2);
    engine.text(1, "b");
    engine.text(0, "a");
    engine.done(1);
    engine.done(0);
    check(stream(running, openai(openai::Kind::Chat)), &expect![[r#"
        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}

        data: [DONE]

    "#]]).await;
}

#[tokio::test]
async fn a_completion_with_log_probabilities() {
    let (running, engine) = running(1);
    let chosen = Logprob { id: TokenId(1), logprob: -0.25, bytes: b" b".to_vec() };
    let logprobs = Box::new(TokenLogprobs { top: vec![chosen.clone()], chosen });
    let tokens = vec![Token { id: TokenId(1), logprobs: Some(logprobs) }];
    engine.say(0, Event::Text { text: " b".to_owned(), tokens });
    engine.done(0);
    let kind = openai::Kind::Completion;
    let frames = OpenAiFrames::new(kind, Stamp::fixed(), false, true, Vec::new());
    check(stream(running, frames), &expect![[r#"
        data: {"id":"id-1","object":"text_completion","created":1700000000,"model":"m","choices":[{"index":0,"text":" b","logprobs":{"tokens":[" b"],"token_logprobs":[-0.25],"top_logprobs":[{" b":-0.25}],"text_offset":[0]},"finish_reason":null}]}

        data: {"id":"id-1","object":"text_completion","created":1700000000,"model":"m","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"timings":{"cache_n":4,"prompt_n":8,"prompt_ms":4.0,"prompt_per_token_ms":0.5,"prompt_per_second":2000.0,"predicted_n":2,"predicted_ms":50.0,"predicted_per_token_ms":25.0,"predicted_per_second":40.0}}

        data: [DONE]

    "#]]).await;
}

#[tokio::test]
async fn echo_says_each_prompt_before_its_answers() {
    let (running, engine) = running(4);
    let prompts = vec!["a".to_owned(), "b".to_owned()];
    let kind = openai::Kind::Completion;
    let frames = OpenAiFrames::new(kind, Stamp::fixed(), false, false, prompts);
    let mut stream = stream(Running { choices: 2, ..running }, frames);
    let all = piece(&mut stream).await.unwrap();
    let said: Vec<_> = all
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, ["a", "a", "b", "b"]);
    drop(engine);
}

#[tokio::test]
async fn a_failure_ends_the_stream_without_done() {
    let (running, engine) = running(2);
    engine.text(0, "a");
    engine.done(0);
    engine.fail(1);
    check(stream(running, openai(openai::Kind::Chat)), &expect![[r#"
        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

        data: {"error":{"message":"the engine died","type":"server_error","param":null,"code":"engine_failed"}}

    "#]]).await;
    assert!(engine.events.iter().all(Sender::is_closed));
}

#[tokio::test]
async fn an_engine_side_that_vanishes_is_a_failure_too() {
    let (running, engine) = running(1);
    engine.text(0, "a");
    drop(engine);
    check(stream(running, openai(openai::Kind::Completion)), &expect![[r#"
        data: {"id":"id-1","object":"text_completion","created":1700000000,"model":"m","choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}

        data: {"error":{"message":"the server is shutting down; the answer is incomplete","type":"unavailable_error","param":null,"code":"shutting_down"}}

    "#]]).await;
}

#[tokio::test]
async fn an_answer_that_the_server_cut_off_does_not_look_finished() {
    let (running, engine) = running(1);
    let (usage, timings) = (Usage::default(), Timings::default());
    engine.say(0, Event::Done { reason: FinishReason::Cancelled, usage, timings });
    check(stream(running, openai(openai::Kind::Completion)), &expect![[r#"
        data: {"error":{"message":"the server cut the answer off; it is incomplete","type":"unavailable_error","param":null,"code":null}}

    "#]]).await;
}

#[tokio::test]
async fn a_refusal_after_the_head_comes_inside_the_stream() {
    let deciding = Box::pin(async { Err(Problem::too_long(5000, false, 4096)) });
    let stream = AnswerStream::deciding(deciding, openai(openai::Kind::Chat), Span::none());
    check(stream, &expect![[r#"
        : keep-alive
        data: {"error":{"message":"this model's maximum context length is 4096 tokens, but the prompt has 5000 tokens and an answer needs at least one; shorten the prompt","type":"exceed_context_size_error","param":null,"code":"context_length_exceeded","n_prompt_tokens":5000,"n_ctx":4096}}

    "#]]).await;
}

#[tokio::test]
async fn everything_that_is_ready_goes_out_in_one_piece() {
    let (running, engine) = running(1);
    let mut stream = stream(running, openai(openai::Kind::Chat));
    for _ in 0..20 {
        engine.text(0, "x");
    }
    let first = piece(&mut stream).await.unwrap();
    assert_eq!(first.matches("data: ").count(), 21);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_every_answer() {
    let (running, mut engine) = running(2);
    let mut stream = stream(running, openai(openai::Kind::Chat));
    engine.text(0, "x");
    piece(&mut stream).await.unwrap();
    assert!(engine.cancelled.iter_mut().all(|cancelled| cancelled.try_recv().is_err()));
    drop(stream);
    for cancelled in engine.cancelled {
        assert!(cancelled.await.is_err(), "the other end is dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_after_one_second_and_then_every_five() {
    let (running, engine) = running(1);
    let mut stream = stream(running, openai(openai::Kind::Completion));
    let start = Instant::now();
    let mut times = Vec::new();
    for _ in 0..3 {
        assert_eq!(piece(&mut stream).await.unwrap(), ": keep-alive\n");
        times.push(start.elapsed().as_secs());
    }
    assert_eq!(times, [1, 6, 11]);
    engine.text(0, "x");
    assert!(piece(&mut stream).await.unwrap().starts_with("data: "));
    assert_eq!(piece(&mut stream).await.unwrap(), ": keep-alive\n");
    assert_eq!(start.elapsed().as_secs(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_flows_has_no_comments() {
    let (running, engine) = running(1);
    let mut stream = stream(running, openai(openai::Kind::Completion));
    let speaking = async {
        for _ in 0..50 {
            sleep(Duration::from_millis(300)).await;
            engine.text(0, "x");
        }
        engine.done(0);
    };
    let reading = async {
        let mut all = String::new();
        while let Some(piece) = piece(&mut stream).await {
            all.push_str(&piece);
        }
        all
    };
    let ((), all) = tokio::join!(speaking, reading);
    assert!(!all.contains("keep-alive"), "{all}");
    assert!(all.ends_with("data: [DONE]\n\n"));
}

/// The lines, without what differs from run to run.
async fn lines(kind: ollama::Kind, speak: impl FnOnce(&Engine)) -> Vec<serde_json::Value> {
    let (running, engine) = running(1);
    speak(&engine);
    let frames = OllamaFrames::new(kind, "m".to_owned(), std::time::Instant::now(), false);
    let mut stream = stream(running, frames);
    let mut all = String::new();
    while let Some(piece) = piece(&mut stream).await {
        all.push_str(&piece);
    }
    assert!(all.ends_with('\n'));
    let parse = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(created_at) = line.get_mut("created_at") {
            assert!(created_at.as_str().unwrap().ends_with('Z'));
            *created_at = "now".into();
        }
        if let Some(total) = line.get_mut("total_duration") {
            assert!(total.is_u64());
            *total = 1.into();
        }
        line
    };
    all.lines().map(parse).collect()
}

fn check_lines(lines: &[serde_json::Value], expected: &Expect) {
    let text: Vec<_> = lines.iter().map(|line| format!("{line}\n")).collect();
    expected.assert_eq(&text.concat());
}

#[tokio::test]
async fn ollama_lines() {
    let speak = |engine: &Engine| {
        engine.text(0, "Hi");
        engine.text(0, "");
        engine.done(0);
    };
    check_lines(
        &lines(ollama::Kind::Chat, speak).await,
        &expect![[r#"
            {"model":"m","created_at":"now","message":{"role":"assistant","content":"Hi"},"done":false}
            {"model":"m","created_at":"now","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":1,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":4000000,"eval_count":2,"eval_duration":50000000}
        "#]],
    );
    check_lines(
        &lines(ollama::Kind::Generate, speak).await,
        &expect![[r#"
            {"model":"m","created_at":"now","response":"Hi","done":false}
            {"model":"m","created_at":"now","response":"","done":true,"done_reason":"stop","total_duration":1,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":4000000,"eval_count":2,"eval_duration":50000000}
        "#]],
    );
}

#[tokio::test]
async fn an_ollama_failure_is_a_line_and_nothing_is_done_after_it() {
    let speak = |engine: &Engine| {
        engine.text(0, "Hi");
        engine.fail(0);
    };
    check_lines(
        &lines(ollama::Kind::Chat, speak).await,
        &expect![[r#"
            {"model":"m","created_at":"now","message":{"role":"assistant","content":"Hi"},"done":false}
            {"error":"the engine died","code":"engine_failed"}
        "#]],
    );
}

#[tokio::test]
async fn a_call_comes_with_its_id_and_name_first_and_then_its_arguments() {
    let (running, engine) = running(1);
    for piece in
        ["Hm.\n<tool", "_call>{\"name\": \"f\", ", "\"arguments\": {\"a\"", ": 1}}</tool_", "call>"]
    {
        engine.text(0, piece);
    }
    engine.done(0);
    let running = Running { calls: hermes(), ..running };
    check(stream(running, openai(openai::Kind::Chat)), &expect![[r#"
        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"Hm."},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"o8im132rq","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":": 1}"}}]},"finish_reason":null}]}

        data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"timings":{"cache_n":4,"prompt_n":8,"prompt_ms":4.0,"prompt_per_token_ms":0.5,"prompt_per_second":2000.0,"predicted_n":2,"predicted_ms":50.0,"predicted_per_token_ms":25.0,"predicted_per_second":40.0}}

        data: [DONE]

    "#]]).await;
}

#[tokio::test]
async fn an_ollama_call_comes_whole() {
    let (running, engine) = running(1);
    for piece in
        ["<tool_call>{\"name\": \"f\", ", "\"arguments\": {\"z\": 1, \"a\"", ": 2}}</tool_call>"]
    {
        engine.text(0, piece);
    }
    engine.done(0);
    let running = Running { calls: hermes(), ..running };
    let frames =
        OllamaFrames::new(ollama::Kind::Chat, "m".into(), std::time::Instant::now(), false);
    let mut stream = stream(running, frames);
    let mut all = String::new();
    while let Some(piece) = piece(&mut stream).await {
        all.push_str(&piece);
    }
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 2, "{all}");
    assert!(
        lines[0].contains(r#""function":{"index":0,"name":"f","arguments":{"z": 1, "a": 2}}"#),
        "{all}"
    );
    assert!(lines[1].contains(r#""content":"""#) && lines[1].contains(r#""done_reason":"stop""#));
}
