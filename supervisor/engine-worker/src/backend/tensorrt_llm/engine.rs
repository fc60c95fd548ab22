//! What an engine's `config.json` says it was built for.
//!
//! The runtime does not check it: an engine of another version, or one that was
//! built without what block reuse needs, fails deep inside or computes wrongly.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use engine_api::manifest::Serving;
use serde::Deserialize;

/// The versions whose engines this runtime can run.
const VERSIONS: &str = "0.12.";

/// The file's entries that matter here. It has many more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct File {
    version: String,
    build_config: BuildConfig,
}

/// What `trtllm-build` was told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct BuildConfig {
    max_batch_size: u32,
    max_seq_len: u32,
    /// Tokens computed in one iteration at most.
    pub(super) max_num_tokens: u32,
    plugin_config: PluginConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PluginConfig {
    use_paged_context_fmha: bool,
}

impl BuildConfig {
    /// Reads the file in `dir`, which must be what `serving` asks for.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn read(dir: &Path, serving: &Serving) -> anyhow::Result<Self> {
        let path = dir.join("config.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text, serving).with_context(|| format!("check {}", path.display()))
    }

    fn parse(text: &str, serving: &Serving) -> anyhow::Result<Self> {
        let File { version, build_config } = serde_json::from_str(text)?;
        ensure!(
            version.starts_with(VERSIONS),
            "the engine was built by TensorRT-LLM {version}; build it with 0.12"
        );
        let Serving { context, max_sequences, .. } = *serving;
        for (flag, built, asked) in [
            ("max_seq_len", build_config.max_seq_len, context),
            ("max_batch_size", build_config.max_batch_size, max_sequences.into()),
        ] {
            ensure!(asked <= built, "the manifest asks for {asked}, but {flag} is {built}");
        }
        if !build_config.plugin_config.use_paged_context_fmha {
            bail!("blocks cannot be reused; build it with --use_paged_context_fmha enable");
        }
        Ok(build_config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: Serving =
        Serving { context: 4096, max_sequences: 4, cached_sequences: 0, kv_bytes: 0 };

    fn said(version: &str, batch: u32, length: u32, paged: bool) -> String {
        let text = serde_json::json!({
            "version": version,
            "pretrained_config": { "architecture": "LlamaForCausalLM" },
            "build_config": {
                "max_batch_size": batch,
                "max_seq_len": length,
                "max_num_tokens": 2048,
                "plugin_config": { "use_paged_context_fmha": paged, "gemm_plugin": "float16" },
            },
        });
        match BuildConfig::parse(&text.to_string(), &SERVING) {
            Ok(config) => config.max_num_tokens.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_engine_that_is_what_is_asked_for_is_taken() {
        assert_eq!(said("0.12.0", 4, 4096, true), "2048");
    }

    #[test]
    fn an_engine_that_would_compute_wrongly_is_refused() {
        let version = "the engine was built by TensorRT-LLM 0.13.0; build it with 0.12";
        assert_eq!(said("0.13.0", 4, 4096, true), version);
        let batch = "the manifest asks for 4, but max_batch_size is 2";
        assert_eq!(said("0.12.0", 2, 4096, true), batch);
        let length = "the manifest asks for 4096, but max_seq_len is 2048";
        assert_eq!(said("0.12.0", 4, 2048, true), length);
        let paged = "blocks cannot be reused; build it with --use_paged_context_fmha enable";
        assert_eq!(said("0.12.0", 4, 4096, false), paged);
    }
}
