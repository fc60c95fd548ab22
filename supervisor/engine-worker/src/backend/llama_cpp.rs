//! llama.cpp, through the crate `llama-cpp-2`: the runtime that every board has.
//!
//! Each slot has a KV buffer of its own (`kv_unified` off), so a sequence is
//! compared with its own past only, and copying one moves just its own tokens.
//! Flash attention is on where it can be: without it, decoding was measured to
//! be 15 to 20 % slower on a CPU.
//!
//! *Reproducible* answers need arithmetic that does not depend on what else is
//! computed. ggml's matrix products are that already on a CPU: each element is
//! one dot product. Its flash attention is not, as it has three ways: tiles for
//! 64 tokens and more of one sequence, parts of the cache for each thread when
//! one sequence decodes alone, and row by row for all else. The first two are
//! only taken where keys and values have the same floating-point type. Keys in
//! 8 bits therefore leave one way, in which a token's result is the same
//! whether it comes by prefill or by decoding, alone or beside others.
//! Measured with 135 million parameters on two cores: decoding gets slightly faster
//! by it, prompts of 750, 1,500 and 2,800 tokens take 1.3, 1.5 and 1.8 times as long.
//!
//! Built with the feature `cuda`, everything is computed on the GPUs that there are.
//! Their sums depend on what else is computed, so nothing is reproducible there.

mod embedder;
mod vocabulary;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use engine_api::manifest::Manifest;
use engine_api::protocol::{DeviceMemory, ModelFacts, TokenId};
use jetpack::Bytes;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::context::session::{LlamaStateSeqFlags, SeqState};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use self::vocabulary::ModelVocabulary;
use super::gpus::Gpus;
use super::{Backend, Chunk, Description, NextToken, Runtime, Slot, StepError, Vocabulary, Wishes};
use crate::{diagnostics, openmp};

/// Most tokens computed in one call on a CPU, which gains nothing from more, and a
/// short step is soon over for whoever comes; and on a GPU, which wants to be filled.
const MOST_TOKENS: u32 = 128;
const MOST_TOKENS_ON_GPU: u32 = 512;

/// llama.cpp's `LLAMA_FLASH_ATTN_TYPE_AUTO`.
const FLASH_ATTENTION_AUTO: i32 = -1;

/// Values in one block of `GGML_TYPE_Q8_0`.
const KEY_BLOCK: u32 = 32;

/// Sequences that llama.cpp can keep apart.
const MOST_SLOTS: usize = 256;

/// Loads the engine's GGUF and makes room for all its sequences, or for the texts that
/// it makes vectors of.
///
/// # Errors
/// One line that names the file and what is wrong with it, in llama.cpp's words.
pub fn load(
    manifest: &Manifest,
    dir: &Path,
    wishes: Wishes,
    progress: impl FnMut(f32) + 'static,
) -> anyhow::Result<(Runtime, Arc<dyn Vocabulary>)> {
    ensure_instruction_sets()?;
    // Before anything is read that takes long.
    let serving = &manifest.serving;
    let slots = match manifest.is_embedder() {
        true => 1,
        false => usize::from(serving.max_sequences) + usize::from(serving.cached_sequences),
    };
    ensure!((1..=MOST_SLOTS).contains(&slots), "{slots} slots, but 1 to {MOST_SLOTS} can be");
    let gpus = Gpus::of_llama_cpp();
    let (runtime, model, weights) = open(manifest, dir, &gpus, progress)?;
    let facts = ModelFacts {
        name: model.meta_val_str("general.name").unwrap_or_default(),
        architecture: model.meta_val_str("general.architecture").unwrap_or_default(),
        parameters: model.n_params(),
        weights_bytes: model.size(),
        quantisation: manifest.model.quantisation.clone(),
        trained_context: model.n_ctx_train(),
    };
    let description = Description {
        backend: "llama_cpp",
        device: gpus.with_processor(wishes.threads),
        model: facts,
        slots,
        context: serving.context,
        kv_bytes: 0,
        threads: wishes.threads,
        largest_step: if gpus.are_there() { MOST_TOKENS_ON_GPU } else { MOST_TOKENS },
        // On a GPU other kernels compute, of which nothing is known.
        reproducible: !gpus.are_there(),
    };
    match manifest.is_embedder() {
        true => embedder::new(runtime, model, manifest, description),
        false => sequences(runtime, model, manifest, wishes, description, gpus),
    }
    .with_context(|| weights.display().to_string())
}

