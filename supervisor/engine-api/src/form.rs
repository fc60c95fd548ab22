//! The form that an answer is to have: a grammar, and calls of tools.
//!
//! How tools are written down is a matter of the model and its chat template,
//! so the worker decides it when it prepares a prompt ([`Form`]). Both then
//! belong to the request, and everything follows from them and the answer's
//! tokens: a worker that takes the answer up needs nothing else.

use serde::{Deserialize, Serialize};

/// Bytes of a grammar at most. Editors' longest lists of tools have about half.
pub const MAX_GRAMMAR_BYTES: usize = 256 * 1024;

/// What an answer's text must fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// What fits this JSON schema.
    JsonSchema {
        schema: String,
        /// Whether a keyword that cannot be enforced is a problem. Otherwise it
        /// is passed over.
        strict: bool,
    },
    /// A grammar in llguidance's variant of Lark.
    Lark(String),
    /// A grammar as llama.cpp writes them.
    Gbnf(String),
}

impl Grammar {
    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::JsonObject => 0,
            Self::JsonSchema { schema: text, .. } | Self::Lark(text) | Self::Gbnf(text) => {
                text.len()
            }
        }
    }
}

/// Tools that a chat's answer may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// OpenAI tool definitions, as a JSON array.
    pub definitions: String,
    pub choice: ToolChoice,
    /// Whether one answer may make several calls.
    pub parallel: bool,
}

/// Whether a tool is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolChoice {
    /// As the model sees fit.
    Auto,
    /// One at least.
    Required,
    /// This one.
    Named(String),
}

/// What is known of an answer's form once its prompt is prepared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    pub grammar: Option<Grammar>,
    /// How calls stand in the text, if there may be any.
    pub calls: Option<Calls>,
}

/// How calls of tools stand in an answer's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    pub syntax: CallSyntax,
    /// Whether the prompt ends with the beginning of a call, so that the answer
    /// begins inside it.
    pub begun: bool,
    pub parallel: bool,
    /// The tools that there are.
    pub names: Vec<String>,
}

/// A model family's way to write calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallSyntax {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number of
    /// times: Hermes, Qwen, and models that know no tools.
    Hermes,
    /// An answer that is `{"name": …, "parameters": {…}}`, perhaps after
    /// `<|python_tag|>`: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`: Mistral.
    Mistral,
}

impl CallSyntax {
    /// What stands before calls. It may be one of the model's control tokens,
    /// which then counts as text.
    #[must_use]
    pub fn opening(self) -> &'static str {
        match self {
            Self::Hermes => "<tool_call>",
            Self::Llama3 => "<|python_tag|>",
            Self::Mistral => "[TOOL_CALLS]",
        }
    }
}
