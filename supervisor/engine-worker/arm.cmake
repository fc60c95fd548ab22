# What llama.cpp's kernels are compiled for on arm64: ARMv8.2 with dot product and
# half precision, which every Cortex-A78AE of an Orin has. The library's build
# script insists on plain ARMv8 and can be overruled only here, which is read
# after each `project()`. `engine-worker` looks for both at its start.
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64" AND GGML_CPU_ARM_ARCH STREQUAL "armv8-a")
    set(GGML_CPU_ARM_ARCH "armv8.2-a+dotprod+fp16" CACHE STRING "see arm.cmake" FORCE)
endif()
