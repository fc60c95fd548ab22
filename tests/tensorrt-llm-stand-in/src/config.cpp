// Stand-in for TensorRT-LLM 0.12: settings, requests and responses, which only
// carry values.

#include "request.h"

#include <stdexcept>
#include <utility>

extern "C" bool initTrtLlmPlugins(void *, char const *)
{
    return true;
}

namespace tensorrt_llm::executor {

namespace {

template <typename T> std::optional<T> const &check(bool holds, std::optional<T> const &value, char const *what)
{
    if (value && !holds)
        throw std::invalid_argument(what);
    return value;
}

} // namespace

char const *version() noexcept
{
    return "0.12.0-stand-in";
}

SamplingConfig::SamplingConfig(SizeType32 beamWidth) : mBeamWidth(beamWidth) {}
SizeType32 SamplingConfig::getBeamWidth() const { return mBeamWidth; }
std::optional<SizeType32> SamplingConfig::getTopK() const { return mTopK; }
std::optional<FloatType> SamplingConfig::getTopP() const { return mTopP; }
std::optional<RandomSeedType> SamplingConfig::getRandomSeed() const { return mRandomSeed; }
std::optional<FloatType> SamplingConfig::getTemperature() const { return mTemperature; }
std::optional<FloatType> SamplingConfig::getRepetitionPenalty() const { return mRepetitionPenalty; }
std::optional<FloatType> SamplingConfig::getPresencePenalty() const { return mPresencePenalty; }
std::optional<FloatType> SamplingConfig::getFrequencyPenalty() const { return mFrequencyPenalty; }
void SamplingConfig::setTopK(std::optional<SizeType32> const &topK)
{
    mTopK = check(topK >= 0, topK, "topK must not be negative");
}
void SamplingConfig::setTopP(std::optional<FloatType> const &topP)
{
    mTopP = check(topP > 0.F && topP <= 1.F, topP, "topP must be above 0 and at most 1");
}
void SamplingConfig::setRandomSeed(std::optional<RandomSeedType> const &randomSeed) { mRandomSeed = randomSeed; }
void SamplingConfig::setTemperature(std::optional<FloatType> const &temperature)
{
    mTemperature = check(temperature > 0.F, temperature, "temperature must be above 0");
}
void SamplingConfig::setRepetitionPenalty(std::optional<FloatType> const &penalty)
{
    mRepetitionPenalty = check(penalty > 0.F, penalty, "repetitionPenalty must be above 0");
}
void SamplingConfig::setPresencePenalty(std::optional<FloatType> const &penalty) { mPresencePenalty = penalty; }
void SamplingConfig::setFrequencyPenalty(std::optional<FloatType> const &penalty) { mFrequencyPenalty = penalty; }

OutputConfig::OutputConfig(bool logProbs, bool contextLogits, bool generationLogits, bool excludeInput, bool encoder)
    : returnLogProbs(logProbs)
    , returnContextLogits(contextLogits)
    , returnGenerationLogits(generationLogits)
    , excludeInputFromOutput(excludeInput)
    , returnEncoderOutput(encoder)
{
}

Request::Request(VecTokens inputTokenIds, SizeType32 maxNewTokens, bool streaming, SamplingConfig const &sampling,
    OutputConfig const &output)
    : mImpl(std::make_unique<Impl>())
{
    if (inputTokenIds.empty())
        throw std::invalid_argument("inputTokenIds must not be empty");
    if (maxNewTokens < 1)
        throw std::invalid_argument("maxNewTokens must be positive");
    mImpl->input = std::move(inputTokenIds);
    mImpl->maxNewTokens = maxNewTokens;
    mImpl->streaming = streaming;
    mImpl->sampling = sampling;
    mImpl->output = output;
}
Request::Request(Request const &other) : mImpl(std::make_unique<Impl>(*other.mImpl)) {}
Request::Request(Request &&other) noexcept = default;
Request &Request::operator=(Request const &other)
{
    *mImpl = *other.mImpl;
    return *this;
}
Request &Request::operator=(Request &&other) noexcept = default;
Request::~Request() = default;
void Request::setEndId(SizeType32 endId) { mImpl->endId = endId; }
void Request::setPadId(SizeType32 padId) { mImpl->padId = padId; }
void Request::setBadWords(std::list<VecTokens> const &badWords) { mImpl->badWords = badWords; }
void Request::setStopWords(std::list<VecTokens> const &stopWords) { mImpl->stopWords = stopWords; }
void Request::setLogitsPostProcessorName(std::string const &name) { mImpl->postProcessor = name; }
void Request::setPriority(PriorityType priority)
{
    if (!(priority >= 0.F && priority <= 1.F))
        throw std::invalid_argument("priority must be between 0 and 1");
    mImpl->priority = priority;
}

Response::Response(IdType requestId, std::string errorMsg) : mRequestId(requestId), mErrorMsg(std::move(errorMsg)) {}
Response::Response(IdType requestId, Result result) : mRequestId(requestId), mResult(std::move(result)) {}
IdType Response::getRequestId() const { return mRequestId; }
bool Response::hasError() const { return mErrorMsg.has_value(); }
std::string Response::getErrorMsg() const { return mErrorMsg.value(); }
Result Response::getResult() const { return mResult.value(); }

SchedulerConfig::SchedulerConfig(CapacitySchedulerPolicy policy, std::optional<ContextChunkingPolicy>)
    : mCapacitySchedulerPolicy(policy)
{
}
CapacitySchedulerPolicy SchedulerConfig::getCapacitySchedulerPolicy() const { return mCapacitySchedulerPolicy; }

KvCacheConfig::KvCacheConfig(bool reuse, std::optional<SizeType32> const &maxTokens,
    std::optional<SizeType32> const &, std::optional<SizeType32> const &, std::optional<FloatType> const &fraction,
    std::optional<std::size_t> const &hostCacheSize, bool)
    : mEnableBlockReuse(reuse)
    , mMaxTokens(check(maxTokens > 0, maxTokens, "maxTokens must be positive"))
    , mFreeGpuMemoryFraction(
          check(fraction > 0.F && fraction < 1.F, fraction, "freeGpuMemoryFraction must be between 0 and 1"))
    , mHostCacheSize(hostCacheSize)
{
}
bool KvCacheConfig::getEnableBlockReuse() const { return mEnableBlockReuse; }
std::optional<SizeType32> KvCacheConfig::getMaxTokens() const { return mMaxTokens; }
std::optional<FloatType> KvCacheConfig::getFreeGpuMemoryFraction() const { return mFreeGpuMemoryFraction; }
std::optional<std::size_t> KvCacheConfig::getHostCacheSize() const { return mHostCacheSize; }

ExecutorConfig::ExecutorConfig(SizeType32 beams, SchedulerConfig const &scheduler, KvCacheConfig const &cache)
    : mMaxBeamWidth(beams), mSchedulerConfig(scheduler), mKvCacheConfig(cache)
{
}
SizeType32 ExecutorConfig::getMaxBeamWidth() const { return mMaxBeamWidth; }
SchedulerConfig ExecutorConfig::getSchedulerConfig() const { return mSchedulerConfig; }
KvCacheConfig ExecutorConfig::getKvCacheConfig() const { return mKvCacheConfig; }
bool ExecutorConfig::getEnableChunkedContext() const { return mEnableChunkedContext; }
SizeType32 ExecutorConfig::getIterStatsMaxIterations() const { return mIterStatsMaxIterations; }
std::optional<SizeType32> ExecutorConfig::getMaxBatchSize() const { return mMaxBatchSize; }
std::optional<SizeType32> ExecutorConfig::getMaxNumTokens() const { return mMaxNumTokens; }
std::optional<LogitsPostProcessorBatched> ExecutorConfig::getLogitsPostProcessorBatched() const
{
    return mLogitsPostProcessorBatched;
}
void ExecutorConfig::setMaxBatchSize(SizeType32 maxBatchSize)
{
    mMaxBatchSize = check(maxBatchSize > 0, std::optional(maxBatchSize), "maxBatchSize must be positive");
}
void ExecutorConfig::setMaxNumTokens(SizeType32 maxNumTokens) { mMaxNumTokens = maxNumTokens; }
void ExecutorConfig::setEnableChunkedContext(bool chunked) { mEnableChunkedContext = chunked; }
void ExecutorConfig::setIterStatsMaxIterations(SizeType32 iterations) { mIterStatsMaxIterations = iterations; }
void ExecutorConfig::setLogitsPostProcessorBatched(LogitsPostProcessorBatched const &processor)
{
    mLogitsPostProcessorBatched = processor;
}

} // namespace tensorrt_llm::executor
