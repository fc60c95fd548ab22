//! What will be built. Nothing is decided later, and nothing is touched here.

use std::path::{Path, PathBuf};

use engine_api::chore::Target;
use engine_api::embedding::Embedding;
pub use engine_api::manifest::LLAMA_CPP;
use engine_api::manifest::{
    ArtefactRole, Backend, BackendKind, Capabilities, Manifest, Model, Serving,
};
use jetpack::Bytes;

mod origin;
mod requantise;

pub use origin::Origin;
pub(crate) use origin::no_such_form;
pub use requantise::Requantise;
use requantise::{K_BLOCK, Shape, in_16_bits, requantise};

use crate::catalogue::{Entry, Form, Quantisation};
use crate::engines::EngineId;
use crate::error::Error;
use crate::gguf::Facts;
use crate::hash::Sha256Hex;

/// How a model that is not in the catalogue serves by default.
const MAX_SEQUENCES: u16 = 8;
const CACHED_SEQUENCES: u16 = 2;
const CONTEXT: u32 = 4096;

/// llama.cpp gives each sequence its cells of the KV cache in units of this.
pub(crate) const CELLS: u32 = 256;

/// A window shorter than this holds no conversation.
const LEAST_CONTEXT: u32 = 256;

/// What the user asked for beside the model.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub name: Option<EngineId>,
    /// Tokens in one request's window.
    pub context: Option<u32>,
    /// Requests decoded at once.
    pub users: Option<u16>,
    /// What the weights are to be quantised to.
    pub quantise: Option<Target>,
    /// Which of the model's forms is taken.
    pub form: Option<Form>,
}

/// What is made of a checkpoint unless somebody wants another type.
pub(crate) const OF_CHECKPOINTS: &str = "Q4_K_M";

/// What the manifest calls a checkpoint that an engine was made from.
const CHECKPOINT: &str = "checkpoint";

/// One engine to be built.
#[derive(Debug, Clone)]
pub struct Plan {
    pub id: EngineId,
    pub model: Model,
    pub backend: Backend,
    pub serving: Serving,
    /// How it makes vectors; `None` for a model that answers.
    pub embedding: Option<Embedding>,
    pub weights: Weights,
    /// What the catalogue promises; `None` for a file of the user's own.
    pub promised: Option<Promise>,
    /// `None`: the file is served as it is.
    pub quantise: Option<Requantise>,
    /// The catalogue's bound for the engine's perplexity, if it has one.
    pub most_perplexity: Option<f64>,
}

/// The model file and where it comes from.
#[derive(Debug, Clone)]
pub struct Weights {
    pub bytes: u64,
    /// Whether the size follows from the model's shape alone, because nobody has
    /// told it. It is known once the file is there.
    pub estimated: bool,
    /// Known before the file is there if it comes from the catalogue. Of a
    /// checkpoint: what its files are known by together ([`crate::convert`]).
    pub sha256: Option<Sha256Hex>,
    /// KV cache of one token; `None` if the model has no plain KV cache.
    pub kv_bytes_per_token: Option<u64>,
    pub origin: Origin,
}

/// What a catalogue model must be able to do.
#[derive(Debug, Clone)]
pub struct Promise {
    pub capabilities: Capabilities,
    pub smoke_answer: Vec<u32>,
}

impl Plan {
    /// Memory that the engine takes while it serves: weights and conversations.
    #[must_use]
    pub fn memory(&self) -> Bytes {
        Bytes::new(self.engine_bytes()) + Bytes::new(self.serving.kv_bytes)
    }

    /// What the engine's weights take, as they are served.
    #[must_use]
    pub fn engine_bytes(&self) -> u64 {
        self.quantise.as_ref().map_or(self.weights.bytes, |wish| wish.bytes)
    }

    /// The quantisation of the file that is fetched.
    #[must_use]
    pub fn source_quantisation(&self) -> &str {
        self.quantise.as_ref().map_or(&self.model.quantisation, |wish| &wish.from)
    }

    /// What the manifest says the weights were quantised from.
    #[must_use]
    pub fn made_from(&self) -> &str {
        match self.weights.origin {
            Origin::Checkpoint { .. } => CHECKPOINT,
            _ => self.source_quantisation(),
        }
    }

