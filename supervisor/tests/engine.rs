//! The main loop and a worker process that behaves as it is told: what clients
//! get when the worker dies, hangs or talks nonsense.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod engine {
    pub(crate) mod stoker;
    pub(crate) mod worker;
}

use std::time::Duration;

use engine::stoker::{Stoker, end, request, text};
use engine_api::protocol::FinishReason;
use supervisor::request::{Event, Refusal};
use supervisor::snapshot::EngineState;
use supervisor::supervisor::Haste;

/// Not a test of its own: the other tests start this program again with only
/// this one, and it becomes the worker.
#[test]
fn fake_worker() {
    engine::worker::run_if_asked();
}

#[tokio::test]
async fn an_answer_streams_from_the_worker() {
    let stoker = Stoker::start("good").await;
    let mut answer = stoker.ask("hello", 3).await;
    let started = Event::Started { prompt_tokens: 5, cached_tokens: Some(0) };
    assert_eq!(answer.next().await, Some(started));
    let (words, last) = end(&mut answer).await;
    assert_eq!(words, "xxx");
    assert!(matches!(last, Event::Done { reason: FinishReason::Length, .. }), "{last:?}");
    assert_eq!(answer.next().await, None);
    let totals = stoker.when(|snapshot| snapshot.totals.answered == 1).await.totals;
    assert_eq!((totals.prompt_tokens, totals.completion_tokens), (5, 3));
    let dir = stoker.shut_down(Haste::Drain).await;
    let database = rusqlite::Connection::open(dir.path().join("stoker.db")).unwrap();
    let row: (String, String, u32) = database
        .query_one("SELECT client, outcome, completion_tokens FROM requests", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(row, ("127.0.0.1".to_owned(), "answered".to_owned(), 3));
}

#[tokio::test]
async fn an_answer_goes_on_after_the_death_of_its_worker() {
    let stoker = Stoker::start("good").await;
    let mut answer = stoker.ask("!exit-once", 9).await;
    assert!(matches!(answer.next().await, Some(Event::Started { .. })));
    let (words, last) = end(&mut answer).await;
    assert_eq!(words, "xxxxxxxxx");
    let Event::Done { reason: FinishReason::Length, usage, .. } = last else { panic!("{last:?}") };
    assert_eq!(usage.completion_tokens, 9);
    let snapshot = stoker.when(|snapshot| snapshot.totals.answered == 1).await;
    assert_eq!((snapshot.engine.restarts, snapshot.totals.failed), (1, 0));
    let incident = &snapshot.incidents[0];
    assert_eq!(incident.kind, "engine_died");
    assert_eq!(incident.problem, "the engine stopped while it ran a request");
    assert!(incident.done.contains("the answer goes on where it was"), "{}", incident.done);
    let dir = stoker.shut_down(Haste::Drain).await;
    let database = rusqlite::Connection::open(dir.path().join("stoker.db")).unwrap();
    let (cause, evidence): (String, String) = database
        .query_one("SELECT cause, evidence FROM incidents", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(cause, "it closed its socket (exit status: 3)");
    assert!(evidence.contains("goodbye"), "its last line is kept: {evidence}");
    let tokens: u32 =
        database.query_one("SELECT completion_tokens FROM requests", [], |row| row.get(0)).unwrap();
    assert_eq!(tokens, 9, "what both workers made is counted");
}

#[tokio::test]
async fn a_request_that_kills_each_worker_is_taken_out_with_its_incident() {
    for poison in ["!exit", "!garbage", "!stranger"] {
        let stoker = Stoker::start("good").await;
        let (words, last) = end(&mut stoker.ask(poison, 9).await).await;
        assert_eq!(words, "xx", "what was generated before the deaths is delivered");
        let Event::Failed(failure) = last else { panic!("{last:?}") };
        let snapshot = stoker.ready_after(3).await;
        let kinds: Vec<_> = snapshot.incidents.iter().map(|incident| &incident.kind[..]).collect();
        assert_eq!(kinds, ["request_quarantined", "engine_died", "engine_died", "engine_died"]);
        assert_eq!(failure.incident, Some(snapshot.incidents[0].id));
        assert_eq!((snapshot.engine.restarts, snapshot.totals.failed), (3, 1));
        let (words, _) = end(&mut stoker.ask("again", 2).await).await;
        assert_eq!(words, "xx");
        stoker.shut_down(Haste::Drain).await;
    }
}

#[tokio::test]
async fn an_answer_that_its_worker_forgot_goes_on_with_the_next() {
    let stoker = Stoker::start("good").await;
    let mut answer = stoker.ask("!mute-once", 9).await;
    // The worker seems to work all the time; the limit for one answer is 30 s.
    let (words, last) = end(&mut answer).await;
    assert!(matches!(last, Event::Done { .. }), "{last:?}");
    assert_eq!(words, "xxxxxxxxx");
    let snapshot = stoker.ready_after(1).await;
    assert_eq!(snapshot.incidents[0].kind, "engine_stalled");
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_worker_that_hangs_while_it_loads_is_ended_and_tried_again() {
    let stoker = Stoker::start("hang").await;
    let first = stoker.when(|snapshot| snapshot.engine.pid.is_some()).await.engine.pid;
    let snapshot = stoker.when(|snapshot| !snapshot.incidents.is_empty()).await;
    assert_eq!(snapshot.incidents[0].problem, "the engine stopped");
    let next =
        stoker.when(|snapshot| snapshot.engine.pid.is_some() && snapshot.engine.pid != first).await;
    assert!(next.engine.restarts >= 1);
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_load_that_the_worker_refuses_is_given_up_with_its_reason() {
    let stoker = Stoker::start("refuse").await;
    let failed =
        stoker.when(|snapshot| matches!(snapshot.engine.state, EngineState::Failed { .. })).await;
    let EngineState::Failed { reason } = &failed.engine.state else { unreachable!() };
    assert!(reason.contains("the file is not a GGUF"), "{reason}");
    assert_eq!(failed.incidents.len(), 2);
    let refusal = stoker.handle.prepare(text("hello"), None).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal:?}");
    let refusal = stoker.handle.submit(request("hello", 1)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal:?}");
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_worker_of_another_version_is_not_spoken_to() {
    let stoker = Stoker::start("version").await;
    let failed =
        stoker.when(|snapshot| matches!(snapshot.engine.state, EngineState::Failed { .. })).await;
    let EngineState::Failed { reason } = &failed.engine.state else { unreachable!() };
    assert!(reason.contains("version 9999 of the protocol"), "{reason}");
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_drain_finishes_answers_and_takes_nothing_new() {
    let stoker = Stoker::start("good").await;
    let pid = stoker.handle.snapshot().engine.pid.unwrap();
    let mut answer = stoker.ask("long", 100).await;
    assert!(matches!(answer.next().await, Some(Event::Started { .. })));
    stoker.handle.shut_down(Haste::Drain).await;
    stoker.when(|snapshot| snapshot.engine.state == EngineState::Draining).await;
    assert_eq!(stoker.handle.submit(request("new", 1)).await.unwrap_err(), Refusal::Draining);
    assert_eq!(stoker.handle.prepare(text("new"), None).await.unwrap_err(), Refusal::Draining);
    let (words, last) = end(&mut answer).await;
    assert_eq!(words.len(), 100);
    assert!(matches!(last, Event::Done { .. }), "{last:?}");
    stoker.ended().await;
    assert!(!engine::stoker::is_alive(pid), "the worker is collected");
}

#[tokio::test]
async fn an_answer_that_outlasts_the_drain_fails() {
    let stoker = Stoker::start("good").await;
    let mut answer = stoker.ask("!forever", 1_000_000).await;
    assert!(matches!(answer.next().await, Some(Event::Started { .. })));
    stoker.handle.shut_down(Haste::Drain).await;
    let (_, last) = end(&mut answer).await;
    assert!(matches!(last, Event::Failed(_)), "{last:?}");
    stoker.ended().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let stoker = Stoker::start("good").await;
    let pid = stoker.handle.snapshot().engine.pid.unwrap();
    let mut answer = stoker.ask("!forever", 1_000_000).await;
    assert!(matches!(answer.next().await, Some(Event::Started { .. })));
    stoker.handle.shut_down(Haste::Drain).await;
    stoker.handle.shut_down(Haste::Now).await;
    let (_, last) = end(&mut answer).await;
    assert!(matches!(last, Event::Failed(_)), "{last:?}");
    stoker.ended().await;
    assert!(!engine::stoker::is_alive(pid));
}

#[tokio::test]
async fn a_client_that_goes_cancels_its_request_in_the_worker() {
    let stoker = Stoker::start("good").await;
    let mut answer = stoker.ask("!forever", 1_000_000).await;
    assert!(matches!(answer.next().await, Some(Event::Started { .. })));
    drop(answer);
    let snapshot = stoker.when(|snapshot| snapshot.totals.cancelled == 1).await;
    assert_eq!(snapshot.queue.running, 0);
    assert_eq!(snapshot.engine.restarts, 0);
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_worker_that_ignores_a_cancellation_is_ended() {
    let stoker = Stoker::start("never-cancels").await;
    let mut answer = stoker.ask("!forever", 1_000_000).await;
    assert!(matches!(answer.next().await, Some(Event::Started { .. })));
    drop(answer);
    stoker.cancelled().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let snapshot = stoker.ready_after(1).await;
    assert_eq!(snapshot.queue.running, 0);
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn those_who_wait_are_told_their_place_and_the_queue_is_bounded() {
    let stoker = Stoker::start("one-at-a-time").await;
    let mut running = stoker.ask("!forever", 1_000_000).await;
    assert!(matches!(running.next().await, Some(Event::Started { .. })));
    let mut first = stoker.ask("first", 1).await;
    let mut second = stoker.ask("second", 1).await;
    assert_eq!(first.next().await, Some(Event::Queued { ahead: 0 }));
    assert_eq!(second.next().await, Some(Event::Queued { ahead: 1 }));
    let refusal = stoker.handle.submit(request("third", 1)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::QueueFull { queued: 2, .. }), "{refusal:?}");
    let queue = &stoker.when(|snapshot| snapshot.queue.waiting == 2).await.queue;
    assert_eq!((queue.running, queue.clients.len()), (1, 1));
    drop(first);
    assert_eq!(second.next().await, Some(Event::Queued { ahead: 0 }));
    drop(running);
    let (_, last) = end(&mut second).await;
    assert!(matches!(last, Event::Done { .. }), "{last:?}");
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_prompt_waits_for_the_worker_that_takes_the_place_of_a_dead_one() {
    let stoker = Stoker::start("dies-at-the-first-prompt").await;
    let prepared = stoker.handle.prepare(text("hello"), None).await.unwrap();
    assert_eq!(prepared.tokens.len(), 5);
    assert_eq!(stoker.handle.snapshot().engine.restarts, 1);
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_prompt_that_kills_two_workers_is_not_given_to_a_third() {
    let stoker = Stoker::start("dies-at-every-prompt").await;
    let refusal = stoker.handle.prepare(text("hello"), None).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal:?}");
    stoker.when(|snapshot| snapshot.incidents.len() == 2).await;
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn an_engine_that_is_built_later_is_started() {
    let stoker = Stoker::start_without_engine("good").await;
    let absent =
        stoker.when(|snapshot| matches!(snapshot.engine.state, EngineState::Absent { .. })).await;
    let EngineState::Absent { reason } = &absent.engine.state else { unreachable!() };
    assert!(reason.contains("engine-builder build"), "{reason}");
    stoker.build_engine("fake");
    stoker.when(|snapshot| snapshot.engine.state == EngineState::Ready).await;
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn an_engine_that_failed_is_started_again_when_it_was_built_again() {
    let stoker = Stoker::start("refuse-the-first-build").await;
    stoker.when(|snapshot| matches!(snapshot.engine.state, EngineState::Failed { .. })).await;
    stoker.build_engine("fake");
    stoker.when(|snapshot| snapshot.engine.state == EngineState::Ready).await;
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_a_problem_and_answers_go_on() {
    let stoker = Stoker::start_with("good", |state_dir| {
        std::fs::create_dir(state_dir.join("stoker.db")).unwrap();
    })
    .await;
    let snapshot = stoker.when(|snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(snapshot.problems[0].kind, "database_unavailable");
    let (words, _) = end(&mut stoker.ask("hello", 2).await).await;
    assert_eq!(words, "xx");
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_worker_that_is_missing_is_named() {
    let stoker = Stoker::start_on("/no/such/worker".into(), |_| {}).await;
    let failed =
        stoker.when(|snapshot| matches!(snapshot.engine.state, EngineState::Failed { .. })).await;
    let EngineState::Failed { reason } = &failed.engine.state else { unreachable!() };
    assert_eq!(reason, "start /no/such/worker: No such file or directory (os error 2)");
    stoker.shut_down(Haste::Drain).await;
}

#[tokio::test]
async fn a_slow_client_holds_up_nobody() {
    let stoker = Stoker::start("good").await;
    let slow = stoker.ask("slow", 200).await;
    let (words, _) = end(&mut stoker.ask("fast", 5).await).await;
    assert_eq!(words, "xxxxx");
    stoker.when(|snapshot| snapshot.totals.answered == 2).await;
    let mut slow = slow;
    let (words, last) = end(&mut slow).await;
    assert_eq!(words.len(), 200);
    assert!(matches!(last, Event::Done { .. }), "{last:?}");
    stoker.shut_down(Haste::Drain).await;
}

/// Longest that anything here may take, on a machine that is busy otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
