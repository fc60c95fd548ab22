//! What tools say when they fail, and what it means.

use super::MOST_LINES;

/// Why a tool failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    NvMap,
    Disk,
    Tactics,
    GpuMemory,
    Memory,
    OtherGpu,
    MissingKernels,
    Plugin,
    OtherTensorrt,
    OldTensorrt,
    TegraWheel,
    LfsStub,
    Transformers,
    Numpy,
    Pynvml,
    Mpi4py,
    Module,
    UnknownModel,
    Tokeniser,
    BadCheckpoint,
    MixedCuda,
    OtherRelease,
    TooSlow,
    Unknown,
}

/// A line with all of these parts, in any case, has this cause. The first row
/// that fits any line wins: one failure often causes the next, and the rows
/// stand with what comes first in such a chain on top.
const SIGNATURES: &[(&[&str], Cause)] = &[
    (&["nvmapmemallocinternaltagged", "error 12"], Cause::NvMap),
    (&["no space left on device"], Cause::Disk),
    (&["disk quota exceeded"], Cause::Disk),
    (&["could not find any implementation for node"], Cause::Tactics),
    (&["cuda out of memory"], Cause::GpuMemory),
    (&["cudamalloc", "out of memory"], Cause::GpuMemory),
    (&["cuda_error_out_of_memory"], Cause::GpuMemory),
    (&["cuda", "error 2", "out of memory"], Cause::GpuMemory),
    (&["std::bad_alloc"], Cause::Memory),
    (&["cannot allocate memory"], Cause::Memory),
    (&["memoryerror"], Cause::Memory),
    (&["fmha_v2"], Cause::MissingKernels),
    (&["no kernel image is available"], Cause::OtherGpu),
    (&["cuda_error_no_binary_for_gpu"], Cause::OtherGpu),
    (&["unsupported architecture"], Cause::OtherGpu),
    (&["could not find plugin"], Cause::Plugin),
    (&["plugin", "cannot open shared object file"], Cause::Plugin),
    (&["not compatible with this version of tensorrt"], Cause::OtherTensorrt),
    (&["version tag does not match"], Cause::OtherTensorrt),
    (&["istreamreaderv2"], Cause::OldTensorrt),
    (&["does not currently build wheels for tegra"], Cause::TegraWheel),
    (&["git-lfs.github.com/spec"], Cause::LfsStub),
    (&["git lfs pull"], Cause::LfsStub),
    (&["cannot import name", "transformers"], Cause::Transformers),
    (&["rope_scaling", "must be a dictionary"], Cause::Transformers),
    (&["compiled using numpy 1"], Cause::Numpy),
    (&["_device_get_memory_info_fn"], Cause::Pynvml),
    (&["no module named", "mpi4py"], Cause::Mpi4py),
    (&["no module named"], Cause::Module),
    (&["pre-tokenizer was not recognized"], Cause::Tokeniser),
    (&["is not supported", "error:hf-to-gguf:"], Cause::UnknownModel),
    (&["can not map tensor"], Cause::BadCheckpoint),
    (&["missing tensors"], Cause::BadCheckpoint),
    (&["safetensorerror"], Cause::BadCheckpoint),
    (&["cublas_status_not_initialized"], Cause::MixedCuda),
    (&["cublascreate"], Cause::MixedCuda),
    (&["unrecognized arguments"], Cause::OtherRelease),
];

/// The first cause whose signature is in a line, with the last few such lines.
pub(super) fn find(lines: &[String]) -> Option<(Cause, Vec<String>)> {
    let lower: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let fits = |line: &str, parts: &[&str]| parts.iter().all(|part| line.contains(part));
    for (parts, cause) in SIGNATURES {
        let found = lines.iter().zip(&lower).filter(|(_, lower)| fits(lower, parts));
        let mut found: Vec<String> = found.map(|(line, _)| line.clone()).collect();
        if !found.is_empty() {
            found.drain(..found.len().saturating_sub(MOST_LINES));
            return Some((*cause, found));
        }
    }
    None
}

impl Cause {
    /// The cause and what to do, in one sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NvMap => {
                "Jetson Linux 36.4.7 refuses large GPU allocations although memory is free; \
                 update to 36.5 or later, or restart the board and build before anything else"
            }
            Self::Disk => {
                "the disk is full; free some space and build again, it goes on from there"
            }
            Self::Tactics => {
                "TensorRT found no kernel that fits into the memory left; stop other programs, \
                 add swap on NVMe, or build with fewer --users or a shorter --context"
            }
            Self::GpuMemory => {
                "the GPU's memory, which is the board's, ran out; stop other programs and the \
                 desktop, or build with fewer --users or a shorter --context"
            }
            Self::Memory => {
                "memory ran out; mount swap on NVMe, turn zram and the desktop off, or choose a \
                 smaller model"
            }
            Self::OtherGpu => {
                "the tool has no code for this GPU; install the release that is built for \
                 sm_87, Orin"
            }
            Self::MissingKernels => {
                "the release lacks attention kernels for Orin, as 0.10.0 of Edge-LLM does; \
                 install the release that the plan names"
            }
            Self::Plugin => {
                "the runtime's TensorRT plugin was not found; install the runtime again, whole, \
                 at the place that the plan names"
            }
            Self::OtherTensorrt => {
                "a file was made with another TensorRT; engines cannot be carried between \
                 releases or boards, so remove it and build here"
            }
            Self::OldTensorrt => {
                "the tool needs TensorRT 10.7, JetPack 6 has 10.3; install the release that the \
                 plan names"
            }
            Self::TegraWheel => {
                "the public TensorRT package does not run on Jetson; use the one that comes \
                 with JetPack"
            }
            Self::LfsStub => {
                "a file is only a Git LFS pointer; fetch the model or the runtime again with \
                 its large files"
            }
            Self::Transformers => {
                "the installed transformers does not go with TensorRT-LLM 0.12; install 4.38.2 \
                 to 4.42.4"
            }
            Self::Numpy => {
                "numpy 2 is installed and the runtime needs numpy 1; install numpy 1.26.1"
            }
            Self::Pynvml => {
                "pynvml is installed, which this runtime cannot live with on Jetson; uninstall \
                 pynvml"
            }
            Self::Mpi4py => "mpi4py is missing in the runtime's Python; install it with openmpi",
            Self::Module => {
                "a Python module is missing; install the runtime again with all that it \
                 requires"
            }
            Self::UnknownModel => {
                "llama.cpp's converter does not know this model's architecture; bring the model as \
                 a GGUF"
            }
            Self::Tokeniser => {
                "llama.cpp's converter does not know how this tokeniser cuts text, so what it made \
                 would answer wrong; bring the model as a GGUF"
            }
            Self::BadCheckpoint => {
                "the checkpoint's tensors are not those of the model that its config.json names; \
                 fetch or bring it again"
            }
            Self::MixedCuda => {
                "cuBLAS does not start, as when server libraries of CUDA are mixed with \
                 Jetson's; remove those that do not come from JetPack"
            }
            Self::OtherRelease => {
                "the tool does not know an argument, so it is another release than the plan's; \
                 install the one that the plan names"
            }
            Self::TooSlow => {
                "it took longer than the plan allows; look at the log, then build again, or add \
                 memory if it was swapping"
            }
            Self::Unknown => "nothing known explains it; the log has the rest",
        }
    }
}
