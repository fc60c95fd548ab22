//! Vectors of texts, in OpenAI's and Ollama's ways.

use std::time::Instant;

use engine_api::protocol::PromptProblem;
use hyper::{Response, StatusCode};

use crate::api::Caller;
use crate::api::body::Body;
use crate::api::error::{Problem, Window};
use crate::api::facts::{model_not_found, same};
use crate::api::reply::{Reply, json};
use crate::api::wire::embedding_reply::{Embedded, Embeddings, OldEmbedded};
use crate::api::wire::embedding_request::{self, Ask};
use crate::request::NoVectors;
use crate::snapshot::{Embedder, Snapshot};
use engine_api::embedding::Vector;

/// `POST /v1/embeddings`.
pub(crate) async fn openai(caller: Caller, body: Body) -> Result<Response<Reply>, Problem> {
    let snapshot = caller.handle.snapshot();
    let embedder = embedder(&snapshot)?;
    let ask = embedding_request::openai(&body.bytes, embedder)?;
    resolve(&ask, embedder)?;
    let base64 = ask.base64;
    let (_, vectors) = vectors(&caller, ask).await?;
    Ok(json(&Embeddings::new(&embedder.model, &vectors, base64)))
}

/// `POST /api/embed`.
pub(crate) async fn ollama(caller: Caller, body: Body) -> Result<Response<Reply>, Problem> {
    let arrived = Instant::now();
    let snapshot = caller.handle.snapshot();
    let embedder = embedder(&snapshot)?;
    let ask = embedding_request::ollama(&body.bytes, embedder)?;
    resolve(&ask, embedder)?;
    let (asked, vectors) = vectors(&caller, ask).await?;
    let model = asked.as_deref().unwrap_or(&embedder.model);
    Ok(json(&Embedded::new(model, &vectors, arrived.elapsed())))
}

/// `POST /api/embeddings`.
pub(crate) async fn old_ollama(caller: Caller, body: Body) -> Result<Response<Reply>, Problem> {
    let snapshot = caller.handle.snapshot();
    let embedder = embedder(&snapshot)?;
    let ask = embedding_request::old_ollama(&body.bytes)?;
    resolve(&ask, embedder)?;
    let (_, vectors) = vectors(&caller, ask).await?;
    Ok(json(&OldEmbedded::new(&vectors)))
}

/// The embedder. Where there is none, asking again would not help, and clients ask
/// again after a 503.
fn embedder(snapshot: &Snapshot) -> Result<&Embedder, Problem> {
    snapshot.embedder.as_ref().ok_or_else(|| Problem {
        code: Some("no_embedder"),
        ..Problem::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "this server has no embedder; `engine-builder build all-minilm-l6-v2` builds a small \
             one, and it is served within seconds",
        )
    })
}

fn resolve(ask: &Ask, embedder: &Embedder) -> Result<(), Problem> {
    let asked = ask.model.as_deref().unwrap_or_default();
    let names = || std::iter::once(&embedder.model).chain(&embedder.aliases);
    if matches!(asked, "" | "default") || names().any(|name| same(name, asked)) {
        return Ok(());
    }
    Err(model_not_found(asked, "embeds with", names().map(String::as_str)))
}

/// The vectors, and the name by which the client called the model.
async fn vectors(caller: &Caller, ask: Ask) -> Result<(Option<String>, Vec<Vector>), Problem> {
    let Ask { model, inputs, listed, purpose, cut, base64 } = ask;
    let made = caller.handle.embed(inputs, purpose, cut).await;
    let fields = Ask { model, inputs: Vec::new(), listed, purpose, cut, base64 };
    match made {
        Ok(vectors) => Ok((fields.model, vectors)),
        Err(no_vectors) => Err(problem(no_vectors, &fields)),
    }
}

fn problem(no_vectors: NoVectors, ask: &Ask) -> Problem {
    match no_vectors {
        NoVectors::Refused(refusal) => refusal.into(),
        NoVectors::Input { index, problem } => wrong(ask.field(index), &problem),
        NoVectors::Failed(why) => Problem {
            code: Some("engine_failed"),
            ..Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                format!("the embedder failed: {why}"),
            )
        },
    }
}

/// What is wrong with one input.
fn wrong(field: String, problem: &PromptProblem) -> Problem {
    let PromptProblem::TooLong { tokens, at_least, context } = *problem else {
        return Problem::field(field, format_args!("cannot be used: {problem}"));
    };
    let about = if at_least { "at least " } else { "" };
    let why = format!(
        "has {about}{tokens} tokens, and this model's maximum context length is {context} tokens; \
         shorten it or send it in parts"
    );
    Problem {
        kind: "exceed_context_size_error",
        code: Some("context_length_exceeded"),
        window: Some(Window { prompt: tokens, context }),
        ..Problem::field(field, why)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::api::error::Dialect;

    #[test]
    fn a_text_that_is_too_long_is_named_with_its_numbers() {
        let problem = PromptProblem::TooLong { tokens: 700, at_least: false, context: 512 };
        let body = wrong("input[3]".into(), &problem).body(Dialect::OpenAi);
        expect![[
            r#"{"error":{"message":"`input[3]` has 700 tokens, and this model's maximum context length is 512 tokens; shorten it or send it in parts","type":"exceed_context_size_error","param":"input[3]","code":"context_length_exceeded","n_prompt_tokens":700,"n_ctx":512}}"#
        ]]
        .assert_eq(&String::from_utf8(body).unwrap());
    }
}
