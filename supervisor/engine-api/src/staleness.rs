//! Whether an engine still belongs to the machine that it is on.
//!
//! A pure function of the manifest and of what the machine says of itself. An
//! engine is bound to what its manifest names and to nothing else. What one of
//! the two does not tell makes no engine stale; it is said. A Jetson's driver is
//! part of its L4T release, and has no version of its own.
//!
//! An engine of another machine or release is not tried, because a backend may
//! load it and compute wrong: another one stands in for it ([`stand_in`]) until
//! it is built again. One that only another llama.cpp was built with serves on.

use jetpack::{Machine, Root, Sample};
use serde::Serialize;

use crate::manifest::{BackendKind, BoundTo, LLAMA_CPP, Manifest};

/// What an engine can be bound to, as this machine has it; `None` is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    /// For example `x86_64`.
    pub cpu: Option<String>,
    /// The device tree's names, most specific first; empty is unknown.
    pub boards: Vec<String>,
    pub l4t: Option<String>,
    /// The JetPack that `l4t` belongs to; for people.
    pub jetpack: Option<String>,
    pub cuda: Option<String>,
    pub tensorrt: Option<String>,
    pub sm: Option<u32>,
    /// The worker's llama.cpp.
    pub llama_cpp: Option<String>,
}

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    Cpu,
    Board,
    L4t,
    Cuda,
    Tensorrt,
    Sm,
    LlamaCpp,
}

/// One difference between the machine of the build and this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    pub of: Binding,
    pub built_with: String,
    pub here: String,
}

/// What came of the comparison. Stale if there is a reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Staleness {
    pub reasons: Vec<Reason>,
    /// Bound to, or built with, something that only one side tells.
    pub unknown: Vec<Binding>,
}

impl Here {
    /// The machine below `root`, with the worker of this release. Blocks for some
    /// milliseconds; for two seconds where drivers do not answer.
    #[must_use]
    pub fn read(root: Root) -> Self {
        let is_this_machine = root.is_this_machine();
        Self::of(&Machine::open(root).sample(), is_this_machine)
    }

    /// The machine that `sample` was taken of.
    #[must_use]
    pub fn of(sample: &Sample, is_this_machine: bool) -> Self {
        let (board, facts) = (&sample.board, &sample.facts);
        Self {
            cpu: is_this_machine.then(|| std::env::consts::ARCH.to_owned()),
            l4t: board.l4t.map(|l4t| l4t.to_string()),
            boards: board.compatible.clone(),
            jetpack: facts.versions.jetpack.map(str::to_owned),
            cuda: facts.versions.cuda.clone(),
            tensorrt: facts.versions.tensorrt.clone(),
            sm: facts.module.as_ref().map(|module| module.sm),
            // Builder and worker come from one build of the workspace.
            llama_cpp: Some(LLAMA_CPP.into()),
        }
    }

    /// What an engine is bound to that is built here for this GPU.
    #[must_use]
    pub fn bound(&self) -> BoundTo {
        // The module, not the carrier that it is plugged into.
        let module = self.boards.iter().find(|name| !name.contains('+'));
        BoundTo {
            cpu: self.cpu.clone(),
            board: module.or(self.boards.first()).cloned(),
            l4t: self.l4t.clone(),
            cuda: self.cuda.clone(),
            tensorrt: self.tensorrt.clone(),
            sm: self.sm,
        }
    }
}

impl Staleness {
    /// Compares what `manifest` is bound to with what is here.
    #[must_use]
    pub fn of(manifest: &Manifest, here: &Here) -> Self {
        let bound = &manifest.bound_to;
        let mut found = Self::default();
        found.compare(Binding::Cpu, bound.cpu.as_deref(), here.cpu.as_deref(), str::eq);
        let board = here.boards.iter().find(|name| Some(*name) == bound.board.as_ref());
        let board = board.or(here.boards.first()).map(String::as_str);
        found.compare(Binding::Board, bound.board.as_deref(), board, str::eq);
        found.compare(Binding::L4t, bound.l4t.as_deref(), here.l4t.as_deref(), same_version);
        found.compare(Binding::Cuda, bound.cuda.as_deref(), here.cuda.as_deref(), same_version);
        let tensorrt = (bound.tensorrt.as_deref(), here.tensorrt.as_deref());
        found.compare(Binding::Tensorrt, tensorrt.0, tensorrt.1, same_version);
        let sm = [bound.sm, here.sm].map(|sm| sm.map(|sm| sm.to_string()));
        found.compare(Binding::Sm, sm[0].as_deref(), sm[1].as_deref(), str::eq);
        if manifest.backend.kind == BackendKind::LlamaCpp {
            let built = Some(manifest.backend.version.as_str()).filter(|text| !text.is_empty());
            found.compare(
                Binding::LlamaCpp,
                built.or(Some("")),
                here.llama_cpp.as_deref(),
                str::eq,
            );
        }
        found
    }

    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Whether the engine must not be loaded here.
    #[must_use]
    pub fn forbids_serving(&self) -> bool {
        self.reasons.iter().any(|reason| reason.of != Binding::LlamaCpp)
    }

