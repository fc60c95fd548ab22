//! What Ollama's clients ask about the model before they use it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine_api::protocol::Ready;
use hyper::Response;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::api::error::Problem;
use crate::api::facts::{Facts, same};
use crate::api::reply::{Reply, json};
use crate::api::wire::ollama_reply::{Details, List, Process, Show, Tag};
use crate::api::wire::ollama_request;
use crate::hexadecimal::Hexadecimal;
use crate::snapshot::{Embedder, Snapshot};

/// How long the model stays, from now: it is never put away for being idle.
const STAYS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `GET /api/tags`.
pub(crate) fn tags(snapshot: &Snapshot) -> Response<Reply> {
    let about = About::of(snapshot);
    let names = names(snapshot);
    let embedding = snapshot.embedder.as_ref().map(|embedder| About::embedder(snapshot, embedder));
    let embedders = embedder_names(snapshot);
    let embedders = embedders.iter().filter_map(|name| Some(tag(name, embedding.as_ref()?)));
    let models = names.iter().map(|name| tag(name, &about)).chain(embedders);
    json(&List { models: models.collect() })
}

fn tag<'a>(name: &'a str, about: &'a About) -> Tag<'a> {
    Tag {
        name,
        model: name,
        modified_at: about.since,
        size: about.size,
        digest: &about.digest,
        details: &about.details,
        capabilities: &about.capabilities,
    }
}

/// `GET /api/ps`.
pub(crate) fn processes(snapshot: &Snapshot) -> Response<Reply> {
    let about = About::of(snapshot);
    let ready = snapshot.engine.ready.as_deref();
    let loaded =
        ready.zip(snapshot.engine.model.as_deref()).map(|(ready, model)| (ready, tagged(model)));
    let kv_bytes = snapshot.engine.heartbeat.as_ref().map_or(0, |beat| beat.kv.bytes);
    let models = loaded.iter().map(|(ready, name)| Process {
        name,
        model: name,
        size: about.size + kv_bytes,
        digest: &about.digest,
        details: &about.details,
        expires_at: SystemTime::now() + STAYS,
        // Nothing is on a GPU of its own unless the engine reports one.
        size_vram: match snapshot.engine.heartbeat.as_ref().and_then(|beat| beat.device_memory) {
            Some(_) => about.size + kv_bytes,
            None => 0,
        },
        context_length: ready.context,
    });
    json(&List { models: models.collect() })
}

/// `POST /api/show`.
///
/// # Errors
/// No name, or another model's; or there is no engine at all.
pub(crate) fn show(snapshot: &Snapshot, body: &[u8]) -> Result<Response<Reply>, Problem> {
    let facts = Facts::of(snapshot);
    let asked = ollama_request::shown(body)?;
    if let Some(embedder) = &snapshot.embedder
        && std::iter::once(&embedder.model).chain(&embedder.aliases).any(|it| same(it, &asked))
    {
        return Ok(show_embedder(snapshot, embedder));
    }
    facts.resolve(Some(&asked))?;
    let Some(model) = &facts.model else {
        return Err(Problem::unavailable("there is no engine yet", Duration::from_secs(10)));
    };
    let about = About::of(snapshot);
    let ready = snapshot.engine.ready.as_deref();
    let context = facts.context.map(|context| format!("num_ctx                        {context}"));
    Ok(json(&Show {
        modelfile: format!("# served by Stoker, which reads no modelfile\nFROM {model}\n"),
        parameters: context.unwrap_or_default(),
        template: template(ready.is_some_and(|ready| ready.infill)),
        details: &about.details,
        model_info: ready.map(|ready| model_info(model, ready)).unwrap_or_default(),
        capabilities: &about.capabilities,
        modified_at: about.since,
    }))
}

fn show_embedder(snapshot: &Snapshot, embedder: &Embedder) -> Response<Reply> {
    let about = About::embedder(snapshot, embedder);
    let architecture = embedder.architecture.as_str();
    let model_info: [(String, Value); 5] = [
        ("general.architecture".into(), architecture.into()),
        ("general.basename".into(), embedder.model.as_str().into()),
        ("general.parameter_count".into(), embedder.parameters.into()),
        (format!("{architecture}.context_length"), embedder.context.into()),
        (format!("{architecture}.embedding_length"), embedder.dimension.into()),
    ];
    json(&Show {
        modelfile: format!(
            "# served by Stoker, which reads no modelfile\nFROM {}\n",
            embedder.model
        ),
        parameters: format!("num_ctx                        {}", embedder.context),
        template: template(false),
        details: &about.details,
        model_info: model_info.into_iter().collect(),
        capabilities: &about.capabilities,
        modified_at: about.since,
    })
}

/// Editors look for `.Suffix` here to see whether they may ask for an infill.
fn template(infill: bool) -> &'static str {
    if infill {
        "{{- if .Suffix }}{{ .Prompt }}{{ .Suffix }}{{ else }}{{ .Prompt }}{{ end }}"
    } else {
        "{{ .Prompt }}"
    }
}

