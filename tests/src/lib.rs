//! What the tests share: an appliance to start, clients to talk to it, and
//! patience.
//!
//! A test uses what a customer could use: HTTP, signals, files, systemd's
//! socket and a browser. Each one has an appliance of its own, with its own
//! state directory and a port that the kernel chose, so that all of them can
//! run at once.
//!
//! The measuring programs `bench` and `soak` share what is below `rivals`: the
//! two servers, what they are asked, and how figures are drawn together. `heat`
//! runs no server: it puts the governor on virtual boards.

#![forbid(unsafe_code)]

pub mod answer;
pub mod appliance;
pub mod browser;
pub mod client;
pub mod console;
pub mod engine;
pub mod git;
pub mod machine;
pub mod notify;
pub mod patience;
pub mod place;
pub mod process;
mod stand_in;
pub mod virtual_board;

pub mod rivals;

pub mod dice;
pub mod prompts;
pub mod sse;

pub mod heat;

pub mod measured_on;
pub mod spinner;
pub mod spoken;
pub mod stats;
