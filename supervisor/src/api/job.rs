//! One request without its dialect: what is to be generated, and how it is started.

use engine_api::form::{Calls, Form, Grammar};
use engine_api::protocol::{Priority, Prompt, PromptProblem, Sampling, TokenId};
use serde::{Deserialize, Serialize};

use crate::api::error::Problem;
use crate::api::wire::form::Wanted;
use crate::request::{Answer, Client, Refusal, Request};
use crate::supervisor::Handle;

/// What a client asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    pub(crate) prompts: Vec<Prompt>,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    /// Tokens in one answer at most; `None` for what the window leaves.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) stops: Vec<String>,
    /// The form that every answer is to have.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) priority: Priority,
    pub(crate) reuse_prefix: bool,
}

impl Job {
    /// The same, giving way to everybody else's if `bulk`.
    pub(crate) fn giving_way(self, bulk: bool) -> Self {
        let priority = if bulk { Priority::Bulk } else { self.priority };
        Self { priority, ..self }
    }
}

/// A job whose prompts are tokens. The requests for its answers follow from it,
/// today and when a client comes back for the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) prompts: Vec<Planned>,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    pub(crate) sampling: Sampling,
    pub(crate) stops: Vec<String>,
    /// What every answer must fit.
    pub(crate) grammar: Option<Grammar>,
    /// How calls of tools stand in every answer.
    pub(crate) calls: Option<Calls>,
    pub(crate) priority: Priority,
    pub(crate) reuse_prefix: bool,
    /// What was done with its chat, if anything was.
    pub(crate) receipt: Option<Told>,
}

/// A receipt as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) json: String,
    /// Its numbers, for a header.
    pub(crate) line: String,
}

/// One prompt of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) tokens: Vec<TokenId>,
    /// Of each answer to it, bounded to what the window leaves.
    pub(crate) max_tokens: u32,
}

/// The engine's answers to one job, in the order of the choices' indices: all
/// of the first prompt, then all of the second.
#[derive(Debug)]
pub(crate) struct Running {
    /// `None` for an answer that was done before.
    pub(crate) answers: Vec<Option<Answer>>,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    /// The least that any answer was bounded to.
    pub(crate) max_tokens: u32,
    /// How calls of tools stand in every answer.
    pub(crate) calls: Option<Calls>,
    pub(crate) receipt: Option<Told>,
}

/// Turns the job's prompts into tokens.
///
/// # Errors
/// A prompt cannot be used.
pub(crate) async fn plan(handle: &Handle, job: Job) -> Result<Plan, Problem> {
    let Job { prompts, choices, max_tokens, sampling, stops, wanted, priority, reuse_prefix } = job;
    let (grammar, field) =
        wanted.map_or((None, None), |Wanted { grammar, field }| (Some(grammar), Some(field)));
    let mut planned = Vec::with_capacity(prompts.len());
    // It follows from what all prompts have in common.
    let mut form = Form::default();
    for prompt in prompts {
        let prepared = handle.prepare(prompt, grammar.clone()).await;
        let prepared = prepared.map_err(|refusal| refused(refusal, field))?;
        let max_tokens = bounded(max_tokens, prepared.tokens.len(), prepared.context)?;
        planned.push(Planned { tokens: prepared.tokens, max_tokens });
        form = prepared.form;
    }
    let Form { grammar, calls } = form;
    let prompts = planned;
    let receipt = None;
    Ok(Plan { prompts, choices, sampling, stops, grammar, calls, priority, reuse_prefix, receipt })
}

/// A refusal by the name that the client gave to the field.
fn refused(refusal: Refusal, field: Option<&'static str>) -> Problem {
    match (refusal, field) {
        (Refusal::Prompt(PromptProblem::Grammar(why)), Some(field)) => {
            Problem::field(field, format_args!("cannot be enforced: {why}"))
        }
        (refusal, _) => refusal.into(),
    }
}

