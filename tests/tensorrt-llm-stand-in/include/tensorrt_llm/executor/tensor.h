// Stand-in for TensorRT-LLM 0.12; see README.md. Tensors are only passed by.

#pragma once

namespace tensorrt_llm::executor {

class Tensor {
};

} // namespace tensorrt_llm::executor
