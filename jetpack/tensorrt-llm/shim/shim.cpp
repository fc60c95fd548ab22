// What `shim.h` promises, on `tensorrt_llm::executor` 0.12.

#include "shim.h"

#include "pacer.h"

#include "tensorrt_llm/executor/executor.h"
#include "tensorrt_llm/plugins/api/tllmPlugin.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <filesystem>
#include <list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tle = tensorrt_llm::executor;

namespace {

// A response in a form that can be pointed into.
struct Heard {
    uint64_t id = 0;
    std::vector<int32_t> tokens;
    std::optional<std::string> error;
    bool isLast = false;
};

void say(TrtText text, char const *what) noexcept
{
    if (text.room == 0)
        return;
    size_t const length = std::min(std::strlen(what), text.room - 1);
    std::memcpy(text.at, what, length);
    text.at[length] = '\0';
}

// Does the work; whatever it throws becomes a status and a text.
template <typename Work> int32_t guarded(TrtText error, Work &&work) noexcept
{
    try {
        work();
        return 0;
    } catch (std::exception const &exception) {
        say(error, exception.what());
    } catch (...) {
        say(error, "an exception without a text");
    }
    return 1;
}

// The calls below are those of 0.12; later versions change their order of
// arguments and would take them for others.
void ensureVersion()
{
    std::string const version = tle::version();
    if (version.compare(0, 5, "0.12.") != 0)
        throw std::runtime_error("libtensorrt_llm.so is version " + version + ", but 0.12 is needed");
}

void registerPlugins()
{
    static bool const registered = initTrtLlmPlugins();
    if (!registered)
        throw std::runtime_error("TensorRT-LLM's plugins could not be registered");
}

tle::ExecutorConfig configure(TrtConfig const &config, std::shared_ptr<Pacer> const &pacer)
{
    // The smaller of the two bounds holds. Without them the cache would take nine
    // tenths of what is free, which on a Jetson is everybody's memory.
    bool const reuse = true;
    auto const host = config.kv_host_bytes > 0 ? std::optional<size_t>(config.kv_host_bytes) : std::nullopt;
    tle::KvCacheConfig const cache(
        reuse, config.kv_tokens, std::nullopt, std::nullopt, config.kv_free_fraction, host);

    tle::ExecutorConfig executor(1, tle::SchedulerConfig(tle::CapacitySchedulerPolicy::kGUARANTEED_NO_EVICT), cache);
    executor.setEnableChunkedContext(config.chunked_prompts != 0);
    executor.setIterStatsMaxIterations(TRT_ITERATIONS);
    executor.setMaxBatchSize(config.max_sequences);
    if (config.max_tokens_per_step > 0)
        executor.setMaxNumTokens(config.max_tokens_per_step);
    executor.setLogitsPostProcessorBatched([pacer](auto &&...) { pacer->wait(); });
    return executor;
}

std::optional<float> unless(float neutral, float value)
{
    return value == neutral ? std::nullopt : std::optional<float>(value);
}

tle::SamplingConfig sampling(TrtRequest const &request)
{
    tle::SamplingConfig sampling(1);
    sampling.setTopK(request.top_k);
    sampling.setTopP(request.top_p);
    sampling.setTemperature(request.temperature);
    sampling.setRandomSeed(request.seed);
    sampling.setRepetitionPenalty(unless(1.0F, request.repetition_penalty));
    sampling.setPresencePenalty(unless(0.0F, request.presence_penalty));
    sampling.setFrequencyPenalty(unless(0.0F, request.frequency_penalty));
    return sampling;
}

// Each token a word of its own.
std::list<tle::VecTokens> words(int32_t const *tokens, size_t length)
{
    std::list<tle::VecTokens> words;
    for (size_t index = 0; index < length; ++index)
        words.push_back({tokens[index]});
    return words;
}

tle::Request compose(TrtRequest const &from)
{
    tle::VecTokens prompt(from.prompt, from.prompt + from.prompt_length);
    bool const streaming = true;
    tle::OutputConfig output;
    output.excludeInputFromOutput = true;
    tle::Request request(std::move(prompt), from.max_tokens, streaming, sampling(from), output);
    if (from.end >= 0) {
        request.setEndId(from.end);
        request.setPadId(from.end);
    }
    if (from.stops_length > 0)
        request.setStopWords(words(from.stops, from.stops_length));
    if (from.forbidden_length > 0)
        request.setBadWords(words(from.forbidden, from.forbidden_length));
    request.setPriority(from.priority);
    // The pacer's; see there.
    request.setLogitsPostProcessorName(tle::Request::kBatchedPostProcessorName);
    return request;
}

Heard hear(tle::Response const &response)
{
    Heard heard;
    heard.id = response.getRequestId();
    if (response.hasError()) {
        heard.error = response.getErrorMsg();
        heard.isLast = true;
        return heard;
    }
    tle::Result const result = response.getResult();
    if (!result.outputTokenIds.empty())
        heard.tokens = result.outputTokenIds.front();
    heard.isLast = result.isFinal;
    return heard;
}

TrtIteration describe(tle::IterationStats const &stats)
{
    TrtIteration iteration{stats.iter, stats.iterLatencyMS, -1, -1, -1, -1, -1, -1, -1, -1};
    if (auto const &batch = stats.inflightBatchingStats) {
        iteration.scheduled = batch->numScheduledRequests;
        iteration.prompts = batch->numContextRequests;
        iteration.answers = batch->numGenRequests;
        iteration.prompt_tokens = batch->numCtxTokens;
    }
    if (auto const &cache = stats.kvCacheStats) {
        iteration.kv_blocks = cache->maxNumBlocks;
        iteration.kv_blocks_used = cache->usedNumBlocks;
        iteration.kv_blocks_reused = cache->reusedBlocks;
        iteration.kv_tokens_per_block = cache->tokensPerBlock;
    }
    return iteration;
}

} // namespace

