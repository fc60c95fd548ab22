// Stand-in for TensorRT-LLM 0.12: the executor and its loop.

#include "model.h"
#include "request.h"

#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

namespace tensorrt_llm::executor {

namespace {

constexpr SizeType32 kTokensPerBlock = 64;
// Finished requests whose blocks are kept, where there is room for them.
constexpr std::size_t kKept = 8;

using stand_in::Conversation;

// What the engine directory says.
struct Engine {
    std::string text;

    explicit Engine(std::filesystem::path const &model)
    {
        std::ifstream file(model / "config.json");
        if (!file)
            throw std::runtime_error("cannot open " + (model / "config.json").string());
        text.assign(std::istreambuf_iterator<char>(file), {});
        if (number("refuse", 0) != 0)
            throw std::runtime_error("engine was asked to refuse itself");
    }

    long number(std::string const &key, long otherwise) const
    {
        auto const at = text.find('"' + key + '"');
        if (at == std::string::npos)
            return otherwise;
        return std::strtol(text.c_str() + text.find(':', at) + 1, nullptr, 10);
    }
};

bool contains(std::list<VecTokens> const &words, TokenIdType token)
{
    return std::any_of(words.begin(), words.end(),
        [&](VecTokens const &word) { return word.size() == 1 && word.front() == token; });
}

SizeType32 blocksFor(std::size_t tokens)
{
    return static_cast<SizeType32>((tokens + kTokensPerBlock - 1) / kTokensPerBlock);
}

} // namespace

class Executor::Impl {
public:
    Impl(std::filesystem::path const &model, ExecutorConfig const &config)
        : mEngine(model)
        , mConfig(config)
        , mMostRequests(lower("max_batch_size", 8, config.getMaxBatchSize()))
        , mMostTokens(lower("max_num_tokens", 512, config.getMaxNumTokens()))
        , mMostInSequence(mEngine.number("max_seq_len", 4096))
        , mStep(std::chrono::microseconds(mEngine.number("step_us", 0)))
        , mPromptToken(std::chrono::microseconds(mEngine.number("prefill_token_us", 0)))
        , mEndIsShown(mEngine.number("end_token_shown", 1) != 0)
    {
        if (config.getMaxBeamWidth() != 1)
            throw std::invalid_argument("this stand-in has no beams");
        auto const tokens = config.getKvCacheConfig().getMaxTokens();
        mBlocks = blocksFor(static_cast<std::size_t>(tokens.value_or(1 << 20)));
        std::this_thread::sleep_for(std::chrono::milliseconds(mEngine.number("load_ms", 0)));
        mLoop = std::thread([this] { run(); });
    }

    ~Impl() { shutdown(); }

    IdType enqueue(Request::Impl const &request)
    {
        Conversation const chat(request.input);
        if (chat.asksFor("throw", 0))
            throw std::runtime_error("enqueue was asked to throw");
        if (chat.asksFor("odd", 0))
            throw 42;
        std::lock_guard<std::mutex> const lock(mMutex);
        if (mStopping)
            throw std::runtime_error("the executor was shut down");
        if (static_cast<long>(request.input.size()) + request.maxNewTokens > mMostInSequence)
            throw std::runtime_error("prompt length and max new tokens exceed max_seq_len");
        mQueue.push_back({++mLastId, request, request.input, 0, 0, false});
        mWork.notify_all();
        return mLastId;
    }

    std::vector<Response> await(std::optional<std::chrono::milliseconds> const &timeout)
    {
        std::unique_lock<std::mutex> lock(mMutex);
        auto const ready = [this] { return !mReady.empty() || mBroken; };
        timeout ? (void)mHeard.wait_for(lock, *timeout, ready) : mHeard.wait(lock, ready);
        if (mReady.empty() && mBroken)
            std::rethrow_exception(mBroken);
        return std::exchange(mReady, {});
    }

    void cancel(IdType id)
    {
        std::lock_guard<std::mutex> const lock(mMutex);
        mCancelled.insert(id);
        mWork.notify_all();
    }

    void shutdown()
    {
        {
            std::lock_guard<std::mutex> const lock(mMutex);
            mStopping = true;
            mWork.notify_all();
        }
        if (mLoop.joinable())
            mLoop.join();
    }

    std::deque<IterationStats> latestStats()
    {
        std::lock_guard<std::mutex> const lock(mMutex);
        return std::exchange(mStats, {});
    }

private:
    struct Active {
        IdType id;
        Request::Impl request;
        // Prompt and answer.
        VecTokens tokens;
        // Of the prompt, those in the cache.
        std::size_t computed;
        SizeType32 generated;
        bool ended;
    };

