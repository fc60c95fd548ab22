//! The documents that travel over HTTP, and nothing that acts on them.
//!
//! Requests tolerate unknown fields, because every client sends some; a known
//! field of the wrong type is refused by name. Replies are serialised straight
//! into the bytes that are sent.

pub(crate) mod bounded;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod object;

pub(crate) mod content;
pub(crate) mod form;
pub(crate) mod knobs;
pub(crate) mod lacking;
pub(crate) mod logit_bias;
pub(crate) mod logprobs;
pub(crate) mod stops;
pub(crate) mod texts_or_ids;
pub(crate) mod tools;

pub(crate) mod base64;
pub(crate) mod embedding_reply;
pub(crate) mod embedding_request;

pub(crate) mod openai_reply;
pub(crate) mod openai_request;

pub(crate) mod ollama_reply;
pub(crate) mod ollama_request;

pub(crate) mod code;
pub(crate) mod llama_server;
pub(crate) mod memory;
pub(crate) mod stoker;
