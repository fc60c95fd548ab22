//! `engine-builder list`: the catalogue and the engines that are built.

use engine_api::manifest::{BoundTo, Manifest, Quality};
use jetpack::{Bytes, Root};
use serde_json::json;

use crate::catalogue::{Catalogue, Entry, Quantisation, Runs};
use crate::embedder;
use crate::engines::Engines;
use crate::error::Error;
use crate::installed::{self, Installed};
use crate::report::Report;
use crate::staleness::Here;

const HEADINGS: [&str; 8] =
    ["model", "parameters", "size", "context", "KV/token", "for", "backends", "licence"];

pub(super) fn list(catalogue: &Catalogue, engines: &Engines, report: &Report) -> Result<(), Error> {
    let rows: Vec<[String; 8]> = catalogue.entries().iter().map(row).collect();
    let embedders: Vec<[String; 8]> = embedder::entries().iter().map(embedder_row).collect();
    let widths = widths(&[&rows[..], &embedders[..]].concat());
    report.heading(&aligned(&HEADINGS.map(str::to_owned), &widths));
    for (entry, row) in catalogue.entries().iter().zip(&rows) {
        report.item(&aligned(row, &widths), facts(entry));
    }
    for (entry, row) in embedder::entries().iter().zip(&embedders) {
        report.item(&aligned(row, &widths), embedder_facts(entry));
    }
    let here = Here::read(Root::default());
    for engine in installed::all(engines, &here)? {
        report.item(&line(&engine, &here), engine_facts(&engine, engines));
    }
    Ok(())
}

/// `engine  NAME  MODEL QUANTISATION, SIZE, for BOUND, verified DATE (default)`.
fn line(engine: &Installed, here: &Here) -> String {
    let mark = match (engine.is_default, engine.is_previous) {
        (true, _) => " (default)",
        (false, true) => " (before the default)",
        (false, false) => "",
    };
    let text = match &engine.state {
        Ok(sound) => {
            let model = &sound.manifest.model;
            let staleness = &sound.staleness;
            let stale = match staleness.words(here) {
                words if words.is_empty() => String::new(),
                words => format!(", stale: {words}"),
            };
            let unknown = match staleness.unknown_words() {
                words if words.is_empty() => String::new(),
                words => format!(", not known: {words}"),
            };
            format!(
                "{} {}{}, {}, for {}, {}verified {}{stale}{unknown}",
                model.name,
                model.quantisation,
                from(&sound.manifest),
                Bytes::new(sound.bytes()),
                bound(&sound.manifest.bound_to),
                quality(&sound.manifest),
                date(sound.verified.at)
            )
        }
        Err(error) => error.chain(),
    };
    format!("engine  {:<28} {text}{mark}", engine.id.as_str())
}

/// What its weights were quantised from here, in words.
fn from(manifest: &Manifest) -> String {
    let quantised = manifest.quantised.as_ref();
    quantised.map(|quantised| format!(" from {}", quantised.from)).unwrap_or_default()
}

/// What the build measured, in words that others follow.
fn quality(manifest: &Manifest) -> String {
    match &manifest.quality {
        Some(Quality { perplexity, bound, .. }) => {
            format!("perplexity {perplexity:.2} of at most {bound:.2}, ")
        }
        None => String::new(),
    }
}

/// What an engine is bound to, in words.
fn bound(to: &BoundTo) -> String {
    let sm = to.sm.map(|sm| format!("SM {sm}"));
    let named = |name: &str, value: &Option<String>| Some(format!("{name}{}", value.as_ref()?));
    let parts = [
        named("", &to.cpu),
        named("", &to.board),
        named("L4T ", &to.l4t),
        named("CUDA ", &to.cuda),
        named("TensorRT ", &to.tensorrt),
        sm,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "any machine".into() } else { parts.join(" ") }
}

fn engine_facts(engine: &Installed, engines: &Engines) -> serde_json::Value {
    let mut facts = json!({
        "kind": "engine", "id": engine.id.as_str(), "dir": engines.engine(&engine.id),
        "default": engine.is_default, "previous": engine.is_previous,
        "fault": engine.state.as_ref().err().map(Error::chain),
    });
    if let Ok(sound) = &engine.state {
        facts["model"] = json!(sound.manifest.model);
        facts["backend"] = json!(sound.manifest.backend);
        facts["bytes"] = sound.bytes().into();
        facts["quantised"] = json!(sound.manifest.quantised);
        facts["quality"] = json!(sound.manifest.quality);
        facts["bound_to"] = json!(sound.manifest.bound_to);
        facts["built_at"] = sound.manifest.built_at.into();
        facts["verified"] = json!(sound.verified);
        facts["stale"] = json!(sound.staleness.reasons);
        facts["unknown"] = json!(sound.staleness.unknown);
    }
    facts
}

/// The day of a time since 1970, in UTC, as `2026-11-25`. After Howard
/// Hinnant's `civil_from_days`: years begin in March, so that a leap day is last.
fn date(at: u64) -> String {
    let days = at / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
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

/// An encoder has no KV cache.
fn embedder_row(entry: &embedder::Entry) -> [String; 8] {
    let bytes = entry.files().iter().map(|file| file.bytes).sum();
    [
        entry.id.to_string(),
        parameters(entry.parameters),
        format!("{} {}", Bytes::new(bytes), entry.quantisation),
        entry.context.to_string(),
        "none".into(),
        "embedding".into(),
        "rten".into(),
        entry.licence.clone(),
    ]
}

fn embedder_facts(entry: &embedder::Entry) -> serde_json::Value {
    json!({
        "kind": "embedder", "id": entry.id.as_str(), "name": entry.name, "aliases": entry.aliases,
        "licence": entry.licence, "quantisation": entry.quantisation,
        "parameters": entry.parameters, "context": entry.context, "embedding": entry.embedding,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        let day = |days: u64| date(days * 86_400 + 86_399);
        assert_eq!((day(0).as_str(), day(59).as_str()), ("1970-01-01", "1970-03-01"));
        assert_eq!((day(11_016).as_str(), day(11_017).as_str()), ("2000-02-29", "2000-03-01"));
        assert_eq!(day(20_782), "2026-11-25");
    }

    #[test]
    fn what_an_engine_is_bound_to_is_said_in_words() {
        assert_eq!(bound(&BoundTo::default()), "any machine");
        let to = BoundTo { sm: Some(87), l4t: Some("36.5.0".into()), ..BoundTo::default() };
        assert_eq!(bound(&to), "L4T 36.5.0 SM 87");
    }
}
