// Stand-in for TensorRT-LLM 0.12; see README.md. The names and signatures that
// our shim calls, and nothing else.

#pragma once

#include "tensorrt_llm/executor/tensor.h"
#include "tensorrt_llm/executor/types.h"

#include <chrono>
#include <deque>
#include <filesystem>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tensorrt_llm::executor {

char const *version() noexcept;

// Setters refuse what is out of range, as the constructor does.
class SamplingConfig {
public:
    explicit SamplingConfig(SizeType32 beamWidth = 1);

    SizeType32 getBeamWidth() const;
    std::optional<SizeType32> getTopK() const;
    std::optional<FloatType> getTopP() const;
    std::optional<RandomSeedType> getRandomSeed() const;
    std::optional<FloatType> getTemperature() const;
    std::optional<FloatType> getRepetitionPenalty() const;
    std::optional<FloatType> getPresencePenalty() const;
    std::optional<FloatType> getFrequencyPenalty() const;

    void setTopK(std::optional<SizeType32> const &topK);
    void setTopP(std::optional<FloatType> const &topP);
    void setRandomSeed(std::optional<RandomSeedType> const &randomSeed);
    void setTemperature(std::optional<FloatType> const &temperature);
    void setRepetitionPenalty(std::optional<FloatType> const &repetitionPenalty);
    void setPresencePenalty(std::optional<FloatType> const &presencePenalty);
    void setFrequencyPenalty(std::optional<FloatType> const &frequencyPenalty);

private:
    SizeType32 mBeamWidth;
    std::optional<SizeType32> mTopK;
    std::optional<FloatType> mTopP;
    std::optional<RandomSeedType> mRandomSeed;
    std::optional<FloatType> mTemperature;
    std::optional<FloatType> mRepetitionPenalty;
    std::optional<FloatType> mPresencePenalty;
    std::optional<FloatType> mFrequencyPenalty;
};

class OutputConfig {
public:
    explicit OutputConfig(bool returnLogProbs = false, bool returnContextLogits = false,
        bool returnGenerationLogits = false, bool excludeInputFromOutput = false, bool returnEncoderOutput = false);

    bool returnLogProbs;
    bool returnContextLogits;
    bool returnGenerationLogits;
    bool excludeInputFromOutput;
    bool returnEncoderOutput;
};

class Request {
public:
    static constexpr PriorityType kDefaultPriority = 0.5;
    static auto constexpr kBatchedPostProcessorName = "batched";

    Request(VecTokens inputTokenIds, SizeType32 maxNewTokens, bool streaming = false,
        SamplingConfig const &samplingConfig = SamplingConfig(), OutputConfig const &outputConfig = OutputConfig());
    Request(Request const &other);
    Request(Request &&other) noexcept;
    Request &operator=(Request const &other);
    Request &operator=(Request &&other) noexcept;
    ~Request();

    void setEndId(SizeType32 endId);
    void setPadId(SizeType32 padId);
    void setBadWords(std::list<VecTokens> const &badWords);
    void setStopWords(std::list<VecTokens> const &stopWords);
    void setLogitsPostProcessorName(std::string const &logitsPostProcessorName);
    void setPriority(PriorityType priority);

private:
    friend class Executor;
    class Impl;
    std::unique_ptr<Impl> mImpl;
};

struct Result {
    bool isFinal;
    BeamTokens outputTokenIds;
};

class Response {
public:
    Response(IdType requestId, std::string errorMsg);
    Response(IdType requestId, Result result);

    IdType getRequestId() const;
    bool hasError() const;
    // Throws if there is none.
    std::string getErrorMsg() const;
    // Throws if there is an error instead.
    Result getResult() const;

private:
    IdType mRequestId;
    std::optional<std::string> mErrorMsg;
    std::optional<Result> mResult;
};

class SchedulerConfig {
public:
    explicit SchedulerConfig(
        CapacitySchedulerPolicy capacitySchedulerPolicy = CapacitySchedulerPolicy::kGUARANTEED_NO_EVICT,
        std::optional<ContextChunkingPolicy> contextChunkingPolicy = std::nullopt);

    CapacitySchedulerPolicy getCapacitySchedulerPolicy() const;

private:
    CapacitySchedulerPolicy mCapacitySchedulerPolicy;
};

class KvCacheConfig {
public:
    // There are no setters: 0.12 may not have them.
    explicit KvCacheConfig(bool enableBlockReuse = false, std::optional<SizeType32> const &maxTokens = std::nullopt,
        std::optional<SizeType32> const &maxAttentionWindow = std::nullopt,
        std::optional<SizeType32> const &sinkTokenLength = std::nullopt,
        std::optional<FloatType> const &freeGpuMemoryFraction = std::nullopt,
        std::optional<std::size_t> const &hostCacheSize = std::nullopt, bool onboardBlocks = true);

    bool getEnableBlockReuse() const;
    std::optional<SizeType32> getMaxTokens() const;
    std::optional<FloatType> getFreeGpuMemoryFraction() const;
    std::optional<std::size_t> getHostCacheSize() const;

private:
    bool mEnableBlockReuse;
    std::optional<SizeType32> mMaxTokens;
    std::optional<FloatType> mFreeGpuMemoryFraction;
    std::optional<std::size_t> mHostCacheSize;
};

class ExecutorConfig {
public:
    explicit ExecutorConfig(SizeType32 maxBeamWidth = 1, SchedulerConfig const &schedulerConfig = SchedulerConfig(),
        KvCacheConfig const &kvCacheConfig = KvCacheConfig());

    SizeType32 getMaxBeamWidth() const;
    SchedulerConfig getSchedulerConfig() const;
    KvCacheConfig getKvCacheConfig() const;
    bool getEnableChunkedContext() const;
    SizeType32 getIterStatsMaxIterations() const;
    std::optional<SizeType32> getMaxBatchSize() const;
    std::optional<SizeType32> getMaxNumTokens() const;
    std::optional<LogitsPostProcessorBatched> getLogitsPostProcessorBatched() const;

    void setMaxBatchSize(SizeType32 maxBatchSize);
    void setMaxNumTokens(SizeType32 maxNumTokens);
    void setEnableChunkedContext(bool enableChunkedContext);
    void setIterStatsMaxIterations(SizeType32 iterStatsMaxIterations);
    void setLogitsPostProcessorBatched(LogitsPostProcessorBatched const &logitsPostProcessorBatched);

private:
    SizeType32 mMaxBeamWidth;
    SchedulerConfig mSchedulerConfig;
    KvCacheConfig mKvCacheConfig;
    bool mEnableChunkedContext = false;
    SizeType32 mIterStatsMaxIterations = 1000;
    std::optional<SizeType32> mMaxBatchSize;
    std::optional<SizeType32> mMaxNumTokens;
    std::optional<LogitsPostProcessorBatched> mLogitsPostProcessorBatched;
};

class Executor {
public:
    Executor(std::filesystem::path const &modelPath, ModelType modelType, ExecutorConfig const &executorConfig,
        bool useMMap);
    ~Executor();

    [[nodiscard]] IdType enqueueRequest(Request const &request);
    [[nodiscard]] std::vector<Response> awaitResponses(
        std::optional<std::chrono::milliseconds> const &timeout = std::nullopt);
    void cancelRequest(IdType requestId);
    // Returns when all requests have ended.
    void shutdown();
    std::deque<IterationStats> getLatestIterationStats();

private:
    class Impl;
    std::unique_ptr<Impl> mImpl;
};

} // namespace tensorrt_llm::executor
