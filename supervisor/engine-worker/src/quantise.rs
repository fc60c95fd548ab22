//! Quantising a model file, with llama.cpp's own quantiser.
//!
//! The result is written beside its place, put on the disk and then renamed, so
//! that a file which is there is whole. llama.cpp tells how far it is only in its
//! log, which is read here as it is written.

#![expect(unsafe_code, reason = "llama.cpp's quantiser has no safe binding")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use engine_api::chore::{Quantised, Target};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

use crate::chore::say;

/// Rows of one tensor that are in memory at once. llama.cpp's own default is
/// 8 GiB, more than most boards have.
const MOST_BUFFER_BYTES: usize = 256 * 1024 * 1024;

/// What is written to find out whether the disk is full.
const PROBE_BYTES: usize = 64 * 1024;

/// Writes `from`, quantised to `target`, as `to`.
///
/// # Errors
/// One line in llama.cpp's words, or what is wrong with the disk. `to` is then
/// what it was before.
pub fn run(from: &Path, to: &Path, target: Target) -> anyhow::Result<Quantised> {
    let total = from.metadata().context("look at it")?.len();
    let dir = to.parent().context("the result's place has no directory")?;
    let part = part(to);
    // llama.cpp would truncate it, but what is left after a failure is ours to remove.
    remove(&part)?;
    let _runtime = LlamaBackend::init()?;
    listen(total);
    let failed = convert(from, &part, target)?;
    let heard = heard();
    if failed {
        let full = disk_is_full(&part);
        remove(&part)?;
        if let Some(error) = full {
            return Err(error).with_context(|| format!("write {}", part.display()));
        }
        bail!(heard.error.unwrap_or_else(|| "llama.cpp gave no reason".into()));
    }
    ensure!(heard.tensors > 0, "llama.cpp said nothing of any tensor");
    let on_disk = || -> io::Result<()> {
        let file = File::open(&part)?;
        // The worker that serves need not run as who built.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&part, to)?;
        File::open(dir)?.sync_all()
    };
    on_disk().with_context(|| format!("write {}", to.display()))?;
    Ok(Quantised { tensors: heard.tensors, fallbacks: heard.fallbacks })
}

/// Where the result is while it is written.
fn part(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether it failed.
fn convert(from: &Path, to: &Path, target: Target) -> anyhow::Result<bool> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: it takes nothing and returns a plain value.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = target.file_type;
    // The source may be quantised itself; whoever asks was told what that costs.
    params.allow_requantize = true;
    params.max_buf_size = MOST_BUFFER_BYTES;
    // SAFETY: both names end with a zero and outlive the call, as do the parameters,
    // in which every pointer is the default, null. llama.cpp catches its exceptions.
    let status =
        unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
    Ok(status != 0)
}

fn c_path(path: &Path) -> anyhow::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).context("a path has a zero byte in it")
}

/// The error of writing a little more. llama.cpp only says that a stream failed.
fn disk_is_full(part: &Path) -> Option<io::Error> {
    let mut file = OpenOptions::new().append(true).open(part).ok()?;
    let written = file.write_all(&[0; PROBE_BYTES]).and_then(|()| file.sync_all());
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    written.err().filter(|error| full.contains(&error.kind()))
}

/// What llama.cpp's log has said so far.
#[derive(Debug, Clone, Default)]
struct Heard {
    /// Bytes of the source, to tell a share of.
    total: f64,
    done: f64,
    /// The percentage that was said last.
    said: Option<u8>,
    tensors: u32,
    fallbacks: u32,
    error: Option<String>,
}

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Chat,
    Warning,
    Error,
}

impl Heard {
    /// Takes one piece of the log; `Some` if there is a new percentage to say.
    ///
    /// A tensor's line comes in pieces: `[  12/ 272] NAME - …, type = q4_1, `, then
    /// `converting to q5_0 .. ` unless it is only copied, then
    /// `size =     0.38 MiB ->     0.36 MiB`.
    fn take(&mut self, level: Level, text: &str) -> Option<u8> {
        if level == Level::Error {
            self.error.get_or_insert_with(|| text.trim().to_owned());
        }
        if let Some(of) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            self.tensors = of.0.split_once('/')?.1.trim().parse().ok()?;
        }
        if let Some((_, rest)) = text.split_once("WARNING: ")
            && rest.contains("required fallback")
        {
            self.fallbacks = rest.split_whitespace().next()?.parse().ok()?;
        }
        let mebibytes: f64 =
            text.strip_prefix("size = ")?.trim_start().split(' ').next()?.parse().ok()?;
        self.done += mebibytes * 1024.0 * 1024.0;
        let percent = self.percent();
        let new = self.said.is_none_or(|said| percent > said).then_some(percent);
        self.said = Some(percent);
        new
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what a percentage can be; not-a-number becomes 0"
    )]
    fn percent(&self) -> u8 {
        (100.0 * self.done / self.total).clamp(0.0, 100.0) as u8
    }
}

