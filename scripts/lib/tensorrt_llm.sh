# shellcheck shell=bash
# TensorRT-LLM's stand-in, and what is built and tested against it: the shim, the
# worker with its feature `tensorrt-llm`, and the processes around them. Nothing
# of TensorRT is needed, and nothing of it is tested. Needs terminal.sh and a
# Rust toolchain.

# Tests of real processes: what is particular to this runtime, a build from end to
# end, and what any runtime must pass.
readonly stand_in_tests=(--test=tensorrt_llm --test=tensorrt_llm_build --test=watchdog)

# For one run of tests that are compiled; they take seconds, and a hang must end.
readonly stand_in_limit=5m

# test_tensorrt_llm ROOT TARGET: no program that people use is built here, only
# tests and the worker that is named for the stand-in; the others must be there.
test_tensorrt_llm() {
    local stand_in=$1/tests/tensorrt-llm-stand-in libraries=$2/tensorrt-llm-stand-in
    # One choice of packages and features, so that each is compiled once. The tests of
    # processes are among them for their dependencies: with those, what all of these
    # share has the features that it has in the whole workspace, and is there already.
    local packages=(--release --locked -p tensorrt-llm -p engine-worker -p engine-worker-on-stand-in)
    packages+=(-p tests)
    packages+=(--features "tensorrt-llm/executor,engine-worker-on-stand-in/worker")
    # And the one of the stage `tests`, which has compiled most of this before.
    local workspace=(--release --locked --workspace)
    # Run at once: compiling for a sanitizer takes one core each.
    say "The shim in a C++ program, under the address and the thread sanitizer"
    "$stand_in/sanitize.sh" "$libraries" address &
    local address=$!
    "$stand_in/sanitize.sh" "$libraries" thread
    wait "$address"

    say "The shim and the worker on the stand-in"
    "$stand_in/build.sh" "$libraries"
    export TENSORRT_LLM_INCLUDE=$stand_in/include TENSORRT_LLM_LIB=$libraries
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    cargo clippy "${packages[@]}" --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
        cargo doc "${packages[@]}" --no-deps --document-private-items
    test_in_time "${packages[@]}" --lib --test=executor

    say "Real processes, with a worker that has the stand-in"
    cargo build "${packages[@]}" --bin engine-worker-on-stand-in
    cargo clippy "${workspace[@]}" "${stand_in_tests[@]}" -- -D warnings
    TEST_ON_STAND_IN=1 test_in_time "${workspace[@]}" "${stand_in_tests[@]}"

    say "The shim below Rust, under the address sanitizer"
    test_addresses "$stand_in" "$libraries/rust"
}

# test_in_time ARGUMENT...: cargo test, with a limit that is not for compiling.
test_in_time() {
    cargo test --no-run "$@"
    timeout --foreground "$stand_in_limit" cargo test "$@"
}

# test_addresses STAND_IN OUTPUT: Rust, with the C++ below it under the address
# sanitizer. Rust itself is not instrumented: its own mistakes show where they meet
# C++ or malloc.
test_addresses() {
    local stand_in=$1 libraries=$2 host runner
    host=$(rustc -vV | sed -n 's/^host: //p')
    runner=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER
    "$stand_in/build.sh" "$libraries" -fsanitize=address
    # With a target named, these flags are not for what runs during the build.
    local "$runner=env LD_LIBRARY_PATH=$libraries LD_PRELOAD=$("${CXX:-c++}" -print-file-name=libasan.so)"
    export "${runner?}" RUSTFLAGS=-Clink-arg=-lasan TENSORRT_LLM_CXXFLAGS=-fsanitize=address
    export TENSORRT_LLM_LIB=$libraries
    test_in_time --release --locked -p tensorrt-llm --features executor --target "$host"
}
