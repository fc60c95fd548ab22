# shellcheck shell=bash
# Steps of which each builds on the one before: one whose input has not changed is
# not done again, and one that is done says how long all of it will still take, by
# what each took the last time. Needs terminal.sh.

steps_file=
steps_left=()
# What the steps so far were made from: a step is made anew if any before it was.
steps_key=
steps_started=

# steps_of FILE NAME...: in this order. FILE remembers what was done and how long it took.
steps_of() {
    steps_file=$1
    shift
    steps_left=("$@")
    steps_key=
    steps_started=$SECONDS
    touch -- "$steps_file"
}

# step NAME KEY COMMAND...: unless it was done for this KEY and these steps before it.
step() {
    local name=$1 started=$SECONDS
    steps_key=$(printf '%s\n' "$steps_key" "$name" "$2" | sha256sum | cut -c 1-16)
    shift 2
    if grep --quiet --line-regexp "done $name $steps_key" -- "$steps_file"; then
        say "$name: as it was"
    else
        say "$name: $(time_left)"
        # Until it is done it is not, and then neither is what builds on it.
        sed -i "/^done $name /d" -- "$steps_file"
        "$@"
        sed -i "/^took $name /d" -- "$steps_file"
        printf 'done %s %s\ntook %s %d\n' "$name" "$steps_key" "$name" \
            $((SECONDS - started)) >>"$steps_file"
        say "$name: done in $((SECONDS - started)) s"
    fi
    steps_left=("${steps_left[@]:1}")
}

# time_left: of this step and all after it, an estimate.
time_left() {
    local name took sum=0
    for name in "${steps_left[@]}"; do
        took=$(sed -n "s/^took $name //p" "$steps_file" | tail -n 1)
        if [[ -z $took ]]; then
            printf 'time left unknown, since it was not done here before'
            return
        fi
        sum=$((sum + took))
    done
    printf 'about %d s left' "$sum"
}

steps_end() {
    say "All of it took $((SECONDS - steps_started)) s."
}
