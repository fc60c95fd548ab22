// The seam between Rust and TensorRT-LLM's C++ Executor: plain C, so that each
// side can be built and tested without the other.
//
// Promises, kept here and relied on by `src/seam.rs`:
// - No exception leaves these functions. A failure is a status that is not 0,
//   and its text, cut to fit, ends in the caller's buffer.
// - What a caller passes by pointer is copied before the function returns.
// - What is returned by pointer belongs to the executor and stays as it is
//   until the next call with that executor.
// - An executor is used from one thread at a time. Its own threads never call
//   back to the other side.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct TrtExecutor;

// Where the text of a failure goes; NUL-terminated if there is any room.
struct TrtText {
    char *at;
    size_t room;
};

struct TrtConfig {
    // Directory with `config.json` and `rank0.engine`.
    char const *model;
    // Tokens that the whole KV cache holds at most.
    int32_t kv_tokens;
    // Most of the free memory that the KV cache takes, above 0 and at most 1.
    float kv_free_fraction;
    // Bytes of host memory for KV blocks that are not in use; 0 for none.
    uint64_t kv_host_bytes;
    // Requests computed at once, at most.
    int32_t max_sequences;
    // Tokens computed in one iteration at most; 0 for what the engine was built for.
    int32_t max_tokens_per_step;
    // Whether a long prompt is computed in parts between the steps of others.
    int32_t chunked_prompts;
    // Whether weights are mapped from the file instead of read.
    int32_t mmap;
};

struct TrtRequest {
    int32_t const *prompt;
    size_t prompt_length;
    // Tokens each of which ends the answer, beside `end`.
    int32_t const *stops;
    size_t stops_length;
    // Tokens that are never chosen.
    int32_t const *forbidden;
    size_t forbidden_length;
    int32_t max_tokens;
    // The model's end token; negative for none.
    int32_t end;
    // 0: all of them.
    int32_t top_k;
    float top_p;
    float temperature;
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty;
    // From 0 to 1; the greater goes first.
    float priority;
    uint64_t seed;
};

// What one request got. With an error it is the request's last.
struct TrtResponse {
    uint64_t id;
    int32_t const *tokens;
    size_t tokens_length;
    // Not NUL-terminated; null if there is none.
    char const *error;
    size_t error_length;
    int32_t is_last;
};

// One iteration of the executor. Counts that it did not report are negative.
struct TrtIteration {
    uint64_t number;
    double latency_ms;
    int32_t scheduled;
    int32_t prompts;
    int32_t answers;
    int32_t prompt_tokens;
    int32_t kv_blocks;
    int32_t kv_blocks_used;
    int32_t kv_blocks_reused;
    int32_t kv_tokens_per_block;
};

// Most iterations that are kept for `trt_iterations`.
enum { TRT_ITERATIONS = 256 };

// TensorRT-LLM's version; lives as long as the process.
char const *trt_version(void);

int32_t trt_open(TrtConfig const *config, TrtExecutor **executor, TrtText error);

int32_t trt_enqueue(TrtExecutor *executor, TrtRequest const *request, uint64_t *id, TrtText error);

// Waits at most so long for responses and says how many there are.
int32_t trt_await(TrtExecutor *executor, uint32_t timeout_ms, size_t *count, TrtText error);

// The `index`-th response of the last `trt_await`, which must have said more
// than `index`.
void trt_response(TrtExecutor const *executor, size_t index, TrtResponse *response);

int32_t trt_cancel(TrtExecutor *executor, uint64_t id, TrtText error);

// Iterations since the last call, oldest first, into room for `TRT_ITERATIONS`.
int32_t trt_iterations(TrtExecutor *executor, TrtIteration *iterations, size_t *count, TrtText error);

// Least time from the start of one iteration to the next, from now on.
void trt_pace(TrtExecutor *executor, uint32_t pace_us);

// Ends all requests and the executor's threads, then frees it, also on failure.
int32_t trt_close(TrtExecutor *executor, TrtText error);

} // extern "C"
