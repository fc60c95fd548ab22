# shellcheck shell=bash
# Named stages that are run one after the other, each timed. A stage that fails
# does not keep the next ones from running: one run shows everything that is
# wrong. A stage may be skipped, but only with its reason. Needs terminal.sh.

stage_rows=()
failed_stages=0
# Where `skip` leaves its reason: the stage runs in a shell of its own.
skip_note=

# stage NAME COMMAND...: runs COMMAND in a shell of its own that ends at the
# first error.
stage() {
    local name=$1 started=$SECONDS code skip_reason outcome
    shift
    say
    say "== $name"
    skip_note=$(mktemp)
    # Not in a condition: bash would ignore `set -e` inside it.
    set +e
    (
        set -e
        "$@"
    )
    code=$?
    set -e
    skip_reason=$(cat -- "$skip_note")
    rm -f -- "$skip_note"
    if ((code)); then
        outcome="FAILED (exit code $code)"
        failed_stages=$((failed_stages + 1))
    elif [[ -n $skip_reason ]]; then
        outcome="ok, except: $skip_reason"
    else
        outcome=ok
    fi
    stage_rows+=("$(printf '  %-10s %5d s  %s' "$name" $((SECONDS - started)) "$outcome")")
    say "== $name: $outcome"
}

# skip REASON: within a stage, what was left out and why; it stands in the table.
skip() {
    say "Skipped: $1"
    printf '%s' "$1" >>"$skip_note"
}

stage_table() {
    say
    say "Stages"
    printf '%s\n' "${stage_rows[@]}" >&2
}
