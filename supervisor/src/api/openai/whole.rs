//! OpenAI's answers that are sent in one piece.

use super::Kind;
use super::frames::said_again;
use crate::api::calls::{self, News};
use crate::api::collect::Whole;
use crate::api::job::Plan;
use crate::api::tally::Tally;
use crate::api::wire::logprobs;
use crate::api::wire::openai_reply::{
    ChatChoice, ChatMessage, Document, Stamp, TextChoice, call_deltas, finish_reason,
};

/// The JSON of a whole answer.
pub(super) fn document(
    kind: Kind,
    stamp: &Stamp,
    answers: &[Whole],
    tally: &Tally,
    with_logprobs: bool,
    echo: &[String],
    plan: &Plan,
) -> Vec<u8> {
    let (calls, receipt) = (plan.calls.as_ref(), plan.receipt.as_ref());
    let written = match kind {
        Kind::Chat => {
            let said: Vec<News> =
                answers.iter().map(|answer| calls::whole(calls, &answer.text)).collect();
            let choices = (0..).zip(answers).zip(&said).map(|((index, answer), said)| {
                let called = !said.calls.is_empty();
                ChatChoice {
                    index,
                    message: ChatMessage {
                        role: "assistant",
                        content: Some(&*said.content).filter(|text| !called || !text.is_empty()),
                        tool_calls: call_deltas(&said.calls, stamp.id(), index),
                    },
                    logprobs: with_logprobs.then(|| logprobs::Chat::new(&answer.tokens)),
                    finish_reason: finish_reason(&answer.end.reason, called),
                }
            });
            let document = Document::new(stamp, "chat.completion", choices.collect::<Vec<_>>());
            let document = document.with_usage(tally).with_timings(tally);
            serde_json::to_vec(&document.with_receipt(receipt))
        }
        Kind::Completion => {
            let texts: Vec<String> = (0..)
                .zip(answers)
                .map(|(index, answer)| {
                    let echo = said_again(echo, index, answers.len()).unwrap_or_default();
                    [echo, &answer.text].concat()
                })
                .collect();
            let choices =
                (0..).zip(answers).zip(&texts).map(|((index, answer), text)| TextChoice {
                    index,
                    text,
                    logprobs: with_logprobs
                        .then(|| logprobs::Completion::new(&answer.tokens, &mut 0)),
                    finish_reason: Some(finish_reason(&answer.end.reason, false)),
                });
            let document = Document::new(stamp, "text_completion", choices.collect::<Vec<_>>());
            serde_json::to_vec(&document.with_usage(tally).with_timings(tally))
        }
    };
    written.expect("strings and numbers always have a JSON form")
}
