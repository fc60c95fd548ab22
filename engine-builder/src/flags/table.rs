//! The tables in `flags/`, compiled in.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Tool;

/// What one tool takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    /// Program and fixed arguments before the flags.
    pub(super) command: Vec<String>,
    /// Kinds of the arguments that are no flags.
    #[serde(default)]
    pub(super) positionals: Vec<Kind>,
    /// Flags that a plan must give, whether or not the tool has a default.
    #[serde(default)]
    pub(super) required: Vec<String>,
    #[serde(default)]
    pub(super) flags: BTreeMap<String, Kind>,
    /// Flags that the tool once had, has in newer releases, or has and that
    /// cannot work here; with the reason.
    #[serde(default)]
    pub(super) refused: BTreeMap<String, String>,
    /// `--flag` or `--flag value`, and what must be there with it.
    #[serde(default)]
    pub(super) needs: BTreeMap<String, Vec<String>>,
}

/// What a flag's value may be: a kind by name, or a list of choices.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Kind {
    Named(Named),
    OneOf(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Named {
    /// No value.
    Switch,
    Text,
    /// One or more.
    Texts,
    /// 1 or more.
    Count,
    /// A whole number; some tools take -1 for "by yourself".
    Whole,
    /// A power of two.
    Power,
    Number,
}

impl Kind {
    pub(super) fn most_values(&self) -> usize {
        match self {
            Self::Named(Named::Switch) => 0,
            Self::Named(Named::Texts) => usize::MAX,
            _ => 1,
        }
    }

    /// Whether an argument can be meant as this flag's value, right or wrong.
    pub(super) fn could_be(&self, argument: &str) -> bool {
        !argument.starts_with('-') || argument.parse::<f64>().is_ok()
    }

    pub(super) fn accepts(&self, value: &str) -> bool {
        match self {
            Self::OneOf(choices) => choices.iter().any(|choice| choice == value),
            Self::Named(Named::Switch) => false,
            Self::Named(Named::Text | Named::Texts) => {
                !value.is_empty() && !value.starts_with('-') && !value.contains('\0')
            }
            Self::Named(Named::Count) => value.parse().is_ok_and(|count: u32| count > 0),
            Self::Named(Named::Whole) => value.parse::<i32>().is_ok(),
            Self::Named(Named::Power) => value.parse().is_ok_and(u32::is_power_of_two),
            Self::Named(Named::Number) => value.parse().is_ok_and(f64::is_finite),
        }
    }

    pub(super) fn in_words(&self) -> String {
        match self {
            Self::OneOf(choices) => choices.join(" or "),
            Self::Named(Named::Switch) => "without a value".into(),
            Self::Named(Named::Text | Named::Texts) => "a text".into(),
            Self::Named(Named::Count) => "a count from 1".into(),
            Self::Named(Named::Whole) => "a whole number".into(),
            Self::Named(Named::Power) => "a power of two".into(),
            Self::Named(Named::Number) => "a number".into(),
        }
    }
}

/// The table of `tool`.
pub(super) fn of(tool: Tool) -> Table {
    let text = match tool {
        Tool::ConvertHfToGguf => include_str!("../../flags/convert-hf-to-gguf.toml"),
        Tool::ConvertLlama => include_str!("../../flags/convert-llama.toml"),
        Tool::ConvertPhi => include_str!("../../flags/convert-phi.toml"),
        Tool::ConvertQwen => include_str!("../../flags/convert-qwen.toml"),
        Tool::EdgellmBuild => include_str!("../../flags/edgellm-build.toml"),
        Tool::EdgellmExport => include_str!("../../flags/edgellm-export.toml"),
        Tool::EdgellmLlmBuild => include_str!("../../flags/edgellm-llm-build.toml"),
        Tool::EngineWorker => include_str!("../../flags/engine-worker.toml"),
        Tool::PipDownload => include_str!("../../flags/pip-download.toml"),
        Tool::Quantize => include_str!("../../flags/quantize.toml"),
        Tool::TrtllmBuild => include_str!("../../flags/trtllm-build.toml"),
    };
    toml::from_str(text).expect("a test reads every table")
}
