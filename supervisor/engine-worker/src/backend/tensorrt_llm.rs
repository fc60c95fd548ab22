//! TensorRT-LLM 0.12, through the package `tensorrt-llm`: the runtime that a
//! Jetson Orin has for its GPU.
//!
//! It batches, samples and keeps a paged KV cache by itself, in threads of its
//! own; [`crate::queue`] hands requests to it. What differs by that:
//!
//! - *Draws* come from its random numbers, which begin at a request's seed with
//!   each life. A request that is taken up again goes on with other draws than it
//!   would have had, all of them as likely; greedy answers go on the same as far
//!   as arithmetic does. Its arithmetic depends on what is computed beside it, so
//!   it is never called reproducible.
//! - *Settings*: [`BackendKind::lacks`](engine_api::manifest::BackendKind::lacks)
//!   lists what it cannot do, and it is refused here, too. 0.12 has hooks through
//!   which our own sampling could stand in for its; they copy each row of logits
//!   to the CPU and back in each step, which nobody has measured.
//! - *Prefixes* are reused in whole blocks, once the request that computed them
//!   has ended. How much of one prompt was reused is not told, only the sum.
//! - *Steps* are its iterations. While a pace holds them apart, the time of one
//!   contains its wait.
//!
//! It has been run against a stand-in only, never on a Jetson.

mod engine;
#[cfg(test)]
pub(crate) mod tests;
mod vocabulary;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use engine_api::manifest::{ArtefactRole, MOST_CANDIDATES, Manifest};
use engine_api::protocol::{DeviceMemory, ModelFacts, Priority, TokenId};
use tensorrt_llm::{Config, Failure, IterationStats};

use self::engine::BuildConfig;
use self::vocabulary::FileVocabulary;
use super::executor::{Executor, Gain, Order, Ticket, Work};
use super::gpus::Gpus;
use super::{Description, Runtime, StepError, Vocabulary};

/// Loads the engine and its tokeniser.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn load(manifest: &Manifest, dir: &Path) -> anyhow::Result<(Runtime, Arc<dyn Vocabulary>)> {
    let settings =
        manifest.backend.tensorrt_llm.as_ref().context("the manifest has no `tensorrt_llm`")?;
    let weights = manifest.weights(dir).context("find the engine file in the manifest")?;
    ensure!(weights.is_file(), "{} is not there", weights.display());
    let file = |role| {
        let artefact = manifest.files.iter().find(|artefact| artefact.role == role)?;
        Some(dir.join(&artefact.path))
    };
    let tokenizer =
        file(ArtefactRole::Tokenizer).context("find the tokeniser's file in the manifest")?;
    let template = file(ArtefactRole::ChatTemplate);
    // It is read first, because an engine takes long.
    let vocabulary = FileVocabulary::read(&tokenizer, template.as_deref(), &settings.tokens)?;

    let serving = &manifest.serving;
    let model = weights.parent().unwrap_or(dir);
    let built = BuildConfig::read(model, serving)?;
    let slots = usize::from(serving.max_sequences) + usize::from(serving.cached_sequences);
    let kv_tokens = u64::from(serving.context) * slots as u64;
    let config = Config {
        model: model.into(),
        kv_tokens: u32::try_from(kv_tokens).context("the KV cache has too many tokens")?,
        kv_free_percent: settings.kv_free_percent,
        kv_host_bytes: 0,
        max_sequences: serving.max_sequences,
        max_tokens_per_step: None,
        chunked_prompts: settings.chunked_prompts,
        mmap: settings.mmap,
    };
    let executor = tensorrt_llm::Executor::open(&config).map_err(|failure| {
        anyhow::anyhow!(failure.said).context(format!("load {}", model.display()))
    })?;
    let gpus = Gpus::look();
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let description = Description {
        backend: "tensorrt_llm",
        device: format!(
            "{}, TensorRT-LLM {}",
            gpus.names().unwrap_or_else(|| "CUDA GPU".into()),
            tensorrt_llm::version()
        ),
        model: ModelFacts {
            name: manifest.model.name.clone(),
            architecture: manifest.model.architecture.clone(),
            parameters: manifest.model.parameters,
            weights_bytes: bytes(&weights),
            quantisation: manifest.model.quantisation.clone(),
            trained_context: serving.context,
        },
        slots,
        context: serving.context,
        kv_bytes: serving.kv_bytes,
        threads: 1,
        largest_step: built.max_num_tokens,
        reproducible: false,
    };
    let runtime = TensorrtLlm { executor, description, gpus, reused_blocks: 0 };
    Ok((Runtime::Requests(Box::new(runtime)), Arc::new(vocabulary)))
}

struct TensorrtLlm {
    executor: tensorrt_llm::Executor,
    description: Description,
    gpus: Gpus,
    /// As it last counted them.
    reused_blocks: u32,
}