/// The engine's GGUF as a model. There is one for one process, so it lives as long as
/// that does.
fn open(
    manifest: &Manifest,
    dir: &Path,
    gpus: &Gpus,
    mut progress: impl FnMut(f32) + 'static,
) -> anyhow::Result<(&'static LlamaBackend, &'static LlamaModel, PathBuf)> {
    let weights = manifest.weights(dir).context("find the weights in the manifest")?;
    ensure!(weights.is_file(), "{} is not there", weights.display());

    let bytes = Bytes::new(weights.metadata()?.len());
    gpus.ensure_room(bytes, Bytes::new(manifest.serving.kv_bytes))?;

    let runtime: &'static LlamaBackend = Box::leak(Box::new(LlamaBackend::init()?));
    let params = LlamaModelParams::default()
        .with_n_gpu_layers(if gpus.are_there() { u32::MAX >> 1 } else { 0 })
        .with_progress_callback(move |fraction| {
            progress(fraction);
            true
        });
    let model = LlamaModel::load_from_file(runtime, &weights, &params)
        .map_err(|_| anyhow::anyhow!("{}: {}", weights.display(), in_its_own_words()))?;
    Ok((runtime, Box::leak(Box::new(model)), weights))
}

/// Room for all sequences of a model that answers.
fn sequences(
    runtime: &LlamaBackend,
    model: &'static LlamaModel,
    manifest: &Manifest,
    wishes: Wishes,
    description: Description,
    gpus: Gpus,
) -> anyhow::Result<(Runtime, Arc<dyn Vocabulary>)> {
    ensure!(
        !model.is_recurrent() && !model.is_hybrid(),
        "recurrent models are not supported: their state has no reusable prefix"
    );
    let serving = &manifest.serving;
    let slots = description.slots;
    let Wishes { threads, reproducible } = wishes;
    let reproducible = reproducible && description.reproducible && has_whole_blocks(model);
    let cache = Cache { slots, context: serving.context, reproducible };
    let runner = Runner::new(runtime, model, cache, description.largest_step, threads)?;
    let kv_bytes = cache.bytes(serving.kv_bytes);
    let description = Description { kv_bytes, reproducible, ..description };
    let backend = Runtime::Steps(Box::new(LlamaCpp { runner, description, gpus }));
    Ok((backend, Arc::new(ModelVocabulary::new(model))))
}

/// llama.cpp's kernels were compiled for these; without them the process would
/// die of an illegal instruction.
fn ensure_instruction_sets() -> anyhow::Result<()> {
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("BMI2", is_x86_feature_detected!("bmi2")),
    ] {
        if !there {
            bail!(
                "this processor lacks {name}; build with GGML_AVX2=OFF and its kin in \
                 .cargo/config.toml for older processors"
            );
        }
    }
    #[cfg(target_arch = "aarch64")]
    for (name, there) in [
        ("dot product (asimddp)", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("half precision (asimdhp)", std::arch::is_aarch64_feature_detected!("fp16")),
    ] {
        if !there {
            bail!(
                "this processor lacks {name}; build without supervisor/engine-worker/arm.cmake \
                 in .cargo/config.toml for older processors"
            );
        }
    }
    Ok(())
}

/// Keys of 8 bits come in blocks, which the heads must divide into.
fn has_whole_blocks(model: &LlamaModel) -> bool {
    let heads = model.n_head();
    let width = u32::try_from(model.n_embd()).unwrap_or(0);
    let head = width.checked_div(heads).unwrap_or(0);
    head > 0 && head.is_multiple_of(KEY_BLOCK)
}

fn in_its_own_words() -> String {
    diagnostics::first_error().unwrap_or_else(|| "llama.cpp gave no reason".into())
}

/// The KV cache to make.
#[derive(Debug, Clone, Copy)]
struct Cache {
    slots: usize,
    /// Tokens that each slot holds.
    context: u32,
    reproducible: bool,
}

impl Cache {
    /// From what it takes with 16 bits for keys and values alike.
    fn bytes(self, halves: u64) -> u64 {
        // 8 bits, and 16 for the scale of each block.
        let keys = if self.reproducible { halves / 2 * 17 / 32 } else { halves / 2 };
        keys + halves / 2
    }
}

struct LlamaCpp {
    runner: Runner,
    description: Description,
    gpus: Gpus,
}

/// A context and the batch that feeds it.
struct Runner {
    context: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    /// Index in the last batch of each row of logits.
    rows: Vec<i32>,
}

