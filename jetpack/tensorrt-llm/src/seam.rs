//! The calls into the shim: all of this package's unsafe code. `shim/shim.h` is
//! the other side and says what it promises.

#![expect(unsafe_code, reason = "TensorRT-LLM is C++ and has no other way in")]

use std::ffi::{CStr, CString, c_char};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::ptr::{self, NonNull};
use std::time::Duration;

use crate::executor::{Config, IterationStats, KvBlocks, Request, RequestId, Response};

/// Room for the text of a failure.
const TEXT_BYTES: usize = 2048;

/// The shim's `TRT_ITERATIONS`.
const ITERATIONS: usize = 256;

/// The shim's type, only ever behind a pointer.
#[repr(C)]
struct TrtExecutor {
    opaque: [u8; 0],
}

#[repr(C)]
struct TrtText {
    at: *mut c_char,
    room: usize,
}

#[repr(C)]
struct TrtConfig {
    model: *const c_char,
    kv_tokens: i32,
    kv_free_fraction: f32,
    kv_host_bytes: u64,
    max_sequences: i32,
    max_tokens_per_step: i32,
    chunked_prompts: i32,
    mmap: i32,
}

#[repr(C)]
struct TrtRequest {
    prompt: *const i32,
    prompt_length: usize,
    stops: *const i32,
    stops_length: usize,
    forbidden: *const i32,
    forbidden_length: usize,
    max_tokens: i32,
    end: i32,
    top_k: i32,
    top_p: f32,
    temperature: f32,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    priority: f32,
    seed: u64,
}

#[repr(C)]
struct TrtResponse {
    id: u64,
    tokens: *const i32,
    tokens_length: usize,
    error: *const c_char,
    error_length: usize,
    is_last: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct TrtIteration {
    number: u64,
    latency_ms: f64,
    scheduled: i32,
    prompts: i32,
    answers: i32,
    prompt_tokens: i32,
    kv_blocks: i32,
    kv_blocks_used: i32,
    kv_blocks_reused: i32,
    kv_tokens_per_block: i32,
}

// The shim asserts the same sizes, so that a change on one side does not compile.
const _: () = assert!(size_of::<TrtText>() == 16 && size_of::<TrtConfig>() == 40);
const _: () = assert!(size_of::<TrtRequest>() == 96 && size_of::<TrtResponse>() == 48);
const _: () = assert!(size_of::<TrtIteration>() == 48);

unsafe extern "C" {
    safe fn trt_version() -> *const c_char;
    fn trt_open(config: *const TrtConfig, executor: *mut *mut TrtExecutor, error: TrtText) -> i32;
    fn trt_enqueue(
        executor: *mut TrtExecutor,
        request: *const TrtRequest,
        id: *mut u64,
        error: TrtText,
    ) -> i32;
    fn trt_await(
        executor: *mut TrtExecutor,
        timeout_ms: u32,
        count: *mut usize,
        error: TrtText,
    ) -> i32;
    fn trt_response(executor: *const TrtExecutor, index: usize, response: *mut TrtResponse);
    fn trt_cancel(executor: *mut TrtExecutor, id: u64, error: TrtText) -> i32;
    fn trt_iterations(
        executor: *mut TrtExecutor,
        iterations: *mut TrtIteration,
        count: *mut usize,
        error: TrtText,
    ) -> i32;
    fn trt_pace(executor: *mut TrtExecutor, pace_us: u32);
    fn trt_close(executor: *mut TrtExecutor, error: TrtText) -> i32;
}

pub(crate) fn version() -> &'static str {
    let version = trt_version();
    // SAFETY: the shim returns a string literal of the library, which is
    // NUL-terminated and is never unloaded.
    let version = unsafe { CStr::from_ptr(version) };
    version.to_str().unwrap_or("a version that is no text")
}

/// An open executor. It is closed once: by [`Handle::close`], which takes it, or
/// when it is dropped.
#[derive(Debug)]
pub(crate) struct Handle(NonNull<TrtExecutor>);

