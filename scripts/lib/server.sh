# shellcheck shell=bash
# One `stoker serve` as a child: started, waited for, asked, and stopped. Signals
# that reach the script go on to the server by its process id, and the script
# leaves with the server's exit code. Needs terminal.sh and python3.

# A log longer than this is put aside as stoker.log.1 before the next start.
readonly log_limit_bytes=$((8 * 1024 * 1024))
# A slow disk may need minutes to load a large model for the first time.
readonly ready_limit_s=600

server_lib=$(dirname -- "${BASH_SOURCE[0]}")
server_pid=
server_log=
# The program, waiting or asking, that a signal must end at once.
client_pid=
# Once somebody asked for the end: the exit code that says so.
stopped=

# start_server BINARY PORT STATE_DIR [ARGUMENT...]: with more arguments for the server.
start_server() {
    local binary=$1 state_dir=$3
    server_port=$2
    shift 3
    server_log=$state_dir/stoker.log
    if [[ -f $server_log ]] && (($(stat --format=%s -- "$server_log") > log_limit_bytes)); then
        mv -- "$server_log" "$server_log.1"
    fi
    : >>"$server_log"
    # Where this start's lines begin.
    server_log_start=$(stat --format=%s -- "$server_log")

    trap 'pass_on INT 130' INT
    trap 'pass_on TERM 143' TERM HUP
    trap 'end_server' EXIT
    # In a process group of its own, so that a Ctrl-C reaches it once, from here.
    set -m
    "$binary" serve --state-dir "$state_dir" --listen "127.0.0.1:$server_port" \
        "$@" </dev/null >>"$server_log" 2>&1 &
    server_pid=$!
    set +m
}

# pass_on SIGNAL EXIT_CODE
pass_on() {
    [[ -n $stopped ]] || say "Stopping. A second signal does not wait for answers under way."
    [[ -z $client_pid ]] || kill -TERM "$client_pid" 2>/dev/null || true
    [[ -z $server_pid ]] || kill -s "$1" "$server_pid" 2>/dev/null || true
    stopped=$2
}

# A script that fails half-way leaves no server behind.
end_server() {
    [[ -n $server_pid ]] || return 0
    kill -TERM "$server_pid" 2>/dev/null || true
    wait_for_server || true
}

# The server's exit code; a signal that arrives meanwhile is passed on and the
# wait goes on.
wait_for_server() {
    local code
    wait_out "$server_pid" && code=0 || code=$?
    server_pid=
    return "$code"
}

# `wait` returns early when a trap has run; the process is then still there.
wait_out() {
    local code
    while true; do
        wait "$1" && code=0 || code=$?
        kill -0 "$1" 2>/dev/null || break
    done
    # The code that bash keeps for a child that ended while a trap ran.
    if ((code > 128)); then wait "$1" 2>/dev/null && code=0 || code=$?; fi
    return "$code"
}

# run_client COMMAND...: runs it so that a signal ends it and then the script.
run_client() {
    local code
    "$@" </dev/null &
    client_pid=$!
    wait_out "$client_pid" && code=0 || code=$?
    client_pid=
    return "$code"
}

wait_until_ready() {
    local code
    run_client python3 "$server_lib/wait_ready.py" "$server_port" "$server_pid" "$ready_limit_s" && return
    if [[ -n $stopped ]]; then
        wait_for_server || exit
        exit "$stopped"
    fi
    say
    say "Stoker did not become ready. The last lines of $server_log:"
    tail --bytes="+$((server_log_start + 1))" -- "$server_log" | tail --lines=20 | sed 's/^/  /' >&2
    kill -TERM "$server_pid" 2>/dev/null || true
    wait_for_server && code=1 || code=$?
    exit "$code"
}

# ask_once PROMPT: the answer to standard output; leaves with 0 only if it was whole.
ask_once() {
    local asked
    run_client python3 "$server_lib/ask.py" "$server_port" "$1" && asked=0 || asked=$?
    # A signal has been passed on already, and a second one would mean haste.
    [[ -n $stopped ]] || kill -TERM "$server_pid" 2>/dev/null || true
    wait_for_server || fail "the server ended with exit code $?; its log is $server_log"
    return "$asked"
}

# A port that nothing listens on at this moment.
free_port() {
    python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
