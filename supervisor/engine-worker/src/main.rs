//! `engine-worker`: one loaded model, served to the process that started it.
//!
//! It is started by `stoker` or `engine-builder`, never by hand.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    engine_worker::program::main()
}
