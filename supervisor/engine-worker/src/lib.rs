//! The engine worker: one loaded model, served over a socket.
//!
//! Reading order: [`session`] (a worker's life), [`batch`] (what a step is),
//! [`sequence`], [`slots`], [`backend`]. [`prompt`] turns text into tokens,
//! [`grammar`] and [`sampling`] choose them, [`text`] turns them back. [`chore`] is
//! work without a supervisor, for the builder.

pub mod session;

pub mod batch;

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
