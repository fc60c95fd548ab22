//! A client whose connection breaks, and how it gets the rest of its answer.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::answer::{Answer, Event, Transcript};
use tests::appliance::{Appliance, Setup};
use tests::client::Client;
use tests::engine::Engine;
use tests::patience::until;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// Text of some length in which every place is known.
fn numbers(count: usize) -> String {
    (0..count).map(|number| format!("{number} ")).collect()
}

fn with(mut body: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A streamed chat whose answer is `content`.
fn chat(content: &str, fields: &Value) -> Value {
    let messages = json!([{"role": "user", "content": content}]);
    // What the engine has cached would differ between two runs.
    let body = json!({"messages": messages, "stream": true, "cache_prompt": false});
    with(body, fields)
}

/// A stream that was broken off.
struct Cut {
    seen: Vec<Event>,
    last_event_id: String,
}

impl Cut {
    /// Reads so many events and hangs up.
    fn after(events: usize, mut answer: Answer) -> Self {
        let seen = Self::read(events, &mut answer);
        drop(answer);
        seen
    }

    fn read(events: usize, answer: &mut Answer) -> Self {
        assert_eq!(answer.status, 200);
        let seen: Vec<_> = std::iter::from_fn(|| answer.next_event())
            .filter(|event| !matches!(event, Event::Comment(_)))
            .take(events)
            .collect();
        Self { seen, last_event_id: answer.last_event_id().unwrap().to_owned() }
    }

    fn id(&self) -> &str {
        self.last_event_id.rsplit_once(':').unwrap().0
    }

    fn path(&self) -> String {
        format!("/v1/requests/{}/stream", self.id())
    }

    /// Asks for the rest by the answer's id.
    fn get_rest(&self, client: &Client) -> Answer {
        client.send("GET", &self.path(), &[("last-event-id", &self.last_event_id)], b"")
    }

    /// Asks for the rest by sending the request again.
    fn post_rest(&self, client: &Client, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        client.send("POST", path, &[("last-event-id", &self.last_event_id)], body.as_bytes())
    }

    /// What was seen before and what came then, as one stream.
    fn joined(self, rest: Answer) -> Transcript {
        assert_eq!(rest.status, 200);
        let rest = rest.transcript().0.into_iter();
        let rest = rest.filter(|event| !matches!(event, Event::Comment(_)));
        Transcript(self.seen.into_iter().chain(rest).collect())
    }
}

/// The events without what is another in every answer, or is a time.
fn comparable(stream: &Transcript) -> Vec<Event> {
    let comparable = |event: &Event| match event {
        Event::Data(data) => {
            let mut data = data.clone();
            let fields = data.as_object_mut().unwrap();
            for field in ["id", "created", "timings"] {
                fields.remove(field);
            }
            Event::Data(data)
        }
        other => other.clone(),
    };
    let events = stream.0.iter().filter(|event| !matches!(event, Event::Comment(_)));
    events.map(comparable).collect()
}

/// The events of one choice, and those of none.
fn of_choice(stream: &Transcript, index: u64) -> Vec<Event> {
    let belongs = |event: &Event| match event {
        Event::Data(data) => data["choices"][0]["index"].as_u64().is_none_or(|i| i == index),
        _ => true,
    };
    comparable(stream).into_iter().filter(belongs).collect()
}

fn assert_not_found(answer: Answer) {
    let error = answer.whole().refusal(404);
    assert_eq!(error["code"], "answer_not_found", "{error}");
}

#[test]
fn a_stream_that_was_cut_anywhere_gives_exactly_the_rest() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let client = appliance.client();
    let usage = json!({"stream_options": {"include_usage": true}});
    let body = chat(&numbers(20), &usage);
    let twin = appliance.stream(CHAT, &body).transcript();
    assert!(twin.is_done());
    for events in [1, 2, 9, twin.0.len() - 3, twin.0.len() - 2, twin.0.len() - 1] {
        let cut = Cut::after(events, appliance.stream(CHAT, &body));
        let rest = cut.get_rest(&client);
        assert_eq!(comparable(&cut.joined(rest)), comparable(&twin), "cut after {events}");

        let cut = Cut::after(events, appliance.stream(CHAT, &body));
        let rest = cut.post_rest(&client, CHAT, &body);
        assert_eq!(comparable(&cut.joined(rest)), comparable(&twin), "cut after {events}");
    }
}

