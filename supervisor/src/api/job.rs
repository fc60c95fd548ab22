//! One request without its dialect: what is to be generated, and how it is started.

use engine_api::protocol::{Priority, Prompt, Sampling};

use crate::api::error::Problem;
use crate::request::{Answer, Client, Request};
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
    pub(crate) priority: Priority,
    pub(crate) reuse_prefix: bool,
}

/// The engine's answers to one job, in the order of the choices' indices: all
/// of the first prompt, then all of the second.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) answers: Vec<Answer>,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    /// The least that any answer was bounded to.
    pub(crate) max_tokens: u32,
}

/// Hands the job to the engine. Dropping the future or its result takes back
/// whatever was handed over already.
///
/// # Errors
/// A prompt cannot be used, or there is no room; nothing is left running then.
pub(crate) async fn start(
    handle: Handle,
    client: Client,
    endpoint: &'static str,
    job: Job,
) -> Result<Running, Problem> {
    let Job { prompts, choices, max_tokens, sampling, stops, priority, reuse_prefix } = job;
    let mut running = Running { answers: Vec::new(), choices, max_tokens: u32::MAX };
    for prompt in prompts {
        let prepared = handle.prepare(prompt).await?;
        let max_tokens = bounded(max_tokens, prepared.tokens.len(), prepared.context)?;
        running.max_tokens = running.max_tokens.min(max_tokens);
        for choice in 0..choices {
            let seed = sampling.seed.wrapping_add(choice as u64);
            let request = Request {
                client: client.clone(),
                endpoint,
                prompt: prepared.tokens.clone(),
                generated: Vec::new(),
                max_tokens,
                sampling: Sampling { seed, ..sampling.clone() },
                stops: stops.clone(),
                priority,
                reuse_prefix,
            };
            running.answers.push(handle.submit(request).await?);
        }
    }
    Ok(running)
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
