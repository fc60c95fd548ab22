//! The `engine-builder` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    engine_builder::cli::main()
}