#[test]
fn a_stream_can_be_cut_again_and_again() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let body = chat(&numbers(20), &json!({}));
    let mut cut = Cut::after(5, appliance.stream(CHAT, &body));
    for _ in 0..4 {
        let next = Cut::after(5, cut.get_rest(&appliance.client()));
        cut.seen.extend(next.seen);
        cut.last_event_id = next.last_event_id;
    }
    let rest = cut.get_rest(&appliance.client());
    let stream = cut.joined(rest);
    assert_eq!((stream.text(0), stream.is_done()), (numbers(20), true));
    assert_eq!(stream.finish_reason(0), Some("stop"));
}

#[test]
fn several_choices_with_log_probabilities_go_on_each_where_it_was() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let fields = json!({"n": 2, "logprobs": true, "top_logprobs": 2, "seed": 7,
                        "stream_options": {"include_usage": true}});
    let body = chat(&numbers(15), &fields);
    let twin = appliance.stream(CHAT, &body).transcript();
    for events in [1, 2, 12, 31] {
        let cut = Cut::after(events, appliance.stream(CHAT, &body));
        let rest = cut.get_rest(&appliance.client());
        let joined = cut.joined(rest);
        for index in [0, 1] {
            assert_eq!(of_choice(&joined, index), of_choice(&twin, index), "cut after {events}");
        }
    }
}

#[test]
fn completions_keep_their_echo_and_their_offsets() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let body = json!({"prompt": "xyz", "max_tokens": 30, "stream": true, "echo": true, "n": 1,
                      "cache_prompt": false});
    let scored = with(body.clone(), &json!({"echo": false, "logprobs": 1}));
    for body in [body, scored] {
        let twin = appliance.stream(COMPLETIONS, &body).transcript();
        let cut = Cut::after(8, appliance.stream(COMPLETIONS, &body));
        let rest = cut.get_rest(&appliance.client());
        assert_eq!(comparable(&cut.joined(rest)), comparable(&twin));
    }
}

#[test]
fn a_stop_string_and_a_character_that_are_cut_through_are_never_half_shown() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let content = "a€b <en x €€ <end> never";
    let body = chat(content, &json!({"stop": ["<end>"]}));
    let twin = appliance.stream(CHAT, &body).transcript();
    assert_eq!((twin.text(0).as_str(), twin.finish_reason(0)), ("a€b <en x €€ ", Some("stop")));
    for events in 1..twin.0.len() {
        let cut = Cut::after(events, appliance.stream(CHAT, &body));
        let rest = cut.get_rest(&appliance.client());
        assert_eq!(comparable(&cut.joined(rest)), comparable(&twin), "cut after {events}");
    }
}

#[test]
fn an_answer_is_there_for_the_key_that_asked_and_no_other() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let (alice, bob) = (appliance.client().with_key("alice"), appliance.client().with_key("bob"));
    let body = chat(&numbers(40), &json!({}));
    let mut answer = alice.stream(CHAT, &body);
    let cut = Cut::read(5, &mut answer);
    for stranger in [&bob, &appliance.client(), &appliance.client().from_host(9)] {
        assert_not_found(cut.get_rest(stranger));
        assert_not_found(cut.post_rest(stranger, CHAT, &body));
    }
    // They have not even disturbed it.
    let rest = answer.transcript();
    assert!(rest.is_done(), "{rest:?}");
    let rest = cut.get_rest(&alice);
    let joined = cut.joined(rest);
    assert_eq!((joined.text(0), joined.is_done()), (numbers(40), true));
}

#[test]
fn without_a_key_an_answer_is_there_for_the_address_that_asked() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let (here, there) = (appliance.client().from_host(8), appliance.client().from_host(9));
    let cut = Cut::after(5, here.stream(CHAT, &chat(&numbers(20), &json!({}))));
    assert_not_found(cut.get_rest(&there));
    let rest = cut.get_rest(&here);
    assert_eq!(cut.joined(rest).text(0), numbers(20));
}

#[test]
fn whoever_comes_last_has_the_stream_and_the_other_is_told() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(10).with_places(1));
    let body = chat(&numbers(60), &json!({}));
    let mut first = appliance.stream(CHAT, &body);
    let cut = Cut::read(5, &mut first);
    let second = cut.get_rest(&appliance.client());
    let old = first.transcript();
    assert_eq!(old.error().unwrap()["code"], "answer_taken_over", "{old:?}");
    assert!(!old.is_done());
    let joined = cut.joined(second);
    assert_eq!((joined.text(0), joined.is_done()), (numbers(60), true));
    let status = appliance.status_when("both have ended", |status| {
        status["queue"]["running"] == 0 && status["totals"]["answered"] == 1
    });
    assert_eq!(status["totals"]["cancelled"], 1);
}

