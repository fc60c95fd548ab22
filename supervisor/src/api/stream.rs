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
//! it the answers, which cancels them in the engine. They lie in a [`Seat`], from
//! which a client that came back on another connection can take them away.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine_api::form::Calls;
use engine_api::protocol::{FinishReason, Timings, Token, Usage};
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep};
use tracing::{Span, debug};

use crate::api::error::Problem;
use crate::api::job::{Running, Told};
use crate::api::kept::{Entry, Recording, Seat, Sitting};
use crate::api::tally::Tally;
use crate::request::{Answer, Event};

/// Bytes put into one piece at most; what is ready beyond that comes next.
const MAX_PIECE: usize = 64 * 1024;

/// How a dialect writes what happens. Choices are numbered as in [`Running`].
pub(crate) trait Frames: Send + Unpin + 'static {
    /// Silence after which the client is told that we are still there: the
    /// first time, and again each time.
    const SILENCE: (Duration, Duration);

    /// The answer is kept: a client that loses its connection can come back for
    /// the rest. Said before anything else.
    fn kept(&mut self) {}
    /// What was done with the chat. Said before it begins.
    fn receipt(&mut self, _told: &Told) {}
    /// `calls`: how calls of tools stand in the text, if there may be any.
    fn begin(&mut self, choices: usize, calls: Option<&Calls>, out: &mut BytesMut);
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
    /// `None` if not all of it was generated in one go.
    pub(crate) timings: Option<Timings>,
}

/// A job that is being handed to the engine.
pub(crate) type Deciding = Pin<Box<dyn Future<Output = Result<Begun, Problem>> + Send>>;

/// Answers that the engine has accepted, on their way into a stream.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) running: Running,
    /// What was said before and is said again.
    pub(crate) past: Vec<Entry<'static>>,
    pub(crate) recording: Option<Recording>,
    pub(crate) seat: Arc<Seat>,
}

impl From<Running> for Begun {
    /// Answers that are not kept.
    fn from(running: Running) -> Self {
        Self { running, past: Vec::new(), recording: None, seat: Arc::default() }
    }
}

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
    Running(Arc<Seat>),
    Over,
}

/// The answers that are not done yet.
#[derive(Debug)]
pub(crate) struct Answers {
    past: std::vec::IntoIter<Entry<'static>>,
    open: Vec<Option<Answer>>,
    /// What is known of each answer from before it was taken up again.
    before: Vec<Before>,
    tally: Tally,
    recording: Option<Recording>,
}

/// How far an answer had come before it was taken up again.
#[derive(Debug, Clone, Default)]
struct Before {
    /// Tokens of its prompt that were not computed, the first time, as far as that
    /// engine told it; `None` if it never began.
    cached_tokens: Option<Option<u32>>,
    /// Whether it had said anything.
    spoke: bool,
}

impl<F: Frames> AnswerStream<F> {
    /// A stream of a job that the engine has accepted.
    pub(crate) fn running(begun: Begun, mut frames: F, span: Span) -> Self {
        let mut out = BytesMut::new();
        let phase = Phase::begin(begun, &mut frames, &mut out);
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
                Poll::Ready(Ok(begun)) => {
                    self.phase = Phase::begin(begun, &mut self.frames, &mut self.out);
                }
                Poll::Ready(Err(problem)) => self.fail(&problem),
            }
        }
        let Phase::Running(seat) = &self.phase else { return };
        let ended = match &mut *seat.lock() {
            Sitting::Running(answers) => answers.advance(&mut self.frames, &mut self.out, cx),
            Sitting::Reserved | Sitting::TakenOver => Err(Problem::taken_over()),
        };
        match ended {
            Ok(None) => {}
            Ok(Some(tally)) => {
                self.frames.end(&tally, &mut self.out);
                debug!(
                    parent: &self.span,
                    prompt_tokens = tally.usage.prompt_tokens,
                    completion_tokens = tally.usage.completion_tokens,
                    "answer streamed"
                );
                self.phase = Phase::Over;
            }
            Err(problem) => self.fail(&problem),
        }
    }

    fn fail(&mut self, problem: &Problem) {
        debug!(parent: &self.span, code = problem.code, "stream ended with an error");
        self.frames.failed(problem, &mut self.out);
        self.phase = Phase::Over;
    }
}