    /// Users that could be served in `available` memory, at this context.
    #[must_use]
    pub fn users_that_fit(&self, available: Bytes) -> u16 {
        let window = kv_bytes(self.weights.kv_bytes_per_token, self.serving.context, 1);
        let room = available.saturating_sub(Bytes::new(self.engine_bytes())).get();
        let windows = room.checked_div(window).unwrap_or(0);
        let users = windows.saturating_sub(u64::from(self.serving.cached_sequences));
        u16::try_from(users).unwrap_or(u16::MAX)
    }

    /// The plan in a few words.
    #[must_use]
    pub fn summary(&self) -> String {
        let Serving { context, max_sequences, .. } = self.serving;
        let model = &self.model;
        let estimated = self.weights.estimated || self.quantise.is_some();
        let about = if estimated { "about " } else { "" };
        let from = match &self.quantise {
            Some(_) => format!(" (quantised from {})", self.made_from()),
            None => String::new(),
        };
        if let Some(embedding) = &self.embedding {
            return format!(
                "{}: {} {}{from}, {context} tokens a text, vectors of {}, {about}{} of memory",
                self.id,
                model.name,
                model.quantisation,
                embedding.dimension,
                self.memory()
            );
        }
        format!(
            "{}: {} {}{from}, {context} tokens for each of {max_sequences} users, {about}{} of memory",
            self.id,
            model.name,
            model.quantisation,
            self.memory()
        )
    }
}

/// The plan for a model of the catalogue.
///
/// # Errors
/// [`Error::Usage`] if a wish cannot be granted, or the model is not to be had in
/// the form that is wished for.
pub fn from_catalogue(entry: &Entry, wishes: &Wishes) -> Result<Plan, Error> {
    let origin = Origin::of(entry, wishes.form)?;
    if entry.embedding.is_some() {
        one_text_at_a_time(wishes)?;
    }
    let mut model = entry.model();
    let from_checkpoint = matches!(origin, Origin::Checkpoint { .. });
    // A checkpoint becomes a file of 16 bits, which is then quantised.
    let (told, sha256) = match from_checkpoint {
        true => (None, None),
        false => (entry.weights.bytes, entry.weights.sha256.clone()),
    };
    if from_checkpoint {
        model.quantisation = Quantisation::F16.name().into();
    }
    let wishes = &Wishes {
        quantise: wishes
            .quantise
            .or_else(|| from_checkpoint.then(|| Target::named(OF_CHECKPOINTS)).flatten()),
        ..wishes.clone()
    };
    let estimate = || match from_checkpoint {
        true => Some(in_16_bits(entry.weights.parameters)),
        false => {
            let quantisation = Quantisation::of_gguf(&model.quantisation)?;
            Some(entry.architecture.resident_bytes(quantisation))
        }
    };
    let Some(bytes) = told.or_else(estimate) else {
        return Err(Error::Unsupported(format!(
            "how large {} is in {} is unknown; write it into its catalogue file",
            entry.id, model.quantisation
        )));
    };
    let weights = Weights {
        bytes,
        estimated: told.is_none(),
        sha256,
        kv_bytes_per_token: Some(entry.weights.kv_bytes_per_token),
        origin,
    };
    // Other weights may answer otherwise and yet be good: their perplexity decides.
    let smoke_answer = match wishes.quantise {
        Some(_) => Vec::new(),
        None => entry.smoke_answer.clone(),
    };
    let promise = Promise { capabilities: entry.capabilities, smoke_answer };
    let usual = entry.serving;
    let shape = Shape {
        parameters: entry.weights.parameters,
        even: entry.architecture.hidden.is_multiple_of(K_BLOCK),
    };
    let quantise = requantise(wishes, &mut model, shape)?;
    let bounds = entry.quality.as_ref();
    let most_perplexity = bounds.and_then(|all| all.get(&model.quantisation)).copied();
    Ok(Plan {
        id: wishes.name.clone().unwrap_or_else(|| entry.id.clone()),
        model,
        backend: llama_cpp(),
        serving: serving(
            wishes,
            (usual.context, usual.max_sequences, usual.cached_sequences),
            Some(entry.weights.trained_context),
            weights.kv_bytes_per_token,
        )?,
        embedding: entry.embedding.clone(),
        weights,
        promised: Some(promise),
        quantise,
        most_perplexity,
    })
}

