// Runs the shim on the stand-in without Rust, so that the address and the thread
// sanitizer see all of the C++: every call, its failures, and every fault that
// the stand-in knows and that a process survives. Exits with 0 if all of it came
// as it must.

#include "../../jetpack/tensorrt-llm/shim/shim.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

char failure[256];

TrtText room()
{
    failure[0] = '\0';
    return {failure, sizeof failure};
}

void must(bool holds, char const *what)
{
    if (holds)
        return;
    std::fprintf(stderr, "%s (last failure: \"%s\")\n", what, failure);
    std::exit(1);
}

struct Answer {
    std::string text;
    std::string error;
    bool ended = false;
};

class Driver {
public:
    explicit Driver(std::string const &model)
    {
        TrtConfig const config{model.c_str(), 65536, 0.5F, 0, 4, 64, 1, 1};
        must(trt_open(&config, &mExecutor, room()) == 0, "the engine must open");
    }

    uint64_t ask(std::string const &message, int32_t most = 1000)
    {
        std::vector<int32_t> prompt{257};
        prompt.insert(prompt.end(), message.begin(), message.end());
        prompt.push_back(261);
        int32_t const stop = 300;
        TrtRequest const request{prompt.data(), prompt.size(), &stop, 1, &stop, 1, most, 256, 1, 1.F, 1.F, 1.F, 0.F,
            0.F, 0.5F, 7};
        uint64_t id = 0;
        mTaken = trt_enqueue(mExecutor, &request, &id, room()) == 0;
        return id;
    }

    bool taken() const { return mTaken; }

    // Until the request ends; false when the executor is broken.
    bool finish(uint64_t id)
    {
        while (!mAnswers[id].ended) {
            size_t count = 0;
            if (trt_await(mExecutor, 10, &count, room()) != 0)
                return false;
            for (size_t index = 0; index < count; ++index)
                note(index);
            // While the executor's thread reads it.
            pace(static_cast<uint32_t>(++mTurns % 2));
            std::vector<TrtIteration> iterations(TRT_ITERATIONS);
            must(trt_iterations(mExecutor, iterations.data(), &count, room()) == 0, "iterations must be told");
            mIterations += count;
        }
        return true;
    }

    Answer const &answer(uint64_t id) { return mAnswers[id]; }
    size_t iterations() const { return mIterations; }
    void cancel(uint64_t id) { must(trt_cancel(mExecutor, id, room()) == 0, "a cancellation must be taken"); }
    void pace(uint32_t pace) { trt_pace(mExecutor, pace); }
    ~Driver() { must(trt_close(mExecutor, room()) == 0, "the executor must end"); }

private:
    void note(size_t index)
    {
        TrtResponse response{};
        trt_response(mExecutor, index, &response);
        Answer &answer = mAnswers[response.id];
        for (size_t at = 0; at < response.tokens_length; ++at)
            if (response.tokens[at] < 256)
                answer.text += static_cast<char>(response.tokens[at]);
        if (response.error)
            answer.error.assign(response.error, response.error_length);
        answer.ended = answer.ended || response.is_last != 0;
    }

    TrtExecutor *mExecutor = nullptr;
    std::map<uint64_t, Answer> mAnswers;
    size_t mIterations = 0;
    size_t mTurns = 0;
    bool mTaken = false;
};

void answers(std::string const &model)
{
    Driver driver(model);
    std::vector<uint64_t> ids;
    for (int number = 0; number < 12; ++number)
        ids.push_back(driver.ask("message " + std::to_string(number) + std::string(100, '.')));
    for (int number = 0; number < 12; ++number) {
        must(driver.finish(ids[number]), "an answer must come");
        std::string const expected = "message " + std::to_string(number) + std::string(100, '.');
        must(driver.answer(ids[number]).text == expected, "an answer must be whole");
    }
    must(driver.iterations() > 100, "iterations must be counted");
    uint64_t const failing = driver.ask("please !fail@3");
    uint64_t const neighbour = driver.ask("a good neighbour");
    must(driver.finish(failing) && driver.finish(neighbour), "both must end");
    must(driver.answer(failing).error == "asked for by the prompt", "an error must come with its text");
    must(driver.answer(neighbour).text == "a good neighbour", "an error must cost one request only");
    driver.ask("!throw@0");
    must(!driver.taken() && std::string(failure) == "enqueue was asked to throw", "what is thrown must be told");
    driver.ask("!odd@0");
    must(!driver.taken() && failure[0] != '\0', "whatever is thrown must be told");
}

void cancellation(std::string const &model)
{
    Driver driver(model);
    for (int round = 0; round < 50; ++round) {
        uint64_t const id = driver.ask(std::string(500, 'x'));
        driver.cancel(id);
        must(driver.finish(id), "a cancelled request must end");
    }
    driver.cancel(123456);
}

void ending(std::string const &model)
{
    {
        // Waits in the pacer when it is closed.
        Driver driver(model);
        driver.pace(3'600'000'000U);
        driver.ask("slow");
        driver.ask("slower");
    }
    {
        Driver driver(model);
        driver.ask("!stall@1");
        driver.ask("waits behind it");
    }
    Driver driver(model);
    must(!driver.finish(driver.ask("!broken@2")), "a broken executor must be told");
    must(std::string(failure) == "the loop was asked to break", "and why it is");
}

void refusal(std::string const &model)
{
    TrtConfig const config{"/nowhere", 1024, 0.5F, 0, 4, 0, 1, 0};
    TrtExecutor *executor = nullptr;
    must(trt_open(&config, &executor, room()) != 0 && !executor, "no engine, no executor");
    char little[4] = "";
    must(trt_open(&config, &executor, {little, sizeof little}) != 0 && little[3] == '\0', "a text must be cut");
    TrtConfig const above{model.c_str(), 1024, 0.5F, 0, 999, 0, 1, 0};
    must(trt_open(&above, &executor, room()) != 0, "limits above the engine's must be refused");
}

} // namespace

int main(int count, char **arguments)
{
    must(count == 2, "usage: drive DIRECTORY");
    std::string const model = arguments[1];
    std::ofstream(model + "/config.json") << R"({"build_config": {"max_batch_size": 8, "max_num_tokens": 512}})";
    answers(model);
    cancellation(model);
    ending(model);
    refusal(model);
    std::puts("the shim did what it promises");
}
