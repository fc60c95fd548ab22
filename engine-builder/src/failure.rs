//! Why a foreign tool failed, in one sentence, from how it ended and what it
//! said last.
//!
//! Pure: the end of a log and an exit status in, a cause and the log's decisive
//! lines out. The signatures are those that people have reported from Jetsons;
//! what none of them fits is shown with the tool's own last words. A log is
//! foreign text: any bytes at all are taken, and none of its control characters
//! comes out again.

use jetpack::Bytes;

use crate::error::Class;

mod signature;

pub use signature::Cause;

/// Most bytes of a log's end that are looked at.
pub const TAIL_BYTES: u64 = 64 * 1024;

/// Most lines that are shown, and most characters of each.
const MOST_LINES: usize = 3;
const MOST_CHARACTERS: usize = 240;

/// SIGKILL: what the kernel sends when memory has run out.
const KILLED: i32 = 9;

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal(i32),
    /// Ended by us, after this many seconds.
    TooSlow(u64),
    /// Ended by us, when it had taken this much.
    TooLarge(Bytes),
}

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub cause: Cause,
    /// The log's decisive lines, oldest first; empty if it says nothing.
    pub lines: Vec<String>,
}

/// Looks for the cause. `tail` is the end of the tool's output.
#[must_use]
pub fn explain(ending: Ending, tail: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
    match ending {
        Ending::TooSlow(_) => return Failure { cause: Cause::TooSlow, lines: last(&lines) },
        Ending::TooLarge(_) => return Failure { cause: Cause::Memory, lines: last(&lines) },
        Ending::Code(_) | Ending::Signal(_) => {}
    }
    if let Some((cause, found)) = signature::find(&lines) {
        return Failure { cause, lines: found };
    }
    let cause = match ending {
        // A shell tells of a child's signal by 128 and its number.
        Ending::Signal(KILLED) | Ending::Code(137) => Cause::Memory,
        _ => Cause::Unknown,
    };
    Failure { cause, lines: last(&lines) }
}

impl Failure {
    /// Cause and what to do, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        self.cause.sentence()
    }

    /// What a script can do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.cause {
            Cause::Memory | Cause::GpuMemory | Cause::NvMap | Cause::Tactics | Cause::Disk => {
                Class::NoRoom
            }
            _ => Class::Tool,
        }
    }
}

/// The last line with anything on it.
fn last(lines: &[String]) -> Vec<String> {
    lines.last().cloned().into_iter().collect()
}

/// A line as it may be shown: nothing that moves a cursor, and not too long.
fn plain(line: &str) -> String {
    // A progress bar rewrites its line; what counts is what stood there last.
    let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
    let shown = line.chars().filter(|character| !character.is_control());
    shown.take(MOST_CHARACTERS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cause(ending: Ending, log: &str) -> Cause {
        explain(ending, log.as_bytes()).cause
    }

    const FAILED: Ending = Ending::Code(1);

    #[test]
    fn a_cause_is_known_by_what_the_tool_said() {
        for (log, expected) in [
            ("NvMapMemAllocInternalTagged: 1075072515 error 12\nCUDA out of memory", Cause::NvMap),
            ("torch.OutOfMemoryError: CUDA out of memory. Tried", Cause::GpuMemory),
            ("terminate called after throwing 'std::bad_alloc'", Cause::Memory),
            ("[Errno 28] No space left on device: 'rank0.safetensors'", Cause::Disk),
            ("Error Code 10: Could not find any implementation for node {Foreign}", Cause::Tactics),
            ("no kernel image is available for execution on the device", Cause::OtherGpu),
            ("getPluginCreator could not find plugin: GPTAttention", Cause::Plugin),
            ("libNvInfer_edgellm_plugin.so: cannot open shared object file", Cause::Plugin),
            ("ImportError: cannot import name 'X' from 'transformers'", Cause::Transformers),
            ("A module that was compiled using NumPy 1.x cannot be run in", Cause::Numpy),
            ("NameError: name '_device_get_memory_info_fn' is not defined", Cause::Pynvml),
            ("ModuleNotFoundError: No module named 'mpi4py'", Cause::Mpi4py),
            ("ModuleNotFoundError: No module named 'optimum'", Cause::Module),
            ("TensorRT does not currently build wheels for Tegra systems", Cause::TegraWheel),
            ("version https://git-lfs.github.com/spec/v1", Cause::LfsStub),
            ("plan file is not compatible with this version of TensorRT", Cause::OtherTensorrt),
            ("CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate", Cause::MixedCuda),
            ("undefined symbol: fmha_v2_flash_attention_fp16_sm87", Cause::MissingKernels),
            ("error: 'IStreamReaderV2' is not a member of 'nvinfer1'", Cause::OldTensorrt),
            ("trtllm-build: error: unrecognized arguments: --tp_size", Cause::OtherRelease),
            ("something else", Cause::Unknown),
            ("", Cause::Unknown),
        ] {
            assert_eq!(cause(FAILED, log), expected, "{log}");
        }
    }

    #[test]
    fn a_tool_that_was_killed_without_a_word_ran_out_of_memory() {
        assert_eq!(cause(Ending::Signal(9), "layer 12 of 32"), Cause::Memory);
        assert_eq!(cause(Ending::Code(137), ""), Cause::Memory);
        assert_eq!(cause(Ending::Signal(11), ""), Cause::Unknown);
        // What it said counts for more.
        assert_eq!(cause(Ending::Signal(9), "No space left on device"), Cause::Disk);
    }

    #[test]
    fn our_own_limits_are_the_cause_whatever_the_tool_said() {
        assert_eq!(cause(Ending::TooSlow(60), "No space left on device"), Cause::TooSlow);
        assert_eq!(cause(Ending::TooLarge(Bytes::new(1)), "No module named 'x'"), Cause::Memory);
    }

    #[test]
    fn only_the_decisive_lines_are_shown() {
        let log = "one\ntwo\nOSError: [Errno 28] No space left on device\nTraceback\n";
        let failure = explain(FAILED, log.as_bytes());
        assert_eq!(failure.lines, ["OSError: [Errno 28] No space left on device"]);
        assert_eq!(explain(FAILED, b"one\n\x1b[31mtwo\n\n").lines, ["[31mtwo"]);
        assert_eq!(explain(FAILED, b"10 %\r20 %\r30 %\r\n").lines, ["30 %"]);
    }

    #[test]
    fn room_is_told_from_tools() {
        assert_eq!(explain(FAILED, b"No space left on device").class(), Class::NoRoom);
        assert_eq!(explain(FAILED, b"No module named 'mpi4py'").class(), Class::Tool);
    }

    proptest! {
        #[test]
        fn any_bytes_at_all_have_an_explanation_that_can_be_shown(
            code in any::<i32>(),
            killed in any::<bool>(),
            log in proptest::collection::vec(any::<u8>(), 0..4096),
        ) {
            let ending = if killed { Ending::Signal(code) } else { Ending::Code(code) };
            let failure = explain(ending, &log);
            prop_assert!(!failure.sentence().is_empty());
            prop_assert!(failure.lines.len() <= MOST_LINES);
            for line in &failure.lines {
                prop_assert!(line.chars().count() <= MOST_CHARACTERS);
                prop_assert!(!line.chars().any(char::is_control));
            }
        }

        #[test]
        fn a_signature_is_found_wherever_it_stands(
            before in "[a-z \n]{0,200}",
            after in "[a-z \n]{0,200}",
        ) {
            let log = format!("{before}\n[Errno 28] No space left on device\n{after}");
            prop_assert_eq!(explain(FAILED, log.as_bytes()).cause, Cause::Disk);
        }
    }
}
