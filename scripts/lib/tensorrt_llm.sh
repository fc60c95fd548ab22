# shellcheck shell=bash
# TensorRT-LLM's stand-in, and what is built and tested against it: the shim, the
# worker with its feature `tensorrt-llm`, and the processes around them. Nothing
# of TensorRT is needed, and nothing of it is tested. Needs terminal.sh and a
# Rust toolchain.

# Tests of real processes that any runtime must pass.
readonly stand_in_tests=(tensorrt_llm watchdog)

# test_tensorrt_llm ROOT TARGET
test_tensorrt_llm() {
    local stand_in=$1/tests/tensorrt-llm-stand-in libraries=$2/tensorrt-llm-stand-in
    local features=tensorrt-llm/executor,engine-worker/tensorrt-llm,tests/tensorrt-llm-stand-in
    local packages=(--release --locked -p tensorrt-llm -p engine-worker)
    # Run at once: compiling for a sanitizer takes one core each.
    say "The shim in a C++ program, under the address and the thread sanitizer"
    "$stand_in/sanitize.sh" "$libraries" address &
    local address=$!
    "$stand_in/sanitize.sh" "$libraries" thread
    wait "$address"

    "$stand_in/build.sh" "$libraries"
    export TENSORRT_LLM_INCLUDE=$stand_in/include TENSORRT_LLM_LIB=$libraries
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    cargo clippy "${packages[@]}" -p tests --features "$features" --all-targets -- -D warnings
    cargo test "${packages[@]}" --features "${features%,tests/*}"
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
        cargo doc "${packages[@]}" --features "${features%,tests/*}" \
        --no-deps --document-private-items

    say "Real processes, with a worker that has the stand-in"
    cargo build --release --locked --features engine-worker/tensorrt-llm
    cargo test --release --locked -p tests --features tests/tensorrt-llm-stand-in \
        "${stand_in_tests[@]/#/--test=}"

    say "The shim below Rust, under the address sanitizer"
    test_addresses "$stand_in" "$libraries/rust"
}

# test_addresses STAND_IN OUTPUT: the Rust side as well, with the C++ below it under the address sanitizer. Rust
# itself is not instrumented: its own mistakes show where they meet C++ or malloc.
test_addresses() {
    local stand_in=$1 libraries=$2 host runner
    host=$(rustc -vV | sed -n 's/^host: //p')
    runner=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER
    "$stand_in/build.sh" "$libraries" -fsanitize=address
    # With a target named, these flags are not for what runs during the build.
    env "$runner=env LD_LIBRARY_PATH=$libraries LD_PRELOAD=$("${CXX:-c++}" -print-file-name=libasan.so)" \
        RUSTFLAGS=-Clink-arg=-lasan \
        TENSORRT_LLM_CXXFLAGS=-fsanitize=address \
        TENSORRT_LLM_INCLUDE="$stand_in/include" TENSORRT_LLM_LIB="$libraries" \
        cargo test --release --locked -p tensorrt-llm --features executor --target "$host"
}
