# shellcheck shell=bash
# What a machine must have before this repository can be built on it, by the
# names of Debian's packages. Everything is looked for before it is installed,
# so a machine that has it all never sees apt. Needs terminal.sh.

# Debian's names of what was looked for and not found.
missing_packages=()

# need PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing_packages+=("$package")
}

# What it takes to build and to fetch the default model.
need_build_packages() {
    need g++ command -v c++
    need make command -v make
    need cmake command -v cmake
    need libclang-dev has_libclang
    need python3 command -v python3
    need python3-pip has_pip
    need curl command -v curl
}

# A browser that can be driven from outside, for the tests of the status page.
# Ubuntu has the same two under other names, as snaps.
need_browser() {
    if grep -qs '^ID=ubuntu$' /etc/os-release; then
        need chromium-browser command -v chromium
        need chromium-chromedriver command -v chromedriver
    else
        need chromium command -v chromium
        need chromium-driver command -v chromedriver
    fi
}

# A small machine with a systemd of its own, for the tests of what systemd does
# with our unit.
need_systemd_machine() {
    need mmdebstrap command -v mmdebstrap
    need systemd-container command -v systemd-nspawn
}

# What records a program's file operations, for the tests of power cuts.
need_strace() {
    need strace command -v strace
}

# Asking pip itself would take half a second at each start.
has_pip() {
    python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pip") is None)'
}

# bindgen loads libclang as a library and needs clang's own headers beside it.
has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] && return
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' &&
        compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h'
}

# Installs what `need` found missing; touches nothing when nothing is.
install_missing_packages() {
    ((${#missing_packages[@]})) || return 0
    command -v apt-get >/dev/null ||
        fail "this machine lacks ${missing_packages[*]} (Debian's names), and has no apt to install them; install them and start again"
    say "Installing what this machine lacks: ${missing_packages[*]}"
    as_root apt-get update --quiet=2 >&2 ||
        fail "refresh apt's package lists: apt-get update failed, see above"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet=2 --no-install-recommends "${missing_packages[@]}" >&2 ||
        fail "install ${missing_packages[*]}: apt-get install failed, see above"
    missing_packages=()
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "installing ${missing_packages[*]} needs root or sudo; run this as root: apt-get install ${missing_packages[*]}"
    fi
}