/// The plan for the model file at `path`, whose header says `facts`.
///
/// # Errors
/// [`Error::Usage`] if a wish cannot be granted.
pub fn from_file(path: PathBuf, bytes: u64, facts: &Facts, wishes: &Wishes) -> Result<Plan, Error> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let title = facts.name.clone().or(stem).unwrap_or_default();
    let id = wishes.name.clone().or_else(|| EngineId::from_title(&title)).ok_or_else(|| {
        Error::Usage(format!("{title:?} makes no engine name; give one with --name"))
    })?;
    let context = facts.trained_context.map_or(CONTEXT, |trained| trained.min(CONTEXT));
    let (users, cached) = match facts.embedding {
        Some(_) => (one_text_at_a_time(wishes)?, 0),
        None => (MAX_SEQUENCES, CACHED_SEQUENCES),
    };
    let mut model = Model {
        name: if title.is_empty() { id.to_string() } else { title },
        architecture: facts.architecture.clone(),
        licence: facts.licence.clone().unwrap_or_else(|| "unknown".into()),
        quantisation: facts.quantisation.clone(),
        parameters: facts.parameters,
        aliases: Vec::new(),
    };
    // How long its rows are is not looked at, so the larger estimate holds.
    let shape = Shape { parameters: facts.parameters, even: false };
    let quantise = requantise(wishes, &mut model, shape)?;
    Ok(Plan {
        model,
        id,
        backend: llama_cpp(),
        serving: serving(
            wishes,
            (context, users, cached),
            facts.trained_context,
            facts.kv_bytes_per_token,
        )?,
        embedding: facts.embedding.clone(),
        weights: Weights {
            bytes,
            estimated: false,
            sha256: None,
            kv_bytes_per_token: facts.kv_bytes_per_token,
            origin: Origin::File(path),
        },
        promised: None,
        quantise,
        most_perplexity: None,
    })
}

/// The plan for an engine that is there, from its own weights in `dir`. `entry` is
/// what the catalogue has of its model.
#[must_use]
pub fn again(manifest: &Manifest, dir: &Path, id: EngineId, entry: Option<&Entry>) -> Option<Plan> {
    let weights = manifest.files.iter().find(|file| file.role == ArtefactRole::Weights)?;
    let tokens = u64::from(manifest.serving.context).next_multiple_of(CELLS.into());
    let windows = u64::from(manifest.serving.max_sequences)
        .saturating_add(manifest.serving.cached_sequences.into());
    let per_token = manifest.serving.kv_bytes.checked_div(tokens.saturating_mul(windows));
    Some(Plan {
        id,
        model: manifest.model.clone(),
        backend: llama_cpp(),
        serving: manifest.serving.clone(),
        embedding: manifest.embedding.clone(),
        weights: Weights {
            bytes: weights.bytes,
            estimated: false,
            sha256: Sha256Hex::try_from(weights.sha256.clone()).ok(),
            kv_bytes_per_token: per_token.filter(|bytes| *bytes > 0),
            origin: Origin::File(dir.join(&weights.path)),
        },
        promised: entry.map(|entry| Promise {
            capabilities: entry.capabilities,
            smoke_answer: entry.smoke_answer.clone(),
        }),
        quantise: None,
        // It may not get worse than it was allowed to be.
        most_perplexity: manifest.quality.as_ref().map(|quality| quality.bound),
    })
}

/// An embedder computes one text after the other, so that none depends on its
/// neighbours, and its vectors are not held to a bound for answers.
fn one_text_at_a_time(wishes: &Wishes) -> Result<u16, Error> {
    if wishes.users.is_some() || wishes.quantise.is_some() {
        let what = "an embedder has neither users nor another quantisation; leave them out";
        return Err(Error::Usage(what.into()));
    }
    Ok(1)
}

fn llama_cpp() -> Backend {
    Backend {
        kind: BackendKind::LlamaCpp,
        version: LLAMA_CPP.into(),
        echo: None,
        tensorrt_llm: None,
    }
}

