# shellcheck shell=bash
# A build for arm64: which toolchain, with which settings. Needs terminal.sh,
# machine.sh and rust.sh, and gives and takes variables that are not seen in here:
# shellcheck disable=SC2034,SC2154

readonly arm64=aarch64-unknown-linux-gnu
# The C toolchain of Debian for it, by the prefix of its programs.
readonly gnu=aarch64-linux-gnu

# Set by set_up_arm64: how to call them.
cargo=(cargo)
objcopy=objcopy

is_native() {
    [[ $(uname -m) == aarch64 ]]
}

# set_up_arm64: leaves a toolchain in `cargo` and `objcopy`.
set_up_arm64() {
    need_build_packages
    need git command -v git
    need binutils command -v readelf
    if is_native; then
        install_missing_packages
        require_rust "$root"
        return
    fi
    # A toolchain of rustup's that has the target is as good as Debian's.
    need "gcc-$gnu" command -v "$gnu-gcc"
    need "g++-$gnu" command -v "$gnu-g++"
    if ! has_target rustc; then
        need rustc-web has_target /usr/bin/rustc
        need cargo-web test -x /usr/bin/cargo
        need libstd-rust-web-dev:arm64 has_target /usr/bin/rustc
        cargo=(env RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc /usr/bin/cargo)
    fi
    if [[ " ${missing_packages[*]} " == *:arm64* ]] &&
        [[ $(dpkg --print-foreign-architectures) != *arm64* ]]; then
        as_root dpkg --add-architecture arm64
    fi
    install_missing_packages
    objcopy=$gnu-objcopy
}

# has_target RUSTC: it has the standard library for arm64.
has_target() {
    local libraries
    libraries=$("$1" --print target-libdir --target "$arm64" 2>/dev/null) &&
        compgen -G "$libraries/libstd-*.rlib" >/dev/null
}

# build_arm64 SOURCE TARGET_DIR [ARGUMENT...]: the programs, or what the arguments
# choose. No path and no time of this build may get into a program.
build_arm64() {
    local source=$1 target_dir=$2 registry map
    shift 2
    registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
    export SOURCE_DATE_EPOCH
    map="-ffile-prefix-map=$source=/stoker -ffile-prefix-map=$registry=/registry"
    map+=" -ffile-prefix-map=$target_dir=/target"
    local remap=(
        "--remap-path-prefix=$source=/stoker"
        "--remap-path-prefix=$registry=/registry"
        "--remap-path-prefix=$target_dir=/target"
    )
    local settings=(
        # The same for all: whatever is compiled from C would be compiled anew otherwise.
        SOURCE_DATE_EPOCH=0
        "CFLAGS_${arm64//-/_}=$map"
        "CXXFLAGS_${arm64//-/_}=$map"
        "CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${remap[*]}")"
    )
    if ! is_native; then
        settings+=(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$gnu-gcc"
            "BINDGEN_EXTRA_CLANG_ARGS_${arm64//-/_}=-I/usr/$gnu/include"
        )
    fi
    env "${settings[@]}" "${cargo[@]}" build --release --locked --target "$arm64" \
        --target-dir "$target_dir" "$@" >&2
}
