//! `engine-worker`, linked with the stand-in for TensorRT-LLM. It is a program of
//! its own, so that the worker which is built for people never has the stand-in.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    engine_worker::program::main()
}