impl Handle {
    pub(crate) fn open(config: &Config) -> Result<Self, String> {
        let model = CString::new(config.model.as_os_str().as_bytes())
            .map_err(|_| "the path has a NUL in it".to_owned())?;
        let config = TrtConfig {
            model: model.as_ptr(),
            kv_tokens: number(config.kv_tokens),
            kv_free_fraction: f32::from(config.kv_free_percent) / 100.0,
            kv_host_bytes: config.kv_host_bytes,
            max_sequences: config.max_sequences.into(),
            max_tokens_per_step: config.max_tokens_per_step.map_or(0, number),
            chunked_prompts: config.chunked_prompts.into(),
            mmap: config.mmap.into(),
        };
        let mut executor = ptr::null_mut();
        told(|error| {
            // SAFETY: `config` and the path it points to are borrowed until the
            // call returns, and the shim keeps no pointer to them.
            unsafe { trt_open(&raw const config, &raw mut executor, error) }
        })?;
        NonNull::new(executor).map(Self).ok_or_else(|| "the shim opened nothing".to_owned())
    }

    pub(crate) fn enqueue(&mut self, request: &Request<'_>) -> Result<u64, String> {
        let prompt = native(request.prompt)?;
        let ends = native(request.ends)?;
        let forbidden = native(request.forbidden)?;
        let (end, stops) = ends.split_first().map_or((-1, &[][..]), |(end, rest)| (*end, rest));
        let request = TrtRequest {
            prompt: prompt.as_ptr(),
            prompt_length: prompt.len(),
            stops: stops.as_ptr(),
            stops_length: stops.len(),
            forbidden: forbidden.as_ptr(),
            forbidden_length: forbidden.len(),
            max_tokens: number(request.max_tokens),
            end,
            top_k: number(request.sampling.top_k),
            top_p: request.sampling.top_p,
            temperature: request.sampling.temperature,
            repetition_penalty: request.sampling.repetition_penalty,
            presence_penalty: request.sampling.presence_penalty,
            frequency_penalty: request.sampling.frequency_penalty,
            priority: request.priority,
            seed: request.sampling.seed,
        };
        let mut id = 0;
        told(|error| {
            // SAFETY: the handle is open, and `&mut self` keeps every other call
            // away. The three lists are borrowed until the call returns, and the
            // shim copies them.
            unsafe { trt_enqueue(self.0.as_ptr(), &raw const request, &raw mut id, error) }
        })?;
        Ok(id)
    }

    pub(crate) fn responses(&mut self, timeout_ms: u32) -> Result<Vec<Response>, String> {
        let mut count = 0;
        told(|error| {
            // SAFETY: the handle is open, and `&mut self` keeps every other call
            // away for as long as this one waits.
            unsafe { trt_await(self.0.as_ptr(), timeout_ms, &raw mut count, error) }
        })?;
        Ok((0..count).map(|index| self.response(index)).collect())
    }

    /// Copies one response out; `index` is below what the last await counted.
    fn response(&self, index: usize) -> Response {
        let mut response = TrtResponse {
            id: 0,
            tokens: ptr::null(),
            tokens_length: 0,
            error: ptr::null(),
            error_length: 0,
            is_last: 0,
        };
        // SAFETY: the only caller counts up to what the last await said, and
        // the shim's list changes with the next await only, which `&self` excludes.
        unsafe { trt_response(self.0.as_ptr(), index, &raw mut response) };
        let tokens = if response.error.is_null() {
            // SAFETY: the shim points into its own list; see above.
            let tokens = unsafe { borrowed(response.tokens, response.tokens_length) };
            // A negative token is none.
            Ok(tokens.iter().filter_map(|&token| u32::try_from(token).ok()).collect())
        } else {
            // SAFETY: the shim points into its own list; see above.
            let text = unsafe { borrowed(response.error.cast::<u8>(), response.error_length) };
            Err(String::from_utf8_lossy(text).into_owned())
        };
        Response { id: RequestId(response.id), tokens, is_last: response.is_last != 0 }
    }