struct TrtExecutor {
    // The executor's thread has it as well.
    std::shared_ptr<Pacer> pacer;
    std::unique_ptr<tle::Executor> executor;
    // What the last `trt_await` brought.
    std::vector<Heard> heard;
};

// Checked on the other side, too.
static_assert(sizeof(TrtText) == 16 && sizeof(TrtConfig) == 40);
static_assert(sizeof(TrtRequest) == 96 && sizeof(TrtResponse) == 48 && sizeof(TrtIteration) == 48);

char const *trt_version(void)
{
    return tle::version();
}

int32_t trt_open(TrtConfig const *config, TrtExecutor **executor, TrtText error)
{
    return guarded(error, [&] {
        ensureVersion();
        registerPlugins();
        auto opened = std::make_unique<TrtExecutor>();
        opened->pacer = std::make_shared<Pacer>();
        opened->executor = std::make_unique<tle::Executor>(std::filesystem::path(config->model),
            tle::ModelType::kDECODER_ONLY, configure(*config, opened->pacer), config->mmap != 0);
        *executor = opened.release();
    });
}

int32_t trt_enqueue(TrtExecutor *executor, TrtRequest const *request, uint64_t *id, TrtText error)
{
    return guarded(error, [&] { *id = executor->executor->enqueueRequest(compose(*request)); });
}

int32_t trt_await(TrtExecutor *executor, uint32_t timeout_ms, size_t *count, TrtText error)
{
    return guarded(error, [&] {
        executor->heard.clear();
        // The overload without an id: with one, it never returns once that
        // request's last response was taken.
        auto const responses = executor->executor->awaitResponses(std::chrono::milliseconds(timeout_ms));
        for (auto const &response : responses)
            executor->heard.push_back(hear(response));
        *count = executor->heard.size();
    });
}

void trt_response(TrtExecutor const *executor, size_t index, TrtResponse *response)
{
    Heard const &heard = executor->heard[index];
    *response = {heard.id, heard.tokens.data(), heard.tokens.size(), heard.error ? heard.error->data() : nullptr,
        heard.error ? heard.error->size() : 0, heard.isLast ? 1 : 0};
}

int32_t trt_cancel(TrtExecutor *executor, uint64_t id, TrtText error)
{
    return guarded(error, [&] { executor->executor->cancelRequest(id); });
}

int32_t trt_iterations(TrtExecutor *executor, TrtIteration *iterations, size_t *count, TrtText error)
{
    return guarded(error, [&] {
        auto const latest = executor->executor->getLatestIterationStats();
        *count = std::min<size_t>(latest.size(), TRT_ITERATIONS);
        std::transform(latest.end() - static_cast<std::ptrdiff_t>(*count), latest.end(), iterations, describe);
    });
}

void trt_pace(TrtExecutor *executor, uint32_t pace_us)
{
    executor->pacer->set(pace_us);
}

int32_t trt_close(TrtExecutor *executor, TrtText error)
{
    std::unique_ptr<TrtExecutor> const closing(executor);
    closing->pacer->release();
    return guarded(error, [&] { closing->executor->shutdown(); });
}
