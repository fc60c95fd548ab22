//! OpenAI's streams: one event a chunk, `[DONE]` at the end and only there.
//!
//! What a client has seen already is not written again, so a stream that is
//! taken up again goes through here from its beginning.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use engine_api::form::Calls;
use engine_api::protocol::Token;

use super::{DIALECT, Kind};
use crate::api::calls::{CallParser, News};
use crate::api::error::Problem;
use crate::api::job::Told;
use crate::api::kept::Position;
use crate::api::sse::{self, EventId};
use crate::api::stream::{End, Frames};
use crate::api::tally::Tally;
use crate::api::wire::logprobs;
use crate::api::wire::openai_reply::{
    ChatDelta, Delta, Document, Stamp, TextChoice, call_deltas, finish_reason,
};

/// Writes one stream.
#[derive(Debug)]
pub(crate) struct OpenAiFrames {
    kind: Kind,
    stamp: Stamp,
    include_usage: bool,
    logprobs: bool,
    /// Said again before each answer to the prompt with the same index.
    echo: Vec<String>,
    choices: usize,
    /// Where each choice's next token begins, in characters.
    offsets: Vec<usize>,
    /// What reads each choice, if it may call tools.
    parsers: Vec<CallParser>,
    /// Whether events get ids, because the answer is kept.
    ids: bool,
    /// How far the stream is.
    position: Position,
    /// How far the client has seen it.
    seen: Position,
    /// What was done with the chat.
    receipt: Option<Told>,
}

impl OpenAiFrames {
    pub(crate) fn new(
        kind: Kind,
        stamp: Stamp,
        include_usage: bool,
        logprobs: bool,
        echo: Vec<String>,
    ) -> Self {
        Self {
            kind,
            stamp,
            include_usage,
            logprobs,
            echo,
            choices: 0,
            offsets: Vec::new(),
            parsers: Vec::new(),
            ids: false,
            position: Position::default(),
            seen: Position::default(),
            receipt: None,
        }
    }

    /// The same for a client that has seen so much.
    pub(crate) fn after(self, seen: Position) -> Self {
        Self { seen, ..self }
    }

    fn chat_chunk<'a>(&'a self, choice: ChatDelta<'a>) -> Document<'a, [ChatDelta<'a>; 1]> {
        Document::new(&self.stamp, CHAT_CHUNK, [choice])
    }

    fn text_chunk<'a>(&'a self, choice: TextChoice<'a>) -> Document<'a, [TextChoice<'a>; 1]> {
        Document::new(&self.stamp, TEXT_CHUNK, [choice])
    }

    /// Writes what an answer said that may call tools: one event for one piece
    /// of text, because they are counted together.
    fn said(&self, index: usize, said: &News, tokens: Option<&[Token]>, out: &mut BytesMut) {
        if said.is_empty() && tokens.is_none_or(<[Token]>::is_empty) {
            return;
        }
        let silent = said.content.is_empty() && !said.calls.is_empty();
        let delta = Delta {
            content: (!silent).then_some(&said.content),
            tool_calls: call_deltas(&said.calls, self.stamp.id(), index),
            ..Delta::default()
        };
        let logprobs = tokens.map(logprobs::Chat::new);
        let choice = ChatDelta { index, delta, logprobs, finish_reason: None };
        sse::event(out, &self.chat_chunk(choice), self.id());
    }

    /// Counts steps of a choice. Says whether the client has not seen them.
    fn step(&mut self, index: usize, steps: usize) -> bool {
        self.position.step(index, steps);
        self.position.is_past(&self.seen, index)
    }

    /// The same for the whole.
    fn step_whole(&mut self) -> bool {
        self.position.step_whole();
        self.position.whole_is_past(&self.seen)
    }

    fn id(&self) -> Option<EventId<'_>> {
        self.ids.then(|| EventId { answer: self.stamp.id(), position: &self.position })
    }
}

const CHAT_CHUNK: &str = "chat.completion.chunk";
const TEXT_CHUNK: &str = "text_completion";

impl Frames for OpenAiFrames {
    /// From the first second, because some clients give up early; then less often.
    const SILENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

    fn kept(&mut self) {
        self.ids = true;
    }

    fn receipt(&mut self, told: &Told) {
        self.receipt = Some(told.clone());
    }

