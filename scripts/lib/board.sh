# shellcheck shell=bash
# One virtual Jetson as a child, beside the server that runs on it. It ends with
# the script. Needs terminal.sh.

board_pid=
board_root=

# start_board BINARY BOARD STATE_DIR SPEED: writes the board's files and an engine
# that it paces. Leaves the board's directory in `board_root`.
start_board() {
    local binary=$1 board=$2 state_dir=$3 speed=$4 log=$3/board.log
    board_root=$state_dir/boards/$board
    # What an earlier start said of its engine no longer holds.
    rm -rf -- "$board_root"
    trap end_board EXIT
    # In a process group of its own: Ctrl-C ends the server first.
    set -m
    "$binary" --board "$board" --root "$board_root" --speed "$speed" \
        --engine "$state_dir/engines/$board" </dev/null >"$log" 2>&1 &
    board_pid=$!
    set +m
    until [[ -e $board_root/run/virtual/pace ]]; do
        if ! kill -0 "$board_pid" 2>/dev/null; then
            board_pid=
            fail "the virtual board did not start: $(tail --lines=1 -- "$log")"
        fi
        sleep 0.1
    done
}

# What one can do with it.
invite_to_board() {
    say
    say "  Board         $1, its heat $2 times as fast as the clock"
    say "  Faults        echo 'fan stuck' >$board_root/run/virtual/faults   (empty: all is well;"
    say "                  also: ambient 45, vent blocked, supply weak, load 5, sensor tj-thermal dead)"
    say "  Its log       $(dirname -- "$(dirname -- "$board_root")")/board.log"
}

end_board() {
    [[ -n $board_pid ]] || return 0
    kill -TERM "$board_pid" 2>/dev/null || true
    wait "$board_pid" 2>/dev/null || true
    board_pid=
}
