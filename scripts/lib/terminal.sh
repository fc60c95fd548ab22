# shellcheck shell=bash
# What the scripts tell the person who started them, always on standard error:
# standard output is for results alone.

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
