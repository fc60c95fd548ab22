//! One streamed answer: asked for, stamped piece by piece, counted from the
//! server's own usage.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::tests::sse::{Event as ServerSent, Events};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Longest answer that is waited for; a server beside a busy process may take
/// a minute for what takes two seconds undisturbed.
const ANSWER_LIMIT: Duration = Duration::from_secs(240);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) path: &'static str,
    pub(crate) body: Value,
}

/// What came back, and when.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) sent: Instant,
    /// When each piece of text arrived; a piece may hold several tokens.
    pub(crate) pieces: Vec<Instant>,
    pub(crate) ended: Instant,
    /// What the server says it computed; absent when the answer was cut short.
    pub(crate) usage: Option<Usage>,
}

/// Tokens, as the server counts them.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

impl Answer {
    /// From the request to the first piece of text.
    pub(crate) fn first_token(&self) -> Option<Duration> {
        self.pieces.first().map(|first| *first - self.sent)
    }

    /// The longest time without a piece inside the window, its edges included.
    pub(crate) fn worst_gap(&self, from: Instant, to: Instant) -> Duration {
        let before = self.pieces.iter().copied().take_while(|at| *at < from).last();
        let inside = self.pieces.iter().copied().filter(|at| (from..to).contains(at));
        let marks: Vec<_> =
            std::iter::once(before.unwrap_or(from)).chain(inside).chain([to]).collect();
        marks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// Tells running answers to stop, and is told how far they are.
#[derive(Debug, Clone)]
pub(crate) struct Reins {
    pub(crate) stop: watch::Receiver<bool>,
    /// Raised once when this many pieces have come.
    pub(crate) running_after: usize,
    pub(crate) running: watch::Sender<usize>,
}

/// A connection that has asked nothing yet.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect to the server")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its end is seen by the sender.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Streams one answer to its end.
    pub(crate) async fn ask(self, ask: &Ask) -> anyhow::Result<Answer> {
        self.run(ask, None).await
    }

    /// Streams one answer until its end or until the reins say stop.
    pub(crate) async fn ask_held(self, ask: &Ask, reins: Reins) -> anyhow::Result<Answer> {
        self.run(ask, Some(reins)).await
    }

    async fn run(mut self, ask: &Ask, reins: Option<Reins>) -> anyhow::Result<Answer> {
        let request = Request::post(ask.path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(ask.body.to_string())))?;
        let sent = Instant::now();
        let reading = async {
            let response = self.sender.send_request(request).await.context("send the request")?;
            read(accepted(response).await?, sent, reins).await
        };
        tokio::time::timeout(ANSWER_LIMIT, reading)
            .await
            .with_context(|| format!("wait for an answer for {} s", ANSWER_LIMIT.as_secs()))?
    }
}

/// The server understood but cannot answer yet.
#[derive(Debug, thiserror::Error)]
#[error("the server is not ready: {0}")]
pub(crate) struct NotReady(String);

async fn accepted(response: Response<Incoming>) -> anyhow::Result<Incoming> {
    let status = response.status();
    if status != StatusCode::OK {
        let body = response.into_body().collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        ensure!(status != StatusCode::SERVICE_UNAVAILABLE, NotReady(body));
        bail!("the server answered {status}: {body}");
    }
    Ok(response.into_body())
}

/// One event of a completion or chat stream.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<String>,
}

impl Event {
    fn has_text(&self) -> bool {
        self.choices.iter().any(|choice| {
            let content = choice.delta.as_ref().and_then(|delta| delta.content.as_ref());
            choice.text.as_ref().or(content).is_some_and(|text| !text.is_empty())
        })
    }
}

async fn read(
    mut body: Incoming,
    sent: Instant,
    mut reins: Option<Reins>,
) -> anyhow::Result<Answer> {
    let mut answer = Answer { sent, pieces: Vec::new(), ended: sent, usage: None };
    let mut events = Events::default();
    let mut done = false;
    while let Some(frame) = next_frame(&mut body, reins.as_mut()).await? {
        let now = Instant::now();
        let Some(data) = frame.data_ref() else { continue };
        events.push(data)?;
        while let Some(ServerSent { data, .. }) = events.next() {
            done |= data == b"[DONE]";
            if done {
                break;
            }
            let event: Event = serde_json::from_slice(data).context("parse an event")?;
            ensure!(event.error.is_none(), "the stream ended with an error: {:?}", event.error);
            if event.has_text() {
                answer.pieces.push(now);
            }
            answer.usage = event.usage.or(answer.usage);
        }
        if let Some(reins) = &reins
            && answer.pieces.len() == reins.running_after
        {
            reins.running.send_modify(|running| *running += 1);
        }
    }
    let stopped = reins.is_some_and(|reins| *reins.stop.borrow());
    ensure!(done || stopped, "the stream was cut after {} pieces", answer.pieces.len());
    answer.ended = Instant::now();
    Ok(answer)
}

/// The next frame; none at the stream's end and once the reins say stop.
async fn next_frame(
    body: &mut Incoming,
    reins: Option<&mut Reins>,
) -> anyhow::Result<Option<hyper::body::Frame<Bytes>>> {
    let frame = match reins {
        None => body.frame().await,
        Some(reins) => tokio::select! {
            frame = body.frame() => frame,
            _ = reins.stop.wait_for(|stop| *stop) => None,
        },
    };
    frame.transpose().context("read the stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(start: Instant, pieces_ms: &[u64]) -> Answer {
        let at = |ms: &u64| start + Duration::from_millis(*ms);
        Answer {
            sent: start,
            pieces: pieces_ms.iter().map(at).collect(),
            ended: start,
            usage: None,
        }
    }

    #[test]
    fn a_gap_that_reaches_over_an_edge_counts_whole() {
        let start = Instant::now();
        let window = (start + Duration::from_millis(100), start + Duration::from_millis(200));
        let gap = |pieces: &[u64]| answer(start, pieces).worst_gap(window.0, window.1).as_millis();
        assert_eq!(gap(&[0, 90, 120, 150, 210]), 50);
        assert_eq!(gap(&[0, 60, 120, 180, 210]), 60, "from the last piece before the window");
        assert_eq!(gap(&[0, 95]), 105, "nothing came in the window");
        assert_eq!(gap(&[]), 100, "nothing came at all");
    }

    #[test]
    fn an_empty_delta_is_no_token() {
        let text = |json: &str| serde_json::from_str::<Event>(json).unwrap().has_text();
        assert!(!text(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#));
        assert!(!text(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#));
        assert!(!text(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#));
        assert!(text(r#"{"choices":[{"delta":{"content":"a"}}]}"#));
        assert!(text(r#"{"choices":[{"text":"a"}]}"#));
    }
}