fn model_info(model: &str, ready: &Ready) -> Map<String, Value> {
    let facts = &ready.model;
    let architecture = facts.architecture.as_str();
    let basename = if facts.name.is_empty() { model } else { &facts.name };
    let entries: [(String, Value); 6] = [
        ("general.architecture".into(), architecture.into()),
        ("general.basename".into(), basename.into()),
        ("general.parameter_count".into(), facts.parameters.into()),
        // The window that holds here, not the one of the training.
        (format!("{architecture}.context_length"), ready.context.into()),
        (format!("{architecture}.vocab_size"), ready.vocabulary.into()),
        ("stoker.trained_context_length".into(), facts.trained_context.into()),
    ];
    entries.into_iter().collect()
}

/// What every document here says of the model.
struct About {
    since: SystemTime,
    size: u64,
    digest: String,
    details: Details,
    capabilities: Vec<&'static str>,
}

impl About {
    fn of(snapshot: &Snapshot) -> Self {
        let started = snapshot.at.saturating_sub(snapshot.uptime_s);
        let ready = snapshot.engine.ready.as_deref();
        let mut capabilities = vec!["completion"];
        if ready.is_some_and(|ready| ready.infill) {
            capabilities.push("insert");
        }
        // Whatever the model was trained for: it can be told of tools.
        if ready.is_some_and(|ready| ready.chat) {
            capabilities.push("tools");
        }
        Self {
            since: UNIX_EPOCH + Duration::from_secs(started),
            size: ready.map_or(0, |ready| ready.model.weights_bytes),
            digest: digest(snapshot.engine.model.as_deref().unwrap_or_default(), ready),
            details: details(ready),
            capabilities,
        }
    }
}

impl About {
    fn embedder(snapshot: &Snapshot, embedder: &Embedder) -> Self {
        let family = embedder.architecture.clone();
        let mut digest = Sha256::new();
        digest.update(&embedder.model);
        digest.update(&embedder.quantisation);
        digest.update(embedder.bytes.to_le_bytes());
        Self {
            since: UNIX_EPOCH + Duration::from_secs(snapshot.at.saturating_sub(snapshot.uptime_s)),
            size: embedder.bytes,
            digest: Hexadecimal(digest.finalize().as_slice()).to_string(),
            details: Details {
                parent_model: "",
                format: "onnx".into(),
                families: vec![family.clone()],
                family,
                parameter_size: parameter_size(embedder.parameters),
                quantization_level: embedder.quantisation.clone(),
            },
            capabilities: vec!["embedding"],
        }
    }
}

fn details(ready: Option<&Ready>) -> Details {
    let text = |read: fn(&Ready) -> String| ready.map(read).unwrap_or_default();
    let family = text(|ready| ready.model.architecture.clone());
    Details {
        parent_model: "",
        format: text(|ready| match ready.backend.as_str() {
            "llama_cpp" => "gguf".to_owned(),
            other => other.to_owned(),
        }),
        families: vec![family.clone()],
        family,
        parameter_size: ready.map_or(String::new(), |ready| parameter_size(ready.model.parameters)),
        quantization_level: text(|ready| ready.model.quantisation.clone()),
    }
}

/// Tells engines apart; it is no digest of the weights' file.
fn digest(model: &str, ready: Option<&Ready>) -> String {
    let mut digest = Sha256::new();
    digest.update(model);
    if let Some(Ready { model, .. }) = ready {
        digest.update(&model.name);
        digest.update(&model.quantisation);
        digest.update(model.parameters.to_le_bytes());
        digest.update(model.weights_bytes.to_le_bytes());
    }
    Hexadecimal(digest.finalize().as_slice()).to_string()
}

/// `134.5M` or `7.6B`.
fn parameter_size(parameters: u64) -> String {
    let count = parameters as f64;
    match parameters {
        0..1_000_000_000 => format!("{:.1}M", count / 1e6),
        _ => format!("{:.1}B", count / 1e9),
    }
}

/// The names as Ollama lists them: each has a tag.
fn names(snapshot: &Snapshot) -> Vec<String> {
    let engine = &snapshot.engine;
    let names = engine.model.iter().chain(&engine.aliases).cloned();
    names.chain(Facts::of(snapshot).wishes()).map(|name| tagged(&name)).collect()
}

fn embedder_names(snapshot: &Snapshot) -> Vec<String> {
    let embedder = snapshot.embedder.iter();
    let names = embedder.flat_map(|it| std::iter::once(&it.model).chain(&it.aliases));
    names.map(|name| tagged(name)).collect()
}

fn tagged(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_tag() {
        assert_eq!(tagged("coder"), "coder:latest");
        assert_eq!(tagged("qwen2.5-coder:7b"), "qwen2.5-coder:7b");
    }

    #[test]
    fn sizes_as_people_say_them() {
        assert_eq!(parameter_size(134_515_008), "134.5M");
        assert_eq!(parameter_size(7_615_616_512), "7.6B");
    }

    #[test]
    fn only_an_infill_model_shows_a_suffix() {
        assert!(template(true).contains(".Suffix"));
        assert!(!template(false).contains(".Suffix"));
    }
}
