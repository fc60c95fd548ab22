// Stand-in for TensorRT-LLM 0.12; see README.md.

#pragma once

extern "C" bool initTrtLlmPlugins(void *logger = nullptr, char const *libNamespace = "tensorrt_llm");