/// llama.cpp takes a function for its log and no state that Rust could own.
static HEARD: Mutex<Option<Heard>> = Mutex::new(None);

fn heard() -> Heard {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a percentage is shown")]
fn listen(total: u64) {
    let heard = Heard { total: total as f64, ..Heard::default() };
    *HEARD.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    // SAFETY: `hear` is a function of this program, which stays, and it is never
    // given the null pointer's target.
    unsafe { sys::llama_log_set(Some(hear), std::ptr::null_mut()) };
}

/// Called by llama.cpp with each piece of its log.
unsafe extern "C" fn hear(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp gives a text that ends with a zero and stays for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let level = match level {
        sys::GGML_LOG_LEVEL_ERROR => Level::Error,
        sys::GGML_LOG_LEVEL_WARN => Level::Warning,
        _ => Level::Chat,
    };
    if level != Level::Chat {
        // Without stderr there is nobody left to tell.
        let _unheard = io::stderr().write_all(text.as_bytes());
    }
    let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(percent) = heard.as_mut().and_then(|heard| heard.take(level, &text)) {
        say(&format!("{percent}%"));
    }
}

#[cfg(test)]
mod tests {
    use engine_api::chore::TARGETS;

    use super::*;

    #[test]
    fn targets_have_llama_cpps_own_numbers() {
        let numbers = TARGETS.map(|target| target.file_type);
        let own = [
            sys::LLAMA_FTYPE_MOSTLY_Q8_0,
            sys::LLAMA_FTYPE_MOSTLY_Q6_K,
            sys::LLAMA_FTYPE_MOSTLY_Q5_K_M,
            sys::LLAMA_FTYPE_MOSTLY_Q5_0,
            sys::LLAMA_FTYPE_MOSTLY_Q4_K_M,
            sys::LLAMA_FTYPE_MOSTLY_Q4_K_S,
            sys::LLAMA_FTYPE_MOSTLY_Q4_0,
            sys::LLAMA_FTYPE_MOSTLY_Q3_K_M,
        ];
        assert_eq!(numbers, own);
    }

    fn listening(mebibytes: f64) -> Heard {
        Heard { total: mebibytes * 1024.0 * 1024.0, ..Heard::default() }
    }

    #[test]
    fn progress_is_the_share_of_the_source_and_is_said_once() {
        let mut heard = listening(10.0);
        let mut take = |text| heard.take(Level::Chat, text);
        assert_eq!(take("[   1/   3] output_norm.weight - [ 576, 1], type =    f32, "), None);
        assert_eq!(take("size =    0.002 MiB\n"), Some(0));
        assert_eq!(take("converting to q5_0 .. "), None);
        assert_eq!(take("size =     4.98 MiB ->     3.00 MiB\n"), Some(49));
        assert_eq!(take("size =     0.00 MiB ->     0.00 MiB\n"), None);
        assert_eq!(take("size =    99.00 MiB ->     3.00 MiB\n"), Some(100));
        assert_eq!(heard.tensors, 3);
    }

    #[test]
    fn fallbacks_are_counted_and_the_first_error_is_kept() {
        let mut heard = listening(1.0);
        heard.take(
            Level::Warning,
            "llama_model_quantize_impl: WARNING: 180 of 272 tensor(s) required fallback quantization\n",
        );
        heard.take(Level::Error, "llama_model_quantize: failed to quantize: bad magic\n");
        heard.take(Level::Error, "another\n");
        assert_eq!(heard.fallbacks, 180);
        assert_eq!(
            heard.error.as_deref(),
            Some("llama_model_quantize: failed to quantize: bad magic")
        );
    }

    #[test]
    fn words_that_only_look_like_progress_are_passed_over() {
        let mut heard = listening(1.0);
        for text in
            ["", "[", "[]", "[a/b]", "size = ", "size = x MiB", "WARNING: x required fallback"]
        {
            assert_eq!(heard.take(Level::Chat, text), None, "{text:?}");
        }
        assert_eq!((heard.tensors, heard.fallbacks), (0, 0));
    }
}
