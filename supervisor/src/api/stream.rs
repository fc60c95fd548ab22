//! The body of a streamed answer: events of the engine in, bytes out.
//!
//! ```text
//! Deciding ──(accepted)──► Running ──(every answer done)──► Over
//!     └──(refused)───────────┴──(one answer failed)─────────►┘
//! ```
//!
//! There is no task and no channel between the engine's events and the socket.
//! hyper asks for bytes when the client can take some; everything that is ready
//! then goes out in one piece. A client that is gone drops the body, and with
//! it the answers, which cancels them in the engine.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine_api::protocol::{FinishReason, Timings, Token, Usage};
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep};
use tracing::{Span, debug};

use crate::api::error::Problem;
use crate::api::job::Running;
use crate::api::tally::Tally;
use crate::request::{Answer, Event};

/// Bytes put into one piece at most; what is ready beyond that comes next.
const MAX_PIECE: usize = 64 * 1024;

/// How a dialect writes what happens. Choices are numbered as in [`Running`].
pub(crate) trait Frames: Send + Unpin + 'static {
    /// Silence after which the client is told that we are still there: the
    /// first time, and again each time.
    const SILENCE: (Duration, Duration);

    fn begin(&mut self, choices: usize, out: &mut BytesMut);
    fn text(&mut self, index: usize, text: &str, tokens: &[Token], out: &mut BytesMut);
    fn done(&mut self, index: usize, end: &End, out: &mut BytesMut);
    /// Every answer is done.
    fn end(&mut self, tally: &Tally, out: &mut BytesMut);
    /// The last thing that is sent; a clean end must not follow it.
    fn failed(&mut self, problem: &Problem, out: &mut BytesMut);
    fn keep_alive(&mut self, out: &mut BytesMut);
}

/// How one answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
}

/// A job that is being handed to the engine.
pub(crate) type Deciding = Pin<Box<dyn Future<Output = Result<Running, Problem>> + Send>>;

/// A streamed answer.
pub(crate) struct AnswerStream<F> {
    phase: Phase,
    frames: F,
    out: BytesMut,
    silence: Silence,
    span: Span,
}

enum Phase {
    Deciding(Deciding),
    Running(Answers),
    Over,
}

/// The answers that are not done yet.
struct Answers {
    open: Vec<Option<Answer>>,
    tally: Tally,
}

impl<F: Frames> AnswerStream<F> {
    /// A stream of a job that the engine has accepted.
    pub(crate) fn running(running: Running, mut frames: F, span: Span) -> Self {
        let mut out = BytesMut::new();
        let phase = Phase::begin(running, &mut frames, &mut out);
        Self { phase, frames, out, silence: Silence::new(F::SILENCE), span }
    }

    /// A stream that begins before the engine has accepted anything. A refusal
    /// then comes inside it.
    pub(crate) fn deciding(deciding: Deciding, mut frames: F, span: Span) -> Self {
        let mut out = BytesMut::new();
        frames.keep_alive(&mut out);
        let silence = Silence::new(F::SILENCE);
        Self { phase: Phase::Deciding(deciding), frames, out, silence, span }
    }

    /// Moves everything that is ready into `out`.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if let Phase::Deciding(deciding) = &mut self.phase {
            match deciding.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(running)) => {
                    self.phase = Phase::begin(running, &mut self.frames, &mut self.out);
                }
                Poll::Ready(Err(problem)) => self.fail(&problem),
            }
        }
        if let Phase::Running(answers) = &mut self.phase {
            match answers.advance(&mut self.frames, &mut self.out, cx) {
                Ok(false) => {}
                Ok(true) => {
                    self.frames.end(&answers.tally, &mut self.out);
                    let usage = answers.tally.usage;
                    debug!(
                        parent: &self.span,
                        prompt_tokens = usage.prompt_tokens,
                        completion_tokens = usage.completion_tokens,
                        "answer streamed"
                    );
                    self.phase = Phase::Over;
                }
                Err(problem) => self.fail(&problem),
            }
        }
    }

    fn fail(&mut self, problem: &Problem) {
        debug!(parent: &self.span, code = problem.code, "stream ended with an error");
        self.frames.failed(problem, &mut self.out);
        self.phase = Phase::Over;
    }
}

impl Phase {
    fn begin(running: Running, frames: &mut impl Frames, out: &mut BytesMut) -> Self {
        frames.begin(running.answers.len(), out);
        let tally = Tally::new(running.choices);
        Self::Running(Answers { open: running.answers.into_iter().map(Some).collect(), tally })
    }
}

impl Answers {
    /// Takes the events that are there. Says whether every answer is done.
    fn advance(
        &mut self,
        frames: &mut impl Frames,
        out: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<bool, Problem> {
        for (index, slot) in self.open.iter_mut().enumerate() {
            while let Some(answer) = slot
                && out.len() < MAX_PIECE
            {
                match answer.poll_next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(None) => return Err(Problem::vanished()),
                    Poll::Ready(Some(Event::Queued { .. } | Event::Started { .. })) => {}
                    Poll::Ready(Some(Event::Text { text, tokens })) => {
                        frames.text(index, &text, &tokens, out);
                    }
                    Poll::Ready(Some(Event::Done { reason: FinishReason::Cancelled, .. })) => {
                        return Err(Problem::cut_off());
                    }
                    Poll::Ready(Some(Event::Done { reason, usage, timings })) => {
                        *slot = None;
                        self.tally.add(index, usage, timings);
                        frames.done(index, &End { reason, usage, timings }, out);
                    }
                    Poll::Ready(Some(Event::Failed(failure))) => return Err(failure.into()),
                }
            }
        }
        Ok(self.open.iter().all(Option::is_none))
    }
}

impl<F: Frames> Body for AnswerStream<F> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        this.advance(cx);
        if this.out.is_empty() {
            if matches!(this.phase, Phase::Over) {
                return Poll::Ready(None);
            }
            ready!(this.silence.poll(cx));
            this.frames.keep_alive(&mut this.out);
        } else {
            this.silence.broken();
        }
        Poll::Ready(Some(Ok(Frame::data(this.out.split().freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.out.is_empty()
    }
}

/// When the client last heard something.
struct Silence {
    since: Instant,
    /// Whether the last thing it heard was that we are still there.
    kept_alive: bool,
    first: Duration,
    again: Duration,
    /// Rings at or before the time it is due: it is not moved for every piece.
    alarm: Pin<Box<Sleep>>,
}

impl Silence {
    fn new((first, again): (Duration, Duration)) -> Self {
        let alarm = Box::pin(tokio::time::sleep(first));
        Self { since: Instant::now(), kept_alive: false, first, again, alarm }
    }

    fn broken(&mut self) {
        self.since = Instant::now();
        if std::mem::take(&mut self.kept_alive) {
            self.alarm.as_mut().reset(self.since + self.first);
        }
    }

    /// Ready when it has lasted too long, which starts the next one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let allowed = if self.kept_alive { self.again } else { self.first };
            let due = self.since + allowed;
            let now = Instant::now();
            if now < due {
                self.alarm.as_mut().reset(due);
                continue;
            }
            self.since = now;
            self.kept_alive = true;
            self.alarm.as_mut().reset(now + self.again);
            return Poll::Ready(());
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
