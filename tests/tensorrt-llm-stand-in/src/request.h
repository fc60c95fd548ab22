// Stand-in for TensorRT-LLM 0.12: what a request carries.

#pragma once

#include "tensorrt_llm/executor/executor.h"

namespace tensorrt_llm::executor {

class Request::Impl {
public:
    VecTokens input;
    SizeType32 maxNewTokens = 0;
    bool streaming = false;
    SamplingConfig sampling;
    OutputConfig output;
    std::optional<SizeType32> endId;
    std::optional<SizeType32> padId;
    std::list<VecTokens> badWords;
    std::list<VecTokens> stopWords;
    std::optional<std::string> postProcessor;
    PriorityType priority = kDefaultPriority;
};

} // namespace tensorrt_llm::executor
