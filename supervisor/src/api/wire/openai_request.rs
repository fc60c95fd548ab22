//! Bodies of `/v1/chat/completions` and `/v1/completions`.

use engine_api::protocol::{Priority, Prompt};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::content::Messages;
use super::json::parse;
use super::knobs::{Knobs, MAX_CHOICES, top_logprobs};
use super::lacking;
use super::number::Integer;
use super::object::Object;
use super::stoker::{Extension, Wish};
use super::texts_or_ids::{Many, TextOrIds, TextsOrIds};
use super::tools::{ToolChoiceField, tools};
use crate::api::error::Problem;
use crate::api::facts::Facts;
use crate::api::job::Job;

/// What a body on an OpenAI route asks for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) job: Job,
    /// What is to be added to its chat.
    pub(crate) wish: Wish,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// Said again before each answer to the prompt with the same index.
    pub(crate) echo: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ChatBody {
    model: Option<String>,
    messages: Messages,
    tools: Option<Box<RawValue>>,
    #[serde(default)]
    tool_choice: ToolChoiceField,
    parallel_tool_calls: Option<bool>,
    logprobs: Option<bool>,
    top_logprobs: Option<Integer>,
    stoker: Option<Object<Extension>>,
}

#[derive(Debug, Deserialize)]
struct CompletionBody {
    model: Option<String>,
    prompt: TextsOrIds<Prompts>,
    suffix: Option<String>,
    echo: Option<bool>,
    logprobs: Option<Integer>,
    best_of: Option<Integer>,
}

/// Reads the body of `/v1/chat/completions`.
///
/// # Errors
/// The problem says which field is wrong and why.
pub(crate) fn chat(body: &[u8], facts: &Facts) -> Result<Ask, Problem> {
    let chat: ChatBody = parse(body)?;
    let knobs: Knobs = parse(body)?;
    facts.resolve(chat.model.as_deref())?;
    let messages = chat.messages.checked()?;
    if messages.is_empty() {
        return Err(Problem::field("messages", "is empty; send at least one message"));
    }
    let parallel = chat.parallel_tool_calls.unwrap_or(true);
    let tools = tools(chat.tools.as_deref(), chat.tool_choice, parallel)?;
    let tools = lacking::tools(facts, tools)?;
    let logprobs = match (chat.logprobs, chat.top_logprobs) {
        (Some(true), count) => Some(top_logprobs("top_logprobs", count.unwrap_or(Integer(0)))?),
        _ => None,
    };
    let prompt = Prompt::Chat { messages, tools };
    let wish = facts.wish(chat.model.as_deref()).with(chat.stoker)?;
    Ok(Ask { wish, ..ask(&knobs, facts, vec![prompt], logprobs, Priority::Interactive)? })
}

/// Reads the body of `/v1/completions`.
///
/// # Errors
/// The problem says which field is wrong and why.
pub(crate) fn completion(body: &[u8], facts: &Facts) -> Result<Ask, Problem> {
    let body_fields: CompletionBody = parse(body)?;
    let knobs: Knobs = parse(body)?;
    facts.resolve(body_fields.model.as_deref())?;
    let CompletionBody { prompt, suffix, echo, logprobs, best_of, .. } = body_fields;
    let prompts = prompt.each;
    if prompts.is_empty() {
        return Err(Problem::field("prompt", "is empty"));
    }
    let choices = knobs.choices()?;
    if prompts.len().saturating_mul(choices) > MAX_CHOICES {
        let why = format_args!("asks for more than {MAX_CHOICES} answers at once").to_string();
        return Err(Problem::field("prompt", why));
    }
    if best_of.is_some_and(|Integer(best_of)| usize::try_from(best_of) != Ok(choices)) {
        return Err(Problem::field("best_of", "must equal `n`: answers are not ranked here"));
    }
    let logprobs = logprobs.map(|count| top_logprobs("logprobs", count)).transpose()?;
    let echo = match echo {
        Some(true) => echoes(&prompts, logprobs.is_some())?,
        _ => Vec::new(),
    };
    let suffix = suffix.filter(|suffix| !suffix.is_empty());
    let priority = if suffix.is_some() { Priority::Completion } else { Priority::Interactive };
    let prompts: Result<_, _> =
        prompts.into_iter().map(|prompt| one_prompt(prompt, suffix.as_deref())).collect();
    Ok(Ask { echo, ..ask(&knobs, facts, prompts?, logprobs, priority)? })
}

fn ask(
    knobs: &Knobs,
    facts: &Facts,
    prompts: Vec<Prompt>,
    logprobs: Option<u8>,
    priority: Priority,
) -> Result<Ask, Problem> {
    let job = Job {
        prompts,
        choices: knobs.choices()?,
        max_tokens: knobs.max_tokens()?,
        sampling: knobs.sampling(facts, logprobs)?,
        stops: knobs.stops()?,
        wanted: knobs.wanted(facts)?,
        priority,
        reuse_prefix: knobs.reuse_prefix(facts)?,
    };
    let (stream, include_usage) = (knobs.streams(), knobs.include_usage());
    Ok(Ask { job, wish: Wish::default(), stream, include_usage, echo: Vec::new() })
}

/// What `echo` says again: the prompts' own text.
fn echoes(prompts: &[TextOrIds], with_logprobs: bool) -> Result<Vec<String>, Problem> {
    if with_logprobs {
        let why = "cannot be combined with `logprobs`: the prompt's tokens are not scored";
        return Err(Problem::field("echo", why));
    }
    let texts = prompts.iter().map(|prompt| match prompt {
        TextOrIds::Text(text) => Ok(text.clone()),
        TextOrIds::Ids(_) => Err(Problem::field("echo", "needs a prompt of text, not of ids")),
    });
    texts.collect()
}

/// What `prompt` holds.
struct Prompts;

impl Many for Prompts {
    const MOST: usize = MAX_CHOICES;

    fn too_many() -> String {
        format!("asks for more than {MAX_CHOICES} answers at once")
    }
}

fn one_prompt(prompt: TextOrIds, suffix: Option<&str>) -> Result<Prompt, Problem> {
    match (prompt, suffix) {
        // Clients send their model's control tokens as text here.
        (TextOrIds::Text(text), None) => Ok(Prompt::Text { text, special: true }),
        (TextOrIds::Text(prefix), Some(suffix)) => {
            Ok(Prompt::Infill { prefix, suffix: suffix.to_owned() })
        }
        (TextOrIds::Ids(ids), None) => Ok(Prompt::Tokens(ids)),
        (TextOrIds::Ids(_), Some(_)) => {
            Err(Problem::field("suffix", "needs a prompt of text, not of token ids"))
        }
    }
}

#[cfg(test)]
#[path = "openai_request_tests.rs"]
mod tests;
