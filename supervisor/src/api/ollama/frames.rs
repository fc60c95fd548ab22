//! Ollama's streams: one line a piece of text, the last with `"done":true`.

use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut, BytesMut};
use engine_api::form::Calls;
use engine_api::protocol::Token;

use super::{DIALECT, Kind};
use crate::api::calls::{self, CallParser, News};
use crate::api::collect::Whole;
use crate::api::error::Problem;
use crate::api::job::Told;
use crate::api::sse;
use crate::api::stream::{End, Frames};
use crate::api::tally::Tally;
use crate::api::wire::ollama_reply::{self, Chat, Generated, Line, ToolCall};
use crate::api::wire::openai_reply::Stamp;

/// Writes one answer, streamed or whole.
#[derive(Debug)]
pub(crate) struct OllamaFrames {
    kind: Kind,
    model: String,
    arrived: Instant,
    logprobs: bool,
    /// What the ids of calls are made from.
    stamp: Stamp,
    /// What reads the answer, if it may call tools.
    parser: Option<CallParser>,
    /// Calls that are not complete: arguments are an object here, and come whole.
    open: Vec<Open>,
    /// What was done with the chat.
    receipt: Option<Told>,
}

/// A call of which more is to come.
#[derive(Debug)]
struct Open {
    index: usize,
    name: String,
    arguments: String,
}

impl OllamaFrames {
    pub(crate) fn new(kind: Kind, model: String, arrived: Instant, logprobs: bool) -> Self {
        let stamp = Stamp::new("ollama", 0, &model);
        Self {
            kind,
            model,
            arrived,
            logprobs,
            stamp,
            parser: None,
            open: Vec::new(),
            receipt: None,
        }
    }

    /// The one line of an answer that is not streamed.
    pub(crate) fn whole(&mut self, answers: &[Whole], calls: Option<&Calls>) -> Vec<u8> {
        let mut out = BytesMut::new();
        for Whole { text, tokens, end } in answers {
            let said = calls::whole(calls, text);
            let called = self.completed(&said);
            self.last(&said.content, called, tokens, end, &mut out);
        }
        out.to_vec()
    }

    /// Calls that are complete with this.
    fn completed(&mut self, said: &News) -> Vec<ToolCall> {
        let mut completed = Vec::new();
        for news in &said.calls {
            if let Some(name) = news.name.clone() {
                self.open.push(Open { index: news.index, name, arguments: String::new() });
            }
            if let Some(open) = self.open.last_mut() {
                open.arguments.push_str(&news.arguments);
            }
            if news.complete
                && let Some(Open { index, name, arguments }) = self.open.pop()
            {
                completed.push(ToolCall::new(self.stamp.id(), index, name, arguments));
            }
        }
        completed
    }

    fn last(
        &self,
        text: &str,
        calls: Vec<ToolCall>,
        tokens: &[Token],
        end: &End,
        out: &mut BytesMut,
    ) {
        let tokens = self.scored(tokens);
        let (now, total) = (SystemTime::now(), self.arrived.elapsed());
        let timings = end.timings.unwrap_or_default();
        let end = ollama_reply::End::new(&end.reason, end.usage, timings, total);
        match self.kind {
            Kind::Chat => {
                let chat = Chat::new(text).with_calls(calls);
                let line = Line::last(&self.model, now, chat, tokens, end);
                sse::line(out, &line.with_receipt(self.receipt.as_ref()));
            }
            Kind::Generate => {
                sse::line(out, &Line::last(&self.model, now, Generated::new(text), tokens, end));
            }
        }
    }

    fn more(&self, text: &str, calls: Vec<ToolCall>, tokens: Option<&[Token]>, out: &mut BytesMut) {
        let now = SystemTime::now();
        match self.kind {
            Kind::Chat => {
                let chat = Chat::new(text).with_calls(calls);
                sse::line(out, &Line::more(&self.model, now, chat, tokens));
            }
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

    fn receipt(&mut self, told: &Told) {
        self.receipt = Some(told.clone());
    }

    fn begin(&mut self, _choices: usize, calls: Option<&Calls>, _out: &mut BytesMut) {
        self.parser = calls.map(CallParser::new);
    }

    fn text(&mut self, _index: usize, text: &str, tokens: &[Token], out: &mut BytesMut) {
        let said = self.parser.as_mut().map(|parser| parser.push(text));
        let calls = said.as_ref().map(|said| self.completed(said)).unwrap_or_default();
        let text = said.as_ref().map_or(text, |said| &said.content);
        let tokens = self.scored(tokens);
        if !text.is_empty() || !calls.is_empty() || tokens.is_some() {
            self.more(text, calls, tokens, out);
        }
    }

    fn done(&mut self, _index: usize, end: &End, out: &mut BytesMut) {
        let rest = self.parser.as_mut().map(CallParser::finish).unwrap_or_default();
        self.last(&rest.content, Vec::new(), &[], end, out);
    }

    fn end(&mut self, _tally: &Tally, _out: &mut BytesMut) {}

    fn failed(&mut self, problem: &Problem, out: &mut BytesMut) {
        out.put_slice(&problem.body(DIALECT));
        out.put_u8(b'\n');
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        self.more("", Vec::new(), None, out);
    }
}
