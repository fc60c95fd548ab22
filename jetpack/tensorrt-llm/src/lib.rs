//! NVIDIA's TensorRT-LLM Executor 0.12: a runtime that batches, samples and
//! keeps its KV cache by itself. Token ids go in, token ids come out.
//!
//! It is C++ with no stable ABI, so a shim that is compiled against its headers
//! stands between (`shim/`), with a flat C interface. The `cxx` crate would have
//! written that interface for us; but then the shim could not run without Rust,
//! and so not in a C++ program under the thread sanitizer. It would also have
//! brought five packages for what is eight functions.
//!
//! **Threads.** The documentation of 0.12 does not say which of its calls may
//! meet. So none do: an `Executor` is neither `Send` nor `Sync`, and its methods
//! borrow it exclusively. One thread opens it, uses it and closes it. The
//! executor's own threads never enter Rust.
//!
//! Without the feature `executor` this package is empty and links nothing.

#![cfg(feature = "executor")]

mod executor;
mod seam;

pub use executor::{
    Config, Executor, Failure, IterationStats, KvBlocks, Request, RequestId, Response, Sampling,
    version,
};