    fn compare(
        &mut self,
        of: Binding,
        built: Option<&str>,
        here: Option<&str>,
        same: impl Fn(&str, &str) -> bool,
    ) {
        match (built, here) {
            (None, _) => {}
            (Some(built), Some(here)) if !built.is_empty() && !here.is_empty() => {
                if !same(built, here) {
                    self.reasons.push(Reason {
                        of,
                        built_with: built.to_owned(),
                        here: here.to_owned(),
                    });
                }
            }
            (Some(_), _) => self.unknown.push(of),
        }
    }

    /// The reasons on one line, with the JetPack of this machine; empty if fresh.
    #[must_use]
    pub fn words(&self, here: &Here) -> String {
        let word = |reason: &Reason| {
            let jetpack = here.jetpack.as_ref().filter(|_| reason.of == Binding::L4t);
            let jetpack = jetpack.map(|name| format!(" (JetPack {name})")).unwrap_or_default();
            format!("{} {}, here {}{jetpack}", reason.of.name(), reason.built_with, reason.here)
        };
        self.reasons.iter().map(word).collect::<Vec<_>>().join("; ")
    }

    /// The names of what is unknown; empty if nothing is.
    #[must_use]
    pub fn unknown_words(&self) -> String {
        self.unknown.iter().map(|of| of.name()).collect::<Vec<_>>().join(", ")
    }
}

impl Binding {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "processor",
            Self::Board => "board",
            Self::L4t => "L4T",
            Self::Cuda => "CUDA",
            Self::Tensorrt => "TensorRT",
            Self::Sm => "SM",
            Self::LlamaCpp => "llama.cpp",
        }
    }
}

/// Which of `others` serves while `chosen` may not: llama.cpp's of the same model,
/// else one of the same model, else llama.cpp's of another. None that may not
/// serve either, and no embedder.
#[must_use]
pub fn stand_in<'a>(
    chosen: &Manifest,
    others: impl Iterator<Item = &'a Manifest>,
    here: &Here,
) -> Option<&'a Manifest> {
    let serves = |other: &&Manifest| !Staleness::of(other, here).forbids_serving();
    let answers = others.filter(|other| other.id != chosen.id && !other.is_embedder());
    answers.filter(serves).max_by_key(|other| {
        let is_same = other.model.name == chosen.model.name;
        (is_same, other.backend.kind == BackendKind::LlamaCpp)
    })
}