#[test]
fn a_finished_answer_comes_again_without_an_engine() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let body = chat(&numbers(20), &json!({"stream_options": {"include_usage": true}}));
    let mut answer = appliance.stream(CHAT, &body);
    let first = Cut::read(usize::MAX, &mut answer);
    appliance.signal(Signal::SIGTERM);
    fs::remove_dir_all(appliance.state_dir().join("engines")).unwrap();
    let appliance = appliance.listen_again();
    // To the last digit, its times as well.
    let again = appliance.client().send("GET", &first.path(), &[], b"").transcript();
    assert_eq!(again.0, first.seen);
    let rest = first.get_rest(&appliance.client()).transcript();
    assert_eq!(rest.0, [], "everything was seen");
}

#[test]
fn an_answer_that_a_shutdown_cut_short_goes_on_with_the_next_server() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(20));
    let body = chat(&numbers(60), &json!({}));
    let mut stream = appliance.stream(CHAT, &body);
    let mut cut = Cut::read(5, &mut stream);
    appliance.signal(Signal::SIGTERM);
    appliance.status_when("the drain has begun", |status| {
        status["engine"]["state"]["name"] == "draining"
    });
    // Nobody waits for it any more.
    appliance.signal(Signal::SIGTERM);
    let mut last_event_id = None;
    while let Some(event) = stream.next_event() {
        if let Event::Data(data) = &event
            && data["error"]["code"] == "shutting_down"
        {
            last_event_id = stream.last_event_id().map(str::to_owned);
            break;
        }
        cut.seen.push(event);
    }
    cut.last_event_id = last_event_id.expect("the stream says why it ends");
    let appliance = appliance.again();
    let rest = cut.get_rest(&appliance.client());
    let stream = cut.joined(rest);
    assert_eq!((stream.text(0), stream.is_done()), (numbers(60), true));
    assert_eq!(stream.finish_reason(0), Some("stop"));
}

#[test]
fn an_answer_goes_on_after_the_server_was_killed() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let body = chat(&numbers(60), &json!({"stream_options": {"include_usage": true}}));
    let twin = appliance.stream(CHAT, &body).transcript();
    let (mut one, mut other) = (appliance.stream(CHAT, &body), appliance.stream(CHAT, &body));
    // One has been written in part, of the other perhaps nothing.
    let one = Cut::read(80, &mut one);
    let other = Cut::read(85, &mut other);
    let kept = until("something is kept", || pieces(&appliance).filter(|pieces| *pieces > 0));
    appliance.signal(Signal::SIGKILL);
    let appliance = appliance.again();
    assert!(pieces(&appliance) >= Some(kept));
    for cut in [one, other] {
        let rest = cut.get_rest(&appliance.client());
        assert_eq!(comparable(&cut.joined(rest)), comparable(&twin));
    }
}

#[test]
fn what_a_client_saw_and_the_record_has_not_is_not_sent_twice() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(5));
    let body = chat(&numbers(60), &json!({}));
    let twin = appliance.stream(CHAT, &body).transcript();
    let cut = Cut::after(10, appliance.stream(CHAT, &body));
    // As if it had seen more than this server remembers.
    let seen = 100;
    let last_event_id = format!("{}:{seen}", cut.id());
    let ahead = Cut { seen: twin.0[..seen].to_vec(), last_event_id };
    let rest = ahead.get_rest(&appliance.client());
    assert_eq!(comparable(&ahead.joined(rest)), comparable(&twin));
}

fn pieces(appliance: &Appliance) -> Option<u32> {
    let database = rusqlite::Connection::open(appliance.state_dir().join("answers.db")).ok()?;
    database.query_row("SELECT count(*) FROM pieces", [], |row| row.get(0)).ok()
}

