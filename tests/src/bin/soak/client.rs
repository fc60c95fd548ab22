//! One client: it asks, reads to the end, and comes back when it was cut off.
//!
//! ```text
//!          ┌── turned away (nobody there, 429, 503): again after a while
//! ask ─────┤
//!          └── answered ──► read ──► whole
//!                            │  ▲      left, as the plan wants it
//!            cut, and an id  ▼  │      broken
//!                          come back
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use tests::sse::{Event, Events};
use tokio::time::{sleep, timeout, timeout_at};

use crate::ask::{Ask, Form};
use crate::http::{Outgoing, Unsent, send};
use crate::plan::Manner;
use crate::transcript::Transcript;

/// Times that a request is sent again that got no answer at all; what OpenAI's
/// own client does.
const REPEATS: u32 = 2;
/// Longest time that a client asks in vain before anybody takes its request.
const TAKEN_LIMIT: Duration = Duration::from_secs(180);
/// Longest time without a single byte. Ours says at least every twenty seconds
/// that it is still there; others are silent while they read long prompts.
const SILENCE_LIMIT: Duration = Duration::from_secs(240);
/// Pause before a client that was turned away asks again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often a client comes back to one answer.
const MOST_RETURNS: u32 = 20;
/// How often a slow client waits: whoever waits longer than the server's
/// `stall_timeout` in sum would rightly be cut off.
const MOST_WAITS: u32 = 50;

/// What became of one request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: Instant,
    /// When each piece of text arrived; a piece may hold several tokens.
    pub(crate) pieces: Vec<Instant>,
    pub(crate) ended: Instant,
    pub(crate) transcript: Transcript,
    pub(crate) ending: Ending,
    pub(crate) turned_away: u32,
    /// Times that it was cut off and got the rest.
    pub(crate) returns: u32,
    /// The server has said an id to come back with.
    pub(crate) has_id: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The body came to its end. Whether the answer did is another question.
    Whole,
    /// The client went away by itself.
    Left,
    Broken(String),
}

/// Asks once and reads until there is nothing more to come, for `limit` at most.
pub(crate) async fn run(server: SocketAddr, ask: &Ask, manner: Manner, limit: Duration) -> Outcome {
    let sent = Instant::now();
    let mut reader = Reader { server, ask, manner, outcome: Outcome::new(sent), last_id: None };
    let ending = match timeout(limit, reader.run()).await {
        Ok(ending) => ending,
        Err(_) => Ending::Broken(format!("no end within {} s", limit.as_secs())),
    };
    Outcome { ending, ended: Instant::now(), has_id: reader.last_id.is_some(), ..reader.outcome }
}

impl Outcome {
    fn new(sent: Instant) -> Self {
        Self {
            sent,
            pieces: Vec::new(),
            ended: sent,
            transcript: Transcript::default(),
            ending: Ending::Left,
            turned_away: 0,
            returns: 0,
            has_id: false,
        }
    }
}

struct Reader<'a> {
    server: SocketAddr,
    ask: &'a Ask,
    manner: Manner,
    outcome: Outcome,
    last_id: Option<String>,
}

/// Why a client stops reading one body.
enum Stop {
    /// Its end.
    End,
    Left,
    Cut(String),
}

