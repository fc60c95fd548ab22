//! The backends, and what speaks against one on a board, under a release or
//! for a model, before any size is looked at.
//!
//! The first group of reasons is about machines, the second about models. Some
//! of the latter would not end in an error but in wrong answers; those can
//! never be overruled.

use engine_api::manifest::BackendKind;
use serde::{Serialize, Serializer};

use super::board::{Board, Class};
use super::release::Release;
use crate::catalogue::{Entry, Family, RopeKind, Runs, Support};
use crate::engines::EngineId;

/// What runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Backend {
    TensorrtLlm,
    TensorrtEdgeLlm,
    LlamaCpp,
}

/// In the order in which they are tried: the fastest with the most abilities first.
pub const BACKENDS: [Backend; 3] =
    [Backend::TensorrtLlm, Backend::TensorrtEdgeLlm, Backend::LlamaCpp];

/// Largest model for which Edge-LLM is tried on 8 GB: NVIDIA publishes nothing
/// larger there.
const MOST_PARAMETERS_ON_8_GB: u64 = 4_500_000_000;

/// Largest batch that NVIDIA has published for Edge-LLM.
pub(super) const EDGE_MOST_USERS: u16 = 8;

impl Backend {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TensorrtLlm => "tensorrt-llm",
            Self::TensorrtEdgeLlm => "tensorrt-edge-llm",
            Self::LlamaCpp => "llama-cpp",
        }
    }

    /// Its release under this JetPack.
    #[must_use]
    pub fn version(self, release: Option<&Release>) -> &'static str {
        match self {
            Self::TensorrtLlm => "0.12.0-jetson",
            Self::TensorrtEdgeLlm if release.is_some_and(|on| on.version >= (7, 0)) => "0.11.0",
            Self::TensorrtEdgeLlm => "0.8.0",
            Self::LlamaCpp => crate::plan::LLAMA_CPP,
        }
    }

    /// What a worker calls it; `None` if no worker of this version can run it.
    #[must_use]
    pub fn kind(self) -> Option<BackendKind> {
        match self {
            Self::TensorrtLlm => Some(BackendKind::TensorrtLlm),
            Self::TensorrtEdgeLlm => None,
            Self::LlamaCpp => Some(BackendKind::LlamaCpp),
        }
    }

    /// The engine's name. llama.cpp has the model's, and the others stand beside it:
    /// it takes their place where they no longer run.
    #[must_use]
    pub fn engine_of(self, model: &EngineId) -> EngineId {
        let named = |name| EngineId::try_from(format!("{model}-{name}"));
        match self {
            Self::LlamaCpp => model.clone(),
            // A name that would be too long stays the model's.
            other => named(other.name()).unwrap_or_else(|_| model.clone()),
        }
    }

    fn support(self, entry: &Entry) -> &Support {
        match self {
            Self::TensorrtLlm => &entry.backends.tensorrt_llm,
            Self::TensorrtEdgeLlm => &entry.backends.tensorrt_edge_llm,
            Self::LlamaCpp => &entry.backends.llama_cpp,
        }
    }

    /// The longest window in which it computes the model right.
    #[must_use]
    pub fn longest_context(self, entry: &Entry) -> u32 {
        let trained = entry.weights.trained_context;
        let rope = &entry.architecture.rope;
        match (self, rope.kind) {
            (Self::TensorrtEdgeLlm, RopeKind::Llama3) => {
                rope.original_context.unwrap_or(trained).min(trained)
            }
            _ => trained,
        }
    }

    /// Why this backend cannot run `entry` on `board`, or should not unless
    /// somebody asks for it by name.
    #[must_use]
    pub fn against(
        self,
        entry: &Entry,
        board: &Board,
        release: Option<&Release>,
        asked_for: bool,
    ) -> Option<String> {
        let by_machine = match self {
            Self::TensorrtLlm => tensorrt_llm_machine(board, release),
            Self::TensorrtEdgeLlm => edge_llm_machine(entry, board, release),
            Self::LlamaCpp => None,
        };
        let by_model = || match self {
            Self::TensorrtLlm => tensorrt_llm_model(entry),
            Self::TensorrtEdgeLlm => edge_llm_model(entry),
            Self::LlamaCpp => None,
        };
        by_machine.or_else(by_model).or_else(|| by_catalogue(self.support(entry), asked_for))
    }

    /// What the catalogue knows of the model on this backend.
    #[must_use]
    pub fn known(self, entry: &Entry) -> Option<&str> {
        self.support(entry).why.as_deref()
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Backend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

fn by_catalogue(support: &Support, asked_for: bool) -> Option<String> {
    let why = support.why.clone().unwrap_or_default();
    match support.runs {
        Runs::Yes => None,
        Runs::Untried if asked_for => None,
        Runs::Untried => Some(format!("{why}; untried, so only with --backend")),
        Runs::No => Some(why),
    }
}

fn tensorrt_llm_machine(board: &Board, release: Option<&Release>) -> Option<String> {
    if board.class == Class::Pc {
        return Some("0.12.0-jetson runs on Jetson Orin only".into());
    }
    let release = release?;
    if !((6, 1)..=(6, 2)).contains(&release.version) {
        let tensorrt =
            release.tensorrt.map(|version| format!(" and TensorRT {version}")).unwrap_or_default();
        return Some(format!(
            "0.12.0-jetson is built for CUDA 12.6 and TensorRT 10.3 of JetPack 6.1 and 6.2; JetPack \
             {} has CUDA {}{tensorrt}",
            release.jetpack, release.cuda
        ));
    }
    match board.class {
        Class::Orin8 | Class::Orin4 => Some(
            "NVIDIA supports it on AGX Orin; on 8 GB and less its runtime and its converter leave \
             too little for a model"
                .into(),
        ),
        _ => None,
    }
}

fn edge_llm_machine(entry: &Entry, board: &Board, release: Option<&Release>) -> Option<String> {
    if board.class == Class::Pc {
        return Some("its builds for PCs have no code for every GPU; it is for Jetson here".into());
    }
    let release = release?;
    if release.version < (6, 2) {
        return Some(format!(
            "0.8.0 needs JetPack 6.2, 0.11.0 needs JetPack 7.2; this is JetPack {}",
            release.jetpack
        ));
    }
    match board.class {
        Class::Orin4 => Some("4 GB are too little for its builder".into()),
        Class::Orin8 if entry.weights.parameters > MOST_PARAMETERS_ON_8_GB => {
            Some("on 8 GB nobody has published a model above 4 billion parameters with it".into())
        }
        _ => None,
    }
}

fn tensorrt_llm_model(entry: &Entry) -> Option<String> {
    if entry.capabilities.embedding {
        return Some("it serves no embeddings".into());
    }
    if entry.architecture.family == Family::Qwen3 {
        return Some("0.12 does not know the Qwen3 architecture".into());
    }
    match entry.architecture.rope.kind {
        RopeKind::Llama3 => Some(
            "0.12 goes with transformers up to 4.42.4, which refuse RoPE scaling of kind llama3"
                .into(),
        ),
        RopeKind::Yarn => Some("0.12 has no RoPE scaling of kind yarn for this family".into()),
        RopeKind::Default | RopeKind::Linear | RopeKind::Longrope => None,
    }
}

fn edge_llm_model(entry: &Entry) -> Option<String> {
    if entry.capabilities.embedding {
        return Some("it serves no embeddings".into());
    }
    if entry.architecture.rope.kind == RopeKind::Linear {
        return Some(
            "it does not read linear RoPE scaling and would compute wrong answers without an error"
                .into(),
        );
    }
    (entry.architecture.family == Family::Phi3).then(|| "it does not list Phi-3".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn against(backend: Backend, model: &str, board: &str, jetpack: &str) -> String {
        let catalogue = Catalogue::built_in();
        let board = Board::named(board).unwrap();
        let release = Release::named(jetpack).unwrap();
        let entry = catalogue.find(model).unwrap();
        backend.against(entry, &board, Some(&release), true).unwrap_or_default()
    }

    #[test]
    fn what_would_compute_wrong_or_cannot_work_is_refused_even_on_request() {
        use Backend::{TensorrtEdgeLlm, TensorrtLlm};
        for (backend, model, board, jetpack, reason) in [
            (TensorrtLlm, "qwen3-8b", "agx-orin-64gb", "6.2", "does not know the Qwen3"),
            (TensorrtLlm, "llama3", "agx-orin-64gb", "7.2", "JetPack 7.2 has CUDA 13.2"),
            (TensorrtLlm, "llama3", "agx-orin-64gb", "6.0", "has CUDA 12.2 and TensorRT 8.6.2"),
            (TensorrtLlm, "llama3", "orin-nx-8gb", "6.2", "on 8 GB and less"),
            (TensorrtLlm, "llama3.2", "agx-orin-64gb", "6.2", "RoPE scaling of kind llama3"),
            (TensorrtEdgeLlm, "deepseek-coder:6.7b", "agx-orin-64gb", "6.2", "wrong answers"),
            (TensorrtEdgeLlm, "deepseek-coder:6.7b", "agx-orin-64gb", "7.2", "wrong answers"),
            (TensorrtEdgeLlm, "qwen3-8b", "agx-orin-64gb", "6.1", "needs JetPack 6.2"),
            (TensorrtEdgeLlm, "qwen3-8b", "orin-nano-8gb", "7.2", "above 4 billion"),
            (TensorrtEdgeLlm, "phi3", "agx-orin-64gb", "7.2", "does not list Phi-3"),
        ] {
            let said = against(backend, model, board, jetpack);
            assert!(said.contains(reason), "{backend} {model} {board} {jetpack}: {said:?}");
        }
        assert_eq!(against(TensorrtLlm, "llama3", "agx-orin-32gb", "6.1"), "");
        assert_eq!(against(TensorrtEdgeLlm, "mistral", "agx-orin-32gb", "6.2"), "");
    }

    #[test]
    fn the_engines_of_one_model_have_names_of_their_own() {
        let model = |name: &str| EngineId::try_from(name.to_owned()).unwrap();
        let named = |backend: Backend, name| backend.engine_of(&model(name)).to_string();
        assert_eq!(named(Backend::LlamaCpp, "qwen3-4b"), "qwen3-4b");
        assert_eq!(named(Backend::TensorrtLlm, "qwen3-4b"), "qwen3-4b-tensorrt-llm");
        let long = "x".repeat(95);
        assert_eq!(named(Backend::TensorrtLlm, &long), long);
    }

    /// A file of the catalogue cannot promise what the rules refuse.
    #[test]
    fn the_catalogue_agrees_with_the_rules() {
        for entry in Catalogue::built_in().entries() {
            if tensorrt_llm_model(entry).is_some() {
                assert_eq!(entry.backends.tensorrt_llm.runs, Runs::No, "{}", entry.id);
            }
            if edge_llm_model(entry).is_some() {
                assert_eq!(entry.backends.tensorrt_edge_llm.runs, Runs::No, "{}", entry.id);
            }
        }
    }

    #[test]
    fn scaled_rope_that_is_not_applied_shortens_the_window() {
        let catalogue = Catalogue::built_in();
        let llama = catalogue.find("llama3.2:1b").unwrap();
        assert_eq!(Backend::TensorrtEdgeLlm.longest_context(llama), 8192);
        assert_eq!(Backend::LlamaCpp.longest_context(llama), 131_072);
    }
}
