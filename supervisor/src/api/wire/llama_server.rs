//! Shapes that llama-server's clients read: `timings`, `/health` and `/props`.

use engine_api::protocol::{Ready, Timings, Usage};
use serde::Serialize;

/// Where an answer's time went, as llama-server says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TimingsReply {
    /// Prompt tokens that were not computed again. Where the engine does not tell
    /// it, this and what follows from it are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_n: Option<u32>,
    /// Prompt tokens that were computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_n: Option<u32>,
    prompt_ms: f64,
    prompt_per_token_ms: Option<f64>,
    prompt_per_second: Option<f64>,
    predicted_n: u32,
    predicted_ms: f64,
    predicted_per_token_ms: Option<f64>,
    predicted_per_second: Option<f64>,
}

impl TimingsReply {
    pub(crate) fn new(usage: Usage, timings: Timings) -> Self {
        let prompt_n = usage.cached_tokens.map(|cached| usage.prompt_tokens.saturating_sub(cached));
        let predicted_n = usage.completion_tokens;
        let (prompt_ms, predicted_ms) = (ms(timings.prefill_us), ms(timings.decode_us));
        Self {
            cache_n: usage.cached_tokens,
            prompt_n,
            prompt_ms,
            prompt_per_token_ms: prompt_n.and_then(|n| ratio(prompt_ms, n.into())),
            prompt_per_second: prompt_n.and_then(|n| ratio(f64::from(n) * 1e3, prompt_ms)),
            predicted_n,
            predicted_ms,
            predicted_per_token_ms: ratio(predicted_ms, predicted_n.into()),
            predicted_per_second: ratio(f64::from(predicted_n) * 1e3, predicted_ms),
        }
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// `GET /health` of a server that answers.
#[derive(Debug, Serialize)]
pub(crate) struct Healthy {
    status: &'static str,
}

impl Healthy {
    pub(crate) const OK: Self = Self { status: "ok" };
}

/// `GET /health` of a server that does not, with status 503.
#[derive(Debug, Serialize)]
pub(crate) struct Unhealthy {
    error: UnhealthyError,
}

#[derive(Debug, Serialize)]
struct UnhealthyError {
    code: u16,
    message: String,
    r#type: &'static str,
}

impl Unhealthy {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        let error =
            UnhealthyError { code: 503, message: message.into(), r#type: "unavailable_error" };
        Self { error }
    }
}

/// `GET /props`: what the loaded engine is.
#[derive(Debug, Serialize)]
pub(crate) struct Props<'a> {
    default_generation_settings: GenerationSettings,
    total_slots: u16,
    model_alias: &'a str,
    chat_template: &'a str,
    build_info: &'a str,
}

#[derive(Debug, Serialize)]
struct GenerationSettings {
    n_ctx: u32,
}

impl<'a> Props<'a> {
    pub(crate) fn new(model: &'a str, ready: &'a Ready) -> Self {
        Self {
            default_generation_settings: GenerationSettings { n_ctx: ready.context },
            total_slots: ready.max_sequences,
            model_alias: model,
            chat_template: &ready.chat_template,
            build_info: concat!("stoker ", env!("CARGO_PKG_VERSION")),
        }
    }
}