impl Phase {
    fn begin(begun: Begun, frames: &mut impl Frames, out: &mut BytesMut) -> Self {
        let Begun { running, past, recording, seat } = begun;
        if recording.is_some() {
            frames.kept();
        }
        if let Some(told) = &running.receipt {
            frames.receipt(told);
        }
        frames.begin(running.answers.len(), running.calls.as_ref(), out);
        seat.sit(Answers {
            past: past.into_iter(),
            before: vec![Before::default(); running.answers.len()],
            open: running.answers,
            tally: Tally::new(running.choices),
            recording,
        });
        Self::Running(seat)
    }
}

impl Answers {
    /// Says again what was said before, as much as fits. False if there is more.
    fn recall(&mut self, frames: &mut impl Frames, out: &mut BytesMut) -> bool {
        while out.len() < MAX_PIECE {
            let Some(entry) = self.past.next() else { return true };
            match entry {
                Entry::Started { index, cached_tokens } => {
                    self.before[index].cached_tokens.get_or_insert(cached_tokens);
                }
                Entry::Text { index, text, tokens } => {
                    self.before[index].spoke = true;
                    frames.text(index, &text, &tokens, out);
                }
                Entry::Done { index, rest, reason, usage, timings } => {
                    if !rest.is_empty() {
                        frames.text(index, &rest, &[], out);
                    }
                    let end = End { reason: reason.into_owned(), usage, timings };
                    self.done(index, &end, frames, out);
                }
            }
        }
        false
    }

    fn done(&mut self, index: usize, end: &End, frames: &mut impl Frames, out: &mut BytesMut) {
        self.tally.add(index, end.usage, end.timings);
        frames.done(index, end, out);
    }

    /// Takes the events that are there. The tally says that every answer is done.
    fn advance(
        &mut self,
        frames: &mut impl Frames,
        out: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<Option<Tally>, Problem> {
        if !self.recall(frames, out) {
            return Ok(None);
        }
        for index in 0..self.open.len() {
            self.advance_one(index, frames, out, cx)?;
        }
        if self.open.iter().any(Option::is_some) {
            return Ok(None);
        }
        if let Some(recording) = &mut self.recording {
            recording.finish();
        }
        Ok(Some(self.tally))
    }

    fn advance_one(
        &mut self,
        index: usize,
        frames: &mut impl Frames,
        out: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<(), Problem> {
        while out.len() < MAX_PIECE
            && let Some(answer) = &mut self.open[index]
        {
            let event = match answer.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(event) => self.as_from_the_first(index, event),
            };
            if let (Some(recording), Some(event)) = (&mut self.recording, &event) {
                recording.note(index, event, !self.before[index].spoke);
            }
            match event {
                None => return Err(Problem::vanished()),
                Some(Event::Queued { .. } | Event::Started { .. }) => {}
                Some(Event::Text { text, tokens }) => frames.text(index, &text, &tokens, out),
                Some(Event::Done { reason: FinishReason::Cancelled, .. }) => {
                    return Err(Problem::cut_off());
                }
                Some(Event::Done { reason, usage, timings }) => {
                    self.open[index] = None;
                    let timings = (!self.before[index].spoke).then_some(timings);
                    self.done(index, &End { reason, usage, timings }, frames, out);
                }
                Some(Event::Failed(failure)) => return Err(failure.into()),
            }
        }
        Ok(())
    }

    /// The event as it would be if the answer had never been interrupted: what
    /// an interruption left in the engine's cache does not count.
    fn as_from_the_first(&mut self, index: usize, event: Option<Event>) -> Option<Event> {
        let first = &mut self.before[index].cached_tokens;
        match event {
            Some(Event::Started { prompt_tokens, cached_tokens }) => {
                let cached_tokens = *first.get_or_insert(cached_tokens);
                Some(Event::Started { prompt_tokens, cached_tokens })
            }
            Some(Event::Done { reason, usage, timings }) => {
                let cached_tokens = first.unwrap_or(usage.cached_tokens);
                let usage = Usage { cached_tokens, ..usage };
                Some(Event::Done { reason, usage, timings })
            }
            other => other,
        }
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
