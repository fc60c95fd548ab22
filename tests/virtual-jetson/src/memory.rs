//! The one memory that CPU and GPU share, and who holds how much of it.

use crate::llm::Llm;
use crate::module::Memory;
use crate::rounding::whole;

/// Bytes that are held.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Held {
    /// Weights and KV cache: the GPU's, which `free` does not name.
    pub(crate) model: f64,
    /// Other processes.
    pub(crate) others: f64,
}

impl Held {
    pub(crate) fn by(llm: &Llm, kv_tokens: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^52")]
        let tokens = kv_tokens as f64;
        llm.weight_bytes + llm.kv_bytes_per_token * tokens
    }
}

impl Memory {
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_kib * 1024
    }

    /// What is left; 0 where more is held than there is.
    pub(crate) fn available_bytes(&self, held: &Held) -> u64 {
        let used = whole(self.system_bytes.get() + held.model + held.others);
        self.total_bytes().saturating_sub(used)
    }
}
