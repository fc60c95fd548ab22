//! Whether a file of the catalogue agrees with itself.
//!
//! The bounds are far above any model that a board could run. They keep the
//! arithmetic on a user's own file from overflowing.

use super::architecture::{Family, RopeKind};
use super::entry::{ChatTemplate, Entry, Runs};
use super::quantisation::Quantisation;

/// A key and what is wrong with its value.
pub(super) type Fault = (&'static str, String);

const MOST_LAYERS: u32 = 1000;
const MOST_HEADS: u32 = 1024;
const WIDEST: u32 = 1 << 20;
const LARGEST_VOCABULARY: u32 = 1 << 24;
const LONGEST_CONTEXT: u32 = 1 << 24;
/// What file systems allow, less our own endings.
const LONGEST_FILE_NAME: usize = 200;
/// llama.cpp keeps 256 sequences apart.
const MOST_SEQUENCES: u16 = 256;

/// The first thing that does not hold together.
pub(super) fn check(entry: &Entry) -> Result<(), Fault> {
    shape(entry)?;
    rope(entry)?;
    arithmetic(entry)?;
    sources(entry)?;
    serving(entry)?;
    quality(entry)?;
    backends(entry)
}

fn shape(entry: &Entry) -> Result<(), Fault> {
    let shape = &entry.architecture;
    for (key, value, most) in [
        ("architecture.layers", shape.layers, MOST_LAYERS),
        ("architecture.hidden", shape.hidden, WIDEST),
        ("architecture.heads", shape.heads, MOST_HEADS),
        ("architecture.kv_heads", shape.kv_heads, shape.heads),
        ("architecture.head_dim", shape.head_dim, MOST_HEADS),
        ("architecture.feed_forward", shape.feed_forward, WIDEST),
        ("architecture.vocabulary", shape.vocabulary, LARGEST_VOCABULARY),
        ("weights.trained_context", entry.weights.trained_context, LONGEST_CONTEXT),
    ] {
        if value == 0 || value > most {
            return fault(key, format!("{value} is not between 1 and {most}"));
        }
    }
    if !shape.heads.is_multiple_of(shape.kv_heads) {
        let what = format!("{} do not share {} heads evenly", shape.kv_heads, shape.heads);
        return fault("architecture.kv_heads", what);
    }
    Ok(())
}

fn rope(entry: &Entry) -> Result<(), Fault> {
    let rope = &entry.architecture.rope;
    let trained = entry.weights.trained_context;
    let scaled = rope.kind != RopeKind::Default;
    if scaled != rope.factor.is_some() {
        let what = if scaled { "is missing" } else { "means nothing without scaling" };
        return fault("architecture.rope.factor", what.into());
    }
    match rope.original_context {
        Some(original) if original == 0 || original > trained => {
            let what =
                format!("{original} is not between 1 and weights.trained_context, {trained}");
            fault("architecture.rope.original_context", what)
        }
        None if scaled => fault("architecture.rope.original_context", "is missing".into()),
        _ => Ok(()),
    }
}

fn arithmetic(entry: &Entry) -> Result<(), Fault> {
    let (shape, weights) = (&entry.architecture, &entry.weights);
    if weights.parameters != shape.parameters() {
        let what = format!("{}; the architecture has {}", weights.parameters, shape.parameters());
        return fault("weights.parameters", what);
    }
    if weights.kv_bytes_per_token != shape.kv_bytes_per_token() {
        let what = format!(
            "{}; 2 × layers × kv_heads × head_dim × 2 bytes are {}",
            weights.kv_bytes_per_token,
            shape.kv_bytes_per_token()
        );
        return fault("weights.kv_bytes_per_token", what);
    }
    let gguf = match shape.family {
        Family::Llama | Family::Mistral => "llama",
        other => other.name(),
    };
    if weights.architecture != gguf {
        let what = format!("{:?}; a {} is {gguf:?}", weights.architecture, shape.family.name());
        return fault("weights.architecture", what);
    }
    if weights.bytes.is_none() && Quantisation::of_gguf(&weights.quantisation).is_none() {
        let what = format!("must be told: no size is known for {}", weights.quantisation);
        return fault("weights.bytes", what);
    }
    Ok(())
}

fn sources(entry: &Entry) -> Result<(), Fault> {
    let source = &entry.source;
    match (&source.package, &source.gguf, &source.checkpoint) {
        (Some(_), Some(_), _) => {
            return fault("source.gguf", "stands beside source.package; one file is enough".into());
        }
        (None, None, None) => {
            return fault("source", "names neither a package nor a gguf nor a checkpoint".into());
        }
        _ => {}
    }
    if let Some(package) = &source.package {
        if entry.weights.bytes.is_none() || entry.weights.sha256.is_none() {
            return fault("weights.sha256", "a packaged model has a known size and hash".into());
        }
        if !package.member.ends_with(".gguf") || package.download_bytes == 0 {
            return fault("source.package.member", "is not a GGUF file".into());
        }
    }
    for (key, name) in [
        ("source.gguf.repository", source.gguf.as_ref().map(|gguf| &gguf.repository)),
        ("source.checkpoint.repository", source.checkpoint.as_ref().map(|from| &from.repository)),
        ("source.gptq.repository", source.gptq.as_ref().map(|gptq| &gptq.repository)),
        ("source.awq.repository", source.awq.as_ref().map(|awq| &awq.repository)),
    ] {
        if let Some(name) = name.filter(|name| !is_repository(name)) {
            return fault(key, format!("{name:?} is not OWNER/NAME"));
        }
    }
    if let Some(name) = source.gguf.as_ref().map(|gguf| &gguf.file)
        && !(is_file_name(name) && name.ends_with(".gguf"))
    {
        return fault("source.gguf.file", format!("{name:?} is not the name of a GGUF file"));
    }
    Ok(())
}

/// A name of one file, of characters that are the same in a path and in an
/// address, and that names no hidden file.
pub(crate) fn is_file_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(known)
        && name.len() <= LONGEST_FILE_NAME
}

