//! The engine worker: one loaded model, served over a socket.
//!
//! Reading order: [`session`] (a worker's life), [`requests`] (what it does with
//! them), [`batch`] (what a step is), [`sequence`], [`slots`], [`backend`]. A
//! runtime that batches by itself has [`queue`] in the place of `batch` and
//! `slots`, and one that makes vectors of texts has [`vectors`]. [`prompt`] turns text into tokens, [`grammar`] and [`sampling`] choose
//! them, [`text`] turns them back. [`program`] is the process around it, and
//! [`chore`] is work without a supervisor, for the builder.

pub mod session;

pub mod requests;

pub mod batch;

pub mod queue;

pub mod vectors;

pub mod sequence;

pub mod slots;

pub mod grammar;

pub mod sampling;

pub mod text;

pub mod prompt;

pub mod tools;

pub mod cores;

pub mod openmp;

pub mod link;

pub mod pulse;

pub mod diagnostics;

pub mod chore;

pub mod quantise;

pub mod perplexity;

pub mod backend;

pub mod program;
