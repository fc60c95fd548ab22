//! Finds the nearest of many vectors by looking at all of them.
//!
//! A number of a vector is kept in two bytes. The upper bytes of all vectors stand
//! in memory and are compared with the question's, which is exact enough to find the
//! best forty; with the lower bytes, those are put into their order. There is no
//! graph and no tree that a change could spoil: what is deleted is gone, and a filter
//! costs nothing. A hundred thousand vectors take some milliseconds.

#![cfg_attr(not(any(target_arch = "aarch64", target_arch = "x86_64")), forbid(unsafe_code))]

pub mod dot;
pub mod row;
pub mod scan;

pub use row::{Question, Row};
pub use scan::{Block, Near, Scan};
