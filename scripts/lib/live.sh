# shellcheck shell=bash
# What a running system has to hear of files that come and go, and what is enabled.
# Needs terminal.sh and place.sh.

readonly unit=stoker.service
readonly wanted_by=/etc/systemd/system/multi-user.target.wants

# Older ones lack settings that our units need.
readonly oldest_systemd=249

require_live_system() {
    local version
    ((EUID == 0)) || fail "this changes the system and needs root: sudo scripts/install, or name a directory with DESTDIR"
    [[ -d /run/systemd/system ]] ||
        fail "systemd does not run here; to prepare a directory name it with DESTDIR, and without a service there is scripts/run"
    version=$(systemctl --version | awk 'NR == 1 { print int($2) }')
    ((version >= oldest_systemd)) ||
        fail "systemd $version is too old, $oldest_systemd or newer is needed (Ubuntu 22.04, Debian 12)"
}

# require_programs_that_run DIR
require_programs_that_run() {
    local name missing
    for name in stoker engine-builder; do
        "$1/$name" --version >/dev/null ||
            fail "$1/$name does not run on this machine, see above; build it here: cargo build --release --locked"
    done
    # It cannot be started by hand.
    missing=$(ldd "$1/engine-worker" | sed -n 's/^\s*\(\S*\) => not found$/\1/p')
    [[ -z $missing ]] ||
        fail "engine-worker needs libraries that are not here: ${missing//$'\n'/, }; apt-get install libgomp1 libstdc++6"
}

# enable_below DIR: as `systemctl enable` would, for a system that does not run.
enable_below() {
    local link=$1$wanted_by/$unit
    [[ ! -L $link ]] || return 0
    mkdir -p -- "${link%/*}"
    ln --symbolic -- "/lib/systemd/system/$unit" "$link"
    note new "$wanted_by/$unit" "the service starts at boot"
}

disable_below() {
    local link=$1$wanted_by/$unit
    [[ -L $link ]] || return 0
    rm -- "$link"
    note removed "$wanted_by/$unit"
}

# tell_the_live_system SETS: after files have changed.
tell_the_live_system() {
    systemd-sysusers stoker.conf || fail "make the user stoker: systemd-sysusers failed, see above"
    systemd-tmpfiles --create stoker.conf || fail "make $data: systemd-tmpfiles failed, see above"
    systemctl daemon-reload
    reload_what_runs "$1"
    if $first_time; then
        start
    else
        # The engine stays loaded, and who connects meanwhile waits a moment. A service
        # that somebody has stopped stays so.
        systemctl try-restart "$unit" || fail_to_start
    fi
}

# reload_what_runs SETS: not all of it runs on every system, and nothing here keeps a
# service from serving.
reload_what_runs() {
    udevadm control --reload 2>/dev/null && udevadm trigger --action=add --subsystem-match=devfreq || true
    if [[ " $1 " == *' appliance '* ]]; then
        /lib/systemd/systemd-sysctl /usr/lib/sysctl.d/90-stoker.conf ||
            say "  Some of /usr/lib/sysctl.d/90-stoker.conf is not in force; at the next boot it is tried again."
        systemctl try-restart systemd-journald.service || true
    fi
}

start() {
    systemctl start "$unit" || fail_to_start
    say "The service runs: stoker status, journalctl -u stoker, http://127.0.0.1:11434/"
    if ! compgen -G "$data/engines/*/engine.toml" >/dev/null; then
        say "It has no engine yet. To get the default model and serve it:"
        say "  engine-builder build smollm2-135m-instruct && systemctl restart stoker"
    fi
}

fail_to_start() {
    # Its own words, without what systemd says of them.
    journalctl --lines=2 --output=cat --no-pager "_SYSTEMD_UNIT=$unit" >&2 || true
    fail "$unit does not start, see above and journalctl -u stoker; mend that and start this again"
}

stop_the_live_system() {
    [[ $(systemctl is-active "$unit" || true) != inactive ]] || return 0
    systemctl stop "$unit" || fail "stop $unit: see journalctl -u stoker; nothing was taken away"
}

forget_in_the_live_system() {
    systemctl daemon-reload
    systemctl reset-failed "$unit" 2>/dev/null || true
    say "What was set in the kernel and in systemd stays so until the next boot."
    say "The user stoker stays, since files may belong to it; userdel stoker takes it away."
}
