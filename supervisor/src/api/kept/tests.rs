//! A stream that is taken up again is the rest of the stream that was cut,
//! wherever it was cut and however much of it was kept.

use std::borrow::Cow;

use engine_api::form::{CallSyntax, Calls, Grammar};
use engine_api::protocol::{
    FinishReason, Logprob, Priority, RequestId, Sampling, Timings, Token, TokenId, TokenLogprobs,
    Usage,
};
use http_body_util::BodyExt;
use tokio::sync::mpsc::Sender;
use tracing::Span;

use super::*;
use crate::api::job::{Plan, Planned, Running, Told};
use crate::api::openai::Kind;
use crate::api::openai::frames::OpenAiFrames;
use crate::api::stream::{AnswerStream, Begun, Frames as _};
use crate::api::wire::openai_reply::Stamp;
use crate::request::{Answer, Event, Failure, Fault};
use crate::store::{self, Bounds, Paths, StoreThread};

const USAGE: Usage = Usage { prompt_tokens: 12, cached_tokens: Some(4), completion_tokens: 3 };

fn text(index: usize, text: &'static str) -> Entry<'static> {
    let logprob = |logprob| Logprob { id: TokenId(1), logprob, bytes: text.as_bytes().to_vec() };
    let logprobs = TokenLogprobs { chosen: logprob(-0.5), top: vec![logprob(-0.5)] };
    let token = Token { id: TokenId(7), logprobs: Some(Box::new(logprobs)) };
    Entry::Text { index, text: Cow::Borrowed(text), tokens: Cow::Owned(vec![token]) }
}

fn done(index: usize, rest: &'static str) -> Entry<'static> {
    let reason = Cow::Owned(FinishReason::Length);
    let rest = Cow::Borrowed(rest);
    Entry::Done { index, rest, reason, usage: USAGE, timings: Some(Timings::default()) }
}

/// What two choices say, in the order in which a stream hears it. The first calls
/// a tool, the second seems to begin to.
fn script() -> Vec<Entry<'static>> {
    let started = |index, cached_tokens| Entry::Started { index, cached_tokens };
    vec![
        started(0, Some(4)),
        text(0, "Hel"),
        text(0, ""),
        text(0, "lo<tool_call>{\"na"),
        text(0, "me\": \"f\", \"arguments\": {\"a\""),
        text(0, ": 1}}</tool_call>"),
        done(0, ""),
        started(1, Some(4)),
        text(1, "a"),
        text(1, "b"),
        text(1, ""),
        done(1, "<held"),
    ]
}

/// The events of the engine behind an entry.
fn say(entry: &Entry<'_>, engine: &[Sender<Event>]) {
    let send = |index: usize, event| engine[index].try_send(event).unwrap();
    match entry.clone() {
        Entry::Started { index, cached_tokens } => {
            send(index, Event::Started { prompt_tokens: 12, cached_tokens });
        }
        Entry::Text { index, text, tokens } => {
            let (text, tokens) = (text.into_owned(), tokens.into_owned());
            send(index, Event::Text { text, tokens });
        }
        Entry::Done { index, rest, reason, usage, timings } => {
            if !rest.is_empty() {
                let (text, tokens) = (rest.into_owned(), Vec::new());
                send(index, Event::Text { text, tokens });
            }
            let (reason, timings) = (reason.into_owned(), timings.unwrap_or_default());
            send(index, Event::Done { reason, usage, timings });
        }
    }
}

/// The bytes of a stream of which so many entries were kept, for a client that
/// has seen so much.
async fn stream(kind: Kind, kept: usize, seen: Position) -> String {
    let script = script();
    let (past, live) = script.split_at(kept);
    let is_done =
        |choice| past.iter().any(|e| matches!(e, Entry::Done { index, .. } if *index == choice));
    let mut engine = Vec::new();
    let mut answers = Vec::new();
    for choice in [0, 1] {
        let (answer, events, _) = Answer::channel(RequestId(choice as u64), 64);
        answers.push((!is_done(choice)).then_some(answer));
        if !is_done(choice) && past.iter().any(|entry| entry.index() == choice) {
            // Of a prompt that ran before, the engine has more in its cache.
            let again = Event::Started { prompt_tokens: 12, cached_tokens: Some(11) };
            events.try_send(again).unwrap();
        }
        engine.push(events);
    }
    live.iter().for_each(|entry| say(entry, &engine));
    let running = Running { answers, choices: 2, max_tokens: 10, calls: calls(), receipt: None };
    let begun = Begun { past: past.to_vec(), ..running.into() };
    let frames = OpenAiFrames::new(kind, Stamp::fixed(), true, true, vec!["echo".to_owned()]);
    let mut frames = frames.after(seen);
    frames.kept();
    let stream = AnswerStream::running(begun, frames, Span::none());
    let bytes = stream.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_client_that_comes_back_gets_exactly_the_rest() {
    for kind in [Kind::Chat, Kind::Completion] {
        let whole = stream(kind, script().len(), Position::default()).await;
        let events: Vec<&str> = whole.split_inclusive("\n\n").collect();
        assert!(events.len() > 9 && whole.contains("data: [DONE]\nid: id-1:"), "{whole}");
        for kept in 0..=script().len() {
            for seen in 0..=events.len() {
                let position = match seen.checked_sub(1) {
                    None => Position::default(),
                    Some(last) => {
                        let id = events[last].trim_end().rsplit_once(':').unwrap().1;
                        Position::parse(id, 2).unwrap()
                    }
                };
                let rest = stream(kind, kept, position).await;
                assert_eq!(rest, events[seen..].concat(), "{kept} kept, {seen} seen");
            }
        }
    }
}

fn calls() -> Option<Calls> {
    let (syntax, names) = (CallSyntax::Hermes, vec!["f".to_owned()]);
    Some(Calls { syntax, begun: false, parallel: true, names })
}

fn recipe() -> Recipe {
    let prompts = vec![Planned { tokens: vec![TokenId(1), TokenId(2)], max_tokens: 10 }];
    let plan = Plan {
        prompts,
        choices: 2,
        sampling: Sampling::default(),
        stops: vec!["<end>".to_owned()],
        grammar: Some(Grammar::JsonObject),
        calls: calls(),
        priority: Priority::Interactive,
        reuse_prefix: true,
        receipt: Some(Told { json: "{}".to_owned(), line: "code=1".to_owned() }),
    };
    let echo = vec!["echo".to_owned()];
    let (stamp, model) = (Stamp::fixed(), "m".to_owned());
    let kind = Kind::Completion;
    Recipe { kind, stamp, model, include_usage: true, logprobs: true, echo, plan }
}

fn keeper(dir: &std::path::Path) -> (Arc<Keeper>, StoreThread) {
    let paths = Paths { history: dir.join("stoker.db"), answers: dir.join("answers.db") };
    let answers_kept = Duration::from_secs(60);
    let bounds = Bounds { requests: 9, incidents: 9, answers_kept, answers_bytes: 1 << 20 };
    let (store, thread) = store::start(paths, bounds, |_| {}).unwrap();
    (Arc::new(Keeper::new(Some(store))), thread)
}

fn alice() -> Client {
    Client::Address("10.0.0.7".parse().unwrap())
}

/// Gives the recording what the engine says in these entries.
fn record(recording: &mut Recording, entries: &[Entry<'_>]) {
    for entry in entries {
        let (sender, mut events) = tokio::sync::mpsc::channel(4);
        say(entry, &[sender.clone(), sender]);
        while let Ok(event) = events.try_recv() {
            recording.note(entry.index(), &event, true);
        }
    }
}

#[tokio::test]
async fn what_was_said_is_found_again_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, thread) = keeper(dir.path());
    let script = script();
    let (_seat, recording) = keeper.begin(&alice(), &recipe()).await;
    let mut recording = recording.unwrap();
    record(&mut recording, &script[..3]);
    drop(recording);

    let mut found = keeper.take_over(&alice(), "id-1").await.unwrap();
    assert_eq!(found.past.recipe, recipe());
    assert_eq!(found.past.said[1..], script[1..3]);
    assert_eq!(found.past.generated(0), Some(vec![TokenId(7), TokenId(7)]));
    assert_eq!((found.past.generated(1), found.past.is_finished()), (Some(vec![]), false));
    record(&mut found.recording, &script[3..]);
    found.recording.finish();
    drop(found);

    let found = keeper.take_over(&alice(), "id-1").await.unwrap();
    assert_eq!(found.past.said.last(), script.last());
    assert_eq!((found.past.generated(0), found.past.is_finished()), (None, true));
    let stranger = Client::Address("10.0.0.8".parse().unwrap());
    let problem = keeper.take_over(&stranger, "id-1").await.unwrap_err();
    assert_eq!(problem.code, Some("answer_not_found"));
    drop(found);
    assert!(keeper.lock().is_empty(), "nobody sends anything");
    thread.close();
}

#[tokio::test]
async fn text_that_was_held_back_is_kept_only_with_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, thread) = keeper(dir.path());
    let (_seat, recording) = keeper.begin(&alice(), &recipe()).await;
    let mut recording = recording.unwrap();
    let held = Event::Text { text: "<held".to_owned(), tokens: Vec::new() };
    recording.note(0, &held, true);
    drop(recording);
    let found = keeper.take_over(&alice(), "id-1").await.unwrap();
    assert_eq!(found.past.said, []);
    thread.close();
}

#[tokio::test]
async fn an_answer_that_stops_the_engine_is_not_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, thread) = keeper(dir.path());
    for (fault, found) in [(Fault::Engine, true), (Fault::End, true), (Fault::Request, false)] {
        let (_seat, recording) = keeper.begin(&alice(), &recipe()).await;
        let mut recording = recording.unwrap();
        record(&mut recording, &script()[..2]);
        let failure = Failure { message: "it died".to_owned(), incident: Some(7), fault };
        recording.note(0, &Event::Failed(failure), true);
        drop(recording);
        assert_eq!(keeper.take_over(&alice(), "id-1").await.is_ok(), found, "{fault:?}");
    }
    thread.close();
}

#[test]
fn an_answer_of_another_version_is_unknown() {
    let mut kept = store::KeptAnswer { recipe: recipe().encode(), pieces: Vec::new() };
    assert!(Past::decode(&kept).is_some());
    kept.recipe[0] += 1;
    assert!(Past::decode(&kept).is_none());
}