impl Runner {
    fn new(
        runtime: &LlamaBackend,
        model: &'static LlamaModel,
        cache: Cache,
        largest_step: u32,
        threads: u16,
    ) -> anyhow::Result<Self> {
        let Cache { slots, context, reproducible } = cache;
        let sequences = u32::try_from(slots)?;
        let cells = NonZeroU32::new(context.next_multiple_of(256) * sequences);
        let keys = if reproducible { KvCacheType::Q8_0 } else { KvCacheType::F16 };
        let params = LlamaContextParams::default()
            .with_n_ctx(cells)
            .with_n_seq_max(sequences)
            .with_n_batch(largest_step)
            .with_n_ubatch(largest_step)
            .with_kv_unified(false)
            .with_type_k(keys)
            .with_type_v(KvCacheType::F16)
            .with_flash_attention_policy(FLASH_ATTENTION_AUTO)
            .with_n_threads(i32::from(threads))
            .with_n_threads_batch(i32::from(threads))
            .with_no_perf(true);
        let context = model.new_context(runtime, params).map_err(|_| {
            anyhow::anyhow!("make room for {slots} sequences: {}", in_its_own_words())
        })?;
        Ok(Self { context, batch: LlamaBatch::new(largest_step as usize, 1), rows: Vec::new() })
    }

    fn run(&mut self, doing: &'static str) -> Result<(), StepError> {
        self.context
            .decode(&mut self.batch)
            .map_err(|error| StepError { doing, cause: error.to_string() })
    }

    fn save(&self, slot: Slot) -> Result<SeqState, StepError> {
        self.context
            .state_seq_get(sequence(slot), LlamaStateSeqFlags::empty())
            .map_err(|error| StepError { doing: "copy a sequence", cause: error.to_string() })
    }

    fn restore(&mut self, state: &SeqState, slot: Slot) -> Result<(), StepError> {
        self.context
            .state_seq_set(state, sequence(slot))
            .map_err(|error| StepError { doing: "restore a sequence", cause: error.to_string() })
    }

    fn forget(&mut self, slot: Slot, from: u32) {
        self.context
            .kv_cache_seq_rm(sequence(slot), Some(from), None)
            .expect("an attention cache forgets any end of a sequence");
    }
}

impl Backend for LlamaCpp {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn decode(&mut self, batch: &[NextToken]) -> Result<(), StepError> {
        let runner = &mut self.runner;
        runner.batch.clear();
        runner.rows.clear();
        for (row, entry) in (0..).zip(batch) {
            let place = [sequence(entry.slot)];
            runner
                .batch
                .add(native(entry.token), position(entry.position), &place, true)
                .expect("there are fewer slots than places in the batch");
            runner.rows.push(row);
        }
        runner.run("decode")
    }

    fn logits(&self, row: usize) -> &[f32] {
        self.runner.context.get_logits_ith(self.runner.rows[row])
    }

    fn prefill(&mut self, chunks: &[Chunk<'_>]) -> Result<(), StepError> {
        let runner = &mut self.runner;
        runner.batch.clear();
        runner.rows.clear();
        for chunk in chunks {
            let last = chunk.tokens.len() - 1;
            for (index, (at, &token)) in (chunk.from..).zip(chunk.tokens).enumerate() {
                let logits = chunk.logits && index == last;
                runner
                    .batch
                    .add(native(token), position(at), &[sequence(chunk.slot)], logits)
                    .expect("chunks are together no longer than the batch");
            }
            if chunk.logits {
                runner.rows.push(runner.batch.n_tokens() - 1);
            }
        }
        runner.run("compute a prompt")
    }

    fn truncate(&mut self, slot: Slot, length: u32) {
        self.runner.forget(slot, length);
    }

    fn copy(&mut self, from: Slot, to: Slot) -> Result<(), StepError> {
        let state = self.runner.save(from)?;
        self.runner.forget(to, 0);
        self.runner.restore(&state, to)
    }

    fn swap(&mut self, a: Slot, b: Slot) -> Result<(), StepError> {
        let (state_a, state_b) = (self.runner.save(a)?, self.runner.save(b)?);
        self.runner.forget(a, 0);
        self.runner.forget(b, 0);
        self.runner.restore(&state_a, b)?;
        self.runner.restore(&state_b, a)
    }

    fn share_cores(&mut self, alone: bool) {
        openmp::compute_alone(alone);
    }

    fn device_memory(&self) -> Option<DeviceMemory> {
        self.gpus.memory()
    }
}

fn sequence(slot: Slot) -> i32 {
    i32::try_from(slot).expect("there are at most 256 slots")
}

fn position(position: u32) -> i32 {
    i32::try_from(position).expect("a window is shorter than 2^31 tokens")
}

fn native(token: TokenId) -> LlamaToken {
    LlamaToken(i32::try_from(token.0).expect("token ids were checked against the vocabulary"))
}
