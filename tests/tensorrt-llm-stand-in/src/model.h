// Stand-in for TensorRT-LLM 0.12: the "model", which repeats what it is told and
// fails when it is asked to.

#pragma once

#include "tensorrt_llm/executor/executor.h"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <string>

namespace stand_in {

namespace tle = tensorrt_llm::executor;

constexpr int kEnd = 256;
constexpr int kBegin = 257;
constexpr int kAnswer = 261;

// The last message of a chat; the rest of the tokens are its answer so far.
struct Conversation {
    tle::VecTokens message;
    bool isChat = false;
    std::size_t answered = 0;

    explicit Conversation(tle::VecTokens const &tokens)
    {
        auto const end = std::find(tokens.rbegin(), tokens.rend(), kAnswer);
        if (end == tokens.rend())
            return;
        isChat = true;
        answered = static_cast<std::size_t>(end - tokens.rbegin());
        auto const begin = std::find(end, tokens.rend(), kBegin);
        message.assign(begin.base(), end.base() - 1);
    }

    // Whether the message asks for `fault` at the token that is due.
    bool asksFor(std::string const &fault, std::size_t due) const
    {
        std::string text;
        for (int const token : message)
            text += token >= 0 && token < 256 ? static_cast<char>(token) : ' ';
        std::istringstream words(text);
        std::string const wanted = "!" + fault + "@" + std::to_string(due);
        for (std::string word; words >> word;)
            if (word == wanted)
                return true;
        return false;
    }
};

inline std::string describe(tle::SamplingConfig const &sampling)
{
    auto const number = [](auto const &value) {
        std::ostringstream text;
        value ? text << *value : text << "unset";
        return text.str();
    };
    return "topK=" + number(sampling.getTopK()) + " topP=" + number(sampling.getTopP()) +
        " temperature=" + number(sampling.getTemperature()) + " seed=" + number(sampling.getRandomSeed()) +
        " repetition=" + number(sampling.getRepetitionPenalty()) +
        " presence=" + number(sampling.getPresencePenalty()) +
        " frequency=" + number(sampling.getFrequencyPenalty());
}

// The token after `tokens`, if none were banned.
inline int continuation(tle::VecTokens const &tokens, tle::SamplingConfig const &sampling)
{
    Conversation const chat(tokens);
    if (!chat.isChat)
        return 'a' + static_cast<int>(tokens.size() % 26);
    if (chat.asksFor("sampling", 0)) {
        std::string const text = describe(sampling);
        return chat.answered < text.size() ? text[chat.answered] : kEnd;
    }
    return chat.answered < chat.message.size() ? chat.message[chat.answered] : kEnd;
}

} // namespace stand_in
