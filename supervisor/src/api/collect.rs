//! A whole answer, for clients that do not stream.

use engine_api::protocol::{FinishReason, Token};

use crate::api::error::Problem;
use crate::api::job::Running;
use crate::api::stream::End;
use crate::api::tally::Tally;
use crate::request::{Answer, Event};

/// One answer with everything that it said.
#[derive(Debug, PartialEq)]
pub(crate) struct Whole {
    pub(crate) text: String,
    /// Only those that carry log-probabilities.
    pub(crate) tokens: Vec<Token>,
    pub(crate) end: End,
}

/// Waits for every answer. Dropping the future cancels them.
///
/// # Errors
/// One of them failed; the others are cancelled.
pub(crate) async fn collect(running: Running) -> Result<(Vec<Whole>, Tally), Problem> {
    let mut tally = Tally::new(running.choices);
    let mut whole = Vec::with_capacity(running.answers.len());
    for (index, answer) in running.answers.into_iter().flatten().enumerate() {
        let one = one(answer).await?;
        tally.add(index, one.end.usage, one.end.timings);
        whole.push(one);
    }
    Ok((whole, tally))
}

async fn one(mut answer: Answer) -> Result<Whole, Problem> {
    let mut said = String::new();
    let mut scored = Vec::new();
    loop {
        match answer.next().await {
            None => return Err(Problem::vanished()),
            Some(Event::Queued { .. } | Event::Started { .. }) => {}
            Some(Event::Text { text, tokens }) => {
                said.push_str(&text);
                scored.extend(tokens.into_iter().filter(|token| token.logprobs.is_some()));
            }
            Some(Event::Done { reason: FinishReason::Cancelled, .. }) => {
                return Err(Problem::cut_off());
            }
            Some(Event::Done { reason, usage, timings }) => {
                let end = End { reason, usage, timings: Some(timings) };
                return Ok(Whole { text: said, tokens: scored, end });
            }
            Some(Event::Failed(failure)) => return Err(failure.into()),
        }
    }
}