    SizeType32 lower(char const *key, long built, std::optional<SizeType32> wanted) const
    {
        auto const engine = static_cast<SizeType32>(mEngine.number(key, built));
        if (wanted && *wanted > engine)
            throw std::invalid_argument(std::string(key) + " is above what the engine was built for");
        return wanted.value_or(engine);
    }

    void run() noexcept
    {
        try {
            while (iterate()) {
            }
        } catch (...) {
            std::lock_guard<std::mutex> const lock(mMutex);
            mBroken = std::current_exception();
        }
        mHeard.notify_all();
    }

    // One iteration; false when there will be no more.
    bool iterate()
    {
        std::chrono::steady_clock::time_point begun;
        {
            std::unique_lock<std::mutex> lock(mMutex);
            mWork.wait(lock, [this] { return mStopping || !mQueue.empty() || !mActive.empty(); });
            begun = std::chrono::steady_clock::now();
            dropCancelled();
            if (mStopping)
                return false;
            admit();
            if (mActive.empty())
                return true;
        }
        InflightBatchingStats batch{};
        std::size_t room = static_cast<std::size_t>(mMostTokens);
        std::vector<Active *> due = computePrompts(batch, room);
        std::this_thread::sleep_for(mStep + mPromptToken * batch.numCtxTokens);
        postProcess(due);
        for (Active *active : due)
            generate(*active);
        finish(batch, begun);
        return true;
    }

    // With the lock held.
    void dropCancelled()
    {
        auto const cancelled = [this](Active const &active) { return mCancelled.count(active.id) != 0; };
        for (auto *list : {&mQueue, &mActive}) {
            for (Active const &active : *list)
                if (cancelled(active))
                    respond(active.id, {}, true);
            list->remove_if(cancelled);
        }
        mCancelled.clear();
    }

    // Takes those for whose whole life there is room, so that none is evicted.
    void admit()
    {
        while (!mQueue.empty() && static_cast<SizeType32>(mActive.size()) < mMostRequests) {
            auto next = std::max_element(mQueue.begin(), mQueue.end(), [](Active const &a, Active const &b) {
                return a.request.priority < b.request.priority;
            });
            auto const needed = blocksFor(next->request.input.size() + next->request.maxNewTokens);
            if (needed > mBlocks) {
                mReady.emplace_back(next->id, "request needs more KV blocks than there are");
                mHeard.notify_all();
                mQueue.erase(next);
                continue;
            }
            if (usedBlocks() + needed > mBlocks)
                return;
            next->computed = reusable(next->request.input);
            mReusedBlocks += static_cast<SizeType32>(next->computed) / kTokensPerBlock;
            mActive.splice(mActive.end(), mQueue, next);
        }
    }

    SizeType32 usedBlocks() const
    {
        SizeType32 used = 0;
        for (Active const &active : mActive)
            used += blocksFor(active.request.input.size() + active.request.maxNewTokens);
        return used;
    }

    // Whole blocks at the beginning of `prompt` that a finished request left. The
    // last token is always computed.
    std::size_t reusable(VecTokens const &prompt) const
    {
        std::size_t best = 0;
        if (mConfig.getKvCacheConfig().getEnableBlockReuse()) {
            for (VecTokens const &kept : mKept) {
                auto const length = std::min(prompt.size() - 1, kept.size());
                auto const differ = std::mismatch(prompt.begin(), prompt.begin() + length, kept.begin());
                best = std::max(best, static_cast<std::size_t>(differ.first - prompt.begin()));
            }
        }
        return best / kTokensPerBlock * kTokensPerBlock;
    }

    // Computes prompts within `room` tokens; those that get a token now.
    std::vector<Active *> computePrompts(InflightBatchingStats &batch, std::size_t room)
    {
        std::vector<Active *> due;
        for (Active &active : mActive) {
            if (active.computed >= active.request.input.size()) {
                due.push_back(&active);
                room -= std::min<std::size_t>(room, 1);
                ++batch.numGenRequests;
            }
        }
        for (Active &active : mActive) {
            auto const left = active.request.input.size() - std::min(active.computed, active.request.input.size());
            if (left == 0)
                continue;
            if (!mConfig.getEnableChunkedContext() && left > static_cast<std::size_t>(mMostTokens)) {
                fail(active, "prompt is longer than max_num_tokens, and chunked context is off");
                continue;
            }
            auto const part = mConfig.getEnableChunkedContext() ? std::min(left, room) : left;
            if (part == 0 || part > room)
                continue;
            room -= part;
            active.computed += part;
            ++batch.numContextRequests;
            batch.numCtxTokens += static_cast<SizeType32>(part);
            if (part == left)
                due.push_back(&active);
        }
        batch.numScheduledRequests = batch.numGenRequests + batch.numContextRequests;
        return due;
    }

