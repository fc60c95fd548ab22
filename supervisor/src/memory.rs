//! What is put into a chat beside what its client sent. All of it is pure.
//!
//! ```text
//!  messages ─► chain (what was decided for them before?)
//!  hits ─────► quote (a block that says that it is quoted)
//!  token counts of everything ─► compose ─► what stays, what goes
//! ```
//!
//! A prompt is composed so that the next one begins with the same tokens: what is
//! new stands before the last message of the user, and stays there in later turns.
//! So only what is new is computed. What was decided for a message is kept under
//! the hash of all messages up to it; a client that edits one leads away from there.
//! A conversation that fills its window is made short again, seldom and by much; what
//! was left out leaves its [`ledger`] and [`summary`], and can be [`recall`]ed.

pub mod chain;
pub mod compose;
pub mod quote;

pub mod ledger;
pub mod recall;
pub mod reset;
pub mod summary;
