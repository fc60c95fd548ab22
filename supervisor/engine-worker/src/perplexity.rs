//! How well a model file predicts a text: a broken one does not.
//!
//! Perplexity is e to the mean of −ln p, where p is what the model gave to each
//! token that came next: as if it had wavered between so many tokens. Text goes
//! through the backend as a prompt does in service, with the same KV cache, so
//! what serves is what was measured.

use std::path::Path;
use std::time::Instant;

use anyhow::{bail, ensure};
use engine_api::chore::Measured;
use engine_api::manifest::{
    Artefact, ArtefactRole, Backend as ManifestBackend, BackendKind, BoundTo, Capabilities,
    MANIFEST_VERSION, Manifest, Model, Serving,
};
use engine_api::protocol::TokenId;

use crate::backend::{self, Backend, Chunk, Runtime, Wishes};
use crate::chore::say;
use crate::cores::Lookout;

/// Tokens of the text that are looked at, at most: every model's window is
/// longer, and memory for it is small.
const WINDOW: u32 = 2048;

/// Tokens that are not counted: without anything before them they can only be
/// guessed.
const LEAD: usize = 16;

/// Tokens computed at once. Each leaves a row of logits, as long as the vocabulary.
const STEP: usize = 32;

/// Measures the model file on `text`.
///
/// # Errors
/// The file cannot be loaded, the text is too short, or the runtime fails.
pub fn measure(model: &Path, text: &str) -> anyhow::Result<Measured> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u16::try_from(cores).unwrap_or(u16::MAX);
    let wishes = Wishes { threads, reproducible: true };
    let manifest = manifest(model);
    let (runtime, vocabulary) = backend::load(&manifest, Path::new(""), wishes, |_| {})?;
    let Runtime::Steps(mut backend) = runtime else {
        bail!("its runtime does not tell what it would have written")
    };
    let mut tokens: Vec<TokenId> = vocabulary.beginning().into_iter().collect();
    tokens.extend(vocabulary.tokenize(text, false));
    tokens.truncate(WINDOW as usize);
    predict(backend.as_mut(), &tokens)
}

/// Predicts each of `tokens` from those before it.
fn predict(backend: &mut dyn Backend, tokens: &[TokenId]) -> anyhow::Result<Measured> {
    ensure!(tokens.len() > 2 * LEAD, "the text has {} tokens, too few", tokens.len());
    let mut surprise = 0.0;
    let mut counted = 0;
    let mut cores = Lookout::new(Instant::now());
    for from in (0..tokens.len() - 1).step_by(STEP) {
        let to = (from + STEP).min(tokens.len() - 1);
        let places = (u32::try_from(from)?..).zip(&tokens[from..to]);
        let chunks: Vec<Chunk<'_>> = places
            .map(|(at, token)| Chunk {
                slot: 0,
                tokens: std::slice::from_ref(token),
                from: at,
                logits: true,
            })
            .collect();
        // An engine may be serving beside it.
        if let Some(alone) = cores.look(Instant::now()) {
            backend.share_cores(alone);
        }
        backend.prefill(&chunks)?;
        for (row, next) in tokens[from + 1..=to].iter().enumerate() {
            if from + row + 1 >= LEAD {
                surprise += surprise_at(backend.logits(row), *next);
                counted += 1;
            }
        }
        say(&format!("{}%", 100 * to / tokens.len()));
    }
    let perplexity = (surprise / f64::from(counted)).exp();
    let perplexity = Some(perplexity).filter(|perplexity| perplexity.is_finite());
    Ok(Measured { perplexity, tokens: counted })
}

/// −ln of the probability that `logits` give to `next`; not a number if they
/// are none.
fn surprise_at(logits: &[f32], next: TokenId) -> f64 {
    let Some(&of_next) = logits.get(next.0 as usize) else { return f64::NAN };
    if logits.iter().any(|logit| !logit.is_finite()) {
        return f64::NAN;
    }
    let most = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
    // In this order, because both may be so large that the logarithm is lost beside them.
    (most - f64::from(of_next)) + sum.ln()
}

/// An engine of one short window, so that little memory goes beside the weights.
fn manifest(model: &Path) -> Manifest {
    Manifest {
        manifest_version: MANIFEST_VERSION,
        id: "measured".into(),
        built_at: 0,
        model: Model {
            name: String::new(),
            architecture: String::new(),
            licence: "unknown".into(),
            quantisation: "unknown".into(),
            parameters: 0,
            aliases: Vec::new(),
        },
        backend: ManifestBackend {
            kind: BackendKind::LlamaCpp,
            version: String::new(),
            echo: None,
            tensorrt_llm: None,
        },
        bound_to: BoundTo::default(),
        serving: Serving { context: WINDOW, max_sequences: 1, cached_sequences: 0, kv_bytes: 0 },
        capabilities: Capabilities::default(),
        embedding: None,
        files: vec![Artefact {
            path: model.to_owned(),
            bytes: 0,
            sha256: String::new(),
            role: ArtefactRole::Weights,
        }],
        commands: Vec::new(),
        smoke: None,
        quantised: None,
        quality: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_knows_nothing_wavers_between_all_tokens() {
        let surprise = surprise_at(&[3.5; 1000], TokenId(7));
        assert!((surprise.exp() - 1000.0).abs() < 1e-6, "{surprise}");
    }

    #[test]
    fn a_model_that_is_sure_is_not_surprised_unless_it_is_wrong() {
        let logits = [0.0, 50.0, 0.0];
        assert!(surprise_at(&logits, TokenId(1)) < 1e-9);
        assert!((surprise_at(&logits, TokenId(0)) - 50.0).abs() < 1e-6);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert!((surprise_at(&[3e38, 3e38], TokenId(0)) - 2f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_a_number_is_never_taken_for_a_good_prediction() {
        assert!(surprise_at(&[0.0, f32::NAN], TokenId(0)).is_nan());
        assert!(surprise_at(&[0.0, f32::INFINITY], TokenId(0)).is_nan());
        assert!(surprise_at(&[0.0], TokenId(5)).is_nan(), "a token it does not have");
    }
}
