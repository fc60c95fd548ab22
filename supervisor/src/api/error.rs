//! What a client is told when its request cannot be answered, in the shape
//! that its dialect expects.
//!
//! An OpenAI client gets an object, an Ollama client a string; giving either
//! one the other's shape makes it throw something meaningless. The text says
//! what the client can do. It never repeats a prompt.

use std::time::Duration;

use engine_api::protocol::PromptProblem;
use hyper::StatusCode;
use serde::Serialize;

use crate::request::{Failure, Fault, Refusal};

/// Which family of clients a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Ollama,
}

/// One refusal or failure, before it has a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// OpenAI's `type`.
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
    /// The field that is wrong, as a path: `messages[0].content`.
    pub(crate) param: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) window: Option<Window>,
}

/// The numbers behind a prompt that does not fit, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) prompt: u32,
    pub(crate) context: u32,
}

impl Problem {
    /// A request that can never be answered as it stands.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// One field of the body is wrong; `why` follows its name.
    pub(crate) fn field(path: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let path = path.into();
        let message = format!("`{path}` {why}");
        Self { param: Some(path), ..Self::bad_request(message) }
    }

    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            message: message.into(),
            param: None,
            retry_after: None,
            window: None,
        }
    }

    /// The prompt takes the whole window or more, so there is nothing to answer with.
    pub(crate) fn too_long(prompt: u32, at_least: bool, context: u32) -> Self {
        let about = if at_least { "at least " } else { "" };
        let message = format!(
            "this model's maximum context length is {context} tokens, but the prompt has \
             {about}{prompt} tokens and an answer needs at least one; shorten the prompt"
        );
        Self {
            kind: "exceed_context_size_error",
            code: Some("context_length_exceeded"),
            window: Some(Window { prompt, context }),
            ..Self::bad_request(message)
        }
    }

    /// Something that may work in a moment.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        let retry_after = Some(retry_after);
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", message);
        Self { retry_after, ..problem }
    }

    /// The engine side vanished without a word, which happens only at the very end.
    pub(crate) fn vanished() -> Self {
        Self::shutting_down("the server is shutting down; the answer is incomplete")
    }

    /// Another server will come, and may give the rest of an answer.
    fn shutting_down(message: impl Into<String>) -> Self {
        Self { code: Some("shutting_down"), ..Self::unavailable(message, SOON) }
    }

    /// The server itself cut the answer off, which must not look like its end.
    pub(crate) fn cut_off() -> Self {
        Self::unavailable("the server cut the answer off; it is incomplete", SOON)
    }

    /// There is no such answer for this client, or not any more.
    pub(crate) fn answer_not_found() -> Self {
        let message = "this answer is not kept: it is unknown, belongs to another key or address, \
                       or is older than `store.answers_kept_s`; send the request again";
        Self {
            code: Some("answer_not_found"),
            ..Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
        }
    }

    /// The engine that could go on with a kept answer is another one now.
    pub(crate) fn engine_changed(was: &str) -> Self {
        let message = format!("the answer was begun by `{was}`, which serves no more; ask again");
        Self {
            code: Some("engine_changed"),
            ..Self::new(StatusCode::CONFLICT, "invalid_request_error", message)
        }
    }

    /// The answer goes on at another connection, whose client asked for it.
    pub(crate) fn taken_over() -> Self {
        Self {
            code: Some("answer_taken_over"),
            ..Self::new(
                StatusCode::CONFLICT,
                "invalid_request_error",
                "the answer goes on at another connection that asked for it",
            )
        }
    }

    /// The status in `dialect`: Ollama's clients know 503 where OpenAI's know 429.
    pub(crate) fn status(&self, dialect: Dialect) -> StatusCode {
        match (dialect, self.status) {
            (Dialect::Ollama, StatusCode::TOO_MANY_REQUESTS) => StatusCode::SERVICE_UNAVAILABLE,
            (_, status) => status,
        }
    }

    /// The value of `Retry-After`, in whole seconds, at least one.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        let wait = self.retry_after?;
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
    }

    /// The JSON body in `dialect`'s shape, without a line end.
    pub(crate) fn body(&self, dialect: Dialect) -> Vec<u8> {
        let body = match dialect {
            Dialect::OpenAi => serde_json::to_vec(&OpenAiBody { error: self.into() }),
            Dialect::Ollama => serde_json::to_vec(&OllamaBody::from(self)),
        };
        body.expect("strings and numbers always have a JSON form")
    }
}

