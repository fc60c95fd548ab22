#!/usr/bin/env bash
# Builds the shim, the stand-in and drive.cpp with a sanitizer and runs them:
# sanitize.sh OUTPUT address|thread
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
shim=$here/../../jetpack/tensorrt-llm/shim
output=$1/$2
flags=("-fsanitize=$2" -fno-omit-frame-pointer)
if [[ $2 == address ]]; then flags+=(-fsanitize=undefined -fno-sanitize-recover=all); fi

"$here/build.sh" "$output" "${flags[@]}"
"${CXX:-c++}" -std=c++17 -O1 -g -Wall -Wextra -Werror -pthread "${flags[@]}" \
    -I "$here/include" "$here/drive.cpp" "$shim/shim.cpp" \
    -L "$output" -ltensorrt_llm -lnvinfer_plugin_tensorrt_llm -o "$output/drive"
engine=$(mktemp -d)
trap 'rm -rf -- "$engine"' EXIT
# Kernels that place memory very much at random leave the thread sanitizer no
# room; not every container lets that be switched off.
in_order=()
if setarch -R true 2>/dev/null; then in_order=(setarch -R); fi
# A hang of the shim must not become one of the tests.
LD_LIBRARY_PATH=$output timeout 120 "${in_order[@]}" "$output/drive" "$engine"
