// Slows an executor down without dropping anyone: its own thread waits here
// between two iterations.
//
// TensorRT-LLM 0.12 has no such setting. It calls a logits post-processor once
// in each iteration, after the iteration's network has been enqueued and before
// tokens are chosen; ours looks at no logits and only takes its time.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

class Pacer {
public:
    // Holds from now on, also for a wait that has begun.
    void set(uint32_t pace_us)
    {
        std::lock_guard<std::mutex> const lock(mMutex);
        mPace = std::chrono::microseconds(pace_us);
        mChanged.notify_all();
    }

    // Nobody waits any more: the executor is about to end.
    void release()
    {
        std::lock_guard<std::mutex> const lock(mMutex);
        mReleased = true;
        mChanged.notify_all();
    }

    // Called by the executor's thread, once in each iteration.
    void wait()
    {
        std::unique_lock<std::mutex> lock(mMutex);
        while (!mReleased && Clock::now() < mLast + mPace)
            mChanged.wait_until(lock, mLast + mPace);
        mLast = Clock::now();
    }

private:
    using Clock = std::chrono::steady_clock;

    std::mutex mMutex;
    std::condition_variable mChanged;
    std::chrono::microseconds mPace{0};
    Clock::time_point mLast{};
    bool mReleased = false;
};