/// `OWNER/NAME`, of characters that are the same in a path and in an address.
fn is_repository(name: &str) -> bool {
    let plain = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        part.starts_with(|first: char| first.is_ascii_alphanumeric()) && part.bytes().all(known)
    };
    name.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
}

fn serving(entry: &Entry) -> Result<(), Fault> {
    let serving = &entry.serving;
    if serving.context == 0 || serving.context > entry.weights.trained_context {
        let what = format!("{} is not within weights.trained_context", serving.context);
        return fault("serving.context", what);
    }
    let sequences = serving.max_sequences.saturating_add(serving.cached_sequences);
    if serving.max_sequences == 0 || sequences > MOST_SEQUENCES {
        return fault(
            "serving.max_sequences",
            format!("not 1 to {MOST_SEQUENCES} with the cached"),
        );
    }
    let capabilities = entry.capabilities;
    if !capabilities.chat && !capabilities.embedding {
        return fault("capabilities", "it can neither chat nor embed".into());
    }
    if capabilities.chat == (entry.chat_template == ChatTemplate::None) {
        return fault("chat_template", "and capabilities.chat do not agree".into());
    }
    if capabilities.embedding != entry.embedding.is_some() {
        return fault("embedding", "and capabilities.embedding do not agree".into());
    }
    if let Some(embedding) = &entry.embedding {
        if capabilities.chat {
            return fault("capabilities.chat", "an embedder gives no answers".into());
        }
        if embedding.dimension != entry.architecture.hidden {
            let (says, has) = (embedding.dimension, entry.architecture.hidden);
            return fault("embedding.dimension", format!("{says}; architecture.hidden is {has}"));
        }
    }
    if capabilities.fim && entry.fim.is_none() {
        return fault("capabilities.fim", "needs the tokens of [fim]".into());
    }
    Ok(())
}

fn quality(entry: &Entry) -> Result<(), Fault> {
    let bad = |most: &f64| !most.is_finite() || *most <= 1.0;
    match entry.quality.iter().flatten().find(|(_, most)| bad(most)) {
        Some((name, most)) => {
            fault("quality", format!("{name} = {most}; no perplexity is below 1"))
        }
        None => Ok(()),
    }
}

fn backends(entry: &Entry) -> Result<(), Fault> {
    for (key, support) in [
        ("backends.llama-cpp", &entry.backends.llama_cpp),
        ("backends.tensorrt-llm", &entry.backends.tensorrt_llm),
        ("backends.tensorrt-edge-llm", &entry.backends.tensorrt_edge_llm),
    ] {
        if support.runs != Runs::Yes && support.why.is_none() {
            return fault(key, "says no reason (why)".into());
        }
    }
    Ok(())
}

fn fault(key: &'static str, what: String) -> Result<(), Fault> {
    Err((key, what))
}
