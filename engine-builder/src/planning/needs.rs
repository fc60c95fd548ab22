//! The words of a plan: why it is this one, what it needs before it starts and
//! what to beware of.

use jetpack::Bytes;

use super::backend::Backend;
use super::board::{Class, Origin};
use super::budget::Sizes;
use super::estimate::Disk;
use super::variant::Variant;
use super::{Memory, Setting};
use crate::catalogue::{Entry, Form};

/// Room beside what a build writes, for logs and for the system.
const SPARE_DISK: Bytes = Bytes::from_kib(2 * 1024 * 1024);

pub(super) fn why(
    backend: Backend,
    entry: &Entry,
    variant: &Variant,
    setting: &Setting,
    sizes: Sizes,
) -> Vec<String> {
    let mut why = Vec::new();
    let first = if setting.wishes.backend.is_some() {
        format!("{backend} was asked for")
    } else {
        match (backend, setting.board.class) {
            (Backend::LlamaCpp, Class::Pc) => "llama-cpp runs on any processor".to_owned(),
            (Backend::LlamaCpp, _) => {
                "llama-cpp runs everywhere; what speaks against the others is said below".into()
            }
            (Backend::TensorrtLlm, _) => {
                "tensorrt-llm has in-flight batching, a paged cache with reuse of prefixes, and \
                 published speeds on Orin"
                    .into()
            }
            (Backend::TensorrtEdgeLlm, _) => {
                "tensorrt-edge-llm is NVIDIA's way for what tensorrt-llm 0.12 does not run here"
                    .into()
            }
        }
    };
    why.push(first);
    why.push(match variant.from {
        Form::Package | Form::Gguf => format!("{} is published as a file", variant.label),
        Form::Gptq | Form::Awq => {
            format!("{} is published, so nothing is quantised on the board", variant.label)
        }
        Form::Checkpoint => format!("{} is made from the makers' checkpoint", variant.label),
    });
    if let Some(known) = backend.known(entry) {
        why.push(format!("known of it: {known}"));
    }
    let usual = entry.serving;
    if setting.wishes.context.is_none() && sizes.context < usual.context {
        let limit = backend.longest_context(entry);
        why.push(if sizes.context == limit {
            format!("windows of {limit} tokens are the longest that it computes right")
        } else {
            format!("windows of {} tokens, so that all users fit into memory", sizes.context)
        });
    }
    if setting.wishes.users.is_none() && sizes.users < usual.max_sequences {
        why.push(format!("{} at once, as many as fit; more users take turns", sizes.users));
    }
    why
}

pub(super) fn cautions(
    backend: Backend,
    entry: &Entry,
    variant: &Variant,
    setting: &Setting,
) -> Vec<String> {
    let mut cautions = Vec::new();
    if backend.kind().is_none() {
        cautions.push(
            "this version builds for this backend and cannot run what it built: it is not published"
                .into(),
        );
    } else if backend == Backend::TensorrtLlm {
        cautions.push(
            "tools and worker of this backend have met stand-ins only, never TensorRT-LLM itself"
                .into(),
        );
    }
    if setting.board.class != Class::Pc {
        cautions.push("it has not run on hardware; sizes, speed and times are estimates".into());
    }
    if backend == Backend::TensorrtLlm && setting.board.class != Class::AgxOrin {
        cautions
            .push("NVIDIA supports tensorrt-llm on AGX Orin and has not said so of Orin NX".into());
    }
    if entry.capabilities.embedding {
        cautions.push(
            "it serves beside the engine that answers, and takes its memory on top of that engine's"
                .into(),
        );
    }
    cautions.extend(variant.caution.clone());
    if setting.board.memory_is == Origin::Assumed {
        cautions.push("how much memory Linux sees on this board is assumed".into());
    }
    cautions
}

pub(super) fn needs(
    backend: Backend,
    entry: &Entry,
    variant: &Variant,
    setting: &Setting,
    memory: &Memory,
    disk: Disk,
) -> Vec<String> {
    let mut needs = vec![format!("{} free on the disk", disk.peak_bytes + SPARE_DISK)];
    if let Some(build) = memory.build_bytes {
        let swap = build.saturating_sub(memory.budget_bytes);
        if swap > Bytes::new(0) {
            needs.push(format!("a swap file of {swap} on NVMe for the build, zram off"));
        }
    }
    if entry.gated && variant.from == Form::Checkpoint {
        needs.push(format!("the licence accepted at the hub: {}", entry.licence));
    }
    let new = setting.release.as_ref().is_some_and(|release| release.version >= (7, 0));
    let listed: &[&str] = match backend {
        Backend::TensorrtLlm => &[
            "TensorRT-LLM 0.12.0-jetson in /opt/stoker/tensorrt-llm-0.12.0: NVIDIA's branch \
             v0.12.0-jetson as a prebuilt wheel with its examples, by a hash that is learnt at the \
             first fetch and then pinned; never compiled on the board",
            "/etc/nv_tegra_release readable, and \"tegra\" in the kernel's release",
            "libnvinfer 10.3 and CUDA 12.6",
            "Python 3.10, numpy below 2, transformers 4.38.2 to 4.42.4, mpi4py",
            "no pynvml in its environment",
            "engine-worker built with --features tensorrt-llm",
        ],
        Backend::TensorrtEdgeLlm if new => &[
            "the wheel of TensorRT Edge-LLM 0.11.0 in /opt/stoker/tensorrt-edge-llm-0.11.0, by a hash \
             that is learnt at the first fetch and then pinned",
            "Python 3.12, glibc 2.39, libcudart.so.13, libnvinfer.so.10 of TensorRT 10.16",
            "the checkpoint left where it is: the engine reads its weights from there",
        ],
        Backend::TensorrtEdgeLlm => &[
            "TensorRT Edge-LLM 0.8.0 in /opt/stoker/tensorrt-edge-llm-0.8.0, built beforehand for \
             CUDA 12.6 and sm_87, by a hash that is learnt at the first fetch and then pinned",
            "a Python 3.12 of its own: the exporter's numpy 2.4.6 needs 3.11 or later, JetPack 6 has 3.10",
            "libnvinfer 10.3 and CUDA 12.6",
        ],
        Backend::LlamaCpp if setting.board.class != Class::Pc => {
            &["engine-worker built with --features cuda"]
        }
        Backend::LlamaCpp => &[],
    };
    needs.extend(listed.iter().map(|need| (*need).to_owned()));
    if backend == Backend::LlamaCpp && variant.from == Form::Checkpoint {
        needs.push(
            "llama.cpp's converter in /opt/stoker/llama.cpp, as scripts/converter installs it: \
             convert_hf_to_gguf.py of one release, known by its hash, and a Python from 3.10 on with \
             torch 2.11, transformers 4.57 and numpy 2.2"
                .into(),
        );
    }
    needs
}

pub(super) fn settings(backend: Backend, sizes: Sizes) -> Vec<String> {
    match backend {
        Backend::TensorrtLlm => {
            let windows = u64::from(sizes.users) + u64::from(sizes.spare);
            let tokens = windows * u64::from(sizes.context.next_multiple_of(super::steps::BLOCK));
            vec![
                // Its default takes 90 % of what is free, which here is the system's memory.
                format!("KvCacheConfig maxTokens {tokens}, enableBlockReuse"),
                "SchedulerConfig kGUARANTEED_NO_EVICT".into(),
                "ExecutorConfig enableChunkedContext".into(),
                "useMMap, so that weights are not in memory twice".into(),
            ]
        }
        Backend::TensorrtEdgeLlm | Backend::LlamaCpp => Vec::new(),
    }
}
