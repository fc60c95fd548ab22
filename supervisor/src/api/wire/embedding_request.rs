//! Bodies of `/v1/embeddings`, `/api/embed` and `/api/embeddings`.

use engine_api::embedding::{Input, LONGEST_TEXT, Purpose};
use serde::Deserialize;

use super::json::parse;
use super::number::Integer;
use super::texts_or_ids::{Many, TextOrIds, TextsOrIds};
use crate::api::error::Problem;
use crate::snapshot::Embedder;

/// Inputs of one request at most: OpenAI's bound.
const MOST: usize = 2048;

/// What a body asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Ask {
    /// As the client wrote it.
    pub(crate) model: Option<String>,
    pub(crate) inputs: Vec<Input>,
    /// Whether they stood in a list, so that a wrong one has an index.
    pub(crate) listed: bool,
    pub(crate) purpose: Purpose,
    /// Leave out the end of what does not fit.
    pub(crate) cut: bool,
    pub(crate) base64: bool,
}

#[derive(Debug, Deserialize)]
struct OpenAiBody {
    model: Option<String>,
    input: TextsOrIds<Inputs>,
    encoding_format: Option<Encoding>,
    dimensions: Option<Integer>,
    input_type: Option<InputType>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Float,
    Base64,
}

/// Not OpenAI's: models that want a prefix before queries or before documents get it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InputType {
    Query,
    #[serde(alias = "passage")]
    Document,
}

#[derive(Debug, Deserialize)]
struct OllamaBody {
    model: Option<String>,
    input: Option<TextsOrIds<Inputs>>,
    truncate: Option<bool>,
    dimensions: Option<Integer>,
}

#[derive(Debug, Deserialize)]
struct OldOllamaBody {
    model: Option<String>,
    prompt: Option<String>,
}

/// What `input` holds.
struct Inputs;

impl Many for Inputs {
    const MOST: usize = MOST;

    fn too_many() -> String {
        format!("more than {MOST} inputs")
    }
}

/// The inputs, and whether they stood in a list.
fn inputs(field: TextsOrIds<Inputs>) -> (Vec<Input>, bool) {
    let input = |one| match one {
        TextOrIds::Text(text) => Input::Text(text),
        TextOrIds::Ids(ids) => Input::Tokens(ids),
    };
    (field.each.into_iter().map(input).collect(), field.listed)
}

/// Reads the body of `/v1/embeddings`.
///
/// # Errors
/// The problem says which field is wrong and why.
pub(crate) fn openai(body: &[u8], embedder: &Embedder) -> Result<Ask, Problem> {
    let OpenAiBody { model, input, encoding_format, dimensions, input_type } = parse(body)?;
    let (inputs, listed) = inputs(input);
    dimension(dimensions, embedder)?;
    let ask = Ask {
        model,
        inputs,
        listed,
        purpose: match input_type {
            None => Purpose::Plain,
            Some(InputType::Query) => Purpose::Query,
            Some(InputType::Document) => Purpose::Document,
        },
        cut: false,
        base64: matches!(encoding_format, Some(Encoding::Base64)),
    };
    if ask.inputs.is_empty() {
        return Err(Problem::field("input", "is empty; send at least one text"));
    }
    let is_empty = |input: &Input| match input {
        Input::Text(text) => text.is_empty(),
        Input::Tokens(tokens) => tokens.is_empty(),
    };
    match ask.inputs.iter().position(is_empty) {
        Some(index) => Err(Problem::field(ask.field(index), "is empty")),
        None => ask.bounded(),
    }
}

/// Reads the body of `/api/embed`. Clients that only want the model loaded send no
/// input and get no vectors; the first text loads it.
///
/// # Errors
/// The problem says which field is wrong and why.
pub(crate) fn ollama(body: &[u8], embedder: &Embedder) -> Result<Ask, Problem> {
    let OllamaBody { model, input, truncate, dimensions } = parse(body)?;
    dimension(dimensions, embedder)?;
    let (mut inputs, listed) = inputs(input.unwrap_or_default());
    if !listed {
        inputs.retain(|input| !matches!(input, Input::Text(text) if text.is_empty()));
    }
    let (cut, purpose) = (truncate.unwrap_or(true), Purpose::Plain);
    Ask { model, inputs, listed, purpose, cut, base64: false }.bounded()
}

/// Reads the body of `/api/embeddings`, which is what `/api/embed` was before.
///
/// # Errors
/// The problem says which field is wrong and why.
pub(crate) fn old_ollama(body: &[u8]) -> Result<Ask, Problem> {
    let OldOllamaBody { model, prompt } = parse(body)?;
    let prompt = prompt.filter(|prompt| !prompt.is_empty());
    let inputs = prompt.into_iter().map(Input::Text).collect();
    let (listed, purpose) = (false, Purpose::Plain);
    Ask { model, inputs, listed, purpose, cut: true, base64: false }.bounded()
}

impl Ask {
    /// The name of the field that holds one input.
    pub(crate) fn field(&self, index: usize) -> String {
        if self.listed { format!("input[{index}]") } else { "input".to_owned() }
    }

    fn bounded(self) -> Result<Self, Problem> {
        let is_long =
            |input: &Input| matches!(input, Input::Text(text) if text.len() > LONGEST_TEXT);
        match self.inputs.iter().position(is_long) {
            Some(index) => {
                let why = format_args!("has more than {LONGEST_TEXT} bytes").to_string();
                Err(Problem::field(self.field(index), why))
            }
            None => Ok(self),
        }
    }
}

/// A vector that was made shorter means something only where the model was trained
/// for it.
fn dimension(asked: Option<Integer>, embedder: &Embedder) -> Result<(), Problem> {
    let has = embedder.dimension;
    match asked {
        Some(Integer(asked)) if asked != i64::from(has) => Err(Problem::field(
            "dimensions",
            format_args!("must be {has} or left out: this model's vectors cannot be cut"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "embedding_request_tests.rs"]
mod tests;