/// Hands the plan to the engine. Dropping the future or its result takes back
/// whatever was handed over already.
///
/// # Errors
/// There is no room; nothing is left running then.
pub(crate) async fn start(
    handle: &Handle,
    client: &Client,
    endpoint: &'static str,
    plan: &Plan,
) -> Result<Running, Problem> {
    resume(handle, client, endpoint, plan, |_| Some(Vec::new())).await
}

/// [`start`] for a job that has come some way. `generated` are the tokens that
/// an answer has already; `None` if it is done.
///
/// # Errors
/// There is no room; nothing is left running then.
pub(crate) async fn resume(
    handle: &Handle,
    client: &Client,
    endpoint: &'static str,
    plan: &Plan,
    generated: impl Fn(usize) -> Option<Vec<TokenId>>,
) -> Result<Running, Problem> {
    let mut answers = Vec::with_capacity(plan.answers());
    for index in 0..plan.answers() {
        answers.push(match generated(index) {
            Some(generated) => {
                let request = plan.request(index, client.clone(), endpoint, generated);
                Some(handle.submit(request).await?)
            }
            None => None,
        });
    }
    let (max_tokens, calls) = (plan.max_tokens(), plan.calls.clone());
    let receipt = plan.receipt.clone();
    Ok(Running { answers, choices: plan.choices, max_tokens, calls, receipt })
}

impl Plan {
    /// How many answers it has.
    pub(crate) fn answers(&self) -> usize {
        self.prompts.len() * self.choices
    }

    /// Tokens of its longest prompt.
    pub(crate) fn longest_prompt(&self) -> u32 {
        let longest = self.prompts.iter().map(|prompt| prompt.tokens.len()).max();
        u32::try_from(longest.unwrap_or_default()).unwrap_or(u32::MAX)
    }

    pub(crate) fn with_receipt(self, json: String, line: String) -> Self {
        Self { receipt: Some(Told { json, line }), ..self }
    }

    /// The least that any answer is bounded to.
    fn max_tokens(&self) -> u32 {
        self.prompts.iter().map(|prompt| prompt.max_tokens).min().unwrap_or(u32::MAX)
    }

    fn request(
        &self,
        index: usize,
        client: Client,
        endpoint: &'static str,
        generated: Vec<TokenId>,
    ) -> Request {
        let prompt = &self.prompts[index / self.choices];
        let seed = self.sampling.seed.wrapping_add((index % self.choices) as u64);
        Request {
            client,
            endpoint,
            prompt: prompt.tokens.clone(),
            generated,
            max_tokens: prompt.max_tokens,
            sampling: Sampling { seed, ..self.sampling.clone() },
            stops: self.stops.clone(),
            grammar: self.grammar.clone(),
            calls: self.calls.as_ref().map(|calls| calls.syntax),
            priority: self.priority,
            reuse_prefix: self.reuse_prefix,
        }
    }
}

/// What was asked for, or what the window leaves after the prompt.
///
/// # Errors
/// The prompt leaves nothing.
fn bounded(asked: Option<u32>, prompt: usize, context: u32) -> Result<u32, Problem> {
    let prompt = u32::try_from(prompt).unwrap_or(u32::MAX);
    match context.saturating_sub(prompt) {
        0 => Err(Problem::too_long(prompt, false, context)),
        room => Ok(asked.map_or(room, |asked| asked.min(room))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gets_what_the_window_leaves() {
        assert_eq!(bounded(None, 96, 4096), Ok(4000));
        assert_eq!(bounded(Some(10), 96, 4096), Ok(10));
        assert_eq!(bounded(Some(u32::MAX), 4095, 4096), Ok(1));
    }

    #[test]
    fn a_prompt_that_fills_the_window_is_refused_with_its_numbers() {
        for prompt in [4096, 5000] {
            let problem = bounded(Some(1), prompt, 4096).unwrap_err();
            assert_eq!(problem.code, Some("context_length_exceeded"));
            let window = problem.window.unwrap();
            assert_eq!((window.prompt as usize, window.context), (prompt, 4096));
        }
    }
}