impl Reader<'_> {
    async fn run(&mut self) -> Ending {
        let mut response = match self.ask().await {
            Ok(response) => response,
            Err(why) => return Ending::Broken(why),
        };
        loop {
            let why = match self.read(response.into_body()).await {
                Stop::Left => return Ending::Left,
                Stop::End if self.outcome.transcript.ended => return Ending::Whole,
                Stop::End if self.outcome.transcript.error.is_some() => return Ending::Whole,
                Stop::End => "the body ended before the answer".to_owned(),
                Stop::Cut(why) => why,
            };
            response = match self.come_back().await {
                Some(Ok(response)) => response,
                Some(Err(refusal)) => return Ending::Broken(format!("{why}; {refusal}")),
                None => return Ending::Broken(why),
            };
        }
    }

    /// Asks until somebody takes the request.
    async fn ask(&mut self) -> Result<Response<Incoming>, String> {
        let started = Instant::now();
        let mut repeats = 0;
        loop {
            let outgoing = Outgoing {
                method: Method::POST,
                path: self.ask.path,
                body: self.ask.body.to_string(),
                last_event_id: None,
                slow: matches!(self.manner, Manner::Slow(_)),
            };
            let refusal = match send(self.server, outgoing).await {
                Ok(response) if response.status() == StatusCode::OK => return Ok(response),
                Ok(response) => refusal(response).await?,
                Err(Unsent::Connect(error)) => format!("connect: {error}"),
                // The connection waited in the socket of a server that ended.
                Err(Unsent::Send(error)) if repeats < REPEATS => {
                    repeats += 1;
                    format!("no answer: {error}")
                }
                Err(Unsent::Send(error)) => return Err(format!("no answer at all: {error}")),
            };
            self.outcome.turned_away += 1;
            if started.elapsed() > TAKEN_LIMIT {
                return Err(format!("turned away for {} s: {refusal}", TAKEN_LIMIT.as_secs()));
            }
            sleep(AGAIN).await;
        }
    }

    /// Asks for the rest of an answer that has an id. `None` if it has none.
    async fn come_back(&mut self) -> Option<Result<Response<Incoming>, String>> {
        let id = self.last_id.clone()?;
        let (answer, _) = id.rsplit_once(':')?;
        if self.outcome.returns == MOST_RETURNS {
            return Some(Err("came back too often".to_owned()));
        }
        self.outcome.returns += 1;
        let path = format!("/v1/requests/{answer}/stream");
        let started = Instant::now();
        loop {
            let outgoing = Outgoing {
                method: Method::GET,
                path: &path,
                body: String::new(),
                last_event_id: Some(&id),
                slow: false,
            };
            let refusal = match send(self.server, outgoing).await {
                Ok(response) if response.status() == StatusCode::OK => return Some(Ok(response)),
                Ok(response) => match refusal(response).await {
                    Ok(refusal) => refusal,
                    Err(why) => return Some(Err(format!("coming back: {why}"))),
                },
                Err(error) => format!("{error}"),
            };
            if started.elapsed() > TAKEN_LIMIT {
                return Some(Err(format!("coming back in vain: {refusal}")));
            }
            sleep(AGAIN).await;
        }
    }

    async fn read(&mut self, mut body: Incoming) -> Stop {
        let mut form = Framing::new(self.ask.form);
        let mut waits = 0;
        loop {
            let deadline = tokio::time::Instant::now() + SILENCE_LIMIT;
            let frame = match timeout_at(deadline, body.frame()).await {
                Err(_) => return Stop::Cut(format!("silent for {} s", SILENCE_LIMIT.as_secs())),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Stop::Cut(format!("cut: {error}")),
                Ok(Some(Ok(frame))) => frame,
            };
            let Some(data) = frame.data_ref() else { continue };
            if let Err(why) = form.push(data, self) {
                return Stop::Cut(why);
            }
            match self.manner {
                Manner::Leaving(after) if self.outcome.pieces.len() >= after => return Stop::Left,
                Manner::Slow(wait) if waits < MOST_WAITS => {
                    waits += 1;
                    sleep(wait).await;
                }
                _ => {}
            }
        }
        match form.end(self) {
            Ok(()) => Stop::End,
            Err(why) => Stop::Cut(why),
        }
    }

    fn take(&mut self, document: &[u8]) -> Result<(), String> {
        let document = serde_json::from_slice(document)
            .map_err(|error| format!("a document that is not JSON: {error}"))?;
        if self.outcome.transcript.take(&document) {
            self.outcome.pieces.push(Instant::now());
        }
        Ok(())
    }
}

/// Why a request was not taken now; an error if it never will be.
async fn refusal(response: Response<Incoming>) -> Result<String, String> {
    let status = response.status();
    let body = response.into_body().collect().await.map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    let text = format!("HTTP {status}: {}", String::from_utf8_lossy(&body));
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Ok(text),
        _ => Err(text),
    }
}

/// How documents stand in a body.
enum Framing {
    Events(Events),
    /// The line that has not ended yet.
    Lines(Vec<u8>),
    Whole(Vec<u8>),
}

impl Framing {
    fn new(form: Form) -> Self {
        match form {
            Form::Events => Self::Events(Events::default()),
            Form::Lines => Self::Lines(Vec::new()),
            Form::Whole => Self::Whole(Vec::new()),
        }
    }

    fn push(&mut self, bytes: &Bytes, reader: &mut Reader<'_>) -> Result<(), String> {
        match self {
            Self::Events(events) => {
                events.push(bytes).map_err(|error| error.to_string())?;
                while let Some(Event { id, data }) = events.next() {
                    if let Some(id) = id {
                        reader.last_id = Some(String::from_utf8_lossy(id).into_owned());
                    }
                    if data == b"[DONE]" {
                        reader.outcome.transcript.ended = true;
                    } else {
                        reader.take(data)?;
                    }
                }
            }
            Self::Lines(line) => {
                line.extend_from_slice(bytes);
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    reader.take(&line[..end])?;
                    line.drain(..=end);
                }
            }
            Self::Whole(body) => body.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn end(self, reader: &mut Reader<'_>) -> Result<(), String> {
        if let Self::Whole(body) = self {
            reader.take(&body)?;
            reader.outcome.transcript.ended = true;
        }
        Ok(())
    }
}
