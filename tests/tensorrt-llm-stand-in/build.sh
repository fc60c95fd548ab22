#!/usr/bin/env bash
# Makes the stand-in's libraries, by the names that TensorRT-LLM's have:
# build.sh OUTPUT [FLAG...]
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
output=$1
shift
mkdir -p -- "$output"
"${CXX:-c++}" -std=c++17 -O1 -g -Wall -Wextra -Werror -fPIC -shared -pthread "$@" \
    -Wl,-soname,libtensorrt_llm.so \
    -I "$here/include" "$here"/src/*.cpp -o "$output/libtensorrt_llm.so"
# The plugins' library is a second name: what is asked of it is in the first.
ln -sf libtensorrt_llm.so "$output/libnvinfer_plugin_tensorrt_llm.so"
