//! What engine-builder, the supervisor, engine-worker and the indexer agree on.
//!
//! - [`manifest`]: what an engine directory holds and what it is bound to, at rest.
//! - [`protocol`]: the messages between a supervisor and one worker.
//! - [`form`]: grammars and calls of tools, which those messages carry.
//! - [`frame`]: how those messages stand on a byte stream, bounded.
//! - [`handover`]: how a worker is given that stream, and given another.
//! - [`index`]: the messages between a supervisor and its indexer.
//! - [`virtual_board`]: how the echo backend is paced by a board that is not there.
//!
//! This package listens to nobody and starts no process.

#![forbid(unsafe_code)]

pub mod form;
pub mod frame;
pub mod handover;
pub mod index;
pub mod manifest;
pub mod protocol;
pub mod virtual_board;
