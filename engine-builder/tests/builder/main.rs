//! Runs the real `engine-builder` and looks at it from outside.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "what is missing here ends the test, which is right")]

mod engine;
mod hub_model;
mod hub_server;
mod place;
#[path = "../../src/gguf/sample.rs"]
mod sample;
mod yard;

mod bad_disk;
mod bad_input;
mod convert;
mod crash;
mod foreign;
mod from;
mod hub;
mod life;
mod list;
mod plan;
mod power_cut;
mod quantise;
mod real_worker;
mod rebuild;
