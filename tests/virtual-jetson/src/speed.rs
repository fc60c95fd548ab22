//! How long a step of a language model takes, by a roofline.
//!
//! ```text
//! stream  = ⁴√(memory⁴ + clock⁴)     memory = weights / bandwidth
//!                                    clock  = weights / (bytes per clock × clock)
//! decode  = stream + sequences × (flop + KV) + launch
//! prefill = max(stream, tokens × flop) + launch
//! ```
//!
//! The fourth root rounds the corner between what memory and what the GPU's
//! clock allows. NVIDIA's own kernels are about half as fast again on Orin
//! Nano; this is llama.cpp. Attention over long prompts is left out.

use std::time::Duration;

use crate::llm::Llm;
use crate::power::Load;

/// Guessed: the thread that launches a step waits for it.
const CORES_BUSY: f64 = 1.0;

/// What a step computes: a token for each of some sequences, some tokens of
/// prompts, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    pub sequences: u32,
    /// Tokens in the KV cache of these sequences together.
    pub context_tokens: u64,
    pub prefill_tokens: u32,
}

/// A step, computed at the clocks of one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub time: Duration,
    /// What the board does meanwhile.
    pub load: Load,
}

/// What a board can do at its present clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    pub memory_bytes_per_s: f64,
    pub clock_bytes_per_s: f64,
    pub prefill_flop_per_s: f64,
    pub decode_flop_per_s: f64,
    pub launch_s: f64,
}

impl Speed {
    /// A step of `work`. Work of nothing takes as long as a launch.
    #[must_use]
    pub fn step(&self, llm: &Llm, work: Work) -> Step {
        let parts = self.parts(llm, work);
        let seconds = parts.total();
        Step {
            time: Duration::from_secs_f64(seconds),
            load: Load {
                gpu_busy: (seconds - self.launch_s) / seconds,
                tensor_busy: parts.tensor / seconds,
                bytes_per_s: parts.bytes / seconds,
                cores_busy: CORES_BUSY,
                extra_watts: 0.0,
            },
        }
    }

    /// Reading all weights once.
    #[must_use]
    pub fn stream_s(&self, llm: &Llm) -> f64 {
        let memory = llm.weight_bytes / self.memory_bytes_per_s;
        let clock = llm.weight_bytes / self.clock_bytes_per_s;
        let squares = (memory * memory, clock * clock);
        (squares.0 * squares.0 + squares.1 * squares.1).sqrt().sqrt()
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^52")]
    fn parts(&self, llm: &Llm, work: Work) -> Parts {
        if work.sequences == 0 && work.prefill_tokens == 0 {
            return Parts { stream: 0.0, launch: self.launch_s, tensor: 0.0, kv: 0.0, bytes: 0.0 };
        }
        let flop = 2.0 * llm.parameters;
        let decode = f64::from(work.sequences) * flop / self.decode_flop_per_s;
        let prefill = f64::from(work.prefill_tokens) * flop / self.prefill_flop_per_s;
        let stream = self.stream_s(llm);
        let written = f64::from(work.sequences + work.prefill_tokens);
        let kv_bytes = llm.kv_bytes_per_token * (work.context_tokens as f64 + written);
        Parts {
            stream: (stream - prefill).max(0.0),
            launch: self.launch_s,
            tensor: decode + prefill,
            kv: kv_bytes / self.memory_bytes_per_s,
            bytes: llm.weight_bytes + kv_bytes,
        }
    }
}

/// A step's seconds one after the other, and the bytes it moves.
struct Parts {
    /// Beyond what prompts are computed in meanwhile.
    stream: f64,
    launch: f64,
    tensor: f64,
    kv: f64,
    bytes: f64,
}

impl Parts {
    fn total(&self) -> f64 {
        self.stream + self.launch + self.tensor + self.kv
    }
}
