# shellcheck shell=bash
# cargo-deny in one known version, compiled once into the user's cache. Without
# optimisation that takes two minutes on two cores, and a check takes seconds.
# Needs terminal.sh and a Rust toolchain.

readonly cargo_deny_version=0.20.2
cargo_deny_dir=${XDG_CACHE_HOME:-$HOME/.cache}/stoker/cargo-deny-$cargo_deny_version
readonly cargo_deny=$cargo_deny_dir/bin/cargo-deny

install_cargo_deny() {
    [[ -x $cargo_deny ]] && return
    say "Compiling cargo-deny $cargo_deny_version into $cargo_deny_dir, once"
    # A build directory of its own: in ours it would be built anew for each clone.
    cargo install cargo-deny --version "=$cargo_deny_version" --locked --quiet \
        --root "$cargo_deny_dir" --target-dir "$cargo_deny_dir/build" \
        --config profile.release.opt-level=0 --config profile.release.lto=false \
        --config profile.release.codegen-units=16 --config profile.release.debug=false
    rm -rf -- "$cargo_deny_dir/build"
}