/// Whether one version is the other, perhaps told in more detail: `10.3.0` is
/// `10.3.0.30-1+cuda12.5`, and `10.3` is not `10.30`.
fn same_version(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    long.strip_prefix(short)
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{Backend, Capabilities, MANIFEST_VERSION, Model, Serving};

    fn manifest(id: &str, model: &str, kind: BackendKind) -> Manifest {
        Manifest {
            manifest_version: MANIFEST_VERSION,
            id: id.into(),
            built_at: 1,
            model: Model {
                name: model.into(),
                architecture: "llama".into(),
                licence: "unknown".into(),
                quantisation: "F32".into(),
                parameters: 1,
                aliases: Vec::new(),
            },
            backend: Backend { kind, version: LLAMA_CPP.into(), echo: None, tensorrt_llm: None },
            bound_to: BoundTo::default(),
            serving: Serving { context: 256, max_sequences: 1, cached_sequences: 0, kv_bytes: 0 },
            capabilities: Capabilities::default(),
            embedding: None,
            files: Vec::new(),
            commands: Vec::new(),
            smoke: None,
            quantised: None,
            quality: None,
        }
    }

    fn here() -> Here {
        Here {
            cpu: Some("aarch64".into()),
            boards: vec!["nvidia,p3768-0000+p3767-0005".into(), "nvidia,p3767-0005".into()],
            l4t: Some("36.5.0".into()),
            jetpack: Some("6.2.2".into()),
            cuda: Some("12.6.11".into()),
            tensorrt: Some("10.3.0.30-1+cuda12.5".into()),
            sm: Some(87),
            llama_cpp: Some(LLAMA_CPP.into()),
        }
    }

    fn bound() -> BoundTo {
        BoundTo {
            cpu: Some("aarch64".into()),
            board: Some("nvidia,p3767-0005".into()),
            l4t: Some("36.5.0".into()),
            cuda: Some("12.6".into()),
            tensorrt: Some("10.3.0".into()),
            sm: Some(87),
        }
    }

    fn of(bound_to: BoundTo, here: &Here) -> Staleness {
        Staleness::of(&Manifest { bound_to, ..manifest("a", "A", BackendKind::LlamaCpp) }, here)
    }

    #[test]
    fn an_engine_of_this_machine_is_fresh() {
        assert_eq!(of(bound(), &here()), Staleness::default());
        assert_eq!(of(BoundTo::default(), &Here::default()).reasons, []);
    }

    #[test]
    fn what_is_built_here_is_fresh_here_and_on_another_carrier() {
        assert_eq!(of(here().bound(), &here()), Staleness::default());
        let boards = vec!["nvidia,p3509-0000+p3767-0005".into(), "nvidia,p3767-0005".into()];
        assert!(!of(here().bound(), &Here { boards, ..here() }).is_stale());
    }

    #[test]
    fn each_difference_is_a_reason_of_its_own() {
        let other = Here {
            cpu: Some("x86_64".into()),
            boards: vec!["nvidia,p3701-0005".into()],
            l4t: Some("36.4.3".into()),
            jetpack: Some("6.2".into()),
            cuda: Some("12.60".into()),
            tensorrt: Some("10.7.0".into()),
            sm: Some(110),
            llama_cpp: Some("llama-cpp-2 9".into()),
        };
        let found = of(bound(), &other);
        assert!(found.is_stale() && found.unknown.is_empty());
        let words = found.words(&other);
        let expected = "processor aarch64, here x86_64; board nvidia,p3767-0005, here nvidia,p3701-0005; L4T 36.5.0, here 36.4.3 (JetPack 6.2); CUDA 12.6, here 12.60; TensorRT 10.3.0, here 10.7.0; SM 87, here 110; llama.cpp llama-cpp-2 0.1.160, here llama-cpp-2 9";
        assert_eq!(words, expected);
    }

    #[test]
    fn what_is_unknown_is_said_and_makes_nothing_stale() {
        let found = of(bound(), &Here::default());
        assert!(!found.is_stale());
        let names = "processor, board, L4T, CUDA, TensorRT, SM, llama.cpp";
        assert_eq!(found.unknown_words(), names);
        // Nothing was bound to anything: there is nothing to know.
        assert_eq!(of(BoundTo::default(), &Here::default()).unknown, [Binding::LlamaCpp]);
    }

    #[test]
    fn an_engine_of_no_llama_cpp_is_not_bound_to_its_version() {
        let manifest = manifest("a", "A", BackendKind::Echo);
        assert_eq!(Staleness::of(&manifest, &Here::default()), Staleness::default());
    }

    #[test]
    fn another_llama_cpp_makes_an_engine_stale_and_lets_it_serve() {
        let other = Here { llama_cpp: Some("llama-cpp-2 9".into()), ..here() };
        let found = of(bound(), &other);
        assert!(found.is_stale() && !found.forbids_serving());
        let other = Here { tensorrt: Some("10.7.0".into()), ..here() };
        assert!(of(bound(), &other).forbids_serving());
        assert!(
            !of(bound(), &Here::default()).forbids_serving(),
            "what is unknown forbids nothing"
        );
    }

    #[test]
    fn the_same_model_stands_in_before_another_and_llama_cpp_before_others() {
        let (llama, echo) = (BackendKind::LlamaCpp, BackendKind::Echo);
        let chosen = manifest("x", "A", echo);
        let others = [
            manifest("other-echo", "B", echo),
            manifest("other", "B", llama),
            manifest("same-echo", "A", echo),
            manifest("same", "A", llama),
            manifest("x", "A", llama),
        ];
        let first = |count: usize| {
            stand_in(&chosen, others[..count].iter(), &here()).map(|found| found.id.as_str())
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(first),
            [
                None,
                Some("other-echo"),
                Some("other"),
                Some("same-echo"),
                Some("same"),
                Some("same")
            ]
        );
        let bound_to = BoundTo { sm: Some(110), ..BoundTo::default() };
        let stale = [Manifest { bound_to, ..manifest("same", "A", llama) }];
        assert_eq!(stand_in(&chosen, stale.iter(), &here()), None);
    }

    proptest! {
        #[test]
        fn a_version_is_itself_and_its_order_does_not_matter(
            one in "[0-9.+a-z-]{0,12}",
            other in "[0-9.+a-z-]{0,12}",
        ) {
            prop_assert!(same_version(&one, &one));
            prop_assert_eq!(same_version(&one, &other), same_version(&other, &one));
        }
    }
}
