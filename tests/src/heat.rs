//! The governor on virtual boards, in simulated time.
//!
//! ```text
//!  cell (module, air, fan, load) ─┐
//!  controller ────────────────────┴─► run ──► outcome ──► verdict, table, plot
//!     │ every two seconds               │
//!     └◄── readings ── Board ◄── steps ─┴─ engine ◄── clients
//! ```
//!
//! The engine here schedules as engine-worker's batch does: a decode step of at
//! most `max_sequences`, then a part of the prompts, then whatever pause the
//! pace asks for. Nothing is computed and no clock is read, so an hour takes a
//! part of a second and a seed gives the same run again.

pub mod cell;
pub mod clients;
pub mod controller;
pub mod engine;
pub mod oracle;
pub mod outcome;
pub mod plot;
pub mod report;
pub mod run;
pub mod verdict;
