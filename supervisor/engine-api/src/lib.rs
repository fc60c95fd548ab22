//! What engine-builder, the supervisor, engine-worker and the indexer agree on.
//!
//! - [`manifest`]: what an engine directory holds and what it is bound to, at rest.
//! - [`staleness`]: whether an engine still belongs to its machine, and what serves if not.
//! - [`progress`]: how far a build is, in a file, and the [`lock`] of its builder.
//! - [`protocol`]: the messages between a supervisor and one worker.
//! - [`embedding`]: how vectors are made, and the messages about that.
//! - [`form`]: grammars and calls of tools, which those messages carry.
//! - [`frame`]: how those messages stand on a byte stream, bounded.
//! - [`pace`]: how a worker keeps the pace that it is told.
//! - [`chore`]: what a worker does for the builder without a supervisor.
//! - [`handover`]: how a worker is given that stream, and given another.
//! - [`index`]: the messages between a supervisor and its indexer.
//! - [`virtual_board`]: how the echo backend is paced by a board that is not there.
//!
//! This package listens to nobody and starts no process.

#![forbid(unsafe_code)]

pub mod chore;
pub mod embedding;
pub mod form;
pub mod frame;
pub mod handover;
pub mod index;
pub mod lock;
pub mod manifest;
pub mod pace;
pub mod progress;
pub mod protocol;
pub mod staleness;
pub mod virtual_board;