fn serving(
    wishes: &Wishes,
    (context, max_sequences, cached_sequences): (u32, u16, u16),
    trained: Option<u32>,
    kv_bytes_per_token: Option<u64>,
) -> Result<Serving, Error> {
    let context = wishes.context.unwrap_or(context);
    let max_sequences = wishes.users.unwrap_or(max_sequences);
    if let Some(trained) = trained.filter(|trained| context > *trained) {
        return Err(Error::Usage(format!(
            "--context {context} is more than the {trained} tokens the model was trained with"
        )));
    }
    if context < LEAST_CONTEXT {
        return Err(Error::Usage(format!(
            "--context {context} is less than the {LEAST_CONTEXT} tokens that make a conversation"
        )));
    }
    let windows = u32::from(max_sequences) + u32::from(cached_sequences);
    let kv_bytes = kv_bytes(kv_bytes_per_token, context, windows);
    Ok(Serving { context, max_sequences, cached_sequences, kv_bytes })
}

/// What the KV cache takes: each window has its own cells, used or not.
fn kv_bytes(per_token: Option<u64>, context: u32, windows: u32) -> u64 {
    let tokens = u64::from(context).next_multiple_of(CELLS.into()) * u64::from(windows);
    per_token.unwrap_or(0).saturating_mul(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn smollm2(wishes: &Wishes) -> Result<Plan, Error> {
        from_catalogue(Catalogue::built_in().find("smollm2").unwrap(), wishes)
    }

    fn facts() -> Facts {
        Facts {
            name: Some("My Model".into()),
            architecture: "llama".into(),
            licence: None,
            parameters: 1000,
            quantisation: "Q8_0".into(),
            trained_context: Some(2048),
            kv_bytes_per_token: Some(100),
            chat_template: true,
            fim: false,
            tokenizer: Some("gpt2".into()),
            embedding: None,
        }
    }

    #[test]
    fn the_default_model_keeps_its_promises_in_its_memory() {
        let plan = smollm2(&Wishes::default()).unwrap();
        let expected =
            Serving { context: 4096, max_sequences: 8, cached_sequences: 2, kv_bytes: 943_718_400 };
        assert_eq!(plan.serving, expected);
        assert_eq!(plan.memory(), Bytes::new(943_718_400 + 98_362_432));
    }

    #[test]
    fn wishes_change_the_window_the_users_and_the_memory() {
        let wishes = Wishes { context: Some(1000), users: Some(3), ..Wishes::default() };
        let serving = smollm2(&wishes).unwrap().serving;
        assert_eq!((serving.context, serving.max_sequences), (1000, 3));
        assert_eq!(serving.kv_bytes, 23_040 * 1024 * 5);
    }

    #[test]
    fn what_is_quantised_here_is_planned_as_what_it_becomes() {
        let quantise = |name| Wishes { quantise: Target::named(name), ..Wishes::default() };
        let plan = smollm2(&quantise("q4_k_m")).unwrap();
        assert_eq!(plan.model.quantisation, "Q4_K_M");
        assert_eq!(plan.source_quantisation(), "Q4_1");
        assert_eq!(plan.weights.bytes, 98_362_432, "the file that is fetched is the same");
        // Its rows are no multiple of 256.
        assert_eq!(plan.engine_bytes(), 134_515_008 * 680 / 800 + (8 << 20));
        assert_eq!(plan.memory().get(), plan.engine_bytes() + plan.serving.kv_bytes);
        assert!(plan.summary().contains("SmolLM2 135M Instruct Q4_K_M (quantised from Q4_1), "));
        assert!(plan.promised.unwrap().smoke_answer.is_empty());
        let facts = Facts { quantisation: "Q8_0".into(), ..facts() };
        let same = from_file("/m/f.gguf".into(), 5, &facts, &quantise("Q8_0")).unwrap_err();
        assert_eq!(
            same.to_string(),
            "--quantise Q8_0: the model file is Q8_0 already; leave --quantise out"
        );
    }

    #[test]
    fn a_window_the_model_cannot_fill_is_refused() {
        let refuse = |context| {
            let wishes = Wishes { context: Some(context), ..Wishes::default() };
            smollm2(&wishes).unwrap_err().to_string()
        };
        assert_eq!(
            refuse(8193),
            "--context 8193 is more than the 8192 tokens the model was trained with"
        );
        assert!(refuse(10).contains("is less than the 256 tokens"));
    }

    #[test]
    fn a_size_that_nobody_has_told_is_an_estimate_and_said_to_be_one() {
        let plan = |name: &str| {
            let catalogue = Catalogue::built_in();
            from_catalogue(catalogue.find(name).unwrap(), &Wishes::default()).unwrap()
        };
        let known = plan("qwen3:4b");
        assert_eq!((known.weights.bytes, known.weights.estimated), (2_497_280_256, false));
        let estimated = plan("meta-llama-3-8b-instruct");
        assert!(estimated.weights.estimated && estimated.weights.sha256.is_none());
        assert!(estimated.weights.bytes > 4_000_000_000);
        assert!(estimated.summary().contains("users, about "));
    }

    #[test]
    fn a_checkpoint_is_taken_if_there_is_nothing_else_or_it_is_asked_for() {
        let mut entry = Catalogue::built_in().find("qwen3:4b").unwrap().clone();
        let asked = Wishes { form: Some(Form::Checkpoint), ..Wishes::default() };
        let of = |entry: &Entry, wishes: &Wishes| from_catalogue(entry, wishes).unwrap();
        let usual = of(&entry, &Wishes::default());
        assert!(matches!(usual.weights.origin, Origin::Hub { .. }));
        let plan = of(&entry, &asked);
        assert!(matches!(plan.weights.origin, Origin::Checkpoint { .. }));
        assert_eq!((plan.source_quantisation(), plan.made_from()), ("F16", "checkpoint"));
        assert_eq!(plan.model.quantisation, "Q4_K_M");
        assert!(plan.weights.estimated && plan.weights.sha256.is_none());
        assert!(plan.weights.bytes > 2 * entry.weights.parameters);
        entry.source.gguf = None;
        let eight = Wishes { quantise: Target::named("Q8_0"), ..Wishes::default() };
        assert_eq!(of(&entry, &eight).model.quantisation, "Q8_0");
        let refused = |form| {
            let wishes = Wishes { form: Some(form), ..Wishes::default() };
            from_catalogue(&entry, &wishes).unwrap_err().to_string()
        };
        assert!(refused(Form::Gguf).starts_with("qwen3-4b is not published as gguf, only as "));
        assert!(refused(Form::Awq).starts_with("llama-cpp takes no weights that are awq already"));
        entry.source = crate::catalogue::Sources::default();
        let nothing = from_catalogue(&entry, &Wishes::default()).unwrap_err().to_string();
        assert!(nothing.ends_with("use --gguf FILE --name qwen3-4b"), "{nothing}");
    }

    #[test]
    fn a_file_is_named_after_what_it_says_of_itself() {
        let plan =
            |facts: &Facts| from_file("/m/f 1.gguf".into(), 5, facts, &Wishes::default()).unwrap();
        assert_eq!(plan(&facts()).id.as_str(), "my-model");
        assert_eq!(plan(&Facts { name: None, ..facts() }).id.as_str(), "f-1");
        assert_eq!(plan(&facts()).serving.context, 2048);
        assert_eq!(plan(&facts()).model.licence, "unknown");
    }

    #[test]
    fn the_users_that_fit_leave_room_for_weights_and_kept_prefixes() {
        let plan = smollm2(&Wishes::default()).unwrap();
        let window = 23_040 * 4096;
        let fit = |windows: u64| plan.users_that_fit(Bytes::new(98_362_432 + windows * window));
        assert_eq!((fit(10), fit(3), fit(2), fit(0)), (8, 1, 0, 0));
        assert_eq!(plan.users_that_fit(Bytes::new(1)), 0);
    }

    #[test]
    fn the_backend_version_is_the_one_the_workspace_pins() {
        let pinned = LLAMA_CPP.replace(' ', " = { version = \"=");
        let workspace = include_str!("../../Cargo.toml");
        assert!(workspace.contains(&pinned), "LLAMA_CPP is not what Cargo.toml pins");
    }
}
