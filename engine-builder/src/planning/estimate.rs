//! What an engine will need and how fast it will be, as far as that can be
//! told before it is built. All of it is an estimate and is shown as one.

use jetpack::Bytes;
use serde::Serialize;

use super::backend::Backend;
use super::board::{Board, Class};
use super::release::Release;
use super::variant::Variant;
use crate::catalogue::{Entry, Form, Quantisation};

/// Tokens per second for one user alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    pub least_tokens_per_s: f64,
    pub most_tokens_per_s: f64,
    /// If every byte of the weights came at the memory's full speed.
    pub roofline_tokens_per_s: f64,
    /// Shares of the roofline that were published for this backend on Orin.
    pub least_share: f64,
    pub most_share: f64,
}

/// Bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub download_bytes: Bytes,
    /// At the height of the build, the download included.
    pub peak_bytes: Bytes,
    /// Afterwards.
    pub kept_bytes: Bytes,
}

/// NVIDIA's Llama-3-8B on AGX Orin: 7.3 GB in all with mapped weights, of which
/// the weights are 5.73.
const TENSORRT_LLM_WORKING: u64 = 1_600_000_000;
/// NVIDIA's Qwen3 on Orin NX and Nano: 1.2 to 1.4 GB above weights and cache.
const EDGE_LLM_WORKING: u64 = 1_400_000_000;
/// llama.cpp's CUDA context and kernels; on a processor its code and graphs.
const LLAMA_CPP_CUDA_WORKING: u64 = 500_000_000;
const LLAMA_CPP_CPU_WORKING: u64 = 100_000_000;
/// Logits of one step of 512 tokens, in 32 bits.
const LLAMA_CPP_LOGITS: u64 = 512 * 4;

/// The converter's own libraries in memory.
const PYTHON_TORCH: u64 = 3_000_000_000;
/// Edge-LLM's documentation asks for two to three times the checkpoint to export.
const EDGE_EXPORT_TIMES: u64 = 3;
/// Its builder was seen with three to four bytes a parameter.
const EDGE_BUILD_BYTES_PER_PARAMETER: u64 = 4;

/// Memory that the runtime itself takes.
pub(super) fn working(backend: Backend, entry: &Entry, board: &Board) -> u64 {
    match backend {
        Backend::TensorrtLlm => TENSORRT_LLM_WORKING,
        Backend::TensorrtEdgeLlm => EDGE_LLM_WORKING,
        Backend::LlamaCpp => {
            let logits = LLAMA_CPP_LOGITS * u64::from(entry.architecture.vocabulary);
            let own = match board.class {
                Class::Pc => LLAMA_CPP_CPU_WORKING,
                _ => LLAMA_CPP_CUDA_WORKING,
            };
            own + logits
        }
    }
}

/// Memory that the weights take, or the file's size where that is known.
pub(super) fn weights(entry: &Entry, variant: &Variant) -> u64 {
    let told = match variant.from {
        Form::Package | Form::Gguf => entry.weights.bytes,
        _ => None,
    };
    told.unwrap_or_else(|| entry.architecture.resident_bytes(variant.quantisation))
}

/// The most memory that a step of the build takes, if it takes any to speak of.
pub(super) fn build_memory(
    backend: Backend,
    entry: &Entry,
    variant: &Variant,
    release: Option<&Release>,
) -> Option<u64> {
    let parameters = entry.weights.parameters;
    let resident = entry.architecture.resident_bytes(variant.quantisation);
    match backend {
        Backend::TensorrtLlm => {
            let converter = match variant.from {
                Form::Checkpoint => 2 * parameters,
                _ => resident,
            };
            Some(PYTHON_TORCH + converter.max(2 * resident))
        }
        Backend::TensorrtEdgeLlm if release.is_some_and(|on| on.version >= (7, 0)) => {
            Some(PYTHON_TORCH + resident)
        }
        Backend::TensorrtEdgeLlm => {
            Some((EDGE_EXPORT_TIMES * resident).max(EDGE_BUILD_BYTES_PER_PARAMETER * parameters))
        }
        // The converter takes one tensor after the other.
        Backend::LlamaCpp => (variant.from == Form::Checkpoint).then_some(PYTHON_TORCH),
    }
}

/// What the build puts on the disk.
pub(super) fn disk(
    backend: Backend,
    entry: &Entry,
    variant: &Variant,
    release: Option<&Release>,
) -> Disk {
    let engine = weights(entry, variant);
    let download = match (variant.from, &entry.source.package) {
        (Form::Package, Some(package)) => package.download_bytes,
        (Form::Checkpoint, _) => 2 * entry.weights.parameters,
        _ => engine,
    };
    let (between, kept) = match backend {
        // The converted checkpoint, and the engine.
        Backend::TensorrtLlm => (2 * engine, engine),
        // Weights stay in the checkpoint; the engine is small beside it.
        Backend::TensorrtEdgeLlm if release.is_some_and(|on| on.version >= (7, 0)) => (0, download),
        // The ONNX files, and the engine.
        Backend::TensorrtEdgeLlm => (2 * engine, engine),
        Backend::LlamaCpp => match variant.from {
            Form::Package => (engine, engine),
            // A 16-bit GGUF, and the quantised one.
            Form::Checkpoint => (download + engine, engine),
            // Placed as a link.
            _ => (0, engine),
        },
    };
    Disk {
        download_bytes: Bytes::new(download),
        peak_bytes: Bytes::new(download + between),
        kept_bytes: Bytes::new(kept),
    }
}

/// Speed from the memory's bandwidth; `None` if that is unknown.
pub(super) fn speed(
    backend: Backend,
    entry: &Entry,
    variant: &Variant,
    board: &Board,
    release: Option<&Release>,
) -> Option<Speed> {
    let read = match (variant.from, Quantisation::of_gguf(&variant.label)) {
        // A file whose layout is not known is read whole.
        (Form::Package | Form::Gguf, None) => entry.weights.bytes?,
        _ => entry.architecture.bytes_read_per_token(variant.quantisation),
    };
    let roofline = board.bytes_per_s(release)? as f64 / read.max(1) as f64;
    let (least_share, most_share) = match backend {
        Backend::TensorrtLlm | Backend::TensorrtEdgeLlm => (0.75, 0.85),
        Backend::LlamaCpp => (0.5, 0.7),
    };
    let tenths = |speed: f64| (speed * 10.0).round() / 10.0;
    Some(Speed {
        least_tokens_per_s: tenths(roofline * least_share),
        most_tokens_per_s: tenths(roofline * most_share),
        roofline_tokens_per_s: tenths(roofline),
        least_share,
        most_share,
    })
}