/// When to come back after a failure that is being repaired.
const SOON: Duration = Duration::from_secs(2);

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::QueueFull { retry_after, .. } => Self {
                code: Some("queue_full"),
                retry_after: Some(retry_after),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
            },
            Refusal::Prompt(PromptProblem::TooLong { tokens, at_least, context }) => {
                Self::too_long(tokens, at_least, context)
            }
            Refusal::Prompt(problem) => {
                Self { param: field_of(&problem), ..Self::bad_request(message) }
            }
            Refusal::Unavailable { retry_after, .. } => {
                let code = Some("engine_unavailable");
                Self { code, ..Self::unavailable(message, retry_after) }
            }
            Refusal::Draining => Self::shutting_down(message),
        }
    }
}

/// The field to which a problem with the prompt belongs.
fn field_of(problem: &PromptProblem) -> Option<String> {
    let field = match problem {
        PromptProblem::Template(_) | PromptProblem::NoTemplate => "messages",
        PromptProblem::NoInfill => "suffix",
        PromptProblem::UnknownToken { .. } => "prompt",
        PromptProblem::Tools(_) => "tools",
        PromptProblem::TooLong { .. } | PromptProblem::Empty | PromptProblem::Grammar(_) => {
            return None;
        }
    };
    Some(field.to_owned())
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure.fault {
            Fault::Engine | Fault::Request => Self {
                kind: "server_error",
                code: Some("engine_failed"),
                ..Self::unavailable(failure.message, SOON)
            },
            Fault::End => Self::shutting_down(failure.message),
        }
    }
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_prompt_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_ctx: Option<u32>,
}

impl<'a> From<&'a Problem> for OpenAiError<'a> {
    fn from(problem: &'a Problem) -> Self {
        Self {
            message: &problem.message,
            kind: problem.kind,
            param: problem.param.as_deref(),
            code: problem.code,
            n_prompt_tokens: problem.window.map(|window| window.prompt),
            n_ctx: problem.window.map(|window| window.context),
        }
    }
}

#[derive(Serialize)]
struct OllamaBody<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_prompt_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_ctx: Option<u32>,
}

impl<'a> From<&'a Problem> for OllamaBody<'a> {
    fn from(problem: &'a Problem) -> Self {
        Self {
            error: &problem.message,
            code: problem.code,
            n_prompt_tokens: problem.window.map(|window| window.prompt),
            n_ctx: problem.window.map(|window| window.context),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(problem: &Problem, dialect: Dialect, expected: &Expect) {
        let body = String::from_utf8(problem.body(dialect)).unwrap();
        let retry = problem.retry_after_s();
        expected.assert_eq(&format!("{} {retry:?} {body}", problem.status(dialect).as_u16()));
    }

    #[test]
    fn a_prompt_that_does_not_fit_carries_its_numbers() {
        let problem = PromptProblem::TooLong { tokens: 5000, at_least: false, context: 4096 };
        let problem = Problem::from(Refusal::Prompt(problem));
        check(
            &problem,
            Dialect::OpenAi,
            &expect![[
                r#"400 None {"error":{"message":"this model's maximum context length is 4096 tokens, but the prompt has 5000 tokens and an answer needs at least one; shorten the prompt","type":"exceed_context_size_error","param":null,"code":"context_length_exceeded","n_prompt_tokens":5000,"n_ctx":4096}}"#
            ]],
        );
        check(
            &problem,
            Dialect::Ollama,
            &expect![[
                r#"400 None {"error":"this model's maximum context length is 4096 tokens, but the prompt has 5000 tokens and an answer needs at least one; shorten the prompt","code":"context_length_exceeded","n_prompt_tokens":5000,"n_ctx":4096}"#
            ]],
        );
    }

    #[test]
    fn a_full_queue_is_429_for_openai_and_503_for_ollama() {
        let problem = Problem::from(Refusal::QueueFull {
            queued: 64,
            retry_after: Duration::from_millis(2500),
        });
        check(
            &problem,
            Dialect::OpenAi,
            &expect![[
                r#"429 Some(3) {"error":{"message":"64 requests are waiting already; try again in 2 s","type":"rate_limit_error","param":null,"code":"queue_full"}}"#
            ]],
        );
        check(
            &problem,
            Dialect::Ollama,
            &expect![[
                r#"503 Some(3) {"error":"64 requests are waiting already; try again in 2 s","code":"queue_full"}"#
            ]],
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        check(
            &Problem::field("top_p", "must be between 0 and 1"),
            Dialect::OpenAi,
            &expect![[
                r#"400 None {"error":{"message":"`top_p` must be between 0 and 1","type":"invalid_request_error","param":"top_p","code":null}}"#
            ]],
        );
    }
}
