//! OpenAI's streams: one event a chunk, `[DONE]` at the end and only there.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use engine_api::protocol::Token;

use super::{DIALECT, Kind};
use crate::api::error::Problem;
use crate::api::sse;
use crate::api::stream::{End, Frames};
use crate::api::tally::Tally;
use crate::api::wire::logprobs;
use crate::api::wire::openai_reply::{
    ChatDelta, Delta, Document, Stamp, TextChoice, finish_reason,
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
}

impl OpenAiFrames {
    pub(crate) fn new(
        kind: Kind,
        stamp: Stamp,
        include_usage: bool,
        logprobs: bool,
        echo: Vec<String>,
    ) -> Self {
        Self { kind, stamp, include_usage, logprobs, echo, choices: 0, offsets: Vec::new() }
    }

    fn chat_chunk<'a>(&'a self, choice: ChatDelta<'a>) -> Document<'a, [ChatDelta<'a>; 1]> {
        Document::new(&self.stamp, CHAT_CHUNK, [choice])
    }

    fn text_chunk<'a>(&'a self, choice: TextChoice<'a>) -> Document<'a, [TextChoice<'a>; 1]> {
        Document::new(&self.stamp, TEXT_CHUNK, [choice])
    }
}

const CHAT_CHUNK: &str = "chat.completion.chunk";
const TEXT_CHUNK: &str = "text_completion";

impl Frames for OpenAiFrames {
    /// From the first second, because some clients give up early; then less often.
    const SILENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

    fn begin(&mut self, choices: usize, out: &mut BytesMut) {
        self.choices = choices;
        self.offsets = vec![0; choices];
        for index in 0..choices {
            if self.kind == Kind::Chat {
                let delta = Delta { role: Some("assistant"), content: Some("") };
                let choice = ChatDelta { index, delta, logprobs: None, finish_reason: None };
                sse::event(out, &self.chat_chunk(choice));
            } else if let Some(text) = said_again(&self.echo, index, choices) {
                let choice = TextChoice { index, text, logprobs: None, finish_reason: None };
                sse::event(out, &self.text_chunk(choice));
            }
        }
    }

    fn text(&mut self, index: usize, text: &str, tokens: &[Token], out: &mut BytesMut) {
        let tokens = self.logprobs.then_some(tokens);
        if text.is_empty() && tokens.is_none_or(<[Token]>::is_empty) {
            return;
        }
        match self.kind {
            Kind::Chat => sse::event(out, &self.chat_chunk(ChatDelta::text(index, text, tokens))),
            Kind::Completion => {
                let offset = &mut self.offsets[index];
                let logprobs = tokens.map(|tokens| logprobs::Completion::new(tokens, offset));
                let choice = TextChoice { index, text, logprobs, finish_reason: None };
                sse::event(out, &self.text_chunk(choice));
            }
        }
    }

    fn done(&mut self, index: usize, end: &End, out: &mut BytesMut) {
        let finish_reason = Some(finish_reason(&end.reason));
        // Timings stand in the last chunk: this one, unless usage follows.
        let mut tally = Tally::new(1);
        if self.choices == 1 && !self.include_usage {
            tally.add(index, end.usage, end.timings);
        }
        match self.kind {
            Kind::Chat => {
                let delta = Delta::default();
                let choice = ChatDelta { index, delta, logprobs: None, finish_reason };
                sse::event(out, &self.chat_chunk(choice).with_timings(&tally));
            }
            Kind::Completion => {
                let choice = TextChoice { index, text: "", logprobs: None, finish_reason };
                sse::event(out, &self.text_chunk(choice).with_timings(&tally));
            }
        }
    }

    fn end(&mut self, tally: &Tally, out: &mut BytesMut) {
        if self.include_usage {
            let object = if self.kind == Kind::Chat { CHAT_CHUNK } else { TEXT_CHUNK };
            let chunk = Document::new(&self.stamp, object, [(); 0]);
            sse::event(out, &chunk.with_usage(tally).with_timings(tally));
        }
        out.put_slice(sse::DONE);
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