    pub(crate) fn cancel(&mut self, id: u64) -> Result<(), String> {
        told(|error| {
            // SAFETY: the handle is open, and `&mut self` keeps every other call away.
            unsafe { trt_cancel(self.0.as_ptr(), id, error) }
        })
    }

    pub(crate) fn iterations(&mut self) -> Result<Vec<IterationStats>, String> {
        let mut iterations = [TrtIteration::default(); ITERATIONS];
        let mut count = 0;
        told(|error| {
            let room = iterations.as_mut_ptr();
            // SAFETY: the shim writes at most `TRT_ITERATIONS` entries, for which
            // there is room. The handle is open and borrowed exclusively.
            unsafe { trt_iterations(self.0.as_ptr(), room, &raw mut count, error) }
        })?;
        Ok(iterations.iter().take(count).map(described).collect())
    }

    pub(crate) fn pace(&mut self, pace_us: u32) {
        // SAFETY: the handle is open; the executor's thread, which waits by this
        // value, is kept away by the pacer's lock.
        unsafe { trt_pace(self.0.as_ptr(), pace_us) }
    }

    pub(crate) fn close(self) -> Result<(), String> {
        ManuallyDrop::new(self).end()
    }

    /// Frees the executor. Called by `close` and by `drop`, and by only one of
    /// them, as `close` keeps `drop` from running.
    fn end(&mut self) -> Result<(), String> {
        told(|error| {
            // SAFETY: nobody uses the handle after this; see above. The shim joins
            // the executor's threads before it frees what they use.
            unsafe { trt_close(self.0.as_ptr(), error) }
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _unheard = self.end();
    }
}

/// Makes a call with room for the text of its failure.
fn told(call: impl FnOnce(TrtText) -> i32) -> Result<(), String> {
    let mut text = [0u8; TEXT_BYTES];
    match call(TrtText { at: text.as_mut_ptr().cast(), room: TEXT_BYTES }) {
        0 => Ok(()),
        _ => {
            let length = text.iter().position(|&byte| byte == 0).unwrap_or(TEXT_BYTES);
            Err(String::from_utf8_lossy(&text[..length]).into_owned())
        }
    }
}

/// What the shim points to; nothing for null, which C++ has for empty lists.
///
/// # Safety
/// `at` points to `length` elements that stay as they are while they are
/// borrowed, or there are none.
unsafe fn borrowed<'a, T>(at: *const T, length: usize) -> &'a [T] {
    if at.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(at, length) }
}

/// Token ids as C++ has them.
fn native(tokens: &[u32]) -> Result<Vec<i32>, String> {
    tokens
        .iter()
        .map(|&token| i32::try_from(token).map_err(|_| format!("{token} is no token id")))
        .collect()
}

/// A bound as C++ has it; a greater one bounds nothing.
fn number(bound: u32) -> i32 {
    i32::try_from(bound).unwrap_or(i32::MAX)
}

fn described(iteration: &TrtIteration) -> IterationStats {
    let reported = |count: i32| u32::try_from(count).ok();
    let kv = || {
        Some(KvBlocks {
            all: reported(iteration.kv_blocks)?,
            used: reported(iteration.kv_blocks_used)?,
            reused: reported(iteration.kv_blocks_reused)?,
            tokens_per_block: reported(iteration.kv_tokens_per_block)?,
        })
    };
    let seconds = iteration.latency_ms / 1000.0;
    IterationStats {
        number: iteration.number,
        took: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
        scheduled: reported(iteration.scheduled),
        prompts: reported(iteration.prompts),
        prompt_tokens: reported(iteration.prompt_tokens),
        answers: reported(iteration.answers),
        kv: kv(),
    }
}