    fn begin(&mut self, choices: usize, calls: Option<&Calls>, out: &mut BytesMut) {
        self.choices = choices;
        let calls = calls.filter(|_| self.kind == Kind::Chat);
        let parsers = calls.into_iter().flat_map(|calls| std::iter::repeat_n(calls, choices));
        self.parsers = parsers.map(CallParser::new).collect();
        self.offsets = vec![0; choices];
        self.position = Position::start(choices);
        for index in 0..choices {
            if !self.step(index, 1) {
                continue;
            }
            if self.kind == Kind::Chat {
                let delta =
                    Delta { role: Some("assistant"), content: Some(""), ..Delta::default() };
                let choice = ChatDelta { index, delta, logprobs: None, finish_reason: None };
                sse::event(out, &self.chat_chunk(choice), self.id());
            } else if let Some(text) = said_again(&self.echo, index, choices) {
                let choice = TextChoice { index, text, logprobs: None, finish_reason: None };
                sse::event(out, &self.text_chunk(choice), self.id());
            }
        }
    }

    fn text(&mut self, index: usize, text: &str, tokens: &[Token], out: &mut BytesMut) {
        // Text without tokens is what was held back until the end: one step.
        let news = self.step(index, tokens.len().max(1));
        let tokens = self.logprobs.then_some(tokens);
        if let Some(parser) = self.parsers.get_mut(index) {
            let said = parser.push(text);
            if news {
                self.said(index, &said, tokens, out);
            }
            return;
        }
        if text.is_empty() && tokens.is_none_or(<[Token]>::is_empty) {
            return;
        }
        match self.kind {
            Kind::Chat => {
                if news {
                    let choice = ChatDelta::text(index, text, tokens);
                    sse::event(out, &self.chat_chunk(choice), self.id());
                }
            }
            Kind::Completion => {
                let offset = &mut self.offsets[index];
                let logprobs = tokens.map(|tokens| logprobs::Completion::new(tokens, offset));
                if news {
                    let choice = TextChoice { index, text, logprobs, finish_reason: None };
                    sse::event(out, &self.text_chunk(choice), self.id());
                }
            }
        }
    }

    fn done(&mut self, index: usize, end: &End, out: &mut BytesMut) {
        let mut called = false;
        if let Some(parser) = self.parsers.get_mut(index) {
            let rest = parser.finish();
            called = parser.has_called();
            if !rest.is_empty() && self.step(index, 1) {
                self.said(index, &rest, None, out);
            }
        }
        if !self.step(index, 1) {
            return;
        }
        let finish_reason = Some(finish_reason(&end.reason, called));
        // Timings stand in the last chunk: this one, unless usage follows.
        let mut tally = Tally::new(1);
        if self.choices == 1 && !self.include_usage {
            tally.add(index, end.usage, end.timings);
        }
        // Without usage it stands in the last chunk as well.
        let receipt = self.receipt.as_ref().filter(|_| index == 0 && !self.include_usage);
        match self.kind {
            Kind::Chat => {
                let delta = Delta::default();
                let choice = ChatDelta { index, delta, logprobs: None, finish_reason };
                let chunk = self.chat_chunk(choice).with_timings(&tally).with_receipt(receipt);
                sse::event(out, &chunk, self.id());
            }
            Kind::Completion => {
                let choice = TextChoice { index, text: "", logprobs: None, finish_reason };
                sse::event(out, &self.text_chunk(choice).with_timings(&tally), self.id());
            }
        }
    }

    fn end(&mut self, tally: &Tally, out: &mut BytesMut) {
        if self.include_usage && self.step_whole() {
            let object = if self.kind == Kind::Chat { CHAT_CHUNK } else { TEXT_CHUNK };
            let chunk = Document::new(&self.stamp, object, [(); 0]);
            let chunk = chunk.with_usage(tally).with_timings(tally);
            sse::event(out, &chunk.with_receipt(self.receipt.as_ref()), self.id());
        }
        if self.step_whole() {
            sse::done(out, self.id());
        }
    }

    fn failed(&mut self, problem: &Problem, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        out.put_slice(&problem.body(DIALECT));
        out.put_slice(b"\n\n");
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        out.put_slice(sse::KEEP_ALIVE);
    }
}

/// The prompt's text, where the client wants it before the answer.
pub(super) fn said_again(echo: &[String], index: usize, answers: usize) -> Option<&str> {
    let choices = answers.checked_div(echo.len())?;
    echo.get(index / choices.max(1)).map(String::as_str)
}
