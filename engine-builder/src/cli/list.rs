//! `engine-builder list`: the catalogue and the engines that are built.

use jetpack::Bytes;
use serde_json::json;

use crate::catalogue::{Catalogue, Entry, Quantisation, Runs};
use crate::engines::{EngineId, Engines};
use crate::error::Error;
use crate::existing;
use crate::report::Report;

const HEADINGS: [&str; 8] =
    ["model", "parameters", "size", "context", "KV/token", "for", "backends", "licence"];

pub(super) fn list(catalogue: &Catalogue, engines: &Engines, report: &Report) -> Result<(), Error> {
    let rows: Vec<[String; 8]> = catalogue.entries().iter().map(row).collect();
    let widths = widths(&rows);
    report.heading(&aligned(&HEADINGS.map(str::to_owned), &widths));
    for (entry, row) in catalogue.entries().iter().zip(&rows) {
        report.item(&aligned(row, &widths), facts(entry));
    }
    let default = engines.default_id();
    for id in engines.list()? {
        let is_default = default.as_deref() == Some(id.as_str());
        engine(engines, &id, is_default, report);
    }
    Ok(())
}

fn engine(engines: &Engines, id: &EngineId, is_default: bool, report: &Report) {
    let (text, fault) = match existing::open(engines, id) {
        Ok(manifest) => (format!("{} {}", manifest.model.name, manifest.model.quantisation), None),
        Err(error) => (error.chain(), Some(error.chain())),
    };
    let mark = if is_default { " (default)" } else { "" };
    let facts = json!({
        "kind": "engine", "id": id.as_str(), "dir": engines.engine(id),
        "default": is_default, "fault": fault
    });
    report.item(&format!("engine  {:<28} {text}{mark}", id.as_str()), facts);
}

fn row(entry: &Entry) -> [String; 8] {
    let weights = &entry.weights;
    let size = match (weights.bytes, Quantisation::of_gguf(&weights.quantisation)) {
        (Some(bytes), _) => Bytes::new(bytes).to_string(),
        (None, Some(quantisation)) => {
            format!("~{}", Bytes::new(entry.architecture.resident_bytes(quantisation)))
        }
        (None, None) => "unknown".into(),
    };
    [
        entry.id.to_string(),
        parameters(weights.parameters),
        format!("{size} {}", weights.quantisation),
        weights.trained_context.to_string(),
        Bytes::new(weights.kv_bytes_per_token).to_string(),
        uses(entry).join(" "),
        backends(entry).join(" "),
        entry.licence.clone(),
    ]
}

/// `135 M` or `6.7 B`.
fn parameters(parameters: u64) -> String {
    let millions = parameters as f64 / 1e6;
    if millions < 999.5 { format!("{millions:.0} M") } else { format!("{:.1} B", millions / 1e3) }
}

fn uses(entry: &Entry) -> Vec<&'static str> {
    let can = entry.capabilities;
    [(can.chat, "chat"), (can.fim, "fim"), (can.tools, "tools"), (can.embedding, "embedding")]
        .into_iter()
        .filter_map(|(can, name)| can.then_some(name))
        .collect()
}

/// The backends that run it; one that nobody has tried is marked.
fn backends(entry: &Entry) -> Vec<&'static str> {
    let backends = &entry.backends;
    [
        (&backends.llama_cpp, "llama-cpp", "llama-cpp?"),
        (&backends.tensorrt_llm, "tensorrt-llm", "tensorrt-llm?"),
        (&backends.tensorrt_edge_llm, "tensorrt-edge-llm", "tensorrt-edge-llm?"),
    ]
    .into_iter()
    .filter_map(|(support, name, untried)| match support.runs {
        Runs::Yes => Some(name),
        Runs::Untried => Some(untried),
        Runs::No => None,
    })
    .collect()
}

fn facts(entry: &Entry) -> serde_json::Value {
    let sizes: serde_json::Map<String, serde_json::Value> =
        [Quantisation::F16, Quantisation::Int8, Quantisation::Int4Gptq, Quantisation::Q4KM]
            .into_iter()
            .map(|kind| (kind.name().to_owned(), entry.architecture.resident_bytes(kind).into()))
            .collect();
    json!({
        "kind": "model", "id": entry.id.as_str(), "name": entry.name, "aliases": entry.aliases,
        "licence": entry.licence, "gated": entry.gated, "chat_template": entry.chat_template,
        "quantisation": entry.weights.quantisation, "bytes": entry.weights.bytes,
        "parameters": entry.weights.parameters, "trained_context": entry.weights.trained_context,
        "kv_bytes_per_token": entry.weights.kv_bytes_per_token,
        "estimated_weights_bytes": sizes, "architecture": entry.architecture, "fim": entry.fim,
        "backends": entry.backends, "capabilities": entry.capabilities,
    })
}

fn widths(rows: &[[String; 8]]) -> [usize; 8] {
    let mut widths = HEADINGS.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn aligned(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    padded.join("  ").trim_end().to_owned()
}