#[test]
fn after_its_time_an_answer_is_gone_from_the_disk_as_well() {
    const WORD: &str = "quetzalcoatlus";
    let config = "[store]\nanswers_kept_s = 1\n";
    let appliance = Setup::new(&Engine::echo()).config(config).start();
    let cut = Cut::after(usize::MAX, appliance.stream(CHAT, &chat(WORD, &json!({}))));
    let there = || {
        ["answers.db", "answers.db-wal", "stoker.db", "stoker.db-wal"].iter().any(|name| {
            let bytes = fs::read(appliance.state_dir().join(name)).unwrap_or_default();
            bytes.windows(WORD.len()).any(|window| window == WORD.as_bytes())
        })
    };
    until("it is kept", || there().then_some(()));
    until("its words are gone", || (!there()).then_some(()));
    assert_not_found(cut.get_rest(&appliance.client()));
    assert!(!appliance.log().contains(WORD));
}

#[test]
fn nothing_is_kept_when_that_is_switched_off() {
    let config = "[store]\nanswers_kept_s = 0\n";
    let appliance = Setup::new(&Engine::echo()).config(config).start();
    let mut answer = appliance.stream(CHAT, &chat("hello", &json!({})));
    let id = answer.next_data()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.last_event_id(), None);
    assert!(answer.transcript().is_done());
    assert_not_found(appliance.client().send(
        "GET",
        &format!("/v1/requests/{id}/stream"),
        &[],
        b"",
    ));
    assert!(!appliance.state_dir().join("answers.db").exists());
}

#[test]
fn what_is_no_event_of_an_answer_is_refused() {
    let appliance = Appliance::start(&Engine::echo());
    let client = appliance.client();
    let body = chat("hello", &json!({}));
    let cut = Cut::after(3, appliance.stream(CHAT, &body));
    assert_not_found(client.send("GET", "/v1/requests/chatcmpl-0/stream", &[], b""));
    for (path, last) in [
        (cut.path(), "nonsense".to_owned()),
        (cut.path(), "chatcmpl-0:3".to_owned()),
        (cut.path(), format!("{}:x", cut.id())),
        (cut.path(), format!("{}:1,2,3", cut.id())),
    ] {
        let answer = client.send("GET", &path, &[("last-event-id", &last)], b"");
        let error = answer.whole().refusal(400);
        assert!(error["message"].as_str().unwrap().contains("Last-Event-ID"), "{last}: {error}");
    }
    // The other route did not make it.
    assert_not_found(cut.post_rest(&client, COMPLETIONS, &body));
    let reply = client.send("HEAD", &cut.path(), &[], b"");
    assert_eq!(reply.status, 404);
    let rest = cut.get_rest(&client);
    assert_eq!(cut.joined(rest).text(0), "hello");
}

#[test]
fn ids_of_answers_have_nothing_in_common() {
    let appliance = Appliance::start(&Engine::echo());
    let id = || {
        let reply = appliance.post(COMPLETIONS, &json!({"prompt": "x", "max_tokens": 1})).good();
        let id = reply["id"].as_str().unwrap().strip_prefix("cmpl-").unwrap().to_owned();
        u128::from_str_radix(&id, 16).unwrap()
    };
    let ids: Vec<u128> = (0..16).map(|_| id()).collect();
    for (index, one) in ids.iter().enumerate() {
        for other in &ids[..index] {
            // Of 128 bits that nobody chose about half differ.
            assert!((20..=108).contains(&(one ^ other).count_ones()), "{one:x} {other:x}");
        }
    }
}

#[test]
fn a_request_that_keeps_killing_the_engine_does_not_come_back_with_its_client() {
    let appliance = Appliance::start(&Engine::echo_with_steps_of(2));
    let body = chat("please !exit@9 now", &json!({}));
    let mut answer = appliance.stream(CHAT, &body);
    let cut = Cut::read(4, &mut answer);
    assert!(answer.transcript().error().is_some());
    assert_not_found(cut.get_rest(&appliance.client()));
}

#[test]
fn a_real_sampled_answer_goes_on_as_if_nothing_had_happened() {
    let appliance = Appliance::start(&Engine::Real);
    let fields = json!({"max_tokens": 40, "temperature": 0.9, "seed": 42, "cache_prompt": false,
                        "stream_options": {"include_usage": true}});
    let body = chat("Tell me of the sea.", &fields);
    let twin = appliance.stream(CHAT, &body).transcript();
    assert!(twin.is_done(), "{twin:?}");
    for events in [2, 15, 33] {
        let cut = Cut::after(events, appliance.stream(CHAT, &body));
        let rest = cut.get_rest(&appliance.client());
        assert_eq!(comparable(&cut.joined(rest)), comparable(&twin), "cut after {events}");
    }
}
