//! Ollama's streams: one line a piece of text, the last with `"done":true`.

use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut, BytesMut};
use engine_api::protocol::Token;

use super::{DIALECT, Kind};
use crate::api::collect::Whole;
use crate::api::error::Problem;
use crate::api::sse;
use crate::api::stream::{End, Frames};
use crate::api::tally::Tally;
use crate::api::wire::ollama_reply::{self, Chat, Generated, Line};

/// Writes one answer, streamed or whole.
#[derive(Debug)]
pub(crate) struct OllamaFrames {
    kind: Kind,
    model: String,
    arrived: Instant,
    logprobs: bool,
}

impl OllamaFrames {
    pub(crate) fn new(kind: Kind, model: String, arrived: Instant, logprobs: bool) -> Self {
        Self { kind, model, arrived, logprobs }
    }

    /// The one line of an answer that is not streamed.
    pub(crate) fn whole(&self, answers: &[Whole]) -> Vec<u8> {
        let mut out = BytesMut::new();
        for Whole { text, tokens, end } in answers {
            self.last(text, tokens, end, &mut out);
        }
        out.to_vec()
    }

    fn last(&self, text: &str, tokens: &[Token], end: &End, out: &mut BytesMut) {
        let tokens = self.scored(tokens);
        let (now, total) = (SystemTime::now(), self.arrived.elapsed());
        let timings = end.timings.unwrap_or_default();
        let end = ollama_reply::End::new(&end.reason, end.usage, timings, total);
        match self.kind {
            Kind::Chat => {
                sse::line(out, &Line::last(&self.model, now, Chat::new(text), tokens, end));
            }
            Kind::Generate => {
                sse::line(out, &Line::last(&self.model, now, Generated::new(text), tokens, end));
            }
        }
    }

    fn more(&self, text: &str, tokens: Option<&[Token]>, out: &mut BytesMut) {
        let now = SystemTime::now();
        match self.kind {
            Kind::Chat => sse::line(out, &Line::more(&self.model, now, Chat::new(text), tokens)),
            Kind::Generate => {
                sse::line(out, &Line::more(&self.model, now, Generated::new(text), tokens));
            }
        }
    }

    fn scored<'a>(&self, tokens: &'a [Token]) -> Option<&'a [Token]> {
        self.logprobs.then_some(tokens).filter(|tokens| !tokens.is_empty())
    }
}

impl Frames for OllamaFrames {
    /// Lines have no comments; a piece of no text does no harm, but is not
    /// for free in every client, so it comes only where patience may end.
    const SILENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));

    fn begin(&mut self, _choices: usize, _out: &mut BytesMut) {}

    fn text(&mut self, _index: usize, text: &str, tokens: &[Token], out: &mut BytesMut) {
        let tokens = self.scored(tokens);
        if !text.is_empty() || tokens.is_some() {
            self.more(text, tokens, out);
        }
    }

    fn done(&mut self, _index: usize, end: &End, out: &mut BytesMut) {
        self.last("", &[], end, out);
    }

    fn end(&mut self, _tally: &Tally, _out: &mut BytesMut) {}

    fn failed(&mut self, problem: &Problem, out: &mut BytesMut) {
        out.put_slice(&problem.body(DIALECT));
        out.put_u8(b'\n');
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        self.more("", None, out);
    }
}