impl Executor for TensorrtLlm {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn start(&mut self, order: &Order<'_>) -> Result<Ticket, String> {
        let (sampling, forbidden) = self.sampling(order)?;
        let prompt = numbers(order.tokens);
        let ends = numbers(order.ends);
        let forbidden = numbers(&forbidden);
        let request = tensorrt_llm::Request {
            prompt: &prompt,
            max_tokens: order.most,
            sampling,
            ends: if order.sampling.ignore_eos { &[] } else { &ends },
            forbidden: &forbidden,
            priority: match order.priority {
                Priority::Bulk => 0.25,
                Priority::Interactive => 0.5,
                Priority::Completion => 0.75,
            },
        };
        let id = self.executor.enqueue(&request).map_err(|failure| failure.to_string())?;
        Ok(id.number())
    }

    fn cancel(&mut self, ticket: Ticket) -> Result<(), StepError> {
        self.executor.cancel(ticket.into()).map_err(broken)
    }

    fn wait(&mut self, most: Duration) -> Result<Vec<Gain>, StepError> {
        let responses = self.executor.await_responses(most).map_err(broken)?;
        let gain = |response: tensorrt_llm::Response| Gain {
            ticket: response.id.number(),
            tokens: response.tokens.map(|tokens| tokens.into_iter().map(TokenId).collect()),
            is_last: response.is_last,
        };
        Ok(responses.into_iter().map(gain).collect())
    }

    fn work(&mut self) -> Result<Work, StepError> {
        let iterations = self.executor.iterations().map_err(broken)?;
        let mut work = sum(&iterations);
        if let Some(kv) = iterations.iter().rev().find_map(|iteration| iteration.kv) {
            let new = kv.reused.saturating_sub(self.reused_blocks);
            self.reused_blocks = kv.reused;
            work.cached_tokens = tokens(new, kv.tokens_per_block);
            let active = tokens(kv.used, kv.tokens_per_block);
            work.kv = Some((tokens(kv.all, kv.tokens_per_block), active));
        }
        Ok(work)
    }

    fn set_pace(&mut self, pace: Duration) {
        self.executor.set_pace(pace);
    }

    /// The runtime tells what it took, not what there is.
    fn device_memory(&self) -> Option<DeviceMemory> {
        self.gpus.memory()
    }
}

impl TensorrtLlm {
    /// How to choose tokens, and those never to choose; or why it cannot be done.
    fn sampling(
        &self,
        order: &Order<'_>,
    ) -> Result<(tensorrt_llm::Sampling, Vec<TokenId>), String> {
        let asked = order.sampling;
        let greedy = asked.temperature <= 0.0 || asked.top_p <= 0.0;
        let lacking = [
            (asked.min_p > 0.0 && !greedy, "min_p"),
            (asked.top_k > MOST_CANDIDATES && !greedy, "a choice among so many tokens"),
            (asked.logprobs.is_some(), "log-probabilities"),
            (!order.reuse_prefix, "a prompt that reuses no prefix"),
            (
                asked.penalises() && asked.repeat_last_n < self.description.context,
                "penalties that look back less far than the window",
            ),
            (
                asked.logit_bias.iter().any(|(_, bias)| *bias != f32::NEG_INFINITY),
                "a bias other than forbidding a token",
            ),
        ];
        if let Some((_, what)) = lacking.iter().find(|(lacks, _)| *lacks) {
            return Err(format!("TensorRT-LLM {} cannot do {what}", tensorrt_llm::version()));
        }
        let mut forbidden: Vec<_> = asked.logit_bias.iter().map(|(token, _)| *token).collect();
        if asked.ignore_eos {
            forbidden.extend_from_slice(order.ends);
        }
        let sampling = tensorrt_llm::Sampling {
            top_k: if greedy { 1 } else { asked.top_k },
            top_p: if greedy { 1.0 } else { asked.top_p },
            temperature: if greedy { 1.0 } else { asked.temperature },
            repetition_penalty: if asked.repeat_penalty > 0.0 { asked.repeat_penalty } else { 1.0 },
            presence_penalty: asked.presence_penalty,
            frequency_penalty: asked.frequency_penalty,
            seed: seed_of_life(asked.seed, order.generated),
        };
        Ok((sampling, forbidden))
    }
}

/// A seed for random numbers that begin after `generated` tokens: with the same
/// one, a life would repeat the draws of the last.
fn seed_of_life(seed: u64, generated: usize) -> u64 {
    // The odd number next to 2^64 over the golden ratio: every life has another.
    seed.wrapping_add((generated as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Steps and what they computed. An iteration that nobody took part in is none.
fn sum(iterations: &[IterationStats]) -> Work {
    let steps = || iterations.iter().filter(|iteration| iteration.scheduled != Some(0));
    Work {
        steps: steps().count() as u64,
        prompt_tokens: steps().filter_map(|step| step.prompt_tokens).map(u64::from).sum(),
        step: steps().next_back().map(|step| step.took).unwrap_or_default(),
        worst_step: steps().map(|step| step.took).max().unwrap_or_default(),
        ..Work::default()
    }
}

fn tokens(blocks: u32, tokens_per_block: u32) -> u64 {
    u64::from(blocks) * u64::from(tokens_per_block)
}

fn numbers(tokens: &[TokenId]) -> Vec<u32> {
    tokens.iter().map(|token| token.0).collect()
}

fn broken(failure: Failure) -> StepError {
    StepError { doing: failure.doing, cause: failure.said }
}
