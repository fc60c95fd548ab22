# shellcheck shell=bash
# The Rust toolchain: whether it is there and new enough, and where it leaves
# what it builds. Nothing here installs or changes one. Needs terminal.sh.

# require_rust ROOT: cargo is there and new enough for the workspace's manifest.
require_rust() {
    local wanted found
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$1/Cargo.toml")
    command -v cargo >/dev/null ||
        fail "no Rust toolchain: install Rust $wanted or newer with rustup, then start again"
    found=$(rustc --version) || fail "ask rustc for its version: rustc --version failed"
    found=${found#rustc }
    found=${found%% *}
    [[ $(printf '%s\n' "$wanted" "$found" | sort --version-sort | head -n 1) == "$wanted" ]] ||
        fail "Rust $found is too old, $wanted or newer is needed; with rustup: rustup update stable"
}

# target_directory ROOT: where cargo builds, whoever configured it.
target_directory() {
    (cd -- "$1" && cargo metadata --no-deps --format-version 1) |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}

# build_programs ROOT [PACKAGE PROGRAM]: what goes on an appliance and, where asked
# for, a tool. All in one build: cargo gives packages that are shared the features
# that the build as a whole needs, so by itself a tool would have SQLite and others
# compiled a second time. From the repository, for the sake of its
# .cargo/config.toml.
build_programs() {
    local tool=()
    if (($# > 1)); then
        tool=(-p supervisor -p indexer -p engine-worker -p engine-builder -p "$2"
            --bin stoker --bin indexer --bin engine-worker --bin engine-builder --bin "$3")
    fi
    (cd -- "$1" && cargo build --release --locked "${tool[@]}" >&2)
}