    void postProcess(std::vector<Active *> const &due)
    {
        auto const &processor = mConfig.getLogitsPostProcessorBatched();
        std::vector<IdType> ids;
        for (Active const *active : due)
            if (active->request.postProcessor == Request::kBatchedPostProcessorName)
                ids.push_back(active->id);
        if (!processor || ids.empty())
            return;
        std::vector<Tensor> logits(ids.size());
        std::vector<std::optional<IdType>> clients(ids.size());
        (*processor)(ids, logits, {}, nullptr, clients);
    }

    void generate(Active &active)
    {
        Conversation const chat(active.tokens);
        std::size_t const number = chat.answered + 1;
        if (chat.asksFor("exit", number))
            std::_Exit(42);
        if (chat.asksFor("stall", number))
            stall();
        if (chat.asksFor("broken", number))
            throw std::runtime_error("the loop was asked to break");
        if (chat.asksFor("fail", number))
            return fail(active, "asked for by the prompt");
        TokenIdType token = stand_in::continuation(active.tokens, active.request.sampling);
        while (contains(active.request.badWords, token))
            token = token == 'x' ? 'y' : 'x';
        active.tokens.push_back(token);
        ++active.generated;
        bool const isEnd = token == active.request.endId.value_or(-1) || contains(active.request.stopWords, token);
        active.ended = isEnd || active.generated == active.request.maxNewTokens;
        VecTokens said{token};
        if (isEnd && !mEndIsShown)
            said.clear();
        std::lock_guard<std::mutex> const lock(mMutex);
        respond(active.id, std::move(said), active.ended);
    }

    void fail(Active &active, char const *why)
    {
        active.ended = true;
        std::lock_guard<std::mutex> const lock(mMutex);
        mReady.emplace_back(active.id, std::string(why));
        mHeard.notify_all();
    }

    // With the lock held.
    void respond(IdType id, VecTokens tokens, bool isFinal)
    {
        mReady.emplace_back(id, Result{isFinal, {std::move(tokens)}});
        mHeard.notify_all();
    }

    void stall()
    {
        std::unique_lock<std::mutex> lock(mMutex);
        mWork.wait(lock, [this] { return mStopping; });
    }

    void finish(InflightBatchingStats const &batch, std::chrono::steady_clock::time_point begun)
    {
        std::lock_guard<std::mutex> const lock(mMutex);
        auto const used = usedBlocks();
        for (Active const &active : mActive)
            if (active.ended)
                mKept.push_back(active.tokens);
        mActive.remove_if([](Active const &active) { return active.ended; });
        while (mKept.size() > kKept)
            mKept.pop_front();
        std::chrono::duration<double, std::milli> const took = std::chrono::steady_clock::now() - begun;
        KvCacheStats const cache{mBlocks, mBlocks - used, used, kTokensPerBlock, 0, 0, mReusedBlocks};
        mStats.push_back({"", ++mIteration, took.count(), static_cast<SizeType32>(mActive.size()),
            static_cast<SizeType32>(mQueue.size()), mMostRequests, 0, 0, 0, cache, batch});
        while (static_cast<SizeType32>(mStats.size()) > mConfig.getIterStatsMaxIterations())
            mStats.pop_front();
    }

    Engine const mEngine;
    ExecutorConfig const mConfig;
    SizeType32 const mMostRequests;
    SizeType32 const mMostTokens;
    long const mMostInSequence;
    std::chrono::microseconds const mStep;
    std::chrono::microseconds const mPromptToken;
    bool const mEndIsShown;
    SizeType32 mBlocks = 0;

    std::mutex mMutex;
    std::condition_variable mWork;
    std::condition_variable mHeard;
    // Under the lock.
    std::list<Active> mQueue;
    std::set<IdType> mCancelled;
    std::vector<Response> mReady;
    std::deque<IterationStats> mStats;
    std::exception_ptr mBroken;
    IdType mLastId = 0;
    bool mStopping = false;
    // The loop's own; it changes the list under the lock.
    std::list<Active> mActive;
    std::deque<VecTokens> mKept;
    SizeType32 mReusedBlocks = 0;
    IterationType mIteration = 0;

    std::thread mLoop;
};

Executor::Executor(std::filesystem::path const &modelPath, ModelType, ExecutorConfig const &config, bool)
    : mImpl(std::make_unique<Impl>(modelPath, config))
{
}
Executor::~Executor() = default;
IdType Executor::enqueueRequest(Request const &request) { return mImpl->enqueue(*request.mImpl); }
std::vector<Response> Executor::awaitResponses(std::optional<std::chrono::milliseconds> const &timeout)
{
    return mImpl->await(timeout);
}
void Executor::cancelRequest(IdType requestId) { mImpl->cancel(requestId); }
void Executor::shutdown() { mImpl->shutdown(); }
std::deque<IterationStats> Executor::getLatestIterationStats() { return mImpl->latestStats(); }

} // namespace tensorrt_llm::executor
