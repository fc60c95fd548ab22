//! Cuts the files of a repository into chunks that can be searched.
//!
//! ```text
//!  walk ──► reading ──► parsing ═ pipe ═► syntax ──► cut ──► chunks
//!  which files   what is in one    a process that may die    what is defined
//! ```
//!
//! - [`run`]: one pass over a repository, told as differences.
//! - [`walk`], [`reading`]: which files, and what they hold.
//! - [`parsing`]: the process in which foreign grammars read foreign files.
//! - [`language`], [`syntax`], [`names`], [`cut`]: from text to chunks. Pure.
//!
//! It writes nothing, keeps nothing and listens to nobody but who started it.

#![forbid(unsafe_code)]

pub mod cut;
pub mod language;
pub mod names;
pub mod parsing;
pub mod reading;
pub mod run;
pub mod syntax;
pub mod walk;
