//! GGUF models that turn texts into vectors.
//!
//! llama.cpp gives the states of all tokens and pools nothing, so that pooling is the
//! manifest's and the same for every runtime. An encoder, in which each token sees the
//! whole text, computes it in one call; a decoder in parts, over a cache of its own that
//! is empty before each text. Either way a text is computed alone.

use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::{Context, ensure};
use engine_api::embedding::Embedding;
use engine_api::manifest::Manifest;
use engine_api::protocol::TokenId;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;

use super::vocabulary::ModelVocabulary;
use super::{FLASH_ATTENTION_AUTO, in_its_own_words, native, position};
use crate::backend::embedder::{Embedder, Frame, vector};
use crate::backend::{Description, Runtime, StepError, Vocabulary};
use crate::openmp;

/// llama.cpp's `LLAMA_FLASH_ATTN_TYPE_DISABLED`.
const FLASH_ATTENTION_OFF: i32 = 0;

/// The text that a model is tried with, so that a wrong one is found while it loads.
const TRIAL: &str = "a b c";

/// Makes room for one text of a loaded model.
pub(super) fn new(
    runtime: &LlamaBackend,
    model: &'static LlamaModel,
    manifest: &Manifest,
    description: Description,
) -> anyhow::Result<(Runtime, Arc<dyn Vocabulary>)> {
    let embedding = manifest.embedding.clone().context("the manifest has no `embedding`")?;
    let (has, said) = (model.n_embd(), embedding.dimension);
    ensure!(
        has == i32::try_from(said)?,
        "it makes vectors of {has} where the manifest says {said}"
    );
    let context = manifest.serving.context;
    let part = match is_causal(model) {
        true => description.largest_step.min(context),
        false => context,
    };
    // On a CPU flash attention rounds otherwise with more threads, which come and go with
    // what else runs; a vector does not depend on that.
    let flash_attention =
        if description.reproducible { FLASH_ATTENTION_OFF } else { FLASH_ATTENTION_AUTO };
    let vocabulary = Arc::new(ModelVocabulary::new(model));
    let frame = Frame::of(&vocabulary.framed("a"), &vocabulary.tokenize("a", false));
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(context.next_multiple_of(256)))
        .with_n_seq_max(1)
        .with_n_batch(part)
        .with_n_ubatch(part)
        .with_embeddings(true)
        .with_pooling_type(LlamaPoolingType::None)
        .with_flash_attention_policy(flash_attention)
        .with_n_threads(i32::from(description.threads))
        .with_n_threads_batch(i32::from(description.threads))
        .with_no_perf(true);
    let llama = model
        .new_context(runtime, params)
        .map_err(|_| anyhow::anyhow!("make room for a text: {}", in_its_own_words()))?;
    let mut embedder = LlamaEmbedder {
        llama,
        batch: LlamaBatch::new(part as usize, 1),
        part: part as usize,
        vocabulary: Arc::clone(&vocabulary),
        frame: frame.context("find what the model puts around a text")?,
        embedding,
        description: Description { largest_step: part, ..description },
    };
    let trial = embedder.frame.around(&embedder.tokenize(TRIAL));
    embedder.embed(&trial).context("try it")?;
    Ok((Runtime::Vectors(Box::new(embedder)), vocabulary))
}

/// Whether a token sees only those before it. Models in which it sees all say so.
fn is_causal(model: &LlamaModel) -> bool {
    let architecture = model.meta_val_str("general.architecture").unwrap_or_default();
    let key = format!("{architecture}.attention.causal");
    !model.meta_val_str(&key).is_ok_and(|value| value == "false")
}

struct LlamaEmbedder {
    llama: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    /// Tokens of one call.
    part: usize,
    vocabulary: Arc<ModelVocabulary>,
    frame: Frame,
    embedding: Embedding,
    description: Description,
}

impl LlamaEmbedder {
    /// The hidden states of all tokens, one row after the other.
    fn states(&mut self, tokens: &[TokenId]) -> anyhow::Result<Vec<f32>> {
        ensure!(tokens.len() <= self.description.context as usize, "the text is too long");
        self.llama.clear_kv_cache();
        let mut states = Vec::with_capacity(tokens.len() * self.embedding.dimension as usize);
        let mut positions = 0..;
        for part in tokens.chunks(self.part) {
            self.batch.clear();
            for (&token, at) in part.iter().zip(&mut positions) {
                self.batch.add(native(token), position(at), &[0], true)?;
            }
            self.llama.decode(&mut self.batch)?;
            for (row, _) in (0..).zip(part) {
                states.extend_from_slice(self.llama.embeddings_ith(row)?);
            }
        }
        Ok(states)
    }
}

impl Embedder for LlamaEmbedder {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    fn tokenize(&self, text: &str) -> Vec<TokenId> {
        self.vocabulary.tokenize(text, false)
    }

    fn frame(&self) -> (&[TokenId], &[TokenId]) {
        self.frame.parts()
    }

    fn embed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, StepError> {
        vector(self.states(tokens), &self.embedding)
    }

    fn share_cores(&mut self, alone: bool) {
        openmp::compute_alone(alone);
    }
}
