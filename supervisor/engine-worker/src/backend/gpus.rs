//! The CUDA GPUs that a backend computes on: what they are called and what memory
//! they have left.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::bail;
use cuda_device::Gpu;
use engine_api::protocol::DeviceMemory;
use jetpack::Bytes;

/// Progress is told after each step, which may take a millisecond; the driver is asked
/// for its memory no more often than this.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// All GPUs of the machine, over which llama.cpp spreads a model.
#[derive(Debug)]
pub(super) enum Gpus {
    /// None is used: this program was built for the processor alone.
    NotBuiltFor,
    There(Vec<Gpu>, Cell<Option<(Instant, Option<DeviceMemory>)>>),
    /// What keeps a program that was built for them from using one.
    Missing(String),
}

impl Gpus {
    /// Those that llama.cpp finds, too, if it was built for them.
    pub(super) fn of_llama_cpp() -> Self {
        if cfg!(feature = "cuda") { Self::look() } else { Self::NotBuiltFor }
    }

    pub(super) fn look() -> Self {
        match Gpu::all() {
            Ok(gpus) => Self::There(gpus, Cell::default()),
            Err(error) => Self::Missing(error.to_string()),
        }
    }

    pub(super) fn are_there(&self) -> bool {
        matches!(self, Self::There(..))
    }

    /// Their names, as an operator would look them up; `None` without any.
    pub(super) fn names(&self) -> Option<String> {
        let Self::There(gpus, _) = self else { return None };
        let names: Vec<String> = gpus.iter().map(ToString::to_string).collect();
        Some(names.join(", "))
    }

    /// What `threads` threads and the GPUs are, in words.
    pub(super) fn with_processor(&self, threads: u16) -> String {
        let plural = if threads == 1 { "thread" } else { "threads" };
        let processor = format!("CPU {}, {threads} {plural}", std::env::consts::ARCH);
        match self {
            Self::NotBuiltFor => processor,
            Self::There(..) => format!("{} and {processor}", self.names().unwrap_or_default()),
            Self::Missing(why) => format!("{processor} (no GPU: {why})"),
        }
    }

    /// Of all of them together, at most a second old.
    pub(super) fn memory(&self) -> Option<DeviceMemory> {
        let Self::There(gpus, asked) = self else { return None };
        match asked.get() {
            Some((at, known)) if at.elapsed() < ASKED_EVERY => known,
            _ => {
                let found = memory_of(gpus);
                asked.set(Some((Instant::now(), found)));
                found
            }
        }
    }

    /// # Errors
    /// The GPUs' own memory is smaller than weights and cache. Where it is the machine's
    /// the kernel makes room, and the supervisor has asked it before.
    pub(super) fn ensure_room(&self, weights: Bytes, cache: Bytes) -> anyhow::Result<()> {
        let Self::There(gpus, _) = self else { return Ok(()) };
        if gpus.iter().any(Gpu::is_integrated) {
            return Ok(());
        }
        let Some(memory) = self.memory() else { return Ok(()) };
        let free = Bytes::new(memory.free_bytes);
        if weights + cache > free {
            bail!(
                "the model takes {weights} and its KV cache {cache}, but {} has {free} free: end \
                 what else uses it, or build the engine for fewer users or a shorter context",
                self.names().unwrap_or_default()
            );
        }
        Ok(())
    }
}

fn memory_of(gpus: &[Gpu]) -> Option<DeviceMemory> {
    let free: Result<u64, _> = gpus.iter().map(|gpu| gpu.free().map(Bytes::get)).sum();
    let total = gpus.iter().map(|gpu| gpu.total().get()).sum();
    Some(DeviceMemory { free_bytes: free.ok()?, total_bytes: total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_the_processor_alone_says_nothing_of_gpus() {
        let none = Gpus::NotBuiltFor;
        assert_eq!(none.with_processor(1), format!("CPU {}, 1 thread", std::env::consts::ARCH));
        assert_eq!((none.memory(), none.are_there()), (None, false));
        none.ensure_room(Bytes::new(u64::MAX), Bytes::default()).unwrap();
    }

    #[test]
    fn a_gpu_that_is_missing_is_said_with_its_reason() {
        let missing = Gpus::Missing("the CUDA driver could not start: no device".into());
        let words = missing.with_processor(2);
        assert!(words.ends_with("2 threads (no GPU: the CUDA driver could not start: no device)"));
        assert!(!missing.are_there());
    }

    /// On a machine with a GPU of its own; elsewhere there is nothing to refuse.
    #[test]
    fn a_model_larger_than_the_gpu_is_refused_before_it_is_loaded() {
        let gpus = Gpus::look();
        let Gpus::There(list, _) = &gpus else { return };
        let refused = gpus.ensure_room(Bytes::new(1 << 50), Bytes::default());
        assert_eq!(refused.is_err(), !list.iter().any(Gpu::is_integrated));
    }
}
